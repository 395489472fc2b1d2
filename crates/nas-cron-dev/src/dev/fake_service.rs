//! A service for the tests of what calls it: hop 1, JWKS, admin API and fires in memory, on a real socket. It can
//! be told to do what the real one must never do.

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

/// What it does with what is armed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Manner {
    /// Fires on time.
    #[default]
    Proper,
    /// Fires at once.
    Early,
    /// Never fires.
    Silent,
    /// Fires on time, with a token for another agent.
    WrongAudience,
    /// Fires on time, twice.
    Twice,
    /// Fires and lists the same instant in other words.
    Rewrites,
    /// Answers 503 to `provision`.
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
    manner: Manner,
    armed: BTreeMap<(String, String), Armed>,
    agents: BTreeSet<String>,
    /// Of all times.
    registered: usize,
    cancelled: Vec<String>,
    provisions: usize,
    jwks_fetches: usize,
    timers: Vec<JoinHandle<()>>,
}

struct Shared {
    base: String,
    signing: Mutex<Signing>,
    http: reqwest::Client,
    inner: Mutex<Inner>,
}

/// It ends with the test.
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

/// The claims of a fire token that was minted at `now`.
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
        Self::with(Manner::Proper).await
    }

    pub(crate) async fn with(manner: Manner) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap());
        let shared = Arc::new(Shared {
            http: http_client::builder(&base.parse().unwrap()).build().unwrap(),
            base,
            signing: Mutex::new(fresh_key()),
            inner: Mutex::new(Inner { manner, ..Inner::default() }),
        });
        let router = Router::new()
            .route("/api/agent-cron/provision", post(provision))
            .route("/api/agent-cron/cancel", post(cancel))
            .route("/api/agent-cron/list", get(list))
            .route("/api/agent-cron/jwks.json", get(publish))
            .route("/api/admin/agents/{id}", put(register).delete(remove))
            .with_state(Arc::clone(&shared));
        let server = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { shared, server }
    }

    /// Its base URL, and the issuer of its tokens.
    pub(crate) fn issuer(&self) -> String {
        self.shared.base.clone()
    }

    pub(crate) fn jwks_url(&self) -> Url {
        format!("{}/api/agent-cron/jwks.json", self.shared.base).parse().unwrap()
    }

    pub(crate) fn sign(&self, claims: &Value) -> String {
        self.shared.signing().sign(claims)
    }

    /// With the key of another one, under the name of its own.
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

    pub(crate) fn behave(&self, manner: Manner) {
        self.shared.inner().manner = manner;
    }

    /// What is armed now, by agent and job.
    pub(crate) fn armed(&self) -> BTreeMap<(String, String), Armed> {
        self.shared.inner().armed.clone()
    }

    /// Arms something in an agent's name that never fires.
    pub(crate) fn leave_armed(&self, agent: &str, job_id: &str) {
        let armed = Armed { fire_at: "x".into(), callback_url: "x".into(), dedup_key: "x".into() };
        self.shared.inner().armed.insert((agent.to_owned(), job_id.to_owned()), armed);
    }

    /// The jobs that were cancelled, in order.
    pub(crate) fn cancelled(&self) -> Vec<String> {
        self.shared.inner().cancelled.clone()
    }

    /// How many provisions it has answered 200.
    pub(crate) fn provisions(&self) -> usize {
        self.shared.inner().provisions
    }

    /// How many instances are registered, and how many have ever been.
    pub(crate) fn agents(&self) -> (usize, usize) {
        let inner = self.shared.inner();
        (inner.agents.len(), inner.registered)
    }
}

type Service = State<Arc<Shared>>;

/// Tokens of the development portal name their agent; any other text is the agent's name.
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
    if inner.manner == Manner::Refuses {
        return (StatusCode::SERVICE_UNAVAILABLE, Json(json!({ "error": "temporarily_unavailable" })));
    }
    inner.provisions += 1;
    inner.armed.insert((agent.clone(), job_id.clone()), armed.clone());
    let timer = tokio::spawn(Arc::clone(&service).fire_in_time(agent, job_id, armed, inner.manner));
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
            |((_, job_id), armed)| json!({ "job_id": job_id, "fire_at": inner.manner.words(&armed.fire_at), "schedule_id": "s" }),
        )
        .collect();
    Json(json!({ "armed": armed, "dead": [] }))
}

async fn publish(State(service): Service) -> Vec<u8> {
    service.inner().jwks_fetches += 1;
    jwks([&*service.signing()])
}

async fn register(State(service): Service, Path(id): Path<String>, Json(body): Json<Value>) -> StatusCode {
    assert!(body["org_id"].is_string());
    let mut inner = service.inner();
    inner.agents.insert(id);
    inner.registered += 1;
    StatusCode::OK
}

async fn remove(State(service): Service, Path(id): Path<String>) -> StatusCode {
    if service.inner().agents.remove(&id) { StatusCode::NO_CONTENT } else { StatusCode::NOT_FOUND }
}

impl Manner {
    fn words(self, fire_at: &str) -> String {
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

    async fn fire_in_time(self: Arc<Self>, agent: String, job_id: String, armed: Armed, manner: Manner) {
        let due: DateTime<Utc> = DateTime::parse_from_rfc3339(&armed.fire_at).unwrap().to_utc();
        if manner == Manner::Silent {
            return;
        }
        if manner != Manner::Early {
            // The timer of a scheduler, not a test that waits. It is a millisecond coarse, and may be early.
            while let Ok(left) = (due - SystemClock.now()).to_std() {
                tokio::time::sleep(left).await;
            }
        }
        let key = (agent.clone(), job_id.clone());
        if self.inner().armed.get(&key) != Some(&armed) {
            return;
        }
        self.inner().armed.remove(&key);
        for _ in 0..if manner == Manner::Twice { 2 } else { 1 } {
            self.fire(&agent, &job_id, &armed, manner).await;
        }
    }

    async fn fire(&self, agent: &str, job_id: &str, armed: &Armed, manner: Manner) {
        let fire_at = manner.words(&armed.fire_at);
        let audience = if manner == Manner::WrongAudience { "another" } else { agent };
        let claims = fire_claims(&self.base, audience, job_id, &fire_at, SystemClock.now().timestamp());
        let token = self.signing().sign(&claims);
        let request = self.http.post(format!("{}/api/cron/fire", armed.callback_url)).bearer_auth(token);
        // The agent may be gone: then the test is over.
        let _ = request.json(&json!({ "job_id": job_id, "fire_at": fire_at })).send().await;
    }
}
