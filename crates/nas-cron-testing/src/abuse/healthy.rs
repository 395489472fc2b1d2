//! The agents that are measured: steady provisions, and the endpoint of their fires and of those of the hostile agent.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::task::JoinSet;

use super::ORG;
use super::report::Measures;
use crate::portal::Portal;
use crate::service::{Service, client};
use crate::time::{PATIENCE, fire_at, lateness_ms, now};

/// Number of healthy agents.
const AGENTS: usize = 20;
/// Time from a provision to its fire.
const AHEAD_MS: i64 = 1_500;

/// The healthy agents.
pub(super) struct Healthy {
    shared: Arc<Shared>,
    url: String,
    rate: u32,
    address: SocketAddr,
}

struct Shared {
    http: reqwest::Client,
    tokens: Vec<String>,
    /// Jobs that are armed, with their instants.
    armed: Mutex<HashMap<String, String>>,
    measures: Mutex<Measures>,
    /// Fires of the hostile agent.
    hostile_fires: AtomicUsize,
    next: AtomicU64,
}

impl Healthy {
    /// Registers the agents, and listens to fires. They provision only while something is measured.
    pub(super) async fn start(service: &Service, portal: &Portal, rate: u32) -> Self {
        let mut tokens = Vec::new();
        for number in 0..AGENTS {
            let name = format!("healthy-{number}");
            service.register(&name, ORG, None).await;
            tokens.push(portal.client_token(ORG, &name));
        }
        let shared = Arc::new(Shared {
            http: client(),
            tokens,
            armed: Mutex::default(),
            measures: Mutex::default(),
            hostile_fires: AtomicUsize::new(0),
            next: AtomicU64::new(0),
        });
        let router = Router::new()
            .route("/{agent}/api/cron/fire", axum::routing::post(fire))
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
        let address = listener.local_addr().expect("it is bound");
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { shared, url: service.url.clone(), rate, address }
    }

    /// Returns the callback of an agent.
    pub(super) fn callback(&self, agent: &str) -> String {
        format!("http://{}/{agent}", self.address)
    }

    /// Returns the number of the hostile agent's fires so far.
    pub(super) fn hostile_fires(&self) -> impl Fn() -> usize + Send + use<> {
        let shared = Arc::clone(&self.shared);
        move || shared.hostile_fires.load(Ordering::Relaxed)
    }

    /// Provisions at the steady rate for at least `length`, and until `during` has ended. Then waits for the last fires.
    pub(super) async fn measure(&self, length: Duration, during: impl Future<Output = ()>) -> Measures {
        *self.shared.measures.lock() = Measures::default();
        let (began, mut provisions) = (Instant::now(), JoinSet::new());
        let mut tick = tokio::time::interval(Duration::from_secs(1) / self.rate);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut during = std::pin::pin!(during);
        let mut is_over = false;
        while !is_over || began.elapsed() < length {
            tokio::select! {
                () = &mut during, if !is_over => is_over = true,
                _ = tick.tick() => {
                    let number = self.shared.next.fetch_add(1, Ordering::Relaxed);
                    let agent = usize::try_from(number).unwrap_or_default() % AGENTS;
                    let callback = self.callback(&format!("healthy-{agent}"));
                    let (shared, url) = (Arc::clone(&self.shared), format!("{}/api/agent-cron/provision", self.url));
                    provisions.spawn(async move { shared.provision(number, agent, &url, &callback).await });
                }
            }
        }
        provisions.join_all().await;
        let waiting = async {
            while !self.shared.armed.lock().is_empty() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let _ = tokio::time::timeout(PATIENCE, waiting).await;
        let mut measures = std::mem::take(&mut *self.shared.measures.lock());
        measures.lost = std::mem::take(&mut *self.shared.armed.lock()).len();
        measures
    }
}

impl Shared {
    async fn provision(&self, number: u64, agent: usize, url: &str, callback: &str) {
        let (job, at) = (format!("job-{number}"), fire_at(AHEAD_MS));
        let body = json!({"job_id": job, "fire_at": at, "agent_callback_url": callback, "dedup_key": at});
        // Before the call: the fire may come before its response is read.
        self.armed.lock().insert(job.clone(), at);
        let began = Instant::now();
        let response = self.http.post(url).bearer_auth(&self.tokens[agent]).json(&body).send().await;
        let took = began.elapsed().as_secs_f64() * 1e3;
        let mut measures = self.measures.lock();
        if response.is_ok_and(|response| response.status() == 200) {
            measures.provisions.push(took);
        } else {
            measures.failed += 1;
            self.armed.lock().remove(&job);
        }
    }
}

async fn fire(State(shared): State<Arc<Shared>>, Path(agent): Path<String>, body: Bytes) -> StatusCode {
    let arrived = now();
    if agent == super::HOSTILE {
        shared.hostile_fires.fetch_add(1, Ordering::Relaxed);
        return StatusCode::ACCEPTED;
    }
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let known = body["job_id"].as_str().and_then(|job| shared.armed.lock().remove(job));
    if let Some(at) = known {
        shared.measures.lock().lateness.push(lateness_ms(&at, arrived));
    }
    StatusCode::ACCEPTED
}
