//! Calls that a hosted backend makes to agents itself (QStash's direct mode).

use chrono::{DateTime, Utc};
use nas_cron_protocol::ScheduleId;

/// A direct call that is due, and whose end is not known yet.
#[derive(Clone, Debug)]
pub struct DirectCall {
    /// The arm that it delivers.
    pub schedule_id: ScheduleId,
    /// The backend's name for it.
    pub message_id: String,
    /// The backend makes it no earlier.
    pub due_at: DateTime<Utc>,
}

/// How a direct call ended, by the backend's log.
#[derive(Clone, Debug)]
pub struct DirectResult {
    /// The arm that it was for.
    pub schedule_id: ScheduleId,
    /// When it ended, by the backend's clock.
    pub at: DateTime<Utc>,
    /// Whether the agent accepted it.
    pub delivered: bool,
    /// The agent's last HTTP status, where the log has one.
    pub http_status: Option<u16>,
}
