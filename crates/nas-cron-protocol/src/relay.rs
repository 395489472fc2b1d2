//! The relay: the call of an external scheduler backend, and its answer (docs/contract.md#relay).

use serde::{Deserialize, Serialize};

/// A wake-up of a one-shot: the body of the relay, and of a NATS message.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WakeBody {
    /// Whose job.
    pub instance_id: String,
    /// Which job.
    pub job_id: String,
    /// Which arm of it.
    #[cfg_attr(feature = "openapi", schema(example = "0190a5e4-7c1e-7000-8000-000000000000"))]
    pub schedule_id: String,
    /// Its instant, byte for byte as it was provisioned.
    pub fire_at: String,
}

/// What became of a wake-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[serde(rename_all = "snake_case")]
pub enum RelayStatus {
    /// The agent accepted, now or before.
    Delivered,
    /// There is no such one-shot any more.
    Gone,
    /// The job has another one-shot now.
    Superseded,
    /// An attempt is under way, or waits for its time.
    UnderWay,
    /// The agent did not accept. It is tried again, whatever the backend does.
    NotAccepted,
    /// It is too early to wait for it. It fires at its time, whatever the backend does.
    Early,
}

/// The answer to a wake-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RelayResponse {
    /// What became of its wake-up.
    pub status: RelayStatus,
}
