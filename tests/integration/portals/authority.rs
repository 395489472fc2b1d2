//! A portal's lookup of instances and introspection of opaque tokens.

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

/// The token of the lookup.
pub const LOOKUP_TOKEN: &str = "lookup-token-hunter2";
/// The client ID and secret of introspection. Both need encoding.
pub const CLIENT: (&str, &str) = ("nas:cron", "secret %hunter2");

/// A running server with both endpoints.
pub struct Authority {
    state: Arc<Mutex<Knows>>,
    address: SocketAddr,
    server: Mutex<JoinHandle<()>>,
}

/// A faulty response.
#[derive(Clone, Debug)]
pub enum Fault {
    /// This status and body.
    Says(u16, String),
    /// A redirect to this URL.
    Redirects(String),
}

/// The state of the authority, and the requests that it received.
#[derive(Default)]
pub struct Knows {
    /// The value of `instance`, by `agent:<id>` and by `<sid>@<org>`.
    pub instances: HashMap<String, Value>,
    /// Introspection responses of active tokens.
    pub tokens: HashMap<String, Value>,
    /// Faulty responses, by the same names or by token.
    pub faults: HashMap<String, Fault>,
    /// True to respond to unknown instances with `404 unknown_instance`.
    pub no_by_404: bool,
    /// Delay of every response.
    pub takes: Duration,
    /// Received lookup queries.
    pub lookups: Vec<String>,
    /// Received introspection forms.
    pub introspected: Vec<HashMap<String, String>>,
    /// Headers of requests without the right credentials.
    pub unauthorized: Vec<HeaderMap>,
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

    /// Locks the state.
    pub fn knows(&self) -> MutexGuard<'_, Knows> {
        self.state.lock().unwrap()
    }

    /// Adds an instance, by its client and by its session.
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

    /// Returns the number of lookups.
    pub fn lookups(&self) -> usize {
        self.knows().lookups.len()
    }

    /// Returns the number of introspections.
    pub fn introspected(&self) -> usize {
        self.knows().introspected.len()
    }

    /// Stops the server: connections are refused when this returns.
    pub async fn leave(&self) {
        let server = std::mem::replace(&mut *self.server.lock().unwrap(), tokio::spawn(async {}));
        server.abort();
        let _ = server.await;
    }

    /// Starts the server again at the same address.
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
            knows.unauthorized.push(headers);
        }
        let name = match (pairs.get("client"), pairs.get("sid"), pairs.get("org")) {
            (Some(client), None, _) => client.clone(),
            (None, Some(sid), Some(org)) => format!("{sid}@{org}"),
            _ => return StatusCode::BAD_REQUEST.into_response(),
        };
        let found = knows.instances.get(&name).cloned();
        // A portal finds an instance only in its own org.
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
            knows.unauthorized.push(headers);
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

/// The encoded credentials (RFC 6749, 2.3.1): `nas%3Acron:secret+%25hunter2`.
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
