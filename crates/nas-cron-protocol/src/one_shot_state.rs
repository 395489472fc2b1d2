//! The states of a one-shot (docs/contract.md#states).

use crate::words;

words!(
    /// The state of a job's current one-shot.
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum OneShotState {
        /// Due at its instant.
        Armed = "armed",
        /// Claimed by a replica that waits for the instant.
        Leased = "leased",
        /// An attempt is under way.
        Firing = "firing",
        /// For a retry, or for a second fire of the same key.
        Waiting = "waiting",
        /// The agent accepted it.
        Delivered = "delivered",
        /// The same key was provisioned after three second fires.
        Stuck = "stuck",
        /// Given up: visible, and can be redriven.
        Dead = "dead",
    }
);

words!(
    /// Why a due one-shot is not tried.
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum ParkReason {
        /// Its instance, org or the whole service is on hold, or the instance is disabled.
        Hold = "hold",
        /// Its instance cannot be reached, and another one-shot probes it.
        Unreachable = "unreachable",
    }
);
