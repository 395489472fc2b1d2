//! One-shots as they stand.

use std::time::Duration;

use metrics::{Unit, describe_gauge, gauge};
use nas_cron_protocol::OneShotState;

const ONE_SHOTS: &str = "nas_cron_one_shots";
const OLDEST_OVERDUE: &str = "nas_cron_oldest_overdue_seconds";
const DEAD_LETTERS: &str = "nas_cron_dead_letters";

pub(super) fn describe() {
    describe_gauge!(ONE_SHOTS, "One-shots by state");
    describe_gauge!(
        OLDEST_OVERDUE,
        Unit::Seconds,
        "How long the one-shot that waits longest has been due; 0: none"
    );
    describe_gauge!(DEAD_LETTERS, "Fires that were given up and not yet redriven or replaced");
}

/// How many one-shots are in which state; a state that is not named has none.
pub fn set_one_shots(counts: impl IntoIterator<Item = (OneShotState, u64)>) {
    let counts: Vec<_> = counts.into_iter().collect();
    for state in OneShotState::ALL {
        let count = counts.iter().filter(|one| one.0 == *state).map(|one| one.1).sum::<u64>();
        gauge!(ONE_SHOTS, "state" => state.as_str()).set(as_f64(count));
    }
}

/// How long the one-shot that waits longest has been due; zero where none is.
pub fn set_oldest_overdue(age: Duration) {
    gauge!(OLDEST_OVERDUE).set(age);
}

/// How many dead letters there are.
pub fn set_dead_letters(count: u64) {
    gauge!(DEAD_LETTERS).set(as_f64(count));
}

#[expect(clippy::cast_precision_loss, reason = "counts of rows are far below 2^52")]
fn as_f64(count: u64) -> f64 {
    count as f64
}
