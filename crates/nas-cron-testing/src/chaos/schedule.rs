//! The schedule of faults: their number, order and length.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::fault::Fault;

/// Approximate duration of the full series.
pub const FULL: Duration = Duration::from_mins(20);

/// A scheduled fault.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Kind of fault.
    pub fault: Fault,
    /// Length of the fault.
    pub length: Duration,
    /// Determines the replica that it hits.
    pub dice: u32,
}

/// Returns the number of injections of a fault in the full series.
fn times(fault: Fault) -> u32 {
    match fault {
        Fault::Kill => 60,
        Fault::Stop => 8,
        Fault::TerminatedBackends => 5,
        Fault::Rolling | Fault::DatabaseRestart => 3,
        Fault::DatabaseCrash
        | Fault::HoleExisting
        | Fault::HoleAll
        | Fault::HoleReplies
        | Fault::DatabasePaused => 2,
        _ => 1,
    }
}

/// Returns the long series: every fault of `only` (all if it is empty), as often as `duration` permits, shuffled by the
/// seed.
pub fn long(seed: u64, duration: Duration, only: &[Fault]) -> Vec<Step> {
    let mut dice = StdRng::seed_from_u64(seed);
    let share = duration.as_secs_f64() / FULL.as_secs_f64();
    let mut steps = Vec::new();
    for fault in Fault::ALL.into_iter().filter(|fault| only.is_empty() || only.contains(fault)) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a small positive number"
        )]
        let times = (f64::from(times(fault)) * share).round().max(1.0) as u32;
        for time in 0..times {
            // Further outages last longer than the budget for a request.
            let longer = time > 0 && matches!(fault, Fault::HoleAll | Fault::DatabasePaused);
            let length = if longer { Duration::from_secs(25) } else { fault.length() };
            steps.push(Step { fault, length, dice: dice.random() });
        }
    }
    steps.shuffle(&mut dice);
    steps
}

/// Returns rounds of faults without end: each round has every fault of `faults` once, shuffled by the seed, for `length`
/// or as long as in the long series.
pub fn rounds(seed: u64, faults: Vec<Fault>, length: Option<Duration>) -> impl Iterator<Item = Step> {
    let mut dice = StdRng::seed_from_u64(seed);
    std::iter::repeat_with(move || {
        let mut round = faults.clone();
        round.shuffle(&mut dice);
        let step =
            |fault: Fault| Step { fault, length: length.unwrap_or(fault.length()), dice: dice.random() };
        round.into_iter().map(step).collect::<Vec<_>>()
    })
    .flatten()
}

/// Returns the short series: most faults once and briefly. It requires the short leases of [`SHORT_LEASES`].
///
/// A slow network has a test of its own, at a higher load and with long leases: short ones expire on a busy machine, and
/// their recovery is late.
pub fn short(seed: u64) -> Vec<Step> {
    let mut dice = StdRng::seed_from_u64(seed);
    let mut step = |fault, seconds| Step { fault, length: Duration::from_secs(seconds), dice: dice.random() };
    let mut steps = vec![
        step(Fault::Kill, 0),
        step(Fault::Stop, 6),
        step(Fault::DatabaseRestart, 3),
        step(Fault::TerminatedBackends, 0),
        step(Fault::HoleExisting, 0),
        step(Fault::HoleReplies, 4),
        step(Fault::DatabasePaused, 4),
        step(Fault::ReadOnly, 3),
        step(Fault::FailoverFrozen, 0),
    ];
    steps.shuffle(&mut dice);
    steps
}

/// Settings that make leases shorter than a stop of 6 s.
pub const SHORT_LEASES: &[(&str, &str)] = &[
    ("NAS_CRON_CONNECT_TIMEOUT", "1s"),
    ("NAS_CRON_FIRE_TIMEOUT", "2s"),
    ("NAS_CRON_LEASE_MARGIN", "2s"),
    ("NAS_CRON_RETRY_AMBIGUOUS_FLOOR", "2s"),
];
