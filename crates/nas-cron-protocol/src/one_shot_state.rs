//! The states of a one-shot (docs/contract.md#states).

use crate::words;

words!(
    /// The state of a job's current one-shot.
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum OneShotState {
        /// Waits for its instant.
        Armed = "armed",
        /// Claimed by a replica that waits for the instant.
        Leased = "leased",
        /// An attempt is in flight.
        Firing = "firing",
        /// Waits for a retry, or for a second fire of the same key.
        Waiting = "waiting",
        /// Accepted by the agent.
        Delivered = "delivered",
        /// The same key was provisioned again after three second fires.
        Stuck = "stuck",
        /// A dead letter: no more attempts, but visible and redrivable.
        Dead = "dead",
    }
);

words!(
    /// Reason why a due one-shot is not attempted.
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum ParkReason {
        /// A hold on its instance, its org or the whole service, or a disabled instance.
        Hold = "hold",
        /// The instance is unreachable, and another one-shot probes it.
        Unreachable = "unreachable",
    }
);

words!(
    /// Reason why a one-shot is a dead letter.
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum DeadReason {
        /// Its retry budget is spent.
        BudgetSpent = "budget_spent",
        /// Its `not_after` passed before the agent accepted the fire.
        Expired = "expired",
    }
);
