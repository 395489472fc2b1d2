//! The fire endpoint of a demo agent.

use std::collections::VecDeque;
use std::sync::Arc;

use axum::Router;
use axum::body::to_bytes;
use axum::extract::{Request, State};
use axum::http::header::AUTHORIZATION;
use axum::http::request::Parts;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Json, Response};
use axum::routing::post;
use chrono::{DateTime, Utc};
use nas_cron_base::clock::Clock;
use nas_cron_protocol::fire::FireBody;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::Notify;
use tokio::sync::mpsc::UnboundedSender;

use super::super::event::{Event, EventKind, Verdict};
use super::super::fire_verifier::{FireClaims, FireVerifier, Unverified};

/// Number of remembered one-shots. They distinguish a repeated fire from an unknown one.
const REMEMBERED: usize = 16;
const MAX_BODY: usize = 64 * 1024;

/// The fires that an agent expects, and its checks of those that arrive.
#[derive(Debug)]
pub(super) struct Endpoint {
    instance_id: String,
    job_id: String,
    verifier: FireVerifier,
    clock: Arc<dyn Clock>,
    events: UnboundedSender<Event>,
    /// Oldest first.
    expected: Mutex<VecDeque<Expected>>,
    /// Notified when the newest one has arrived.
    newest_fired: Notify,
}

#[derive(Debug)]
struct Expected {
    due: DateTime<Utc>,
    fire_at: String,
    fired: bool,
}

/// Returns the endpoint, at the path that real agents use.
pub(super) fn router(endpoint: Arc<Endpoint>) -> Router {
    Router::new().route("/api/cron/fire", post(fire)).with_state(endpoint)
}

async fn fire(State(endpoint): State<Arc<Endpoint>>, request: Request) -> Response {
    // Taken before the body is read and the token is verified.
    let arrived = endpoint.clock.now();
    let (Parts { headers, .. }, body) = request.into_parts();
    let claims = match endpoint.verify(&headers).await {
        Ok(claims) => claims,
        Err(why) => return endpoint.refuse(&why),
    };
    let body = to_bytes(body, MAX_BODY).await.unwrap_or_default();
    match nas_cron_protocol::json::from_slice::<FireBody<'_>>(&body).ok() {
        Some(fire) => endpoint.accept(&claims, &fire, arrived),
        None => refusal(StatusCode::BAD_REQUEST, "job_id or fire_at is missing"),
    }
}

fn refusal(status: StatusCode, detail: &str) -> Response {
    (status, Json(json!({ "detail": detail }))).into_response()
}

impl Endpoint {
    pub(super) fn new(
        instance_id: String,
        job_id: String,
        verifier: FireVerifier,
        clock: Arc<dyn Clock>,
        events: UnboundedSender<Event>,
    ) -> Self {
        let (expected, newest_fired) = (Mutex::default(), Notify::new());
        Self { instance_id, job_id, verifier, clock, events, expected, newest_fired }
    }

    /// Adds an expected fire.
    pub(super) fn expect(&self, due: DateTime<Utc>, fire_at: String) {
        let mut expected = self.expected.lock();
        if expected.len() == REMEMBERED {
            expected.pop_front();
        }
        expected.push_back(Expected { due, fire_at, fired: false });
    }

    /// Waits for the newest expected fire.
    pub(super) async fn fired(&self) {
        while self.is_waiting() {
            self.newest_fired.notified().await;
        }
    }

    /// True if the newest expected fire has not arrived.
    pub(super) fn is_waiting(&self) -> bool {
        let expected = self.expected.lock();
        expected.back().is_some_and(|newest| !newest.fired)
    }

    async fn verify(&self, headers: &HeaderMap) -> Result<FireClaims, Unverified> {
        let bearer = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
        let token = bearer.and_then(|value| value.strip_prefix("Bearer ")).ok_or(Unverified::Missing)?;
        self.verifier.verify(token, Some(&format!("agent:{}", self.instance_id))).await
    }

    fn accept(&self, claims: &FireClaims, fire: &FireBody<'_>, arrived: DateTime<Utc>) -> Response {
        if let Err(why) = claims.check_fire(&fire.job_id, &fire.fire_at, fire.auth.as_deref()) {
            return self.refuse(&why);
        }
        if fire.job_id != self.job_id {
            return Json(json!({ "status": "gone" })).into_response();
        }
        self.report(self.judge(&fire.fire_at, arrived));
        self.newest_fired.notify_one();
        (StatusCode::ACCEPTED, Json(json!({ "status": "accepted" }))).into_response()
    }

    fn judge(&self, fire_at: &str, arrived: DateTime<Utc>) -> EventKind {
        let mut expected = self.expected.lock();
        let Some(found) = expected.iter_mut().find(|one| one.fire_at == fire_at) else {
            let newest = expected.back().map_or("nothing", |one| one.fire_at.as_str());
            return EventKind::Unverified {
                why: format!("fire_at is {fire_at}, but {newest} was provisioned"),
            };
        };
        let lateness = arrived - found.due;
        let again = std::mem::replace(&mut found.fired, true);
        let verdict = match (again, lateness < chrono::TimeDelta::zero()) {
            (_, true) => Verdict::Early,
            (true, false) => Verdict::Again,
            (false, false) => Verdict::OnTime,
        };
        EventKind::Fired { fire_at: fire_at.to_owned(), lateness, verdict }
    }

    fn refuse(&self, why: &Unverified) -> Response {
        self.report(EventKind::Unverified { why: why.to_string() });
        refusal(StatusCode::UNAUTHORIZED, "invalid token")
    }

    fn report(&self, kind: EventKind) {
        // The receiver is gone if the run is ending.
        let _ = self.events.send(Event { agent: self.instance_id.clone(), at: self.clock.now(), kind });
    }
}
