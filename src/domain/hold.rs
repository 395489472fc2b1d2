//! Holds, and the one-shots that are parked by one or behind a probe.

use chrono::{DateTime, Utc};

use super::HoldScope;

/// What a tidying changed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Tidied {
    /// Released because no hold applies any more.
    pub released: i64,
    /// Made the probe of an unreachable instance that had lost its own.
    pub probes: i64,
    /// Given up while waiting for a probe.
    pub given_up: i64,
}

/// A hold, as it stands.
#[derive(Clone, Debug, serde::Serialize)]
pub struct Hold {
    /// What it covers.
    pub scope: HoldScope,
    /// The org's or instance's id; empty for the whole service.
    pub scope_id: String,
    /// Why, in the operator's words.
    pub reason: Option<String>,
    /// Since when.
    pub created_at: DateTime<Utc>,
}

/// What keeps fires from being sent.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Withheld {
    /// Number of holds, by scope.
    pub holds: Vec<(HoldScope, i64)>,
    /// Number of instances that cannot be reached.
    pub unreachable: i64,
    /// Number of instances that the operator has disabled.
    pub disabled: i64,
    /// Number of instances that the portal denies.
    pub denied: i64,
}

/// What a scope of holds comprises.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Coverage {
    /// Its instances.
    pub agents: i64,
    /// Their one-shots that are armed, leased, firing or waiting.
    pub armed: i64,
    /// Of these: came due, and are parked by a hold.
    pub parked: i64,
}
