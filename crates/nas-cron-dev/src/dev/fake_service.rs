//! A fake service for the tests of its clients: agent API, JWKS, admin API, metrics and fires in memory, on a real socket. It can
//! be made to violate the contract.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Router;
use axum::extract::{Json, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post, put};
use chrono::{DateTime, Utc};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use nas_cron_base::clock::{Clock, SystemClock};
use nas_cron_base::http_client;
use nas_cron_jwt::testing::{Signing, jwks};
use parking_lot::{Mutex, MutexGuard};
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use url::Url;

/// Behaviour of the fake service towards its one-shots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Behaviour {
    /// Fires on time.
    #[default]
    Correct,
    /// Fires at once.
    Early,
    /// Never fires.
    Silent,
    /// Fires on time, with a token for another agent.
    WrongAudience,
    /// Fires on time, twice.
    Duplicate,
    /// Fires and lists `fire_at` as the same instant in another format.
    Rewrites,
    /// Rejects provisions with 503.
    Unavailable,
    /// Rejects provisions with 401.
    Refuses,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Armed {
    pub(crate) fire_at: String,
    pub(crate) callback_url: String,
    pub(crate) dedup_key: String,
}

#[derive(Default)]
struct Inner {
    behaviour: Behaviour,
    armed: BTreeMap<(String, String), Armed>,
    agents: BTreeSet<String>,
    /// Registrations since the start.
    registered: usize,
    cancelled: Vec<String>,
    provisions: usize,
    jwks_fetches: usize,
    /// Fires that were accepted.
    delivered: usize,
    timers: Vec<JoinHandle<()>>,
}

struct Shared {
    base: String,
    signing: Mutex<Signing>,
    http: reqwest::Client,
    inner: Mutex<Inner>,
}

/// A running fake service; dropping it stops it.
pub(crate) struct FakeService {
    shared: Arc<Shared>,
    server: JoinHandle<()>,
}

impl Drop for FakeService {
    fn drop(&mut self) {
        self.server.abort();
        for timer in self.shared.inner().timers.drain(..) {
            timer.abort();
        }
    }
}

/// Returns the claims of a fire token minted at `now`.
pub(crate) fn fire_claims(issuer: &str, agent: &str, job_id: &str, fire_at: &str, now: i64) -> Value {
    json!({
        "iss": issuer, "aud": format!("agent:{agent}"), "purpose": "cron_fire", "iat": now, "nbf": now, "exp": now + 90,
        "jti": format!("{:x}", rand::random::<u64>()), "job_id": job_id, "fire_at": fire_at,
    })
}

fn fresh_key() -> Signing {
    Signing::es256(&format!("{:016x}", rand::random::<u64>()))
}

impl FakeService {
    pub(crate) async fn start() -> Self {
        Self::with(Behaviour::Correct).await
    }

    pub(crate) async fn with(behaviour: Behaviour) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            http: http_client::builder(&base.parse().unwrap()).build().unwrap(),
            base,
            signing: Mutex::new(fresh_key()),
            inner: Mutex::new(Inner { behaviour, ..Inner::default() }),
        });
        let router = Router::new()
            .route("/api/agent-cron/provision", post(provision))
            .route("/api/agent-cron/cancel", post(cancel))
            .route("/api/agent-cron/list", get(list))
            .route("/api/agent-cron/jwks.json", get(publish))
            .route("/metrics", get(metrics))
            .route("/api/admin/agents/{id}", put(register).delete(remove))
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { shared, server }
    }

    /// Returns its base URL, which is also the issuer of its tokens.
    pub(crate) fn issuer(&self) -> String {
        self.shared.base.clone()
    }

    pub(crate) fn jwks_url(&self) -> Url {
        format!("{}/api/agent-cron/jwks.json", self.shared.base).parse().unwrap()
    }

    pub(crate) fn metrics_url(&self) -> Url {
        format!("{}/metrics", self.shared.base).parse().unwrap()
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.shared.signing().sign(claims)
    }

    /// Signs with the key of `other`, under its own `kid`.
    pub(crate) fn sign_as(&self, other: &Self, claims: &Value) -> String {
        let own = self.shared.signing().kid.clone();
        let forged: EncodingKey = other.shared.signing().key.clone();
        jsonwebtoken::encode(&Header { kid: own, ..Header::new(Algorithm::ES256) }, claims, &forged).unwrap()
    }

    pub(crate) fn rotate_key(&self) {
        *self.shared.signing() = fresh_key();
    }

    pub(crate) fn jwks_fetches(&self) -> usize {
        self.shared.inner().jwks_fetches
    }

    pub(crate) fn behave(&self, behaviour: Behaviour) {
        self.shared.inner().behaviour = behaviour;
    }

    /// Returns the armed one-shots by agent and job.
    pub(crate) fn armed(&self) -> BTreeMap<(String, String), Armed> {
        self.shared.inner().armed.clone()
    }

    /// Adds a one-shot of this agent that never fires.
    pub(crate) fn leave_armed(&self, agent: &str, job_id: &str) {
        let armed = Armed { fire_at: "x".into(), callback_url: "x".into(), dedup_key: "x".into() };
        self.shared.inner().armed.insert((agent.to_owned(), job_id.to_owned()), armed);
    }

    /// Counts a delivery to an agent that no test knows.
    pub(crate) fn deliver_another(&self) {
        self.shared.inner().delivered += 1;
    }

    /// Returns the cancelled jobs, in order.
    pub(crate) fn cancelled(&self) -> Vec<String> {
        self.shared.inner().cancelled.clone()
    }

    /// Returns the number of accepted provisions.
    pub(crate) fn provisions(&self) -> usize {
        self.shared.inner().provisions
    }

    /// Returns the number of registered instances, now and since the start.
    pub(crate) fn agents(&self) -> (usize, usize) {
        let inner = self.shared.inner();
        (inner.agents.len(), inner.registered)
    }
}

type Service = State<Arc<Shared>>;

/// Returns the caller's agent: the client of a development portal's token, or else the token itself.
fn caller(headers: &HeaderMap) -> String {
    let token = headers["authorization"].to_str().unwrap().strip_prefix("Bearer ").unwrap();
    let claims: Option<Value> = jsonwebtoken::dangerous::insecure_decode_claims(token).ok();
    let client = claims.and_then(|claims| claims["client_id"].as_str().map(str::to_owned));
    client.as_deref().and_then(|client| client.strip_prefix("agent:")).unwrap_or(token).to_owned()
}

fn text(body: &Value, field: &str) -> String {
    body[field].as_str().unwrap().to_owned()
}

async fn provision(
    State(service): Service,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> (StatusCode, Json<Value>) {
    let (agent, job_id) = (caller(&headers), text(&body, "job_id"));
    let armed = Armed {
        fire_at: text(&body, "fire_at"),
        callback_url: text(&body, "agent_callback_url"),
        dedup_key: text(&body, "dedup_key"),
    };
    let mut inner = service.inner();
    if inner.behaviour == Behaviour::Unavailable {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": "temporarily_unavailable" })));
    }
    if inner.behaviour == Behaviour::Refuses {
        return (StatusCode::UNAUTHORIZED, Json(json!({ "error": "invalid_token" })));
    }
    inner.provisions += 1;
    inner.armed.insert((agent.clone(), job_id.clone()), armed.clone());
    let timer = tokio::spawn(Arc::clone(&service).fire_in_time(agent, job_id, armed, inner.behaviour));
    inner.timers.push(timer);
    (StatusCode::OK, Json(json!({ "schedule_id": "s" })))
}

async fn cancel(State(service): Service, headers: HeaderMap, Json(body): Json<Value>) -> Json<Value> {
    let job_id = text(&body, "job_id");
    let mut inner = service.inner();
    inner.armed.remove(&(caller(&headers), job_id.clone()));
    inner.cancelled.push(job_id);
    Json(json!({ "ok": true }))
}

async fn list(State(service): Service, headers: HeaderMap) -> Json<Value> {
    let agent = caller(&headers);
    let inner = service.inner();
    let own = inner.armed.iter().filter(|((owner, _), _)| *owner == agent);
    let armed: Vec<_> = own
        .map(
            |((_, job_id), armed)| json!({ "job_id": job_id, "fire_at": inner.behaviour.rewrite(&armed.fire_at), "schedule_id": "s" }),
        )
        .collect();
    Json(json!({ "armed": armed, "dead": [] }))
}

async fn publish(State(service): Service) -> Vec<u8> {
    service.inner().jwks_fetches += 1;
    jwks([&*service.signing()])
}

async fn metrics(State(service): Service) -> String {
    format!("nas_cron_fires_total{{outcome=\"delivered\"}} {}\n", service.inner().delivered)
}

async fn register(State(service): Service, Path(id): Path<String>, Json(body): Json<Value>) -> StatusCode {
    assert!(body["org_id"].is_string());
    let mut inner = service.inner();
    inner.agents.insert(id);
    inner.registered += 1;
    StatusCode::OK
}

async fn remove(State(service): Service, Path(id): Path<String>) -> StatusCode {
    let mut inner = service.inner();
    inner.armed.retain(|(owner, _), _| *owner != id);
    if inner.agents.remove(&id) { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

impl Behaviour {
    fn rewrite(self, fire_at: &str) -> String {
        if self == Self::Rewrites { fire_at.replace("+00:00", "Z") } else { fire_at.to_owned() }
    }
}

impl Shared {
    fn inner(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock()
    }

    fn signing(&self) -> MutexGuard<'_, Signing> {
        self.signing.lock()
    }

    async fn fire_in_time(
        self: Arc<Self>,
        agent: String,
        job_id: String,
        armed: Armed,
        behaviour: Behaviour,
    ) {
        let due: DateTime<Utc> = DateTime::parse_from_rfc3339(&armed.fire_at).unwrap().to_utc();
        if behaviour == Behaviour::Silent {
            return;
        }
        if behaviour != Behaviour::Early {
            // The scheduler's timer, not a test's wait. Sleeps have a resolution of 1 ms and may end early.
            while let Ok(left) = (due - SystemClock.now()).to_std() {
                tokio::time::sleep(left).await;
            }
        }
        let key = (agent.clone(), job_id.clone());
        if self.inner().armed.get(&key) != Some(&armed) {
            return;
        }
        self.inner().armed.remove(&key);
        let mut delivered = false;
        for _ in 0..if behaviour == Behaviour::Duplicate { 2 } else { 1 } {
            delivered |= self.fire(&agent, &job_id, &armed, behaviour).await;
        }
        self.inner().delivered += usize::from(delivered);
    }

    /// Returns true if the agent accepted the fire.
    async fn fire(&self, agent: &str, job_id: &str, armed: &Armed, behaviour: Behaviour) -> bool {
        let fire_at = behaviour.rewrite(&armed.fire_at);
        let audience = if behaviour == Behaviour::WrongAudience { "another" } else { agent };
        let claims = fire_claims(&self.base, audience, job_id, &fire_at, SystemClock.now().timestamp());
        let token = self.signing().sign(&claims);
        let request = self.http.post(format!("{}/api/cron/fire", armed.callback_url)).bearer_auth(token);
        // The agent may be gone at the end of the test.
        let response = request.json(&json!({ "job_id": job_id, "fire_at": fire_at })).send().await;
        response.is_ok_and(|response| response.status().is_success())
    }
}
