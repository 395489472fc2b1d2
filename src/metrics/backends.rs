//! Scheduler backends: calls to them, and wake-ups from them.

use metrics::{counter, describe_counter, describe_gauge, gauge};
use nas_cron_protocol::BackendName;

const BACKEND_CALLS: &str = "nas_cron_backend_calls_total";
const BACKEND_MISSES: &str = "nas_cron_backend_misses_total";
const WAKE_UPS: &str = "nas_cron_wake_ups_total";
const OUTBOX_ROWS: &str = "nas_cron_outbox_rows";
const RELAY_REJECTED: &str = "nas_cron_relay_requests_rejected_total";

pub(super) fn describe() {
    describe_counter!(
        BACKEND_CALLS,
        "Calls to external scheduler backends, by backend, call (arm, cancel; failures of listen and log) and result"
    );
    describe_counter!(
        BACKEND_MISSES,
        "One-shots whose external backend sent no wake-up in time, so that nas-cron fired them itself"
    );
    describe_counter!(WAKE_UPS, "Wake-ups received from external backends, by backend and result");
    describe_gauge!(
        OUTBOX_ROWS,
        "Outbox rows, by backend and state: wanted (not yet handed over), armed (handed over), unwanted (to be cancelled); \
         at most 20,000 are counted of each"
    );
    describe_counter!(RELAY_REJECTED, "Relay requests without a valid signature, by reason");
    for backend in BackendName::ALL.iter().filter(|backend| **backend != BackendName::Postgres) {
        counter!(BACKEND_MISSES, "backend" => backend.as_str()).increment(0);
    }
}

/// Records calls to a backend: `call` is `arm`, `cancel`, `listen` or `log`; `result` is `ok` or the kind of failure.
pub fn backend_called(backend: BackendName, call: &'static str, result: &'static str, count: u64) {
    counter!(BACKEND_CALLS, "backend" => backend.as_str(), "call" => call, "result" => result)
        .increment(count);
}

/// Records one-shots whose backend sent no wake-up within the watchdog's grace.
pub fn backend_missed(backend: BackendName, count: u64) {
    counter!(BACKEND_MISSES, "backend" => backend.as_str()).increment(count);
}

/// Records a wake-up received from a backend, and its result.
pub fn wake_up_received(backend: BackendName, result: &'static str) {
    counter!(WAKE_UPS, "backend" => backend.as_str(), "result" => result).increment(1);
}

/// Sets the number of outbox rows of a backend, by state.
pub fn set_wake_ups(backend: BackendName, states: impl IntoIterator<Item = (&'static str, i64)>) {
    if backend == BackendName::Postgres {
        return;
    }
    for (state, count) in states {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        gauge!(OUTBOX_ROWS, "backend" => backend.as_str(), "state" => state).set(count as f64);
    }
}

/// Records a rejected relay request.
pub fn relay_refused(reason: &'static str) {
    counter!(RELAY_REJECTED, "reason" => reason).increment(1);
}
