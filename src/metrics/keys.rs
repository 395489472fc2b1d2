//! The signing keys, as this replica last read them.

use metrics::{Unit, describe_gauge, gauge};

use crate::domain::KeyState;

const KEYS: &str = "nas_cron_signing_keys";
const USABLE: &str = "nas_cron_signing_key_usable";
const NEXT_STEP: &str = "nas_cron_signing_key_next_step_seconds";

pub(super) fn describe() {
    describe_gauge!(KEYS, "Published signing keys, by state: next, active, retired");
    describe_gauge!(USABLE, "1 if this replica has an active signing key that it can use, else 0");
    describe_gauge!(
        NEXT_STEP,
        Unit::Seconds,
        "Time until the next step of the key rotation, negative if the step is overdue; +Inf if none is planned, because \
         keys rotate by hand"
    );
}

/// Sets the gauges of the signing keys. `count` returns the number of keys in a state; `next_step` is in seconds.
pub fn set_signing_keys(count: impl Fn(KeyState) -> usize, usable: bool, next_step: Option<f64>) {
    for state in [KeyState::Next, KeyState::Active, KeyState::Retired] {
        #[expect(clippy::cast_precision_loss, reason = "there are a few keys")]
        gauge!(KEYS, "state" => state.as_str()).set(count(state) as f64);
    }
    gauge!(USABLE).set(if usable { 1.0 } else { 0.0 });
    gauge!(NEXT_STEP).set(next_step.unwrap_or(f64::INFINITY));
}
