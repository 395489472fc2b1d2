//! Hop 1 as a real agent calls it: a new connection per call, 15 s each, no retries.

use reqwest::{Client, Method, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;
use serde_json::{Value, json};
use url::Url;

use super::http_client;

/// One agent's way to the service.
#[derive(Debug)]
pub(super) struct Hop1 {
    http: Client,
    base: Url,
    access_token: SecretString,
}

/// Why a call did not do.
#[derive(Debug, thiserror::Error)]
pub(super) enum Hop1Error {
    #[error("{0}")]
    Transport(String),
    #[error("answered {status}: {body}")]
    Status { status: u16, body: String },
}

impl From<reqwest::Error> for Hop1Error {
    fn from(error: reqwest::Error) -> Self {
        Self::Transport(http_client::reason(error))
    }
}

/// An armed one-shot, as `list` shows it.
#[derive(Debug, Deserialize)]
pub(super) struct Listed {
    pub(super) job_id: String,
    pub(super) fire_at: String,
}

#[derive(Deserialize)]
struct List {
    armed: Vec<Listed>,
}

impl Hop1 {
    /// With this access token, at the service of this base URL.
    pub(super) fn new(base: Url, access_token: SecretString) -> reqwest::Result<Self> {
        Ok(Self { http: http_client::as_agents_call(&base)?, base, access_token })
    }

    /// Arms, re-arms or supersedes the job.
    pub(super) async fn provision(
        &self,
        job_id: &str,
        fire_at: &str,
        callback_url: &str,
    ) -> Result<(), Hop1Error> {
        let body = json!({
            "job_id": job_id,
            "fire_at": fire_at,
            "agent_callback_url": callback_url,
            "dedup_key": format!("{job_id}:{fire_at}"),
        });
        self.call(Method::POST, "/api/agent-cron/provision", Some(&body)).await.map(drop)
    }

    /// Disarms the job.
    pub(super) async fn cancel(&self, job_id: &str) -> Result<(), Hop1Error> {
        self.call(Method::POST, "/api/agent-cron/cancel", Some(&json!({ "job_id": job_id }))).await.map(drop)
    }

    /// What is armed for this agent.
    pub(super) async fn list(&self) -> Result<Vec<Listed>, Hop1Error> {
        let list: List = self.call(Method::GET, "/api/agent-cron/list", None).await?.json().await?;
        Ok(list.armed)
    }

    async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Response, Hop1Error> {
        let mut request = self.http.request(method, http_client::below(&self.base, path));
        request = request.bearer_auth(self.access_token.expose_secret());
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        Err(Hop1Error::Status { status, body: response.text().await.unwrap_or_default() })
    }
}
