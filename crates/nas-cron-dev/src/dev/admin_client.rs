//! A client of the admin API that registers and removes instances, as a portal backend does.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use nas_cron_base::http_client;
use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use url::Url;

/// A client of one service's admin API.
#[derive(Clone, Debug)]
pub(crate) struct AdminClient {
    http: Client,
    base: Url,
    token: SecretString,
}

impl AdminClient {
    /// Creates a client for the service at this base URL.
    pub(crate) fn new(base: Url, token: SecretString) -> anyhow::Result<Self> {
        let http = http_client::builder(&base).timeout(Duration::from_secs(30)).build()?;
        Ok(Self { http, base, token })
    }

    fn agent(&self, instance_id: &str) -> Url {
        http_client::below(&self.base, &format!("/api/admin/agents/{instance_id}"))
    }

    /// Registers or updates the instance.
    pub(crate) async fn register(
        &self,
        instance_id: &str,
        org_id: &str,
        sid: Option<&str>,
    ) -> anyhow::Result<()> {
        let mut body = json!({ "org_id": org_id });
        if let Some(sid) = sid {
            body["bootstrap_session_id"] = json!(sid);
        }
        let request =
            self.http.put(self.agent(instance_id)).bearer_auth(self.token.expose_secret()).json(&body);
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        if !response.status().is_success() {
            let status = response.status();
            let body = response.text().await.unwrap_or_default();
            bail!("registering agent {instance_id} failed: the service returned {status} {body}");
        }
        Ok(())
    }

    /// Removes the instance and its one-shots. An unknown instance is not an error.
    pub(crate) async fn remove(&self, instance_id: &str) -> anyhow::Result<()> {
        let request = self.http.delete(self.agent(instance_id)).bearer_auth(self.token.expose_secret());
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        if !status.is_success() && status != StatusCode::NOT_FOUND {
            return Err(anyhow!("the service returned {status}"))
                .with_context(|| format!("removing agent {instance_id} failed"));
        }
        Ok(())
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        anyhow!("the service at {} is unreachable: {}", self.base, nas_cron_base::http_client::causes(error))
    }
}
