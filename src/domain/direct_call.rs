//! Calls that an external backend makes to agents itself (QStash's direct mode).

use chrono::{DateTime, Utc};
use nas_cron_protocol::ScheduleId;
use uuid::Uuid;

/// Returns the id of a direct call's attempt: the `jti` of its token, and the attempt's id in the history. A wake-up that
/// is handed over again gets the same id, because the backend keeps only one of the two.
pub fn attempt_id(schedule_id: ScheduleId, generation: i32) -> Uuid {
    let name = format!("direct call {schedule_id}-{generation}");
    let digest = ring::digest::digest(&ring::digest::SHA256, name.as_bytes());
    let mut bytes = [0; 16];
    bytes.copy_from_slice(&digest.as_ref()[..16]);
    // Version 8: custom bits (RFC 9562, 5.8).
    uuid::Builder::from_custom_bytes(bytes).into_uuid()
}

/// A direct call that is due and whose result is still unknown.
#[derive(Clone, Debug)]
pub struct DirectCall {
    /// The arm that it delivers.
    pub schedule_id: ScheduleId,
    /// The generation of its wake-up.
    pub generation: i32,
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
    /// The generation of its wake-up.
    pub generation: i32,
    /// End of the call, by the backend's clock.
    pub at: DateTime<Utc>,
    /// True if the agent accepted it.
    pub delivered: bool,
    /// The agent's last HTTP status, if the log has one.
    pub http_status: Option<u16>,
}
