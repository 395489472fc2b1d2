//! The agents in whose name the bench calls the service.

use std::time::Duration;

use anyhow::{Context, anyhow};
use futures::{StreamExt, TryStreamExt, stream};
use nas_cron_base::clock::SystemClock;
use reqwest::Url;
use reqwest::header::HeaderValue;
use secrecy::{ExposeSecret, SecretString};
use serde::Deserialize;

use super::progress::bar;
use super::sink::Sink;
use crate::dev::admin_client::AdminClient;
use crate::dev::dir::DevDir;
use crate::dev::portal::{Bearer, DevPortal};

const ORG: &str = "bench-org";
/// Longer than a run takes.
const TOKEN_TTL: Duration = Duration::from_hours(24);
/// Maximum concurrent registrations.
const IN_FLIGHT: usize = 8;

/// The measured service.
#[derive(Debug)]
pub(super) struct Target {
    /// Base URL of the agent API.
    pub(super) base: Url,
    /// `iss` of its fire tokens.
    pub(super) issuer: String,
    /// JWKS URL of its fire tokens.
    pub(super) jwks_url: Url,
    /// URLs of the metrics of its replicas, as far as its description has them.
    pub(super) metrics: Vec<Url>,
}

/// The agents, and a client to register and remove them.
#[derive(Debug)]
pub(super) struct Fleet {
    /// The agents, in the order of their endpoints at the sink.
    pub(super) agents: Vec<Agent>,
    /// Client that registers them; `None` for a given agent.
    admin: Option<AdminClient>,
}

/// One agent.
#[derive(Debug)]
pub(super) struct Agent {
    /// `aud` of its fire tokens, if it is known.
    pub(super) audience: Option<String>,
    /// `Authorization` header of its calls.
    pub(super) authorization: HeaderValue,
    /// URL of its endpoint at the sink.
    pub(super) callback_url: String,
    /// Instance id, if the bench registers it.
    registered_as: Option<String>,
}

fn authorization(token: &SecretString) -> anyhow::Result<HeaderValue> {
    let mut value = HeaderValue::try_from(format!("Bearer {}", token.expose_secret()))
        .map_err(|_| anyhow!("the access token contains characters that are not allowed in a header"))?;
    value.set_sensitive(true);
    Ok(value)
}

/// Creates agents of a running `nas-cron dev`, with tokens that are signed with its portal's key. Does not register
/// them.
pub(super) fn of_dev(dir: &DevDir, count: usize, run: &str, sink: &Sink) -> anyhow::Result<(Target, Fleet)> {
    let dev = dir.read_dev_json()?;
    let base: Url = dev.portal_url.parse().context("portal_url of dev.json is not a URL")?;
    let jwks_url = dev.jwks_url.parse().context("jwks_url of dev.json is not a URL")?;
    let metrics = vec![dev.metrics_url.parse().context("metrics_url of dev.json is not a URL")?];
    let portal =
        DevPortal::open(&dir.portal_key(), dev.portal_url.clone(), std::sync::Arc::new(SystemClock))?;
    let agents = (0..count).map(|index| {
        let name = format!("bench-{run}-{index}");
        let client_id = format!("agent:{name}");
        let bearer = Bearer { client_id: &client_id, sid: None, org_id: ORG };
        Ok(Agent {
            authorization: authorization(&portal.issue_token(bearer, TOKEN_TTL)?)?,
            audience: Some(client_id),
            callback_url: sink.callback_url(index),
            registered_as: Some(name),
        })
    });
    let agents = agents.collect::<anyhow::Result<_>>()?;
    let admin = dev.admin_url.parse().context("admin_url of dev.json is not a URL")?;
    let admin = AdminClient::new(admin, dev.admin_token.into())?;
    Ok((Target { base, issuer: dev.portal_url, jwks_url, metrics }, Fleet { agents, admin: Some(admin) }))
}

/// Returns the agent to which this token was issued.
pub(super) fn given(base: Url, token: &SecretString, sink: &Sink) -> anyhow::Result<(Target, Fleet)> {
    #[derive(Deserialize)]
    struct Claims {
        iss: String,
        #[serde(alias = "azp")]
        client_id: Option<String>,
    }
    // Only to know the expected claims of fires: the service verifies the token.
    let claims: Claims = jsonwebtoken::dangerous::insecure_decode_claims(token.expose_secret())
        .map_err(|_| anyhow!("--token is not an access token (a JWT with `iss`)"))?;
    let agent = Agent {
        // Only the service knows the instance of a session.
        audience: claims.client_id.filter(|client| client.starts_with("agent:")),
        authorization: authorization(token)?,
        callback_url: sink.callback_url(0),
        registered_as: None,
    };
    let jwks_url = nas_cron_base::http_client::below(&base, "/api/agent-cron/jwks.json");
    Ok((
        Target { base, issuer: claims.iss, jwks_url, metrics: Vec::new() },
        Fleet { agents: vec![agent], admin: None },
    ))
}

impl Fleet {
    /// Registers the agents with the service. A given agent is registered already.
    pub(super) async fn register(&self) -> anyhow::Result<()> {
        self.for_each(
            "registering agents",
            |admin, name| async move { admin.register(&name, ORG, None).await },
        )
        .await
    }

    /// Removes the agents. It is not an error if they were never registered.
    pub(super) async fn remove(&self) -> anyhow::Result<()> {
        self.for_each("removing agents", |admin, name| async move { admin.remove(&name).await }).await
    }

    /// Returns true if the agents are removed at the end, with all that they own.
    pub(super) fn is_removed(&self) -> bool {
        self.admin.is_some()
    }

    async fn for_each<F>(&self, what: &str, call: impl Fn(AdminClient, String) -> F) -> anyhow::Result<()>
    where
        F: Future<Output = anyhow::Result<()>>,
    {
        let Some(admin) = &self.admin else { return Ok(()) };
        let names = self.agents.iter().filter_map(|agent| agent.registered_as.clone());
        let bar = bar(what, self.agents.len());
        let calls = stream::iter(names.map(|name| call(admin.clone(), name)));
        let done = calls.buffer_unordered(IN_FLIGHT).inspect(|_| bar.inc(1)).try_collect().await;
        bar.finish_and_clear();
        done
    }
}
