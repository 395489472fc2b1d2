//! The response about one job.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::api::ListedJob;

/// A job of the caller.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct JobStatus {
    /// ID of the job, chosen by the agent.
    pub job_id: String,
    /// `armed`, `leased`, `firing`, `waiting`, `delivered`, `stuck`, `dead`, `cancelled` or `unknown`.
    pub state: String,
    /// Next event, or the way to fire the job again.
    pub next: String,
    /// Current one-shot, also if it was delivered. Absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_shot: Option<ListedJob>,
    /// Attempts that have ended, newest first.
    pub attempts: Vec<JobAttempt>,
}

/// An attempt that has ended.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct JobAttempt {
    /// Opaque ID of the attempt.
    pub attempt_id: String,
    /// Opaque ID of the one-shot that was attempted.
    pub schedule_id: String,
    /// Instant of that one-shot's fire.
    pub fire_at: String,
    /// Number of the attempt within the retry budget, from 1.
    pub attempt: u32,
    /// Start of the attempt.
    pub started_at: String,
    /// Time at which the outcome was recorded.
    pub ended_at: String,
    /// `delivered`, `gone`, `dropped`, `duplicate`, `failed` or `lost`.
    pub outcome: String,
    /// HTTP status of the agent's response. Absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// Error of the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The `status` in the agent's response to a delivery, if the service does not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}
