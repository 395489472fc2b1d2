//! Bodies of key and task registrations (docs/contract.md#agent-identity).

use serde::{Deserialize, Serialize};

use crate::{AgentRuntimeId, TaskId};

/// Request to register a key. Unknown fields are ignored.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(
    feature = "openapi",
    schema(example = json!({
        "agent_public_key": "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea"
    }))
)]
pub struct RegisterRequest {
    /// Public half of an Ed25519 key pair, as an OpenSSH line. A comment at its end is dropped.
    #[cfg_attr(
        feature = "openapi",
        schema(
            example = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea",
            max_length = 1024,
            pattern = "^[ \\t]*ssh-ed25519[ \\t]+AAAAC3NzaC1lZDI1NTE5AAAAI[A-P][A-Za-z0-9+/]{42}(?:[ \\t][^\\u0000-\\u0008\\u000a-\\u001f\\u007f-\\u009f]*)?$",
            format = "openssh-key"
        )
    )]
    pub agent_public_key: String,
    /// ID of the identity that this one replaces. It is revoked in the same transaction.
    #[serde(skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::AgentRuntimeId>))]
    pub replaces: Option<String>,
}

/// Response to a key registration.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegisterResponse {
    /// ID of the identity. Signed messages start with it.
    pub agent_runtime_id: AgentRuntimeId,
}

/// Request to register a task.
#[derive(Clone, Debug, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegisterTaskRequest {
    /// RFC 3339 in whole seconds and UTC; at most 5 minutes off the service's clock.
    #[cfg_attr(
        feature = "openapi",
        schema(
            pattern = "^[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}Z$",
            format = "date-time",
            example = "2026-06-18T12:34:56Z"
        )
    )]
    pub timestamp: String,
    /// Ed25519 signature of `{agent_runtime_id}:{timestamp}`, in base64.
    #[cfg_attr(
        feature = "openapi",
        schema(
            pattern = "^[A-Za-z0-9+/]{85}[AQgw]==$",
            example = "O7Eu2jwpjbXeJVl/VNkk8uF+eKJq2JU+2CGO5oLwu76QIeLzAJ0VLJEb8fJexoOpAnFBZnZ6+9jlvQ+wEk7Lig=="
        )
    )]
    pub signature: String,
}

/// Response to a task registration: one of the two fields, depending on the configuration of the service.
#[derive(Clone, Debug, Default, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RegisterTaskResponse {
    /// ID of the task.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub task_id: Option<TaskId>,
    /// ID of the task, encrypted to the agent: a libsodium sealed box (`crypto_box_seal`) to the X25519 key that is
    /// derived from its Ed25519 key, in base64.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub encrypted_task_id: Option<String>,
}
