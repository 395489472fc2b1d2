//! Which faults strike, in which order, and for how long.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};

use super::fault::Fault;

/// How long the full series takes, about.
pub const FULL: Duration = Duration::from_mins(20);

/// One fault of a series.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Its kind.
    pub fault: Fault,
    /// How long it lasts.
    pub length: Duration,
    /// Decides which replica it hits.
    pub dice: u32,
}

/// How often each strikes in the full series.
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

/// The long form: every kind of `only` (all where it is empty), as often as fits `duration`, shuffled by the seed.
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
            // What an outage of more than the budget of a request does is seen once, too.
            let longer = time > 0 && matches!(fault, Fault::HoleAll | Fault::DatabasePaused);
            let length = if longer { Duration::from_secs(25) } else { fault.length() };
            steps.push(Step { fault, length, dice: dice.random() });
        }
    }
    steps.shuffle(&mut dice);
    steps
}

/// The short form: most kinds once, and briefly. The replicas need short leases for it, see [`SHORT_LEASES`].
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
        step(Fault::Latency200, 5),
        step(Fault::DatabasePaused, 4),
        step(Fault::ReadOnly, 3),
        step(Fault::FailoverFrozen, 0),
    ];
    steps.shuffle(&mut dice);
    steps
}

/// Settings with which a stop of 6 s is longer than a lease.
pub const SHORT_LEASES: &[(&str, &str)] = &[
    ("NAS_CRON_CONNECT_TIMEOUT", "1s"),
    ("NAS_CRON_FIRE_TIMEOUT", "2s"),
    ("NAS_CRON_LEASE_MARGIN", "2s"),
    ("NAS_CRON_RETRY_AMBIGUOUS_FLOOR", "2s"),
];
