//! The load balancer in front of the replicas: round robin, without replicas whose `/readyz` fails or that refuse the
//! connection.
//!
//! It is part of the client in this process. Like a real load balancer, it never repeats a request that was sent.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use serde_json::Value;

use crate::service::client_builder;

/// Timeout of an agent's call: longer than the service's budget for a request, 12 s.
const PATIENCE: Duration = Duration::from_secs(20);
/// Maximum idle connections to a replica, as a load balancer has: after a burst, the others close. With more, the number of
/// descriptors would be that of the latest burst.
const MAX_IDLE: usize = 16;
/// Timeout of fetching the JWKS from one replica.
const JWKS_LIMIT: Duration = Duration::from_secs(2);
/// Interval between probes of a replica.
const PROBE_EVERY: Duration = Duration::from_secs(1);
/// Timeout of a probe. After two failures in a row, a replica is out of rotation.
const PROBE_LIMIT: Duration = Duration::from_secs(1);

struct Target {
    url: String,
    serves: AtomicBool,
}

/// A call that was not answered with 200.
pub(super) enum Failure {
    /// Another status, a timeout, or no reachable replica.
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
        let http = client_builder().pool_max_idle_per_host(MAX_IDLE).build().expect("a client");
        Self { targets, turn: AtomicUsize::new(0), http }
    }

    /// Probes the replicas forever.
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

    /// Returns the replicas in the order in which a call tries them: if none is ready, all are tried.
    fn in_turn(&self) -> impl Iterator<Item = &Target> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed);
        let all =
            move || (0..self.targets.len()).map(move |n| &self.targets[(turn + n) % self.targets.len()]);
        let serving = all().filter(|target| target.serves.load(Ordering::Relaxed));
        serving.chain(all().filter(|target| !target.serves.load(Ordering::Relaxed)))
    }

    /// Returns the JWKS from the first replica that responds.
    pub(super) async fn jwks(&self) -> Option<Value> {
        for target in self.in_turn() {
            let request = self.http.get(format!("{}/.well-known/jwks.json", target.url)).timeout(JWKS_LIMIT);
            if let Ok(response) = request.send().await.and_then(reqwest::Response::error_for_status)
                && let Ok(jwks) = response.json().await
            {
                return Some(jwks);
            }
        }
        None
    }

    /// Provisions through the next replica that accepts the connection.
    pub(super) async fn provision(&self, token: &str, body: &Value) -> Result<(), Failure> {
        let mut refused = String::new();
        for target in self.in_turn() {
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
            Err(error) if error.is_timeout() => {
                ended(Failure::Failed(format!("no response within {limit:?}")))
            }
            Err(error) => ended(Failure::Broken(format!("{error:?}"))),
        }
    }
}

enum Attempt {
    Refused(String),
    Ended(Failure),
}
