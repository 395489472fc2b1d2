//! Concurrent calls of the agent API over kept-alive connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use bytes::Bytes;
use nas_cron_base::http_client;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Url};
use serde_json::json;
use tokio::task::JoinSet;

use super::fleet::Fleet;
use super::stage::Stage;

/// Maximum concurrent calls, and connections.
pub(super) const IN_FLIGHT: usize = 32;
/// The timeout of real agents.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A prepared request.
#[derive(Debug)]
pub(super) struct Call {
    authorization: HeaderValue,
    body: Bytes,
}

/// A client of the agent API.
#[derive(Clone, Debug)]
pub(super) struct AgentApi {
    http: Client,
    provision: Url,
    cancel: Url,
}

impl AgentApi {
    /// Creates a client for the service at this base URL.
    pub(super) fn new(base: &Url) -> anyhow::Result<Self> {
        let http = http_client::builder(base).pool_max_idle_per_host(IN_FLIGHT).timeout(TIMEOUT).build()?;
        let below = |path| http_client::below(base, path);
        Ok(Self {
            http,
            provision: below("/api/agent-cron/provision"),
            cancel: below("/api/agent-cron/cancel"),
        })
    }

    /// Arms all one-shots of the stage and returns the time it took. Calls `tick` after each success, and stops at the
    /// first failure.
    pub(super) async fn arm(
        &self,
        fleet: &Fleet,
        stage: &Stage,
        tick: impl Fn() + Clone + Send + 'static,
    ) -> anyhow::Result<Duration> {
        let calls = (0..stage.len()).map(|index| {
            let agent = &fleet.agents[stage.agent(index)];
            let (job_id, fire_at) = (stage.job_id(index), stage.fire_at(index));
            let body = json!({
                "job_id": job_id,
                "fire_at": fire_at,
                "agent_callback_url": agent.callback_url,
                "dedup_key": format!("{job_id}:{fire_at}"),
            });
            Call { authorization: agent.authorization.clone(), body: Bytes::from(body.to_string()) }
        });
        self.drive(&self.provision, calls.collect(), tick).await.context("provision failed")
    }

    /// Cancels the one-shots of the stage that have not fired. Returns the time it took and their number.
    pub(super) async fn cancel(
        &self,
        fleet: &Fleet,
        stage: &Stage,
        tick: impl Fn() + Clone + Send + 'static,
    ) -> anyhow::Result<(Duration, usize)> {
        let calls: Vec<_> = stage
            .pending()
            .map(|index| {
                let authorization = fleet.agents[stage.agent(index)].authorization.clone();
                Call {
                    authorization,
                    body: Bytes::from(json!({ "job_id": stage.job_id(index) }).to_string()),
                }
            })
            .collect();
        let count = calls.len();
        Ok((self.drive(&self.cancel, calls, tick).await.context("cancel failed")?, count))
    }

    async fn drive(
        &self,
        url: &Url,
        calls: Vec<Call>,
        tick: impl Fn() + Clone + Send + 'static,
    ) -> anyhow::Result<Duration> {
        let workers = IN_FLIGHT.min(calls.len());
        let (calls, next) = (Arc::new(calls), Arc::new(AtomicUsize::new(0)));
        let start = Instant::now();
        let mut running = JoinSet::new();
        for _ in 0..workers {
            let (http, url, tick) = (self.http.clone(), url.clone(), tick.clone());
            let (calls, next) = (Arc::clone(&calls), Arc::clone(&next));
            running.spawn(async move {
                while let Some(call) = calls.get(next.fetch_add(1, Ordering::Relaxed)) {
                    send(&http, url.clone(), call).await?;
                    tick();
                }
                anyhow::Ok(())
            });
        }
        while let Some(ended) = running.join_next().await {
            // The other workers are aborted when the set is dropped.
            ended.context("a worker panicked")??;
        }
        Ok(start.elapsed())
    }
}

async fn send(http: &Client, url: Url, call: &Call) -> anyhow::Result<()> {
    let request = http
        .post(url)
        .header(AUTHORIZATION, call.authorization.clone())
        .header(CONTENT_TYPE, HeaderValue::from_static("application/json"))
        .body(call.body.clone());
    let exchange = async || {
        let response = request.send().await?;
        // Read to its end, so that the connection can be reused.
        Ok((response.status(), response.bytes().await?))
    };
    match exchange().await {
        Ok((status, _)) if status.is_success() => Ok(()),
        Ok((status, body)) => bail!("the service returned {status} {}", String::from_utf8_lossy(&body)),
        Err(error) => bail!(nas_cron_base::http_client::causes(error)),
    }
}
