//! Lengths of all leases, from the settings `lease_grace` and `lease_margin` (`config/sections/leases.rs`) and the
//! reserves below. No other module computes them.

use std::time::Duration;

/// Minimum remaining length of a lease at its confirmation. A shorter one is given back, because its confirmation could
/// come too late.
pub const CONFIRMATION_RESERVE: Duration = Duration::from_millis(250);

/// Minimum time from an attempt's deadline to the end of its lease, for recording the outcome. A lease that ends earlier
/// would let another replica start the same one-shot again.
const RECORDING_RESERVE: Duration = Duration::from_secs(1);

/// Time to record the results of a round of orders to an external backend, in addition to the calls of the round.
const ORDERS_RECORDED_WITHIN: Duration = Duration::from_secs(5);

/// The lengths of the leases of a one-shot (docs/contract.md#leases). Other replicas do not touch the one-shot until its
/// lease ends. A longer lease delays the one-shots of a dead replica; a shorter one lets two replicas do the same work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseLengths {
    /// Time from the one-shot's instant to the end of a claim's lease; from the claim, if the one-shot was due already.
    /// It is also the worst-case delay of a one-shot that a dead replica had claimed and not started, plus one claim cycle.
    pub claim_grace: Duration,
    /// Time from an attempt's start to the end of its lease: the attempt's timeout and a margin to record the outcome.
    /// Until then no other replica starts an attempt of the one-shot.
    pub attempt: Duration,
}

impl LeaseLengths {
    /// Returns the lengths for attempts with this timeout. `attempt_margin` is the time from an attempt's deadline to the
    /// end of its lease.
    pub const fn new(claim_grace: Duration, attempt_timeout: Duration, attempt_margin: Duration) -> Self {
        Self { claim_grace, attempt: attempt_timeout.saturating_add(attempt_margin) }
    }

    /// Returns true if the lease leaves time to record the outcome of an attempt with this timeout. Otherwise two attempts
    /// of one one-shot could be in flight at once (docs/contract.md#leases).
    pub fn outlast_attempts_of(&self, attempt_timeout: Duration) -> bool {
        self.attempt >= attempt_timeout.saturating_add(RECORDING_RESERVE)
    }
}

/// Returns the length of the lease on a round of orders to an external backend. A round is two batches of calls. Another
/// replica repeats the orders that are not recorded by then, which is harmless.
pub fn of_orders(batch_of_calls: Duration) -> Duration {
    batch_of_calls * 2 + ORDERS_RECORDED_WITHIN
}

#[cfg(test)]
mod tests {
    use super::*;

    const TIMEOUT: Duration = Duration::from_secs(30);

    fn with_margin(margin: Duration) -> LeaseLengths {
        LeaseLengths::new(Duration::from_secs(3), TIMEOUT, margin)
    }

    #[test]
    fn lease_of_an_attempt_is_its_timeout_plus_the_margin() {
        let contract = LeaseLengths { claim_grace: Duration::from_secs(3), attempt: Duration::from_secs(40) };
        assert_eq!(with_margin(Duration::from_secs(10)), contract);
        assert_eq!(with_margin(Duration::MAX).attempt, Duration::MAX);
    }

    #[test]
    fn lease_leaves_a_second_to_record_the_outcome() {
        assert!(with_margin(Duration::from_secs(1)).outlast_attempts_of(TIMEOUT));
        assert!(!with_margin(Duration::from_millis(999)).outlast_attempts_of(TIMEOUT));
        assert!(!with_margin(Duration::ZERO).outlast_attempts_of(TIMEOUT));
        assert!(!with_margin(Duration::from_secs(10)).outlast_attempts_of(TIMEOUT + Duration::from_secs(10)));
    }

    #[test]
    fn lease_of_orders_covers_two_batches_of_calls_and_their_recording() {
        assert_eq!(of_orders(Duration::from_secs(40)), Duration::from_secs(85));
    }
}
