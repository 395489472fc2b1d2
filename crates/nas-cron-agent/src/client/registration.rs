//! The calls by which a server comes to know an agent's key, and gives it a task.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::agent_identity::RegisterRequest;
use reqwest::Method;
use serde::Deserialize;
use serde::de::IgnoredAny;

use super::identity::{AgentKey, NotForUs};
use super::transport::{Authorization, ClientError, Transport};

/// What one of these calls may take. Others wait for their outcome.
const TIMEOUT: Duration = Duration::from_secs(6);

/// Why there is no task.
#[derive(Debug, thiserror::Error)]
pub enum TaskError {
    /// The call did not do.
    #[error(transparent)]
    Call(#[from] ClientError),
    /// The server sealed it for somebody else.
    #[error(transparent)]
    NotForUs(#[from] NotForUs),
    /// The server's answer has none.
    #[error("its answer has neither a `task_id` nor an `encrypted_task_id`")]
    None,
}

// Names are opaque text here, whatever server gives them: these two read less than the contract promises.

#[derive(Deserialize)]
struct Registered {
    agent_runtime_id: String,
}

#[derive(Deserialize)]
struct Task {
    task_id: Option<String>,
    encrypted_task_id: Option<String>,
}

/// Makes the key known; the same key again is the same identity. What it `replaces` is revoked in the same moment.
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

/// Gets a task, proved by the key itself.
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
        _ => Err(TaskError::None),
    }
}

/// Ends an identity with all its tasks.
pub(super) async fn revoke(
    transport: &Transport,
    authorization: &Authorization,
    agent_runtime_id: &str,
) -> Result<(), ClientError> {
    let path = format!("/v1/agent/{}", segment(agent_runtime_id));
    let call = transport.call::<(), IgnoredAny>(Method::DELETE, &path, Some(authorization), None, TIMEOUT);
    call.await.map(drop)
}

/// One segment of a path, whatever is in it.
pub(super) fn segment(text: &str) -> String {
    let encoded: String = url::form_urlencoded::byte_serialize(text.as_bytes()).collect();
    encoded.replace('+', "%20")
}
