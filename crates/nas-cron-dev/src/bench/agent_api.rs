//! Concurrent calls of the agent API over kept-alive connections.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use anyhow::Context;
use bytes::Bytes;
use chrono::TimeDelta;
use nas_cron_base::http_client;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, StatusCode, Url};
use serde_json::json;
use tokio::task::JoinSet;

use super::fleet::{Agent, Fleet};
use super::stage::Stage;
use crate::times::Times;

/// The timeout of real agents.
const TIMEOUT: Duration = Duration::from_secs(15);

/// A failed call.
#[derive(Debug, thiserror::Error)]
pub(super) enum CallError {
    /// The service returned no success.
    #[error("the service returned {0} {1}")]
    Refused(StatusCode, String),
    /// There was no response.
    #[error("{0}")]
    NoResponse(String),
}

/// A prepared request.
#[derive(Debug)]
struct Call {
    authorization: HeaderValue,
    body: Bytes,
}

impl Call {
    fn new(agent: &Agent, body: &serde_json::Value) -> Self {
        Self { authorization: agent.authorization.clone(), body: Bytes::from(body.to_string()) }
    }
}

/// Calls that succeeded.
#[derive(Debug)]
pub(super) struct Calls {
    /// Number of calls.
    pub(super) count: usize,
    /// Time from the first request to the last response.
    pub(super) took: Duration,
    /// Time from a request to its response.
    pub(super) latency: Times,
}

impl Calls {
    /// Returns the calls per second.
    #[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
    pub(super) fn per_s(&self) -> f64 {
        if self.took.is_zero() { 0.0 } else { self.count as f64 / self.took.as_secs_f64() }
    }
}

/// A client of the agent API.
#[derive(Clone, Debug)]
pub(super) struct AgentApi {
    http: Client,
    provision: Url,
    cancel: Url,
    concurrency: usize,
}

impl AgentApi {
    /// Creates a client for the service at this base URL, with a maximum number of concurrent calls.
    pub(super) fn new(base: &Url, concurrency: usize) -> anyhow::Result<Self> {
        let http = http_client::builder(base).pool_max_idle_per_host(concurrency).timeout(TIMEOUT).build()?;
        let below = |path| http_client::below(base, path);
        Ok(Self {
            http,
            provision: below("/api/agent-cron/provision"),
            cancel: below("/api/agent-cron/cancel"),
            concurrency,
        })
    }

    /// Arms these one-shots of the stage. Calls `tick` after each success, and stops at the first failure.
    pub(super) async fn arm(
        &self,
        fleet: &Fleet,
        stage: &Stage,
        indexes: &[usize],
        tick: impl Fn() + Clone + Send + 'static,
    ) -> anyhow::Result<Calls> {
        let calls = indexes.iter().map(|index| {
            let agent = &fleet.agents[stage.agent(*index)];
            let (job_id, fire_at) = (stage.job_id(*index), stage.fire_at(*index));
            let body = json!({
                "job_id": job_id,
                "fire_at": fire_at,
                "agent_callback_url": agent.callback_url,
                "dedup_key": format!("{job_id}:{fire_at}"),
            });
            Call::new(agent, &body)
        });
        self.drive(&self.provision, calls.collect(), tick).await.context("provision failed")
    }

    /// Cancels the one-shots of the stage that may fire.
    pub(super) async fn cancel(
        &self,
        fleet: &Fleet,
        stage: &Stage,
        tick: impl Fn() + Clone + Send + 'static,
    ) -> anyhow::Result<Calls> {
        let calls = stage.pending().into_iter().map(|index| {
            Call::new(&fleet.agents[stage.agent(index)], &json!({ "job_id": stage.job_id(index) }))
        });
        let calls = self.drive(&self.cancel, calls.collect(), tick).await.context("cancel failed")?;
        stage.set_cancelled();
        Ok(calls)
    }

    async fn drive(
        &self,
        url: &Url,
        calls: Vec<Call>,
        tick: impl Fn() + Clone + Send + 'static,
    ) -> anyhow::Result<Calls> {
        let count = calls.len();
        let (calls, next) = (Arc::new(calls), Arc::new(AtomicUsize::new(0)));
        let start = Instant::now();
        let mut running = JoinSet::new();
        for _ in 0..self.concurrency.min(count) {
            let (http, url, tick) = (self.http.clone(), url.clone(), tick.clone());
            let (calls, next) = (Arc::clone(&calls), Arc::clone(&next));
            running.spawn(async move {
                let mut took = Vec::with_capacity(count / 32);
                while let Some(call) = calls.get(next.fetch_add(1, Ordering::Relaxed)) {
                    let sent = Instant::now();
                    send(&http, url.clone(), call).await?;
                    took.push(sent.elapsed());
                    tick();
                }
                Ok::<_, CallError>(took)
            });
        }
        let mut latency = Times::new();
        let mut ended = Vec::with_capacity(count);
        while let Some(worker) = running.join_next().await {
            // The other workers are aborted when the set is dropped.
            ended.extend(worker.context("a worker panicked")??);
        }
        let took = start.elapsed();
        for one in ended {
            latency.record(TimeDelta::from_std(one).unwrap_or(TimeDelta::MAX));
        }
        Ok(Calls { count, took, latency })
    }
}

async fn send(http: &Client, url: Url, call: &Call) -> Result<(), CallError> {
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
        Ok((status, body)) => Err(CallError::Refused(status, String::from_utf8_lossy(&body).into_owned())),
        Err(error) => Err(CallError::NoResponse(http_client::causes(error))),
    }
}
