//! Holds, and one-shots that are parked by a hold or by an outage of their instance.

use chrono::{DateTime, Utc};

use super::HoldScope;

/// Number of parked one-shots that a maintenance round changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// One-shots released because no hold applies any more.
    pub released: i64,
    /// One-shots chosen as the new probe of an unreachable instance that had none.
    pub probes: i64,
    /// One-shots whose retry budget ended while they waited for a probe.
    pub given_up: i64,
}

/// A hold in force.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Hold {
    /// Scope of the hold.
    pub scope: HoldScope,
    /// Id of the org or instance; empty for the whole service.
    pub scope_id: String,
    /// The operator's reason.
    pub reason: Option<String>,
    /// Start of the hold.
    pub created_at: DateTime<Utc>,
}

/// Everything that stops fires at present.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withheld {
    /// Number of holds, by scope.
    pub holds: Vec<(HoldScope, i64)>,
    /// Number of unreachable instances.
    pub unreachable: i64,
    /// Number of instances that the operator has disabled.
    pub disabled: i64,
    /// Number of instances that the portal denies.
    pub denied: i64,
}

/// Instances and one-shots in the scope of a hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Coverage {
    /// Number of instances.
    pub agents: i64,
    /// Number of their one-shots that are armed, leased, firing or waiting.
    pub armed: i64,
    /// Number of `armed` one-shots that came due and are parked by a hold.
    pub parked: i64,
}
