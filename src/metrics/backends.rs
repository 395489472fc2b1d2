//! Scheduler backends: what they were asked for, and what they brought.

use metrics::{counter, describe_counter, describe_gauge, gauge};
use nas_cron_protocol::BackendName;

const BACKEND_CALLS: &str = "nas_cron_engine_calls_total";
const BACKEND_MISSES: &str = "nas_cron_engine_misses_total";
const WAKE_UPS: &str = "nas_cron_wake_ups_total";
const WAKE_UPS_HELD: &str = "nas_cron_wake_ups";
const RELAY_REFUSED: &str = "nas_cron_relay_refused_total";

pub(super) fn describe() {
    describe_counter!(
        BACKEND_CALLS,
        "What hosted engines were asked for, by backend, call (arm, cancel; listen and log where that fails) and result"
    );
    describe_counter!(
        BACKEND_MISSES,
        "One-shots that their engine did not wake in time, so that our own loop did"
    );
    describe_counter!(WAKE_UPS, "Wake-ups that engines brought, by backend and by what they found");
    describe_gauge!(
        WAKE_UPS_HELD,
        "What hosted engines are to bring (armed), have still to be told of (wanted) or to take back (unwanted)"
    );
    describe_counter!(RELAY_REFUSED, "Requests to the relay without a valid signature, by reason");
    for backend in BackendName::ALL.iter().filter(|backend| **backend != BackendName::Postgres) {
        counter!(BACKEND_MISSES, "backend" => backend.as_str()).increment(0);
    }
}

/// A backend was asked to `call` (`arm`, `cancel`, `listen`, `log`) so many wake-ups, with this result (`ok`, or what was wrong).
pub fn backend_called(backend: BackendName, call: &'static str, result: &'static str, count: u64) {
    counter!(BACKEND_CALLS, "backend" => backend.as_str(), "call" => call, "result" => result)
        .increment(count);
}

/// One-shots that their backend did not wake within the watchdog's grace.
pub fn backend_missed(backend: BackendName, count: u64) {
    counter!(BACKEND_MISSES, "backend" => backend.as_str()).increment(count);
}

/// A backend brought a wake-up, and this is what it found.
pub fn wake_up_received(backend: BackendName, found: &'static str) {
    counter!(WAKE_UPS, "backend" => backend.as_str(), "found" => found).increment(1);
}

/// Wake-ups of a backend, by state.
pub fn set_wake_ups(backend: BackendName, states: impl IntoIterator<Item = (&'static str, i64)>) {
    if backend == BackendName::Postgres {
        return;
    }
    for (state, count) in states {
        #[expect(clippy::cast_precision_loss, reason = "a gauge is a float")]
        gauge!(WAKE_UPS_HELD, "backend" => backend.as_str(), "state" => state).set(count as f64);
    }
}

/// A request to the relay was refused, for this reason.
pub fn relay_refused(reason: &'static str) {
    counter!(RELAY_REFUSED, "reason" => reason).increment(1);
}
