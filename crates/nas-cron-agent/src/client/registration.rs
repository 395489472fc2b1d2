//! The calls that register and revoke an agent's key, and register a task.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::agent_identity::RegisterRequest;
use reqwest::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::identity::{AgentKey, UnsealError};
use super::transport::{Authorization, ClientError, Transport};

/// Timeout of one of these calls. Other processes wait for the result.
const TIMEOUT: Duration = Duration::from_secs(6);

/// A failed task registration.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The call failed.
    #[error(transparent)]
    Call(#[from] ClientError),
    /// The task id is sealed to another key.
    #[error(transparent)]
    Unseal(#[from] UnsealError),
    /// The response has no task id.
    #[error("the response has neither `task_id` nor `encrypted_task_id`")]
    Missing,
}

// IDs are opaque text here: other servers may return less than the contract promises.

#[derive(Deserialize)]
struct Registered {
    agent_runtime_id: String,
}

#[derive(Deserialize)]
struct Task {
    task_id: Option<String>,
    encrypted_task_id: Option<String>,
}

/// Registers the key, and returns the ID of its identity; the same key again is the same identity. The identity that it
/// `replaces` is revoked in the same transaction.
pub(super) async fn register(
    transport: &Transport,
    bearer: &Authorization,
    key: &AgentKey,
    replaces: Option<&str>,
) -> Result<String, ClientError> {
    let body = RegisterRequest { agent_public_key: key.public_line(), replaces: replaces.map(str::to_owned) };
    let registered: Registered =
        transport.call(Method::POST, "/v1/agent/register", Some(bearer), Some(&body), TIMEOUT).await?;
    Ok(registered.agent_runtime_id)
}

/// Registers a task, authenticated by the key itself, and returns its ID.
pub(super) async fn register_task(
    transport: &Transport,
    key: &AgentKey,
    agent_runtime_id: &str,
    now: DateTime<Utc>,
) -> Result<String, TaskError> {
    let path = format!("/v1/agent/{}/task/register", segment(agent_runtime_id));
    let body = key.task_registration(agent_runtime_id, now);
    let task: Task = transport.call(Method::POST, &path, None, Some(&body), TIMEOUT).await?;
    match task {
        Task { task_id: Some(task_id), .. } => Ok(task_id),
        Task { encrypted_task_id: Some(sealed), .. } => Ok(key.open(&sealed)?),
        _ => Err(TaskError::Missing),
    }
}

/// Revokes an identity and all its tasks.
pub(super) async fn revoke(
    transport: &Transport,
    authorization: &Authorization,
    agent_runtime_id: &str,
) -> Result<(), ClientError> {
    let path = format!("/v1/agent/{}", segment(agent_runtime_id));
    let call = transport.call::<(), IgnoredAny>(Method::DELETE, &path, Some(authorization), None, TIMEOUT);
    call.await.map(drop)
}

/// Encodes text as one segment of a path.
pub(super) fn segment(text: &str) -> String {
    let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    encoded.replace('+', "%20")
}
