//! Limits the rate of calls with one admin token: a script that runs away leaves the database to the other callers.

use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, MonotonicClock};
use governor::middleware::NoOpMiddleware;
use governor::state::keyed::HashMapStateStore;
use governor::{Quota, RateLimiter};

/// Calls per second that a replica accepts with one token, on average.
pub const CALLS_PER_SECOND: NonZeroU32 = NonZeroU32::new(200).unwrap();
/// Calls that it accepts at once.
const BURST: NonZeroU32 = NonZeroU32::new(1_000).unwrap();
/// Number of tokens after which those that have not called lately are forgotten.
const REMEMBERED: usize = 1_000;

/// Counts calls by the SHA-256 of their token.
type ByToken<C> =
    RateLimiter<[u8; 32], HashMapStateStore<[u8; 32]>, C, NoOpMiddleware<<C as Clock>::Instant>>;

/// The recent calls of each valid token, by its SHA-256. Only valid tokens are remembered, so the tokens that exist bound its
/// memory.
#[derive(Debug)]
pub(super) struct CallRate<C: Clock = MonotonicClock> {
    calls: ByToken<C>,
}

impl Default for CallRate {
    fn default() -> Self {
        Self::with_clock(MonotonicClock)
    }
}

impl<C: Clock> CallRate<C> {
    fn with_clock(clock: C) -> Self {
        let quota = Quota::per_second(CALLS_PER_SECOND).allow_burst(BURST);
        Self { calls: RateLimiter::new(quota, HashMapStateStore::default(), clock) }
    }

    /// Counts a call. Fails with the time to wait if they come too fast; such a call is not counted.
    pub(super) fn admit(&self, token_hash: &[u8; 32]) -> Result<(), Duration> {
        if self.calls.len() > REMEMBERED {
            self.calls.retain_recent();
        }
        self.calls.check_key(token_hash).map_err(|until| until.wait_time_from(self.calls.clock().now()))
    }
}

#[cfg(test)]
mod tests {
    use governor::clock::FakeRelativeClock;

    use super::*;

    #[test]
    fn calls_of_a_token_are_limited_and_others_are_not_affected() {
        let clock = FakeRelativeClock::default();
        let rate = CallRate::with_clock(clock.clone());
        for _ in 0..BURST.get() {
            assert_eq!(rate.admit(&[1; 32]), Ok(()));
        }
        let wait = rate.admit(&[1; 32]).unwrap_err();
        assert_eq!(wait, Duration::from_secs(1) / CALLS_PER_SECOND.get());
        assert_eq!(rate.admit(&[2; 32]), Ok(()));
        clock.advance(wait);
        assert_eq!(rate.admit(&[1; 32]), Ok(()));
        assert!(rate.admit(&[1; 32]).is_err(), "one call per interval");
    }

    #[test]
    fn tokens_that_have_not_called_lately_are_forgotten() {
        let clock = FakeRelativeClock::default();
        let rate = CallRate::with_clock(clock.clone());
        let hash = |number: usize| [number.to_le_bytes(); 4].concat().try_into().unwrap();
        for number in 0..=REMEMBERED {
            rate.admit(&hash(number)).unwrap();
        }
        clock.advance(Duration::from_secs(10));
        rate.admit(&hash(0)).unwrap();
        assert_eq!(rate.calls.len(), 1);
    }
}
