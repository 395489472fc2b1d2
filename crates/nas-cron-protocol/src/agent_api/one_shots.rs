//! Provision, cancel, list.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{ShownAuth, Warning};
use crate::{AuthProfile, BackendName, Given, OneShotState, ParkReason};

/// What is to be armed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProvisionRequest {
    /// The agent's name for the job: 1 to 255 bytes.
    #[cfg_attr(feature = "openapi", schema(example = "ab12cd34"))]
    pub job_id: String,
    /// ISO 8601 with an offset, to the microsecond. Echoed byte for byte. In the past: fires at once.
    #[cfg_attr(feature = "openapi", schema(example = "2026-06-18T12:34:56.250000+00:00"))]
    pub fire_at: String,
    /// The agent's base URL; the fire goes to `{agent_callback_url}/api/cron/fire`.
    #[cfg_attr(feature = "openapi", schema(example = "https://agent-xyz.example"))]
    pub agent_callback_url: String,
    /// Makes arming idempotent: the same key again changes nothing, another supersedes. 1 to 512 bytes.
    #[cfg_attr(feature = "openapi", schema(example = "ab12cd34:2026-06-18T12:34:56.250000+00:00"))]
    pub dedup_key: String,
    /// The job's own auth profile, by provider and name. Absent keeps what is set, `null` clears it; it never
    /// supersedes. What looks like a secret is refused.
    #[serde(default, skip_serializing_if = "Given::is_keep", serialize_with = "Given::serialize_nullable")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, example = "claude:work"))]
    pub auth: Given<AuthProfile>,
}

/// It is armed, durably.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ProvisionResponse {
    /// Opaque name of this arm.
    #[cfg_attr(feature = "openapi", schema(example = "0190a5e4-7c1e-7000-8000-000000000000"))]
    pub schedule_id: String,
    /// What is odd, and no error: absent when nothing is.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// What is to be cancelled.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CancelRequest {
    /// The agent's name for the job.
    #[cfg_attr(feature = "openapi", schema(example = "ab12cd34"))]
    pub job_id: String,
}

/// It is cancelled, or never was.
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
    /// Armed, leased, firing or waiting; soonest first. What was delivered is not in it.
    pub armed: Vec<ArmedOneShot>,
    /// Current dead letters, and what is stuck.
    pub dead: Vec<DeadOneShot>,
}

/// A one-shot that will fire.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ArmedOneShot {
    /// The agent's name for the job.
    pub job_id: String,
    /// Byte for byte as it was provisioned.
    pub fire_at: String,
    /// Opaque name of this arm.
    pub schedule_id: String,
    /// The agent's base URL that the fire goes to.
    pub agent_callback_url: String,
    /// Where it stands.
    pub state: OneShotState,
    /// Attempts made so far.
    pub attempts: i32,
    /// When the next one may start.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Why it is not tried although it may be due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<ParkReason>,
    /// The external scheduler backend that sends its wake-up; absent: the service's own loop does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awaits: Option<BackendName>,
    /// The last answer's status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_status: Option<i16>,
    /// What was wrong with the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Its job's auth profiles.
    #[serde(flatten)]
    pub auth: ShownAuth,
}

/// A one-shot that will not fire any more.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeadOneShot {
    /// The agent's name for the job.
    pub job_id: String,
    /// Byte for byte as it was provisioned.
    pub fire_at: String,
    /// Opaque name of this arm.
    pub schedule_id: String,
    /// The agent's base URL that the fire went to.
    pub agent_callback_url: String,
    /// `dead`: its attempts are used up. `stuck`: its key came again after three second fires.
    pub state: OneShotState,
    /// Attempts made.
    pub attempts: i32,
    /// The last answer's status.
    pub last_status: Option<i16>,
    /// What was wrong with the last attempt.
    pub last_error: Option<String>,
    /// When it was given up.
    pub died_at: DateTime<Utc>,
    /// Its job's auth profiles.
    #[serde(flatten)]
    pub auth: ShownAuth,
}
