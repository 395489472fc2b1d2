//! The outcomes of attempts (docs/contract.md#answers-table).

use crate::words;

words!(
    /// The outcome of an attempt.
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum FireOutcome {
        /// The agent accepted the fire with a 2xx status.
        Delivered = "delivered",
        /// The agent no longer has the job.
        Gone = "gone",
        /// The agent's gateway is stopped on purpose: it dropped the fire, and nothing ran.
        Dropped = "dropped",
        /// The agent refused the fire: the job is running, paused or finished.
        Duplicate = "duplicate",
        /// The agent did not accept the fire.
        Failed = "failed",
        /// The lease expired before an outcome was recorded.
        Lost = "lost",
    }
);
