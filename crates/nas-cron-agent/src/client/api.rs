//! The agent API as typed calls. Requests are the contract's types.
//!
//! Responses with a state, a source, a scope or an auth profile are read into the tolerant types of this module: another or
//! a newer server may send values that this client does not know.

use std::sync::Arc;

use reqwest::Method;
use schemars::JsonSchema;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;
use url::Url;

use super::Credentials;
use super::background::BackgroundTask;
use super::bearer::Bearer;
pub use super::listed_auth::ListedAuth;
use super::registration::segment;
pub use super::transport::ClientError;
use nas_cron_protocol::agent_api::{CancelRequest, JobChange};
use nas_cron_protocol::{AuthChoice, Given};

pub use nas_cron_protocol::agent_api::{ProvisionRequest, ProvisionResponse, Warning};

use super::transport::{Authorization, TIMEOUT, Transport};

/// A client for one server with its credentials. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
    credentials: Credentials,
}

/// The auth of a fire and its source.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct EffectiveAuth {
    /// The profiles that the fire carries.
    pub auth: ListedAuth,
    /// Source of the profiles: `job`, `instance`, `org` or `service`.
    pub source: String,
}

/// Response of `PATCH /api/agent-cron/jobs/{job_id}`.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ChangedAuth {
    /// ID of the job.
    pub job_id: String,
    /// The job's own auth.
    pub auth: Option<ListedAuth>,
    /// Auth of the next fire.
    pub effective_auth: Option<EffectiveAuth>,
    /// Warnings about the request, which succeeded.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// The caller's own one-shots.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Listing {
    /// One-shots that will fire, soonest first.
    pub armed: Vec<ListedJob>,
    /// One-shots that failed permanently.
    #[serde(default)]
    pub dead: Vec<ListedJob>,
}

/// A one-shot in `list`. Servers may omit all but the first three fields.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct ListedJob {
    /// ID of the job, chosen by the agent.
    pub job_id: String,
    /// Time of the fire, byte for byte as provisioned.
    pub fire_at: String,
    /// Opaque ID of the one-shot.
    pub schedule_id: String,
    /// `armed`, `leased`, `firing`, `waiting`, `dead` or `stuck`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Attempts made so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// Earliest time of the next attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<String>,
    /// Base URL of the agent that the fire is sent to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_callback_url: Option<String>,
    /// Reason why a due one-shot is not attempted: `hold` or `unreachable`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<String>,
    /// External scheduler backend that sends the wake-up. Absent if the built-in loop does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awaits: Option<String>,
    /// Outcome of the last attempt, such as `failed` or `duplicate`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_outcome: Option<String>,
    /// HTTP status of the agent's last response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_status: Option<u16>,
    /// Error of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Latest start of an attempt. Absent without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<String>,
    /// Reason why it failed permanently: `budget_spent` (no more retries) or `expired` (its `not_after` has passed).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_reason: Option<String>,
    /// Time at which it failed permanently.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub died_at: Option<String>,
    /// The job's own auth.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<ListedAuth>,
    /// Auth of the next fire.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_auth: Option<EffectiveAuth>,
    /// Warnings about the job.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// A job of the caller.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct JobStatus {
    /// ID of the job, chosen by the agent.
    pub job_id: String,
    /// `armed`, `leased`, `firing`, `waiting`, `delivered`, `stuck`, `dead`, `cancelled` or `unknown`.
    pub state: String,
    /// Next event, or the way to fire the job again.
    pub next: String,
    /// Time of the cancel. Present if the state is `cancelled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<String>,
    /// Current one-shot, also if it was delivered. Absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_shot: Option<ListedJob>,
    /// Attempts that have ended, newest first.
    pub attempts: Vec<JobAttempt>,
}

/// An attempt that has ended.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct JobAttempt {
    /// Opaque ID of the attempt.
    pub attempt_id: String,
    /// Opaque ID of the one-shot that was attempted.
    pub schedule_id: String,
    /// Instant of that one-shot's fire.
    pub fire_at: String,
    /// Number of the attempt within the retry budget, from 1.
    pub attempt: u32,
    /// Start of the attempt.
    pub started_at: String,
    /// Time at which the outcome was recorded.
    pub ended_at: String,
    /// `delivered`, `gone`, `dropped`, `duplicate`, `failed` or `lost`.
    pub outcome: String,
    /// HTTP status of the agent's response. Absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<u16>,
    /// Error of the attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The `status` in the agent's response to a delivery, if the service does not know it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}

/// The auth profiles that the caller's jobs may name.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub struct AuthProfiles {
    /// Registered profiles. A job that names another one gets a warning.
    pub profiles: Vec<KnownProfile>,
    /// Defaults for jobs without a profile of their own, by scope.
    pub defaults: AuthDefaults,
    /// Warnings about defaults that are not registered.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// A registered auth profile.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct KnownProfile {
    /// The profile as `provider:name`.
    pub auth: String,
    /// Scope of the registration: `instance`, `org` or `service`.
    pub scope: String,
}

/// Default auth, from the nearest scope to the furthest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct AuthDefaults {
    /// Default of the caller's instance.
    pub instance: Option<ListedAuth>,
    /// Default of its org.
    pub org: Option<ListedAuth>,
    /// Default of the service.
    pub service: Option<ListedAuth>,
}

impl Client {
    /// Creates a client that calls as the agent identity.
    pub fn as_agent_identity(task: BackgroundTask) -> Self {
        Self { transport: task.transport().clone(), credentials: Credentials::AgentIdentity(Arc::new(task)) }
    }

    /// Creates a client for the server at `base`, which is its `portal_url`.
    pub fn new(base: Url, credentials: Credentials) -> reqwest::Result<Self> {
        Ok(Self { transport: Transport::new(base, true)?, credentials })
    }

    /// Creates a client that opens a new connection for each call, as real agents do.
    pub fn with_new_connections(base: Url, credentials: Credentials) -> reqwest::Result<Self> {
        Ok(Self { transport: Transport::new(base, false)?, credentials })
    }

    /// Arms, re-arms or supersedes a job's one-shot.
    pub async fn provision(&self, wanted: &ProvisionRequest) -> Result<ProvisionResponse, ClientError> {
        self.call(Method::POST, "/api/agent-cron/provision", Some(wanted)).await
    }

    /// Cancels a job. An unknown job is not an error.
    pub async fn cancel(&self, job_id: &str) -> Result<(), ClientError> {
        let body = CancelRequest { job_id: job_id.to_owned() };
        self.call::<_, serde::de::IgnoredAny>(Method::POST, "/api/agent-cron/cancel", Some(&body))
            .await
            .map(drop)
    }

    /// Lists the caller's one-shots.
    pub async fn list(&self) -> Result<Listing, ClientError> {
        self.call::<(), _>(Method::GET, "/api/agent-cron/list", None).await
    }

    /// Returns a job with its latest attempts: at most `attempts`, which is 1 to 100, or the server's default.
    pub async fn job(&self, job_id: &str, attempts: Option<u32>) -> Result<JobStatus, ClientError> {
        let query = attempts.map(|attempts| format!("?attempts={attempts}")).unwrap_or_default();
        let path = format!("/api/agent-cron/jobs/{}{query}", segment(job_id));
        self.call::<(), _>(Method::GET, &path, None).await
    }

    /// Sets or removes a job's own auth. Its one-shot stays the same.
    pub async fn set_auth(
        &self,
        job_id: &str,
        auth: Option<&AuthChoice>,
    ) -> Result<ChangedAuth, ClientError> {
        let path = format!("/api/agent-cron/jobs/{}", segment(job_id));
        let change = JobChange { auth: auth.cloned().map_or(Given::Clear, Given::Set) };
        self.call(Method::PATCH, &path, Some(&change)).await
    }

    /// Lists the auth profiles that the caller's jobs may name.
    pub async fn auth_profiles(&self) -> Result<AuthProfiles, ClientError> {
        self.call::<(), _>(Method::GET, "/api/agent-cron/auth-profiles", None).await
    }

    /// Makes a call with the credentials: at most 15 s with a token, and 30 s as the agent identity.
    async fn call<B: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<A, ClientError> {
        let ends = Instant::now() + 2 * TIMEOUT;
        let attempt = Attempt { transport: &self.transport, method, path, body, ends };
        let task = match &self.credentials {
            Credentials::Bearer(bearer) => return attempt.by_token(bearer).await,
            Credentials::AgentIdentity(task) => task,
        };
        let was_paused = task.is_paused();
        if let Some(done) = attempt.by_identity(task).await {
            return done;
        }
        match attempt.by_token(task.bearer()).await {
            // The access token does not work either, so the paused identity is tried again.
            Err(error @ (ClientError::NoToken(_) | ClientError::Refused { status: 401, .. }))
                if was_paused =>
            {
                task.resume();
                attempt.by_identity(task).await.unwrap_or(Err(error))
            }
            done => done,
        }
    }
}

/// One call, which may be sent several times: every call of the agent API may be repeated.
struct Attempt<'a, B> {
    transport: &'a Transport,
    method: Method,
    path: &'a str,
    body: Option<&'a B>,
    /// Deadline of all tries together.
    ends: Instant,
}

impl<B: Serialize> Attempt<'_, B> {
    async fn by_token<A: DeserializeOwned>(&self, bearer: &Bearer) -> Result<A, ClientError> {
        self.make(&Authorization::bearer(&bearer.read()?)).await
    }

    /// Calls as the agent identity. A rejected identity is registered again and tried once more. Returns `None` if the call
    /// has to be made with the access token.
    async fn by_identity<A: DeserializeOwned>(
        &self,
        task: &BackgroundTask,
    ) -> Option<Result<A, ClientError>> {
        let deadline = self.deadline();
        let used = task.assertion(deadline).await?;
        let rejected = match self.make(&used.authorization).await {
            Err(error) => error,
            done => return Some(done),
        };
        let again = match task.after_rejection(&used, rejected, deadline).await {
            Ok(again) => again?,
            Err(error) => return Some(Err(error)),
        };
        match self.make(&again.authorization).await {
            Err(error) => task.after_second_rejection(&again, error).err().map(Err),
            done => Some(done),
        }
    }

    async fn make<A: DeserializeOwned>(&self, authorization: &Authorization) -> Result<A, ClientError> {
        let left = self.deadline().saturating_duration_since(Instant::now());
        self.transport.call(self.method.clone(), self.path, Some(authorization), self.body, left).await
    }

    /// Returns the deadline of a try that starts now.
    fn deadline(&self) -> Instant {
        (Instant::now() + TIMEOUT).min(self.ends)
    }
}

#[cfg(test)]
mod tests;
