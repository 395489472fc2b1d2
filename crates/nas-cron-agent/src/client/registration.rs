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

// IDs are opaque text here: other servers may return less than the contract promises. Some write camelCase, which codex
// accepts too.

#[derive(Deserialize)]
struct Registered {
    agent_runtime_id: String,
}

#[derive(Deserialize)]
struct Task {
    #[serde(alias = "taskId")]
    task_id: Option<String>,
    #[serde(alias = "encryptedTaskId")]
    encrypted_task_id: Option<String>,
}

impl Task {
    /// Returns the task's ID, opened with the key if it is sealed.
    fn id(self, key: &AgentKey) -> Result<String, TaskError> {
        match self {
            Self { task_id: Some(task_id), .. } => Ok(task_id),
            Self { encrypted_task_id: Some(sealed), .. } => Ok(key.open(&sealed)?),
            _ => Err(TaskError::Missing),
        }
    }
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
    task.id(key)
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

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// A key, and `task-1` sealed to it by an independent implementation's public half.
    fn sealed() -> (AgentKey, String) {
        use base64::Engine;
        use base64::engine::general_purpose::STANDARD;

        let vectors = include_str!("../../../../tests/data/agent_identity_vectors.json");
        let vector = serde_json::from_str::<Value>(vectors).unwrap()[0].take();
        let bytes = |name: &str| hex::decode(vector[name].as_str().unwrap()).unwrap();
        let der = [hex::decode("302e020100300506032b657004220420").unwrap(), bytes("seed")].concat();
        let recipient: [u8; 32] = bytes("x25519").try_into().unwrap();
        let sealed = crypto_box::PublicKey::from(recipient).seal(&mut crypto_box::aead::OsRng, b"task-1");
        (AgentKey::parse(&STANDARD.encode(der).into()).unwrap(), STANDARD.encode(sealed.unwrap()))
    }

    #[test]
    fn task_id_is_read_in_both_spellings_plain_and_sealed() {
        let (key, sealed) = sealed();
        let id = |answer: Value| serde_json::from_value::<Task>(answer).unwrap().id(&key);
        for answer in [
            json!({"task_id": "task-1"}),
            json!({"taskId": "task-1"}),
            json!({"encrypted_task_id": sealed}),
            json!({"encryptedTaskId": sealed}),
            json!({"taskId": null, "encryptedTaskId": sealed, "expiresAt": 1}),
        ] {
            assert_eq!(id(answer.clone()).unwrap(), "task-1", "{answer}");
        }
        assert!(matches!(id(json!({"TaskId": "task-1"})), Err(TaskError::Missing)));
        assert!(matches!(id(json!({"encryptedTaskId": "***"})), Err(TaskError::Unseal(_))));
    }
}
