//! A receiver of events that records every delivery and responds as the test specifies.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use futures::future::BoxFuture;
use nas_cron_testing::time::PATIENCE;
use serde_json::Value;
use tokio::sync::Notify;

/// A delivery that has arrived.
#[derive(Clone, Debug)]
pub struct Call {
    /// All headers.
    pub headers: HeaderMap,
    /// The body as JSON.
    pub event: Value,
}

impl Call {
    /// `webhook-id`.
    pub fn id(&self) -> &str {
        self.headers["webhook-id"].to_str().unwrap()
    }

    /// `mark` of the first fact.
    pub fn mark(&self) -> &str {
        self.marks().next().unwrap_or_default()
    }

    /// `mark` of each fact.
    pub fn marks(&self) -> impl Iterator<Item = &str> {
        let items = self.event["data"]["items"].as_array().into_iter().flatten();
        items.map(|item| item["mark"].as_str().unwrap_or_default())
    }
}

type Behaviour = dyn Fn(usize) -> BoxFuture<'static, Response> + Send + Sync;

struct Shared {
    calls: Mutex<Vec<Call>>,
    changed: Notify,
    behaviour: Mutex<Arc<Behaviour>>,
}

/// A running receiver.
#[derive(Clone)]
pub struct Receiver {
    shared: Arc<Shared>,
    /// Its URL.
    pub url: String,
}

impl Receiver {
    /// Starts a receiver that accepts everything.
    pub async fn start() -> Self {
        Self::start_at("127.0.0.1:0".parse().unwrap()).await
    }

    /// Starts a receiver that accepts everything, at this address.
    pub async fn start_at(address: SocketAddr) -> Self {
        let shared = Arc::new(Shared {
            calls: Mutex::default(),
            changed: Notify::new(),
            behaviour: Mutex::new(Arc::new(|_| Box::pin(async { StatusCode::NO_CONTENT.into_response() }))),
        });
        let listener = tokio::net::TcpListener::bind(address).await.unwrap();
        let url = format!("http://{}/hook", listener.local_addr().unwrap());
        let router = Router::new().fallback(receive).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self { shared, url }
    }

    /// Changes the responses. `behaviour` gets the number of earlier deliveries.
    pub fn answer<R, F>(&self, behaviour: R)
    where
        R: Fn(usize) -> F + Send + Sync + 'static,
        F: Future<Output = Response> + Send + 'static,
    {
        *self.shared.behaviour.lock().unwrap() = Arc::new(move |before| Box::pin(behaviour(before)));
    }

    /// Responds with this status to everything.
    pub fn answer_status(&self, status: u16) {
        let status = StatusCode::from_u16(status).unwrap();
        self.answer(move |_| async move { status.into_response() });
    }

    /// Returns all deliveries so far.
    pub fn calls(&self) -> Vec<Call> {
        self.shared.calls.lock().unwrap().clone()
    }

    /// Waits until `count` deliveries have arrived, and returns all of them.
    pub async fn wait_for(&self, count: usize) -> Vec<Call> {
        self.wait_until(&format!("{count} deliveries"), |calls| calls.len() >= count).await
    }

    /// Waits for a delivery of this type, and returns it.
    pub async fn wait_for_type(&self, kind: &str) -> Call {
        let is = |call: &Call| call.event["type"] == kind;
        let calls = self.wait_until(kind, |calls| calls.iter().any(is)).await;
        calls.into_iter().find(is).unwrap()
    }

    /// Waits until the deliveries satisfy `done`, and returns all of them.
    pub async fn wait_until(&self, what: &str, done: impl Fn(&[Call]) -> bool) -> Vec<Call> {
        let waiting = async {
            loop {
                let changed = self.shared.changed.notified();
                let calls = self.calls();
                if done(&calls) {
                    return calls;
                }
                changed.await;
            }
        };
        tokio::time::timeout(PATIENCE, waiting)
            .await
            .unwrap_or_else(|_| panic!("no {what}, only {:?}", self.calls()))
    }
}

async fn receive(State(shared): State<Arc<Shared>>, headers: HeaderMap, body: Bytes) -> Response {
    let event = serde_json::from_slice(&body).unwrap_or_default();
    let before = {
        let mut calls = shared.calls.lock().unwrap();
        calls.push(Call { headers, event });
        calls.len() - 1
    };
    shared.changed.notify_waiters();
    let behaviour = Arc::clone(&shared.behaviour.lock().unwrap());
    behaviour(before).await
}

/// A response whose body never ends.
pub fn endless(status: u16) -> Response {
    let chunks = futures::stream::repeat_with(|| Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 1024])));
    (StatusCode::from_u16(status).unwrap(), Body::from_stream(chunks)).into_response()
}
