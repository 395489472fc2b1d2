//! A service with agent identities, and agents with keys. The signing code shares nothing with the service.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_testing::service::{Service, Settings, client};
use nas_cron_testing::time::now;
use nas_cron_testing::world::World;
use reqwest::Method;
use ring::rand::SystemRandom;
use ring::signature::{Ed25519KeyPair, KeyPair};
use serde_json::{Value, json};

pub(crate) const PROVISION: &str = "/api/agent-cron/provision";
pub(crate) const CANCEL: &str = "/api/agent-cron/cancel";
pub(crate) const LIST: &str = "/api/agent-cron/list";
pub(crate) const REGISTER: &str = "/v1/agent/register";

/// Switches agent identities on.
pub(crate) fn on(settings: Settings) -> Settings {
    settings.with("NAS_CRON_AGENT_IDENTITY", "true")
}

/// An agent's key pair.
pub(crate) struct Key(pub(crate) Ed25519KeyPair);

impl Key {
    pub(crate) fn fresh() -> Self {
        let pkcs8 = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).unwrap();
        Self(Ed25519KeyPair::from_pkcs8(pkcs8.as_ref()).unwrap())
    }

    pub(crate) fn sign(&self, message: &str) -> String {
        STANDARD.encode(self.0.sign(message.as_bytes()))
    }

    /// OpenSSH line of the public half.
    pub(crate) fn line(&self) -> String {
        line(self.0.public_key().as_ref())
    }
}

/// Builds the OpenSSH line of a public key.
pub(crate) fn line(point: &[u8]) -> String {
    let blob = [&11_u32.to_be_bytes()[..], b"ssh-ed25519", &32_u32.to_be_bytes(), point].concat();
    format!("ssh-ed25519 {}", STANDARD.encode(blob))
}

/// Formats a timestamp as agents do.
pub(crate) fn stamp(at: DateTime<Utc>) -> String {
    at.format("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Timestamp this many seconds from now.
pub(crate) fn stamp_in(seconds: i64) -> String {
    stamp(now() + TimeDelta::seconds(seconds))
}

/// Encodes the credential that follows the scheme.
pub(crate) fn envelope(fields: &Value) -> String {
    URL_SAFE_NO_PAD.encode(fields.to_string())
}

/// An agent with a registered key and a task.
pub(crate) struct Identity {
    pub(crate) key: Key,
    pub(crate) id: String,
    pub(crate) task: String,
    /// Timestamp of its first task registration.
    pub(crate) since: DateTime<Utc>,
}

impl Identity {
    /// Registers a key for the token's instance, and a task.
    pub(crate) async fn new(service: &Service, token: &str) -> Self {
        let key = Key::fresh();
        let id = registered(service, token, &key.line()).await;
        let since = now();
        let task = task(service, &id, &key, &stamp(since)).await;
        Self { key, id, task, since }
    }

    /// Registers another task: each `number` is another second.
    pub(crate) async fn another_task(&self, service: &Service, number: i64) -> String {
        task(service, &self.id, &self.key, &self.second(number)).await
    }

    /// Timestamp this many seconds before the first task registration.
    pub(crate) fn second(&self, number: i64) -> String {
        stamp(self.since - TimeDelta::seconds(number))
    }

    /// Fields of an assertion with this timestamp.
    pub(crate) fn fields(&self, task: &str, at: &str) -> Value {
        let signature = self.key.sign(&format!("{}:{task}:{at}", self.id));
        json!({"agent_runtime_id": self.id, "task_id": task, "timestamp": at, "signature": signature})
    }

    /// A valid, current assertion.
    pub(crate) fn assertion(&self) -> String {
        self.assertion_of(&self.task)
    }

    /// A current assertion with another task.
    pub(crate) fn assertion_of(&self, task: &str) -> String {
        format!("AgentAssertion {}", envelope(&self.fields(task, &stamp_in(0))))
    }
}

/// Registers a key, and returns the identity's ID.
pub(crate) async fn registered(service: &Service, token: &str, line: &str) -> String {
    let answer = register(service, token, &json!({"agent_public_key": line})).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["agent_runtime_id"].as_str().unwrap().to_owned()
}

pub(crate) async fn register(service: &Service, token: &str, body: &Value) -> Answer {
    call(service, "POST", REGISTER, Some(&format!("Bearer {token}")), Some(body)).await
}

/// Registers a task, and returns its ID.
pub(crate) async fn task(service: &Service, id: &str, key: &Key, at: &str) -> String {
    let answer = register_task(service, id, key, at).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body["task_id"].as_str().unwrap().to_owned()
}

pub(crate) async fn register_task(service: &Service, id: &str, key: &Key, at: &str) -> Answer {
    let body = json!({"timestamp": at, "signature": key.sign(&format!("{id}:{at}"))});
    call(service, "POST", &format!("/v1/agent/{id}/task/register"), None, Some(&body)).await
}

/// Makes a call with an optional credential and body.
pub(crate) async fn call(
    service: &Service,
    method: &str,
    path: &str,
    authorization: Option<&str>,
    body: Option<&Value>,
) -> Answer {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = client().request(method, format!("{}{path}", service.url));
    if let Some(authorization) = authorization {
        request = request.header("authorization", authorization);
    }
    if let Some(body) = body {
        request = request.body(body.to_string());
    }
    let response = request.send().await.expect("a response");
    let challenges = response.headers().get_all("www-authenticate").iter();
    let challenges = challenges.map(|value| value.to_str().unwrap().to_owned()).collect();
    let status = response.status().as_u16();
    let text = response.text().await.unwrap();
    Answer { status, challenges, body: serde_json::from_str(&text).unwrap_or(Value::String(text)) }
}

/// Calls `list` with any credential.
pub(crate) async fn list(service: &Service, authorization: &str) -> Answer {
    call(service, "GET", LIST, Some(authorization), None).await
}

#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) challenges: Vec<String>,
    pub(crate) body: Value,
}

impl Answer {
    /// Asserts this status and error code. Returns the description.
    #[track_caller]
    pub(crate) fn refused(&self, status: u16, error: &str) -> &str {
        assert_eq!((self.status, self.body["error"].as_str()), (status, Some(error)), "{self:?}");
        self.body["error_description"].as_str().filter(|text| !text.is_empty()).expect("a description")
    }

    /// Asserts the admin API's `401 invalid_token` as problem details.
    #[track_caller]
    pub(crate) fn refused_as_problem(&self) {
        assert_eq!((self.status, &self.body["error"]), (401, &json!("invalid_token")), "{self:?}");
        assert_eq!(self.body["status"], 401, "problem details: {self:?}");
    }

    /// Asserts that an assertion was rejected with this error code, also in the challenge. Returns the description.
    #[track_caller]
    pub(crate) fn unasserted(&self, error: &str) -> &str {
        assert_eq!(self.challenges, [format!("AgentAssertion error=\"{error}\"")], "{self:?}");
        self.refused(401, error)
    }
}

/// Reads all rows that an agent can change.
pub(crate) async fn tables(world: &World) -> Value {
    sqlx::query_scalar(
        "SELECT jsonb_build_object( \
             'instances', (SELECT jsonb_agg(i ORDER BY instance_id) FROM instances i), \
             'one_shots', (SELECT jsonb_agg(o ORDER BY instance_id, job_id) FROM one_shots o), \
             'identities', (SELECT jsonb_agg(a ORDER BY agent_runtime_id) FROM agent_identities a), \
             'tasks', (SELECT jsonb_agg(t ORDER BY task_id) FROM agent_tasks t))",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap()
}

/// Counts the statements that are waiting for a lock.
pub(crate) async fn waiting_for_locks(world: &World) -> i64 {
    let waiting = "SELECT count(*) FROM pg_stat_activity \
                   WHERE datname = current_database() AND wait_event_type = 'Lock'";
    sqlx::query_scalar(waiting).fetch_one(&world.pool).await.unwrap()
}
