//! The admin API as the portal's backend calls it: registers instances, and takes them away.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use nas_cron_base::http_client;
use reqwest::{Client, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use url::Url;

/// One service's admin API.
#[derive(Clone, Debug)]
pub(crate) struct AdminClient {
    http: Client,
    base: Url,
    token: SecretString,
}

impl AdminClient {
    /// Of the service at this base URL.
    pub(crate) fn new(base: Url, token: SecretString) -> anyhow::Result<Self> {
        let http = http_client::builder(&base).timeout(Duration::from_secs(30)).build()?;
        Ok(Self { http, base, token })
    }

    fn agent(&self, instance_id: &str) -> Url {
        http_client::below(&self.base, &format!("/api/admin/agents/{instance_id}"))
    }

    /// Registers the instance, or changes it to this.
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
            bail!("agent {instance_id} cannot be registered: the service answered {status} {body}");
        }
        Ok(())
    }

    /// Takes the instance away, with all that is armed for it. One that is not there is fine.
    pub(crate) async fn remove(&self, instance_id: &str) -> anyhow::Result<()> {
        let request = self.http.delete(self.agent(instance_id)).bearer_auth(self.token.expose_secret());
        let response = request.send().await.map_err(|error| self.unreachable(error))?;
        let status = response.status();
        if !status.is_success() && status != StatusCode::NOT_FOUND {
            return Err(anyhow!("the service answered {status}"))
                .with_context(|| format!("agent {instance_id} cannot be removed"));
        }
        Ok(())
    }

    fn unreachable(&self, error: reqwest::Error) -> anyhow::Error {
        anyhow!(
            "the service at {} cannot be reached: {}",
            self.base,
            nas_cron_base::http_client::causes(error)
        )
    }
}
