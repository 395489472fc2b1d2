//! What is in front of the replicas: in turn, past those whose `/readyz` fails, and past a refused connection.
//!
//! It is a part of this process, not one more hop. Like a real load balancer it repeats nothing that was sent.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::service::client;

/// How long an agent waits for an answer: longer than the service's budget of a request, 12 s.
const PATIENCE: Duration = Duration::from_secs(20);
/// Between two probes of a replica.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// A probe's limit; two that fail in a row take a replica out.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

struct Target {
    url: String,
    serves: AtomicBool,
}

/// How a call ended that got no 200.
pub(super) enum Failure {
    /// A status, or nothing in time, or nobody to call.
    Failed(String),
    /// The connection broke after the request was sent.
    Broken(String),
}

/// A round-robin balancer.
pub(super) struct Balancer {
    targets: Vec<Target>,
    turn: AtomicUsize,
    http: reqwest::Client,
}

impl Balancer {
    pub(super) fn new(urls: impl Iterator<Item = String>) -> Self {
        let targets = urls.map(|url| Target { url, serves: AtomicBool::new(true) }).collect();
        Self { targets, turn: AtomicUsize::new(0), http: client() }
    }

    /// Probes the replicas for ever.
    pub(super) async fn probe(&self) {
        futures::future::join_all(self.targets.iter().map(async |target| {
            let mut failures = 0;
            loop {
                let probe = self.http.get(format!("{}/readyz", target.url)).timeout(PROBE_LIMIT).send();
                let ready = probe.await.is_ok_and(|response| response.status().is_success());
                failures = if ready { 0 } else { failures + 1 };
                target.serves.store(failures < 2, Ordering::Relaxed);
                tokio::time::sleep(PROBE_EVERY).await;
            }
        }))
        .await;
    }

    /// Provisions through whichever replica takes it.
    pub(super) async fn provision(&self, token: &str, body: &Value) -> Result<(), Failure> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let all: Vec<&Target> =
            (0..self.targets.len()).map(|n| &self.targets[(turn + n) % self.targets.len()]).collect();
        // If none is ready, all are called.
        let serving = all.iter().filter(|target| target.serves.load(Ordering::Relaxed));
        let others = all.iter().filter(|target| !target.serves.load(Ordering::Relaxed));
        let mut refused = String::new();
        for target in serving.chain(others) {
            match self.call(&target.url, token, body, PATIENCE).await {
                Ok(()) => return Ok(()),
                Err(Attempt::Refused(error)) => refused = error,
                Err(Attempt::Ended(failure)) => return Err(failure),
            }
        }
        Err(Failure::Failed(refused))
    }

    /// Provisions through one replica.
    pub(super) async fn provision_at(
        &self,
        replica: usize,
        token: &str,
        body: &Value,
        limit: Duration,
    ) -> bool {
        self.call(&self.targets[replica].url, token, body, limit).await.is_ok()
    }

    async fn call(&self, url: &str, token: &str, body: &Value, limit: Duration) -> Result<(), Attempt> {
        let request = self.http.post(format!("{url}/api/agent-cron/provision")).bearer_auth(token).json(body);
        let ended = |failure| Err(Attempt::Ended(failure));
        match request.timeout(limit).send().await {
            Ok(response) if response.status().is_success() => Ok(()),
            Ok(response) => {
                let status = response.status();
                let text = response.text().await.unwrap_or_default();
                ended(Failure::Failed(format!("{status} {}", text.chars().take(200).collect::<String>())))
            }
            Err(error) if error.is_connect() => Err(Attempt::Refused(format!("{error:?}"))),
            Err(error) if error.is_timeout() => ended(Failure::Failed(format!("no answer in {limit:?}"))),
            Err(error) => ended(Failure::Broken(format!("{error:?}"))),
        }
    }
}

enum Attempt {
    Refused(String),
    Ended(Failure),
}
