//! The back-off of retries. A pure function: time and jitter are arguments.

use std::time::Duration;

use crate::config;

/// The kind of a failure: certain or not (docs/contract.md#retries).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetryKind {
    /// The agent did not accept the fire: connecting failed, or the status was not 2xx.
    Definite,
    /// The agent may have accepted the fire: the response timed out, the connection broke after sending, or the lease
    /// expired.
    Ambiguous,
}

/// The limits of retries. All fields are settings (`retry_…`).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RetryPolicy {
    /// Delay after the first failed attempt. It doubles with every further one.
    pub definite_base: Duration,
    /// Minimum delay after an ambiguous failure. An agent that did receive the fire has time to re-arm, which supersedes
    /// the retry.
    pub ambiguous_floor: Duration,
    /// Maximum delay, even if `Retry-After` is longer.
    pub cap: Duration,
    /// Maximum time from the first failed attempt to the last retry.
    pub give_up_after: Duration,
}

/// The consequence of a failed attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Retry after this delay.
    After(Duration),
    /// The retry budget is spent: the fire becomes a dead letter.
    GiveUp,
}

impl From<&config::Retry> for RetryPolicy {
    fn from(retry: &config::Retry) -> Self {
        let config::Retry { definite_base, ambiguous_floor, cap, give_up_after } = *retry;
        Self { definite_base, ambiguous_floor, cap, give_up_after }
    }
}

impl RetryPolicy {
    /// Returns the delay after `attempts` failed attempts (the one that just failed included, so at least 1), the first of
    /// which failed `retrying_for` ago. The caller draws `jitter` uniformly from `[0, 1)`.
    ///
    /// - The step is `definite_base`, doubled with each further attempt; at least `ambiguous_floor` after an ambiguous
    ///   failure, and at most two thirds of `cap`. The delay is drawn from `[step, 1.5 × step)`: jitter only adds, so that
    ///   minimums hold, and even the longest delays are spread below `cap` (40 to 60 min).
    /// - `retry_after`, at most `cap`, is a minimum. Jitter adds up to a tenth, because an agent returns the same value to
    ///   all requests that it rejects.
    /// - The last retry is at the end of the budget at the latest. If the minimums (`definite_base`, `ambiguous_floor`,
    ///   `retry_after`) do not allow that, the attempt that just failed was the last.
    ///
    /// If a minimum exceeds `cap`, the minimum wins.
    pub fn next(
        &self,
        attempts: u32,
        kind: RetryKind,
        retry_after: Option<Duration>,
        retrying_for: Duration,
        jitter: f64,
    ) -> Next {
        let minimum = match kind {
            RetryKind::Definite => self.definite_base,
            RetryKind::Ambiguous => self.ambiguous_floor.max(self.definite_base),
        };
        let asked = retry_after.unwrap_or_default().min(self.cap);
        let floor = minimum.max(asked);

        let remaining = self.give_up_after.saturating_sub(retrying_for);
        if remaining.is_zero() || floor > remaining {
            return Next::GiveUp;
        }

        let step = self.doubled(attempts).min(self.cap / 3 * 2).max(minimum);
        let jitter = if jitter.is_finite() { jitter.clamp(0.0, 1.0) } else { 0.0 };
        let delay = stretch(step, jitter / 2.0).max(stretch(asked, jitter / 10.0));
        Next::After(delay.min(self.cap).min(remaining).max(floor))
    }

    /// Returns `definite_base`, doubled `attempts - 1` times, and `Duration::MAX` on overflow.
    fn doubled(&self, attempts: u32) -> Duration {
        2u32.checked_pow(attempts.saturating_sub(1))
            .and_then(|factor| self.definite_base.checked_mul(factor))
            .unwrap_or(Duration::MAX)
    }
}

/// Returns `duration` plus the given share of it.
fn stretch(duration: Duration, share: f64) -> Duration {
    let extra = Duration::try_from_secs_f64(duration.as_secs_f64() * share).unwrap_or(Duration::MAX);
    duration.saturating_add(extra)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::config::{Settings, Sources};

    const HOUR: Duration = Duration::from_hours(1);
    const DAY: Duration = Duration::from_hours(24);
    /// The largest `f64` below 1.
    const ALMOST_ONE: f64 = 1.0 - f64::EPSILON / 2.0;

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// The policy of the default settings.
    fn defaults() -> RetryPolicy {
        let required = [("database_url", "postgres://db/nas"), ("portal_url", "https://portal.example")];
        let flags = required.map(|(key, value)| (key.to_owned(), vec![value.to_owned()])).to_vec();
        let read = |_: &std::path::Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
        let sources = Sources { flags, config: None, environment: Vec::new(), read: &read };
        RetryPolicy::from(&Settings::gather(&sources).config().unwrap().retry)
    }

    fn delay(attempts: u32, kind: RetryKind, retry_after: Option<u64>, jitter: f64) -> Duration {
        match defaults().next(attempts, kind, retry_after.map(secs), Duration::ZERO, jitter) {
            Next::After(delay) => delay,
            Next::GiveUp => panic!("gave up at once"),
        }
    }

    #[test]
    fn defaults_are_those_of_the_contract() {
        use RetryKind::{Ambiguous, Definite};
        for (attempts, kind, retry_after, at_least, below) in [
            (1, Definite, None, 1, 1.5),
            (2, Definite, None, 2, 3.0),
            (3, Definite, None, 4, 6.0),
            (12, Definite, None, 2048, 3072.0),
            (13, Definite, None, 2400, 3600.0),
            (u32::MAX, Definite, None, 2400, 3600.0),
            (1, Ambiguous, None, 10, 15.0),
            (4, Ambiguous, None, 10, 15.0),
            (5, Ambiguous, None, 16, 24.0),
            (u32::MAX, Ambiguous, None, 2400, 3600.0),
            (1, Definite, Some(0), 1, 1.5),
            (1, Definite, Some(60), 60, 66.0),
            (1, Ambiguous, Some(60), 60, 66.0),
            (1, Ambiguous, Some(3), 10, 15.0),
            // Attempts are counted from 1; 0 counts as 1.
            (0, Definite, None, 1, 1.5),
        ] {
            let case = (attempts, kind, retry_after);
            assert_eq!(delay(attempts, kind, retry_after, 0.0), secs(at_least), "{case:?}");
            let longest = delay(attempts, kind, retry_after, ALMOST_ONE).as_secs_f64();
            assert!(longest <= below && longest > below * 0.999, "{case:?}: {longest}");
        }
        // A `Retry-After` of a day is limited to an hour.
        assert_eq!(delay(1, Definite, Some(86_400), 0.0), HOUR);
        assert_eq!(delay(1, Definite, Some(u64::MAX), 0.5), HOUR);
    }

    #[test]
    fn last_retry_is_at_the_end_of_the_budget() {
        let policy = defaults();
        let next = |kind, retry_after, retrying_for| policy.next(300, kind, retry_after, retrying_for, 0.9);
        let before_the_end = |millis| (3 * DAY).saturating_sub(Duration::from_millis(millis));
        let (definite, ambiguous) = (RetryKind::Definite, RetryKind::Ambiguous);
        assert_eq!(next(definite, None, before_the_end(600_000)), Next::After(secs(600)));
        assert_eq!(next(definite, None, before_the_end(1000)), Next::After(secs(1)));
        assert_eq!(next(ambiguous, None, before_the_end(10_000)), Next::After(secs(10)));
        // The rest of the budget is shorter than the minimum delay.
        assert_eq!(next(definite, None, before_the_end(999)), Next::GiveUp);
        assert_eq!(next(ambiguous, None, before_the_end(9000)), Next::GiveUp);
        assert_eq!(next(definite, Some(secs(601)), before_the_end(600_000)), Next::GiveUp);
        for late in [3 * DAY, 4 * DAY, Duration::MAX] {
            assert_eq!(next(definite, None, late), Next::GiveUp);
        }
    }

    #[test]
    fn outage_of_72_hours_takes_fewer_than_150_attempts() {
        let policy = defaults();
        for jitter in [0.0, 0.5, ALMOST_ONE] {
            let (mut attempts, mut elapsed) = (1, Duration::ZERO);
            while let Next::After(delay) = policy.next(attempts, RetryKind::Definite, None, elapsed, jitter) {
                elapsed += delay;
                attempts += 1;
            }
            assert_eq!(elapsed, 3 * DAY, "the last attempt is at the end of the budget");
            assert!((70..150).contains(&attempts), "{attempts}");
        }
    }

    fn policies() -> impl Strategy<Value = RetryPolicy> {
        (1u64..100_000, 1u64..100_000, 1u64..100_000_000, 1u64..1_000_000_000).prop_map(
            |(base, floor, cap, give_up)| RetryPolicy {
                definite_base: Duration::from_millis(base),
                ambiguous_floor: Duration::from_millis(floor),
                cap: Duration::from_millis(cap),
                give_up_after: Duration::from_millis(give_up),
            },
        )
    }

    fn durations() -> impl Strategy<Value = Duration> {
        prop_oneof![
            (0u64..200_000_000).prop_map(Duration::from_millis),
            any::<(u64, u32)>().prop_map(|(secs, nanos)| Duration::new(secs, nanos % 1_000_000_000)),
        ]
    }

    proptest! {
        #[test]
        fn all_limits_hold_together(
            policy in policies(),
            attempts: u32,
            ambiguous: bool,
            retry_after in proptest::option::of(durations()),
            retrying_for in durations(),
            jitter in prop_oneof![0.0..1.0, any::<f64>()],
        ) {
            let kind = if ambiguous { RetryKind::Ambiguous } else { RetryKind::Definite };
            match policy.next(attempts, kind, retry_after, retrying_for, jitter) {
                Next::After(delay) => {
                    prop_assert!(delay >= policy.definite_base);
                    prop_assert!(!ambiguous || delay >= policy.ambiguous_floor);
                    prop_assert!(delay >= retry_after.unwrap_or_default().min(policy.cap));
                    let minimum = policy.definite_base.max(policy.ambiguous_floor);
                    prop_assert!(delay <= policy.cap.max(minimum));
                    prop_assert!(retrying_for + delay <= policy.give_up_after);
                }
                Next::GiveUp => {
                    let left = policy.give_up_after.saturating_sub(retrying_for);
                    let minimum = if ambiguous { policy.ambiguous_floor } else { policy.definite_base };
                    let minimum = minimum.max(policy.definite_base);
                    prop_assert!(left.is_zero() || left < minimum.max(retry_after.unwrap_or_default()));
                }
            }
        }

        #[test]
        fn further_failures_never_shorten_the_step(policy in policies(), attempts in 1..u32::MAX) {
            let patient = RetryPolicy { give_up_after: Duration::MAX, ..policy };
            let step = |attempts| patient.next(attempts, RetryKind::Definite, None, Duration::ZERO, 0.0);
            match (step(attempts), step(attempts + 1)) {
                (Next::After(earlier), Next::After(later)) => prop_assert!(earlier <= later),
                other => prop_assert!(false, "{other:?}"),
            }
        }

        #[test]
        fn extreme_policies_do_not_overflow(attempts: u32, jitter: f64, retry_after in durations()) {
            let policy = RetryPolicy {
                definite_base: Duration::MAX,
                ambiguous_floor: Duration::MAX,
                cap: Duration::MAX,
                give_up_after: Duration::MAX,
            };
            let next = policy.next(attempts, RetryKind::Ambiguous, Some(retry_after), Duration::ZERO, jitter);
            prop_assert_eq!(next, Next::After(Duration::MAX));
        }
    }
}
