//! Bodies of provision, cancel and list.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{ShownAuth, Warning};
use crate::{AuthChoice, BackendName, DeadReason, FireOutcome, Given, OneShotState, ParkReason};

/// Request to arm a one-shot for a job.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProvisionRequest {
    /// ID of the job, chosen by the agent: 1 to 255 bytes.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::JobId))]
    pub job_id: String,
    /// Time of the fire: ISO 8601 with an offset, to the microsecond. Returned byte for byte. A past time fires at once.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::FireAt))]
    pub fire_at: String,
    /// Base URL of the agent; the fire is sent to `{agent_callback_url}/api/cron/fire`.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::CallbackUrl))]
    pub agent_callback_url: String,
    /// Makes arming idempotent: the same key again changes nothing, another key supersedes the one-shot. 1 to 512 bytes.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::DedupKey))]
    pub dedup_key: String,
    /// The job's own auth. Absent keeps the current one, `null` clears it; a change never supersedes the one-shot. A value
    /// that looks like a secret is rejected.
    #[serde(default, skip_serializing_if = "Given::is_keep", serialize_with = "Given::serialize_nullable")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<AuthChoice>))]
    pub auth: Given<AuthChoice>,
    /// No attempt starts after this time: ISO 8601 with an offset, not before `fire_at`. The one-shot then becomes a dead
    /// letter. With the key of an armed one-shot, absent keeps its limit and `null` clears it.
    #[serde(default, skip_serializing_if = "Given::is_keep", serialize_with = "Given::serialize_nullable")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::NotAfter>))]
    pub not_after: Given<String>,
}

/// Response to a provision: the one-shot is durable.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProvisionResponse {
    /// Opaque ID of the one-shot.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::ScheduleId))]
    pub schedule_id: String,
    /// Warnings about the request, which succeeded; absent if there are none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// Request to cancel a job.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CancelRequest {
    /// ID of the job, chosen by the agent.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::JobId))]
    pub job_id: String,
}

/// Response to a cancel, also for an unknown job.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CancelResponse {
    /// Always true.
    pub ok: bool,
}

/// The caller's own one-shots.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ListResponse {
    /// One-shots that are armed, leased, firing or waiting; soonest first. Delivered ones are not listed.
    pub armed: Vec<ArmedOneShot>,
    /// Current dead letters and stuck one-shots.
    pub dead: Vec<DeadOneShot>,
}

/// A one-shot that will fire.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ArmedOneShot {
    /// ID of the job, chosen by the agent.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::JobId))]
    pub job_id: String,
    /// Time of the fire, byte for byte as provisioned.
    pub fire_at: String,
    /// Opaque ID of the one-shot.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::ScheduleId))]
    pub schedule_id: String,
    /// Base URL of the agent that the fire is sent to.
    pub agent_callback_url: String,
    /// State of the one-shot.
    pub state: OneShotState,
    /// Attempts made so far.
    pub attempts: i32,
    /// Earliest time of the next attempt.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Latest start of an attempt; absent without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<DateTime<Utc>>,
    /// Reason why a due one-shot is not attempted; absent if it is not parked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<ParkReason>,
    /// External scheduler backend that sends the wake-up; absent if the built-in loop does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awaits: Option<BackendName>,
    /// Outcome of the last attempt; absent before the first one has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_outcome: Option<FireOutcome>,
    /// HTTP status of the agent's last response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_status: Option<i16>,
    /// Error of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Auth of the job.
    #[serde(flatten)]
    pub auth: ShownAuth,
}

/// A one-shot that will not fire any more.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeadOneShot {
    /// ID of the job, chosen by the agent.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::JobId))]
    pub job_id: String,
    /// Time of the fire, byte for byte as provisioned.
    pub fire_at: String,
    /// Opaque ID of the one-shot.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::ScheduleId))]
    pub schedule_id: String,
    /// Base URL of the agent that the fire was sent to.
    pub agent_callback_url: String,
    /// `dead`: no more retries. `stuck`: the same key was provisioned again after three second fires.
    pub state: OneShotState,
    /// Reason why it is a dead letter; absent if it is stuck.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_reason: Option<DeadReason>,
    /// Latest start of an attempt; absent without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<DateTime<Utc>>,
    /// Attempts made.
    pub attempts: i32,
    /// HTTP status of the agent's last response.
    pub last_status: Option<i16>,
    /// Error of the last attempt.
    pub last_error: Option<String>,
    /// Time at which it became a dead letter or stuck.
    pub died_at: DateTime<Utc>,
    /// Auth of the job.
    #[serde(flatten)]
    pub auth: ShownAuth,
}
