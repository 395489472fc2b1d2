//! How long a lease lasts: the only place that decides it, from the settings `lease_grace` and `lease_margin`
//! (`config/sections/leases.rs`) and the reserves below.

use std::time::Duration;

/// A lease with less than this left is not confirmed any more but given back: its confirmation could come too late.
pub const CONFIRMATION_RESERVE: Duration = Duration::from_millis(250);

/// Minimum time from an attempt's deadline to the end of its lease: the outcome is still to be recorded, and a lease
/// that ends before would let another replica start the same one-shot again.
const RECORDING_RESERVE: Duration = Duration::from_secs(1);

/// Time to record how a round of orders to a hosted backend went, beyond the calls of the round.
const ORDERS_RECORDED_WITHIN: Duration = Duration::from_secs(5);

/// The lengths of the leases of a one-shot (docs/contract.md#leases). Other replicas leave the one-shot alone until its
/// lease ends, so a length is a trade: too long delays what a dead replica held, too short lets two replicas do the
/// same work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LeaseLengths {
    /// The lease of a claim ends this long after the one-shot's instant, or after the claim if the one-shot was due
    /// already. What a dead replica had claimed and not started is late by this and one claim cycle.
    pub claim_grace: Duration,
    /// The lease of a started attempt ends this long after the attempt's start: its deadline, and a margin to record
    /// the outcome. Until then no other replica starts an attempt of the one-shot.
    pub attempt: Duration,
}

impl LeaseLengths {
    /// Returns the lengths for attempts with this timeout: `attempt_margin` passes from an attempt's deadline to the end
    /// of its lease.
    pub const fn new(claim_grace: Duration, attempt_timeout: Duration, attempt_margin: Duration) -> Self {
        Self { claim_grace, attempt: attempt_timeout.saturating_add(attempt_margin) }
    }

    /// Returns whether the outcome of an attempt with this timeout can be recorded before its lease ends. It must be
    /// so, or two attempts of one one-shot could be under way at once (docs/contract.md#leases).
    pub fn outlast_attempts_of(&self, attempt_timeout: Duration) -> bool {
        self.attempt >= attempt_timeout.saturating_add(RECORDING_RESERVE)
    }
}

/// Returns how long one replica has the orders of a round to a hosted backend for itself, where a round is two batches
/// of calls. What it has not recorded by then is told by another one, which is harmless.
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
    fn an_attempts_lease_is_its_timeout_and_the_margin() {
        let contract = LeaseLengths { claim_grace: Duration::from_secs(3), attempt: Duration::from_secs(40) };
        assert_eq!(with_margin(Duration::from_secs(10)), contract);
        assert_eq!(with_margin(Duration::MAX).attempt, Duration::MAX);
    }

    #[test]
    fn a_lease_leaves_a_second_to_record_the_outcome() {
        assert!(with_margin(Duration::from_secs(1)).outlast_attempts_of(TIMEOUT));
        assert!(!with_margin(Duration::from_millis(999)).outlast_attempts_of(TIMEOUT));
        assert!(!with_margin(Duration::ZERO).outlast_attempts_of(TIMEOUT));
        assert!(!with_margin(Duration::from_secs(10)).outlast_attempts_of(TIMEOUT + Duration::from_secs(10)));
    }

    #[test]
    fn orders_are_a_replicas_for_two_batches_of_calls_and_their_recording() {
        assert_eq!(of_orders(Duration::from_secs(40)), Duration::from_secs(85));
    }
}
