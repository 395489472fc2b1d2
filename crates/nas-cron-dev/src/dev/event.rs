//! Events of demo agents.

use chrono::{DateTime, TimeDelta, Utc};

/// An event of a demo agent.
#[derive(Debug)]
pub(super) struct Event {
    /// Instance id.
    pub(super) agent: String,
    /// Time of the event, by the agent's clock.
    pub(super) at: DateTime<Utc>,
    /// The event itself.
    pub(super) kind: EventKind,
}

/// The kinds of events.
#[derive(Debug)]
pub(super) enum EventKind {
    /// A verified fire arrived.
    Fired {
        /// As it was provisioned.
        fire_at: String,
        /// Time from its instant to its arrival.
        lateness: TimeDelta,
        /// Its timeliness.
        verdict: Verdict,
    },
    /// A fire failed verification, or is for no provisioned one-shot.
    Unverified {
        /// The reason.
        why: String,
    },
    /// A fire did not arrive in time.
    Missing {
        /// As it was provisioned.
        fire_at: String,
    },
    /// A call of the agent API failed or returned a wrong response. A real agent's job would stop here.
    Failed {
        /// The error.
        error: String,
    },
}

/// The timeliness of a verified fire.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// At or after its instant, for the first time.
    OnTime,
    /// Before its instant.
    Early,
    /// Again after its delivery, which is allowed but rare.
    Again,
}
