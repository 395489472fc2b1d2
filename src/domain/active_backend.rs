//! The active scheduler backend, and the move of one-shots to it.

use chrono::{DateTime, Utc};
use nas_cron_protocol::BackendName;
use nas_cron_protocol::admin_api::Count;

/// The scheduler backend for new one-shots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ActiveBackend {
    /// The backend.
    pub backend: BackendName,
    /// Number of switches so far, plus one.
    pub generation: i32,
    /// Time at which it became active.
    pub switched_at: DateTime<Utc>,
}

/// The result of one batch of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The new backend of the one-shots.
    pub to: BackendName,
    /// Number of one-shots moved.
    pub count: u64,
}

/// The remaining work of a move to the active backend. Of each kind, 3,000,000 are counted at most.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct Left {
    /// Number of one-shots that still belong to another backend.
    pub to_move: i64,
    /// Number of wake-ups that are not yet armed at the active backend, of one-shots armed before a given instant.
    pub to_tell: i64,
    /// Number of wake-ups that are not yet cancelled at the other backends.
    pub to_take_back: i64,
    /// Number of wake-ups too far ahead for the active backend: they are armed there later.
    pub postponed: i64,
    /// The last error of a call to a backend, if calls fail.
    #[schema(example = json!(null))]
    pub last_error: Option<String>,
}

impl Left {
    /// Returns the number of steps that are due now.
    pub const fn count(&self) -> i64 {
        self.to_move + self.to_tell + self.to_take_back
    }
}

/// Number of a backend's one-shots and outbox rows. Of each kind, 20,000 are counted at most.
#[derive(Clone, Debug, PartialEq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct BackendCounts {
    /// The backend.
    pub backend: BackendName,
    /// One-shots whose next wake-up comes from this backend. Those that are withheld have none.
    pub one_shots: Count,
    /// Outbox rows in the state wanted: wake-ups that are not yet armed at the backend.
    pub wanted: Count,
    /// Number of `wanted` rows that are too far ahead for the backend.
    pub postponed: Count,
    /// Outbox rows in the state armed: wake-ups that the backend has confirmed.
    pub armed: Count,
    /// Outbox rows in the state unwanted: wake-ups that are not yet cancelled at the backend.
    pub unwanted: Count,
    /// One-shots that are due and whose wake-up has not arrived. Each is a backend miss if the grace period ends first.
    pub overdue: Count,
    /// Wake-ups that the backend has missed so far.
    pub missed: i64,
    /// The last error of a call to the backend, if orders are still pending.
    #[schema(example = json!(null))]
    pub last_error: Option<String>,
}

/// Overdue orders to a backend: wake-ups that should be armed or cancelled there by now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untold {
    /// The backend.
    pub backend: BackendName,
    /// Number of wake-ups.
    pub count: i64,
    /// The error of the last call; `None` if no replica has tried for more than a minute.
    pub last_error: Option<String>,
}
