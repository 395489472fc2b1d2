//! The agent API as typed calls. Requests are the contract's types.
//!
//! Responses that carry words (a state, a source, a scope) or an auth profile are read by tolerant types of this module:
//! another server, or a newer one, may have words that this client does not know.

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
use super::registration::segment;
pub use super::transport::ClientError;
use nas_cron_protocol::agent_api::{CancelRequest, JobChange};
use nas_cron_protocol::{AuthProfile, Given};

pub use nas_cron_protocol::agent_api::{ProvisionRequest, ProvisionResponse, Warning};

use super::transport::{Authorization, TIMEOUT, Transport};

/// A server, and who calls it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    transport: Transport,
    credentials: Credentials,
}

/// An auth profile, and where it was found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct EffectiveAuth {
    /// Provider, colon, name.
    pub auth: String,
    /// `job`, `instance`, `org` or `service`.
    pub source: String,
}

/// What `PATCH /api/agent-cron/jobs/{job_id}` answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ChangedAuth {
    /// Which job.
    pub job_id: String,
    /// The job's own profile.
    pub auth: Option<String>,
    /// What its next fire carries.
    pub effective_auth: Option<EffectiveAuth>,
    /// What is odd, and no error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// The caller's own one-shots.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct Listing {
    /// What will fire, soonest first.
    pub armed: Vec<ListedJob>,
    /// What will not any more.
    #[serde(default)]
    pub dead: Vec<ListedJob>,
}

/// A one-shot in `list`. Servers may leave out all but the first three fields.
#[derive(Clone, Debug, Deserialize, Serialize, JsonSchema)]
pub struct ListedJob {
    /// The agent's name for the job.
    pub job_id: String,
    /// Byte for byte as it was provisioned.
    pub fire_at: String,
    /// Opaque name of this arm.
    pub schedule_id: String,
    /// `armed`, `leased`, `firing`, `waiting`, `dead` or `stuck`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Attempts made so far.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// When the next one may start.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<String>,
    /// Where the fire goes to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub agent_callback_url: Option<String>,
    /// Why it is not tried although it may be due.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<String>,
    /// The external scheduler backend that sends its wake-up. Absent: the service's own loop does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awaits: Option<String>,
    /// The last answer's status.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_status: Option<u16>,
    /// What was wrong with the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// When it was given up.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub died_at: Option<String>,
    /// The job's own auth profile.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub auth: Option<String>,
    /// What its next fire carries.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective_auth: Option<EffectiveAuth>,
    /// What is odd, and no error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// The auth profiles that are known where the caller is.
#[derive(Clone, Debug, Default, Deserialize, Serialize, JsonSchema)]
pub struct AuthProfiles {
    /// Every one that a job of the caller may name without a warning.
    pub profiles: Vec<KnownProfile>,
    /// What jobs without a profile of their own get, by where it is set.
    pub defaults: AuthDefaults,
    /// What is odd, and no error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// A profile that is known.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct KnownProfile {
    /// Provider, colon, name.
    pub auth: String,
    /// Where it is registered: `instance`, `org` or `service`.
    pub scope: String,
}

/// The defaults, from the nearest to the furthest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize, JsonSchema)]
pub struct AuthDefaults {
    /// Of the caller's instance.
    pub instance: Option<String>,
    /// Of its org.
    pub org: Option<String>,
    /// Of the service.
    pub service: Option<String>,
}

impl Client {
    /// As the agent's own identity, at its server.
    pub fn as_agent_identity(task: BackgroundTask) -> Self {
        Self { transport: task.transport().clone(), credentials: Credentials::AgentIdentity(Arc::new(task)) }
    }

    /// For the server at `base`, which is its `portal_url`.
    pub fn new(base: Url, credentials: Credentials) -> reqwest::Result<Self> {
        Ok(Self { transport: Transport::new(base, true)?, credentials })
    }

    /// The same with a new connection for each call, as real agents call.
    pub fn with_new_connections(base: Url, credentials: Credentials) -> reqwest::Result<Self> {
        Ok(Self { transport: Transport::new(base, false)?, credentials })
    }

    /// Arms, re-arms or supersedes a job's one-shot.
    pub async fn provision(&self, wanted: &ProvisionRequest) -> Result<ProvisionResponse, ClientError> {
        self.call(Method::POST, "/api/agent-cron/provision", Some(wanted)).await
    }

    /// Disarms a job; an unknown one is fine.
    pub async fn cancel(&self, job_id: &str) -> Result<(), ClientError> {
        let body = CancelRequest { job_id: job_id.to_owned() };
        self.call::<_, serde::de::IgnoredAny>(Method::POST, "/api/agent-cron/cancel", Some(&body))
            .await
            .map(drop)
    }

    /// The caller's one-shots.
    pub async fn list(&self) -> Result<Listing, ClientError> {
        self.call::<(), _>(Method::GET, "/api/agent-cron/list", None).await
    }

    /// Gives a job another auth profile, or takes it away, without touching its arm.
    pub async fn set_auth(
        &self,
        job_id: &str,
        auth: Option<&AuthProfile>,
    ) -> Result<ChangedAuth, ClientError> {
        let path = format!("/api/agent-cron/jobs/{}", segment(job_id));
        let change = JobChange { auth: auth.cloned().map_or(Given::Clear, Given::Set) };
        self.call(Method::PATCH, &path, Some(&change)).await
    }

    /// The auth profiles that are known where the caller is.
    pub async fn auth_profiles(&self) -> Result<AuthProfiles, ClientError> {
        self.call::<(), _>(Method::GET, "/api/agent-cron/auth-profiles", None).await
    }

    /// Makes a call with whatever proves the caller: in 15 s at most, and in 30 s where it is the identity.
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
        let rested = task.rests();
        if let Some(done) = attempt.by_identity(task).await {
            return done;
        }
        match attempt.by_token(task.bearer()).await {
            // The identity may do by now, and nothing else does.
            Err(error @ (ClientError::NoToken(_) | ClientError::Refused { status: 401, .. })) if rested => {
                task.wake();
                attempt.by_identity(task).await.unwrap_or(Err(error))
            }
            done => done,
        }
    }
}

/// One call, which may be made several times: every one of hop 1 may be repeated.
struct Attempt<'a, B> {
    transport: &'a Transport,
    method: Method,
    path: &'a str,
    body: Option<&'a B>,
    /// When all of it ends.
    ends: Instant,
}

impl<B: Serialize> Attempt<'_, B> {
    async fn by_token<A: DeserializeOwned>(&self, bearer: &Bearer) -> Result<A, ClientError> {
        self.make(&Authorization::bearer(&bearer.read()?)).await
    }

    /// An identity that is refused is mended, and tried once more; `None`: the access token has to make the call.
    async fn by_identity<A: DeserializeOwned>(
        &self,
        task: &BackgroundTask,
    ) -> Option<Result<A, ClientError>> {
        let deadline = self.deadline();
        let used = task.assertion(deadline).await?;
        let refused = match self.make(&used.authorization).await {
            Err(error) => error,
            done => return Some(done),
        };
        let again = match task.after_refusal(&used, refused, deadline).await {
            Ok(again) => again?,
            Err(error) => return Some(Err(error)),
        };
        match self.make(&again.authorization).await {
            Err(error) => task.after_second_refusal(&again, error).err().map(Err),
            done => Some(done),
        }
    }

    async fn make<A: DeserializeOwned>(&self, authorization: &Authorization) -> Result<A, ClientError> {
        let left = self.deadline().saturating_duration_since(Instant::now());
        self.transport.call(self.method.clone(), self.path, Some(authorization), self.body, left).await
    }

    /// Of what begins now.
    fn deadline(&self) -> Instant {
        (Instant::now() + TIMEOUT).min(self.ends)
    }
}

#[cfg(test)]
mod tests;
