//! The relay: the request of an external scheduler backend, and the response (docs/contract.md#relay).

use serde::{Deserialize, Serialize};

/// A wake-up of a one-shot: the body of the relay, and of a NATS message.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WakeBody {
    /// Instance that owns the job.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::InstanceId))]
    pub instance_id: String,
    /// ID of the job.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::JobId))]
    pub job_id: String,
    /// ID of the one-shot.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::ScheduleId))]
    pub schedule_id: String,
    /// Time of the fire, byte for byte as provisioned.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::FireAt))]
    pub fire_at: String,
}

/// Result of a wake-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RelayStatus {
    /// The agent accepted the fire, now or earlier.
    Delivered,
    /// The agent's gateway is stopped on purpose: nothing ran.
    Dropped,
    /// The agent refused the fire: the job is running, paused or finished.
    Duplicate,
    /// The one-shot no longer exists, or the agent no longer has the job.
    Gone,
    /// The job has a newer one-shot.
    Superseded,
    /// The one-shot's `not_after` has passed: it is a dead letter.
    Expired,
    /// An attempt is in flight, or waits for its time.
    UnderWay,
    /// The agent did not accept the fire. The service retries it, whatever the backend does.
    NotAccepted,
    /// The wake-up came too early. The one-shot fires at its time, whatever the backend does.
    Early,
}

/// Response to a wake-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RelayResponse {
    /// Result of the wake-up.
    pub status: RelayStatus,
}
