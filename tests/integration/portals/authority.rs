//! What else a portal may have: a lookup of instances, and introspection of opaque tokens.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use axum::extract::{RawQuery, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

/// What opens the lookup.
pub const LOOKUP_TOKEN: &str = "lookup-token-hunter2";
/// As whom introspection is asked: both halves need encoding.
pub const CLIENT: (&str, &str) = ("nas:cron", "secret %hunter2");

/// A running one.
pub struct Authority {
    state: Arc<Mutex<Knows>>,
    address: SocketAddr,
    server: Mutex<JoinHandle<()>>,
}

/// How a question is answered instead of with what is known.
#[derive(Clone, Debug)]
pub enum Fault {
    /// With this status and body.
    Says(u16, String),
    /// By a redirect to there.
    Redirects(String),
}

/// What it knows, and what it was asked.
#[derive(Default)]
pub struct Knows {
    /// By `agent:<id>`, and by `<sid>@<org>`: what is in `instance`.
    pub instances: HashMap<String, Value>,
    /// Active tokens, and what is said of them.
    pub tokens: HashMap<String, Value>,
    /// By the same names, or tokens.
    pub faults: HashMap<String, Fault>,
    /// Unknown ones are told by `404 unknown_instance`.
    pub no_by_404: bool,
    /// Before every answer.
    pub takes: Duration,
    /// Queries of the lookup, as they came.
    pub lookups: Vec<String>,
    /// Forms of introspection.
    pub introspected: Vec<HashMap<String, String>>,
    /// Requests without the right credentials.
    pub strangers: Vec<HeaderMap>,
}

type Shared = State<Arc<Mutex<Knows>>>;

impl Authority {
    pub async fn start() -> Self {
        let state = Arc::new(Mutex::new(Knows::default()));
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Mutex::new(serve(listener, &state));
        Self { state, address, server }
    }

    /// What it knows, to be changed.
    pub fn knows(&self) -> MutexGuard<'_, Knows> {
        self.state.lock().unwrap()
    }

    /// It knows this instance of this org, by its client and by its session.
    pub fn has(&self, instance_id: &str, org_id: &str, session: &str) {
        let instance = json!({"instance_id": instance_id, "org_id": org_id, "bootstrap_session_id": session});
        let mut knows = self.knows();
        knows.instances.insert(format!("agent:{instance_id}"), instance.clone());
        knows.instances.insert(format!("{session}@{org_id}"), instance);
    }

    pub fn lookup_url(&self) -> String {
        format!("http://{}/lookup?v=1", self.address)
    }

    pub fn introspection_url(&self) -> String {
        format!("http://{}/introspect", self.address)
    }

    /// How often it was asked about instances.
    pub fn lookups(&self) -> usize {
        self.knows().lookups.len()
    }

    /// How often it was asked about tokens.
    pub fn introspected(&self) -> usize {
        self.knows().introspected.len()
    }

    /// Goes away: connections are refused when this returns.
    pub async fn leave(&self) {
        let server = std::mem::replace(&mut *self.server.lock().unwrap(), tokio::spawn(async {}));
        server.abort();
        let _ = server.await;
    }

    /// Comes back to its address.
    pub async fn come_back(&self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        *self.server.lock().unwrap() = serve(listener, &self.state);
    }
}

fn serve(listener: TcpListener, state: &Arc<Mutex<Knows>>) -> JoinHandle<()> {
    let router = Router::new()
        .route("/lookup", routing::get(lookup))
        .route("/introspect", routing::post(introspect))
        .with_state(Arc::clone(state));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
}

async fn lookup(State(state): Shared, headers: HeaderMap, RawQuery(query): RawQuery) -> Response {
    let query = query.unwrap_or_default();
    let pairs: HashMap<_, _> = url::form_urlencoded::parse(query.as_bytes()).into_owned().collect();
    let (answer, takes) = {
        let mut knows = state.lock().unwrap();
        knows.lookups.push(query);
        if headers.get("authorization").is_none_or(|value| value != &format!("Bearer {LOOKUP_TOKEN}")) {
            knows.strangers.push(headers);
        }
        let name = match (pairs.get("client"), pairs.get("sid"), pairs.get("org")) {
            (Some(client), None, _) => client.clone(),
            (None, Some(sid), Some(org)) => format!("{sid}@{org}"),
            _ => return StatusCode::BAD_REQUEST.into_response(),
        };
        let found = knows.instances.get(&name).cloned();
        // A portal that knows an instance knows it in its own org only.
        let found = found.filter(|one| pairs.get("org").is_none_or(|org| one["org_id"] == *org));
        let answer = match (knows.faults.get(&name), found) {
            (Some(fault), _) => fault.clone().into_response(),
            (None, None) if knows.no_by_404 => {
                (StatusCode::NOT_FOUND, Json(json!({"error": "unknown_instance"}))).into_response()
            }
            (None, found) => Json(json!({ "instance": found })).into_response(),
        };
        (answer, knows.takes)
    };
    tokio::time::sleep(takes).await;
    answer
}

async fn introspect(State(state): Shared, headers: HeaderMap, body: String) -> Response {
    let form: HashMap<_, _> = url::form_urlencoded::parse(body.as_bytes()).into_owned().collect();
    let (answer, takes) = {
        let mut knows = state.lock().unwrap();
        let token = form.get("token").cloned().unwrap_or_default();
        knows.introspected.push(form);
        if headers.get("authorization").is_none_or(|value| value != basic()) {
            knows.strangers.push(headers);
        }
        let answer = match (knows.faults.get(&token), knows.tokens.get(&token)) {
            (Some(fault), _) => fault.clone().into_response(),
            (None, Some(claims)) => Json(claims.clone()).into_response(),
            (None, None) => Json(json!({"active": false})).into_response(),
        };
        (answer, knows.takes)
    };
    tokio::time::sleep(takes).await;
    answer
}

/// RFC 6749, 2.3.1, by hand: `nas%3Acron:secret+%25hunter2`.
fn basic() -> &'static str {
    "Basic bmFzJTNBY3JvbjpzZWNyZXQrJTI1aHVudGVyMg=="
}

impl IntoResponse for Fault {
    fn into_response(self) -> Response {
        match self {
            Self::Says(status, body) => (StatusCode::from_u16(status).unwrap(), body).into_response(),
            Self::Redirects(to) => (StatusCode::FOUND, [("location", to)]).into_response(),
        }
    }
}
