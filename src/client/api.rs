//! Hop 1 as typed calls. Requests and answers are the contract's, field by field.

use std::time::Duration;

use reqwest::{Method, Response, redirect};
use secrecy::ExposeSecret;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

use super::Credentials;
use crate::domain::Given;

/// What one call may take: longer than a server rides out a restart of its database (12 s).
const TIMEOUT: Duration = Duration::from_secs(15);
/// Answers are read up to here.
const MAX_BODY: usize = 4 << 20;

/// A server, and who calls it. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Client {
    http: reqwest::Client,
    base: Url,
    credentials: Credentials,
}

/// Why a call did not do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answered, or not in time.
    #[error("{server} does not answer: {reason}")]
    Away {
        /// The server's base URL.
        server: String,
        /// What happened.
        reason: String,
    },
    /// The server said no. Its words may be shown.
    #[error("{description}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The word to branch on, such as `invalid_client`.
        error: String,
        /// The server's sentence.
        description: String,
        /// When to come again, where the server says so.
        retry_after: Option<Duration>,
    },
    /// The answer is none of a nas-cron server.
    #[error("{server} does not answer as a nas-cron server: {reason}")]
    Strange {
        /// The server's base URL.
        server: String,
        /// What is odd about it.
        reason: String,
    },
}

/// What is to be armed.
#[derive(Clone, Debug, Serialize)]
pub struct ProvisionRequest {
    /// The agent's name for the job.
    pub job_id: String,
    /// ISO 8601 with an offset; echoed byte for byte.
    pub fire_at: String,
    /// The agent's base URL.
    pub agent_callback_url: String,
    /// Makes arming idempotent; real agents send `{job_id}:{fire_at}`.
    pub dedup_key: String,
    /// The job's auth profile: absent keeps, `null` clears.
    #[serde(skip_serializing_if = "Given::is_keep", serialize_with = "Given::serialize_nullable")]
    pub auth: Given<String>,
}

/// It is armed, durably.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct Provisioned {
    /// Opaque name of this arm.
    pub schedule_id: String,
    /// What is odd, and no error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// Something that is odd, and no error.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct Warning {
    /// A word to branch on, such as `auth_profile_unknown`.
    pub code: String,
    /// A sentence.
    pub message: String,
}

/// An auth profile, and where it was found.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct EffectiveAuth {
    /// Provider, colon, name.
    pub auth: String,
    /// `job`, `instance`, `org` or `service`.
    pub source: String,
}

/// What `PATCH /api/agent-cron/jobs/{job_id}` answers.
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct JobAuth {
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
#[derive(Clone, Debug, Deserialize, Serialize)]
pub struct ListedJob {
    /// The agent's name for the job.
    pub job_id: String,
    /// Byte for byte as it was provisioned.
    pub fire_at: String,
    /// Opaque name of this arm.
    pub schedule_id: String,
    /// `armed`, `leased`, `firing`, `waiting`, `dead` or `stuck`.
    pub state: Option<String>,
    /// Attempts made so far.
    pub attempts: Option<u32>,
    /// When the next one may start.
    pub next_attempt_at: Option<String>,
    /// Where the fire goes to.
    pub agent_callback_url: Option<String>,
    /// Why it is not tried although it may be due.
    pub parked: Option<String>,
    /// The last answer's status.
    pub last_status: Option<u16>,
    /// What was wrong with the last attempt.
    pub last_error: Option<String>,
    /// When it was given up.
    pub died_at: Option<String>,
    /// The job's own auth profile.
    pub auth: Option<String>,
    /// What its next fire carries.
    pub effective_auth: Option<EffectiveAuth>,
    /// What is odd, and no error.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub warnings: Vec<Warning>,
}

/// The auth profiles that are known where the caller is.
#[derive(Clone, Debug, Default, Deserialize, Serialize)]
pub struct AuthProfiles {
    /// Every one that a job of the caller may name without a warning.
    pub profiles: Vec<KnownProfile>,
    /// What jobs without a profile of their own get, by where it is set.
    pub defaults: AuthDefaults,
}

/// A profile that is known.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
pub struct KnownProfile {
    /// Provider, colon, name.
    pub auth: String,
    /// Where it is registered: `instance`, `org` or `service`.
    pub scope: String,
}

/// The defaults, from the nearest to the furthest.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
pub struct AuthDefaults {
    /// Of the caller's instance.
    pub instance: Option<String>,
    /// Of its org.
    pub org: Option<String>,
    /// Of the service.
    pub service: Option<String>,
}

impl Client {
    /// For the server at `base`, which is its `portal_url`.
    pub fn new(base: Url, credentials: Credentials) -> reqwest::Result<Self> {
        // Refused only when there is one already, and ring is the only one in the tree.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .user_agent(concat!("nas-cron/", env!("CARGO_PKG_VERSION")))
            .no_proxy()
            .redirect(redirect::Policy::none())
            .timeout(TIMEOUT)
            .build()?;
        Ok(Self { http, base, credentials })
    }

    /// Arms, re-arms or supersedes a job's one-shot.
    pub async fn provision(&self, wanted: &ProvisionRequest) -> Result<Provisioned, ClientError> {
        self.call(Method::POST, "/api/agent-cron/provision", Some(wanted)).await
    }

    /// Disarms a job; an unknown one is fine.
    pub async fn cancel(&self, job_id: &str) -> Result<(), ClientError> {
        let body = serde_json::json!({ "job_id": job_id });
        self.call::<_, serde::de::IgnoredAny>(Method::POST, "/api/agent-cron/cancel", Some(&body))
            .await
            .map(drop)
    }

    /// The caller's one-shots.
    pub async fn list(&self) -> Result<Listing, ClientError> {
        self.call::<(), _>(Method::GET, "/api/agent-cron/list", None).await
    }

    /// Gives a job another auth profile, or takes it away, without touching its arm.
    pub async fn set_auth(&self, job_id: &str, auth: Option<&str>) -> Result<JobAuth, ClientError> {
        let job_id: String = url::form_urlencoded::byte_serialize(job_id.as_bytes()).collect();
        let path = format!("/api/agent-cron/jobs/{}", job_id.replace('+', "%20"));
        self.call(Method::PATCH, &path, Some(&serde_json::json!({ "auth": auth }))).await
    }

    /// The auth profiles that are known where the caller is.
    pub async fn auth_profiles(&self) -> Result<AuthProfiles, ClientError> {
        self.call::<(), _>(Method::GET, "/api/agent-cron/auth-profiles", None).await
    }

    async fn call<B: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        body: Option<&B>,
    ) -> Result<A, ClientError> {
        let base = self.base.as_str().trim_end_matches('/');
        let mut request = self.http.request(method, format!("{base}{path}"));
        request = match &self.credentials {
            Credentials::Bearer(token) => request.bearer_auth(token.expose_secret()),
        };
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| self.away(error))?;
        let status = response.status();
        let retry_after = retry_after(&response);
        let body = self.read(response).await?;
        if status.is_success() {
            return serde_json::from_slice(&body).map_err(|error| self.strange(error.to_string()));
        }
        Err(match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(told) => ClientError::Refused {
                status: status.as_u16(),
                description: told.error_description.unwrap_or_else(|| told.error.clone()),
                error: told.error,
                retry_after,
            },
            Err(_) => self.strange(format!("status {status}")),
        })
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.away(error))? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(self.strange(format!("its answer is longer than {MAX_BODY} bytes")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn away(&self, error: reqwest::Error) -> ClientError {
        ClientError::Away { server: self.base.to_string(), reason: crate::instance::causes(error) }
    }

    fn strange(&self, reason: String) -> ClientError {
        ClientError::Strange { server: self.base.to_string(), reason }
    }
}

#[derive(Deserialize)]
struct ErrorBody {
    error: String,
    error_description: Option<String>,
}

fn retry_after(response: &Response) -> Option<Duration> {
    let value = response.headers().get(reqwest::header::RETRY_AFTER)?.to_str().ok()?;
    value.trim().parse().ok().map(Duration::from_secs)
}
