//! The active scheduler backend, and the move of one-shots to it.

use chrono::{DateTime, Utc};
use nas_cron_protocol::BackendName;

/// The backend that new one-shots go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ActiveBackend {
    /// The backend.
    pub backend: BackendName,
    /// Number of switches so far, plus one.
    pub generation: i32,
    /// When it became active.
    pub switched_at: DateTime<Utc>,
}

/// The result of one batch of a move.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// The backend that they were moved to.
    pub to: BackendName,
    /// Number of one-shots moved.
    pub count: u64,
}

/// What is left to do of a move to the active backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Left {
    /// One-shots that are still to be moved.
    pub to_move: i64,
    /// Wake-ups of one-shots armed before a given instant that the active backend is still to be told of.
    pub to_tell: i64,
    /// Wake-ups that the other backends are still to take back.
    pub to_take_back: i64,
    /// Wake-ups too far ahead for the active backend: it is told once they are near enough.
    pub put_off: i64,
    /// Why telling fails, where it does.
    pub last_error: Option<String>,
}

impl Left {
    /// Returns the number of steps that have to be done now.
    pub const fn count(&self) -> i64 {
        self.to_move + self.to_tell + self.to_take_back
    }
}

/// Number of a backend's one-shots and outbox rows.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct BackendCounts {
    /// The backend.
    pub backend: BackendName,
    /// Armed one-shots that it is to wake.
    pub one_shots: i64,
    /// Wake-ups that it is still to be told of.
    pub wanted: i64,
    /// Of these, the ones too far ahead for it.
    pub put_off: i64,
    /// Wake-ups that it has confirmed.
    pub armed: i64,
    /// Wake-ups that it is still to take back.
    pub unwanted: i64,
    /// The last error of telling it, where something is still to be told.
    pub last_error: Option<String>,
}

/// Wake-ups that a backend should have been told of, or told to take back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untold {
    /// The backend.
    pub backend: BackendName,
    /// Number of wake-ups.
    pub count: i64,
    /// Why it could not be told; `None` where nobody has tried for more than a minute.
    pub last_error: Option<String>,
}
