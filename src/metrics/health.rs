//! The health of this replica, as its probes report it, and its runtime.

use metrics::{describe_gauge, gauge};

const READY: &str = "nas_cron_ready";
const STOPPED_LOOPS: &str = "nas_cron_stopped_loops";
const WORKERS: &str = "nas_cron_runtime_worker_threads";
const TASKS: &str = "nas_cron_runtime_tasks";
const QUEUED: &str = "nas_cron_runtime_queued_tasks";

pub(super) fn describe() {
    describe_gauge!(READY, "1 if /readyz returns 200, else 0");
    describe_gauge!(STOPPED_LOOPS, "Background loops that have stopped; /healthz fails while this is not 0");
    describe_gauge!(WORKERS, "Worker threads of the runtime");
    describe_gauge!(TASKS, "Tasks of the runtime that have not ended");
    describe_gauge!(
        QUEUED,
        "Tasks that are ready and wait for a worker thread, in the runtime's global queue"
    );
}

/// Sets the gauges of the probes.
pub fn set_health(ready: bool, stopped_loops: usize) {
    gauge!(READY).set(if ready { 1.0 } else { 0.0 });
    gauge!(STOPPED_LOOPS).set(as_f64(stopped_loops));
}

/// Sets the gauges of the current runtime. Requires a Tokio runtime.
pub(super) fn set_runtime() {
    let runtime = tokio::runtime::Handle::current().metrics();
    gauge!(WORKERS).set(as_f64(runtime.num_workers()));
    gauge!(TASKS).set(as_f64(runtime.num_alive_tasks()));
    gauge!(QUEUED).set(as_f64(runtime.global_queue_depth()));
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
