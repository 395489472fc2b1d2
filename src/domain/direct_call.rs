//! Calls that an external backend makes to agents itself (QStash's direct mode).

use chrono::{DateTime, Utc};
use nas_cron_protocol::ScheduleId;

/// A direct call that is due and whose result is still unknown.
#[derive(Clone, Debug)]
pub struct DirectCall {
    /// The arm that it delivers.
    pub schedule_id: ScheduleId,
    /// The backend's id of the call.
    pub message_id: String,
    /// Earliest time at which the backend makes the call.
    pub due_at: DateTime<Utc>,
}

/// The result of a direct call, from the backend's log.
#[derive(Clone, Debug)]
pub struct DirectResult {
    /// The arm that it delivers.
    pub schedule_id: ScheduleId,
    /// End of the call, by the backend's clock.
    pub at: DateTime<Utc>,
    /// True if the agent accepted it.
    pub delivered: bool,
    /// The agent's last HTTP status, if the log has one.
    pub http_status: Option<u16>,
}
