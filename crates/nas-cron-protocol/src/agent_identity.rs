//! Bodies of the calls that register a key and a task (docs/contract.md#agent-identity).

use serde::{Deserialize, Serialize};

use crate::{AgentRuntimeId, TaskId};

/// A key that is to be registered. Other fields are ignored.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegisterRequest {
    /// The public half of an Ed25519 pair, as an OpenSSH line. A comment at its end is dropped.
    #[cfg_attr(
        feature = "openapi",
        schema(
            example = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea",
            max_length = 1024
        )
    )]
    pub agent_public_key: String,
    /// The identity that this one takes the place of: it is revoked in the same commit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub replaces: Option<String>,
}

/// It is registered.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegisterResponse {
    /// The identity's name: what its signatures begin with.
    #[cfg_attr(feature = "openapi", schema(value_type = uuid::Uuid))]
    pub agent_runtime_id: AgentRuntimeId,
}

/// A task that is to be registered.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegisterTaskRequest {
    /// RFC 3339 in whole seconds and UTC; at most 5 minutes from the service's clock.
    #[cfg_attr(feature = "openapi", schema(example = "2026-06-18T12:34:56Z"))]
    pub timestamp: String,
    /// Ed25519 over `{agent_runtime_id}:{timestamp}`, in base64.
    #[cfg_attr(feature = "openapi", schema(min_length = 88, max_length = 88))]
    pub signature: String,
}

/// It is registered: one of the two, as the service is configured.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegisterTaskResponse {
    /// The task's name.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<uuid::Uuid>))]
    pub task_id: Option<TaskId>,
    /// The task's name in a box that only the agent opens: a libsodium sealed box (`crypto_box_seal`) to the X25519
    /// key of its Ed25519 pair, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted_task_id: Option<String>,
}
