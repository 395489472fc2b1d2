//! The fire endpoint of agents: it records every fire and responds as the test specifies.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use serde_json::Value;
use tokio::sync::Notify;

use crate::time::{PATIENCE, now};

/// A fire that has arrived.
#[derive(Clone, Debug)]
pub struct Fire {
    /// The agent that was called: the first segment of the path.
    pub agent: String,
    /// The whole path.
    pub path: String,
    /// `job_id` of its body.
    pub job_id: String,
    /// `fire_at` of its body, as the agent wrote it.
    pub fire_at: String,
    /// The bearer token.
    pub token: String,
    /// All headers.
    pub headers: HeaderMap,
    /// The body as JSON.
    pub body: Value,
    /// Arrival time, by the wall clock.
    pub arrived: DateTime<Utc>,
    /// Time of the response; `None` if it has not been sent.
    pub answered: Option<DateTime<Utc>>,
    /// Time of the response, or of the end of the connection without one.
    pub ended: Option<DateTime<Utc>>,
}

/// The response to a fire.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The status.
    pub status: u16,
    /// The body.
    pub body: &'static str,
    /// `Retry-After`.
    pub retry_after: Option<&'static str>,
    /// `Location`.
    pub location: Option<String>,
    /// The delay before the reply.
    pub after: Duration,
    /// True to break the connection instead of responding.
    pub breaks: bool,
}

impl Reply {
    /// An immediate reply with this status.
    pub fn status(status: u16) -> Self {
        let body = r#"{"status":"accepted"}"#;
        Self { status, body, retry_after: None, location: None, after: Duration::ZERO, breaks: false }
    }

    /// 202, the reply of a real agent.
    pub fn accepted() -> Self {
        Self::status(202)
    }

    /// 200 `gone`.
    pub fn gone() -> Self {
        Self { body: r#"{"status":"gone"}"#, ..Self::status(200) }
    }

    /// No reply: the connection is closed after the fire was read.
    pub fn broken() -> Self {
        Self { breaks: true, ..Self::status(202) }
    }

    /// 503 with a `Retry-After`.
    pub fn busy(retry_after: &'static str) -> Self {
        Self { retry_after: Some(retry_after), ..Self::status(503) }
    }

    /// The same reply after a delay.
    #[must_use]
    pub fn after(self, after: Duration) -> Self {
        Self { after, ..self }
    }
}

type Behaviour = dyn Fn(&Fire, usize) -> Reply + Send + Sync;

struct Shared {
    fires: Mutex<Vec<Fire>>,
    strays: Mutex<Vec<String>>,
    changed: Notify,
    behaviour: Mutex<Box<Behaviour>>,
}

/// A running endpoint for any number of agents. The first segment of the callback's path is the agent.
#[derive(Clone)]
pub struct Agents {
    shared: Arc<Shared>,
    address: SocketAddr,
}

impl Agents {
    /// Starts an endpoint that accepts everything.
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    /// Starts an endpoint that accepts everything, at this address.
    pub async fn start_at(address: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            fires: Mutex::new(Vec::new()),
            strays: Mutex::new(Vec::new()),
            changed: Notify::new(),
            behaviour: Mutex::new(Box::new(|_, _| Reply::accepted())),
        });
        let router = Router::new()
            .route("/{agent}/api/cron/fire", axum::routing::post(fire))
            .route("/{agent}/{prefix}/api/cron/fire", axum::routing::post(fire))
            .fallback(stray)
            .method_not_allowed_fallback(stray)
            .with_state(Arc::clone(&shared));
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { shared, address }
    }

    /// Returns the callback URL of an agent.
    pub fn callback(&self, agent: &str) -> String {
        format!("http://{}/{agent}", self.address)
    }

    /// Responds to fires with `behaviour` from now on. Its arguments are the fire and the number of the job's earlier fires.
    pub fn answer(&self, behaviour: impl Fn(&Fire, usize) -> Reply + Send + Sync + 'static) {
        *self.shared.behaviour.lock().unwrap() = Box::new(behaviour);
    }

    /// Returns all fires that have arrived.
    pub fn fires(&self) -> Vec<Fire> {
        self.shared.fires.lock().unwrap().clone()
    }

    /// Returns the unexpected requests that have arrived, as `METHOD path`.
    pub fn strays(&self) -> Vec<String> {
        self.shared.strays.lock().unwrap().clone()
    }

    /// Returns the fires of a job that have arrived.
    pub fn fires_of(&self, job: &str) -> Vec<Fire> {
        self.fires().into_iter().filter(|fire| fire.job_id == job).collect()
    }

    /// Waits until `enough` accepts the fires that have arrived, and returns them.
    pub async fn wait_until(&self, what: &str, enough: impl Fn(&[Fire]) -> bool) -> Vec<Fire> {
        let waiting = async {
            loop {
                let changed = self.shared.changed.notified();
                let fires = self.fires();
                if enough(&fires) {
                    return fires;
                }
                changed.await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, waiting).await;
        waited
            .unwrap_or_else(|_| panic!("not within {PATIENCE:?}: {what}; fires so far: {:#?}", self.fires()))
    }

    /// Waits for the `count`th fire of a job and returns it.
    pub async fn wait_for(&self, job: &str, count: usize) -> Fire {
        let of = |fires: &[Fire]| fires.iter().filter(|fire| fire.job_id == job).nth(count - 1).cloned();
        let fires = self.wait_until(&format!("fire {count} of {job}"), |fires| of(fires).is_some()).await;
        of(&fires).unwrap()
    }
}

async fn fire(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let arrived = now();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    let text = |name: &str| body[name].as_str().unwrap_or_default().to_owned();
    let bearer = headers.get("authorization").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let path = uri.path().to_owned();
    let fire = Fire {
        agent: path.split('/').nth(1).unwrap_or_default().to_owned(),
        path,
        job_id: text("job_id"),
        fire_at: text("fire_at"),
        token: bearer.trim_start_matches("Bearer ").to_owned(),
        headers: headers.clone(),
        body: body.clone(),
        arrived,
        answered: None,
        ended: None,
    };
    let (index, before) = {
        let mut fires = shared.fires.lock().unwrap();
        let before = fires.iter().filter(|one| one.job_id == fire.job_id).count();
        fires.push(fire.clone());
        (fires.len() - 1, before)
    };
    shared.changed.notify_waiters();
    let ending = Ending { shared: Arc::clone(&shared), index };
    let reply = (shared.behaviour.lock().unwrap())(&fire, before);
    if !reply.after.is_zero() {
        tokio::time::sleep(reply.after).await;
    }
    shared.fires.lock().unwrap()[index].answered = Some(now());
    drop(ending);
    if reply.breaks {
        // Ends the connection's task, without the noise of a panic.
        std::panic::resume_unwind(Box::new("the connection breaks"));
    }
    let mut response = (StatusCode::from_u16(reply.status).unwrap(), reply.body).into_response();
    if let Some(value) = reply.retry_after {
        response.headers_mut().insert("retry-after", value.parse().unwrap());
    }
    if let Some(location) = reply.location {
        response.headers_mut().insert("location", location.parse().unwrap());
    }
    response
}

/// Notes the end of a request when it is dropped: the response, or the end of the connection.
struct Ending {
    shared: Arc<Shared>,
    index: usize,
}

impl Drop for Ending {
    fn drop(&mut self) {
        self.shared.fires.lock().unwrap()[self.index].ended = Some(now());
        self.shared.changed.notify_waiters();
    }
}

async fn stray(State(shared): State<Arc<Shared>>, method: Method, uri: Uri) -> StatusCode {
    shared.strays.lock().unwrap().push(format!("{method} {uri}"));
    StatusCode::NOT_FOUND
}
