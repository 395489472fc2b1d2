//! What demo agents report.

use chrono::{DateTime, TimeDelta, Utc};

/// Something that happened to an agent.
#[derive(Debug)]
pub(super) struct Event {
    /// Its instance.
    pub(super) agent: String,
    /// When, by the agent's clock.
    pub(super) at: DateTime<Utc>,
    /// What.
    pub(super) what: What,
}

/// What may happen to an agent.
#[derive(Debug)]
pub(super) enum What {
    /// The service called.
    Fired {
        /// As it was provisioned.
        fire_at: String,
        /// From its instant to the call's arrival.
        lateness: TimeDelta,
        /// What is to be thought of it.
        verdict: Verdict,
    },
    /// A call that does not verify, or is for nothing that was provisioned.
    Unverified {
        /// Why.
        why: String,
    },
    /// It did not come.
    Missing {
        /// As it was provisioned.
        fire_at: String,
    },
    /// A call of hop 1 failed, or answered what it must not: a real agent's chain would end here.
    Trouble {
        /// What happened.
        what: String,
    },
}

/// A verified fire's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// As it must be.
    Good,
    /// Before its instant.
    Early,
    /// Once more, after its delivery: allowed, and kept rare.
    Again,
}
