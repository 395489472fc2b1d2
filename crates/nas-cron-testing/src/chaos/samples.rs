//! Memory, descriptors and threads of a process.

use std::time::Duration;

use procfs_core::FromRead;
use procfs_core::process::Status;
use serde::Serialize;
use tokio::time::{Instant, MissedTickBehavior, interval};

use super::descriptors::{self, Ports};

/// Maximum time from the start until memory and descriptors are flat.
const WARM_UP: Duration = Duration::from_mins(10);
/// Maximum change of a level that counts as flat.
const TOLERANCE: f64 = 0.1;

/// A sample.
#[derive(Clone, Copy, Debug, Default, Serialize)]
pub struct Sample {
    /// Time since the start of the load, in seconds.
    pub at: f64,
    /// Resident memory, in MiB.
    pub memory: f64,
    /// Open descriptors.
    pub descriptors: f64,
    /// Those of them that are connections of callers.
    pub callers: f64,
    /// Those that are connections to agents.
    pub agents: f64,
    /// Those that are sessions at the database.
    pub database: f64,
    /// Threads.
    pub threads: f64,
}

/// Samples a process every `period`, forever, and passes the samples to `taken`.
pub(super) async fn take(process: u32, ports: Ports, period: Duration, taken: impl Fn(Sample)) {
    let start = Instant::now();
    let mut ticks = interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        // Skipped if the process has ended, which is a finding of its own.
        if let Some(sample) = read(process, ports, start.elapsed()) {
            taken(sample);
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "a few thousand")]
fn read(process: u32, ports: Ports, at: Duration) -> Option<Sample> {
    let status = Status::from_file(format!("/proc/{process}/status")).ok()?;
    let descriptors = descriptors::read(process, ports)?;
    Some(Sample {
        at: at.as_secs_f64(),
        memory: status.vmrss? as f64 / 1024.0,
        descriptors: descriptors.all as f64,
        callers: descriptors.callers as f64,
        agents: descriptors.agents as f64,
        database: descriptors.database as f64,
        threads: status.threads as f64,
    })
}

/// The course of a measure: its level after the warm-up and at the end, and the maximum after the warm-up.
///
/// A level is the lowest sample of a sixth of the run: in an hour, of about one round of faults, so that both levels are those of
/// the same faults. Every outage makes callers wait, with a connection each, and ends with a burst; what is never given back is in
/// every sample, also in the lowest.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Course {
    /// Level after the warm-up: in minutes 10 to 20 of an hour.
    pub warm: f64,
    /// Level in the last sixth.
    pub last: f64,
    /// Maximum after the warm-up.
    pub max: f64,
}

impl Course {
    /// Returns the course of a measure, or `None` if a part of the run has no sample.
    ///
    /// The warm-up takes 10 minutes, or a third of a run of less than half an hour.
    pub fn of(samples: &[Sample], measure: impl Fn(&Sample) -> f64) -> Option<Self> {
        let end = samples.last()?.at;
        let warm_up = WARM_UP.as_secs_f64().min(end / 3.0);
        let within = |from: f64, to: f64| -> Vec<f64> {
            let within = samples.iter().filter(|sample| (from..=to).contains(&sample.at));
            within.map(&measure).collect()
        };
        Some(Self {
            warm: lowest(within(warm_up, warm_up + end / 6.0))?,
            last: lowest(within(end * 5.0 / 6.0, end))?,
            max: within(warm_up, end).into_iter().reduce(f64::max)?,
        })
    }

    /// Returns the change of the level from the warm-up to the end, as a share.
    pub fn change(&self) -> f64 {
        self.last / self.warm - 1.0
    }

    /// True if the level has changed by a tenth at most.
    pub fn is_flat(&self) -> bool {
        self.change().abs() <= TOLERANCE
    }
}

fn lowest(all: Vec<f64>) -> Option<f64> {
    all.into_iter().reduce(f64::min)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An hour in which a fault of a minute follows every four minutes of calm.
    fn hour(level: impl Fn(f64) -> f64) -> Vec<Sample> {
        let sample = |number: u32| {
            let at = f64::from(number) * 10.0;
            let value = if number % 30 < 6 { 4.0 } else { 1.0 } * level(at);
            Sample { at, memory: value, ..Sample::default() }
        };
        (0..=360).map(sample).collect()
    }

    fn of(samples: &[Sample]) -> Course {
        Course::of(samples, |sample| sample.memory).expect("samples of all parts")
    }

    #[test]
    fn faults_do_not_raise_the_level_and_a_leak_does() {
        assert!(of(&hour(|_| 100.0)).is_flat());
        // The first ten minutes are not judged.
        assert!(of(&hour(|at| if at < 600.0 { 50.0 } else { 100.0 })).is_flat());
        let leak = of(&hour(|at| 100.0 + at / 60.0 * 0.4));
        assert!(!leak.is_flat(), "24 % in an hour: {leak:?}");
    }

    #[test]
    fn course_needs_samples_of_all_parts() {
        assert!(Course::of(&[], |sample| sample.memory).is_none());
        assert!(Course::of(&hour(|_| 1.0)[100..101], |sample| sample.memory).is_none());
    }
}
