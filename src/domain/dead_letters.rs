//! Dead letters by their error.

use chrono::{DateTime, Utc};
use nas_cron_protocol::OneShotState;

/// Number of characters by which errors are grouped: the rest often differs by an ID or a time.
pub const GROUPED_BY: i32 = 48;

/// Dead letters, or stuck one-shots, with one error.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetterGroup {
    /// Their state: dead or stuck.
    pub state: OneShotState,
    /// True if their `not_after` passed.
    pub expired: bool,
    /// HTTP status of the last response.
    pub status: Option<i16>,
    /// Beginning of the last error; `None` without one, or if its text was erased.
    pub error: Option<String>,
    /// Number of one-shots.
    pub count: i64,
    /// Number of their agents.
    pub agents: i64,
    /// Time at which the first of them ended.
    pub first_at: DateTime<Utc>,
    /// Time at which the last of them ended.
    pub last_at: DateTime<Utc>,
}

/// The groups of all dead letters.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct DeadLetters {
    /// The largest groups, the largest first.
    pub groups: Vec<DeadLetterGroup>,
    /// True if there are more dead letters than were examined.
    pub more: bool,
    /// True if there are smaller groups.
    pub more_groups: bool,
}
