//! Shared fixtures: the client, and a destination that records its calls.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use nas_cron::backends::qstash::{AccountOptions, Qstash, QstashOptions};
use nas_cron::backends::{DirectCall, Unwanted, WakeUp};
use nas_cron::domain::qstash_region::QstashRegion;
use nas_cron_base::clock::{Clock, SystemClock};
use nas_cron_protocol::{CallbackUrl, FireAt, InstanceId, JobId, ScheduleId};
use nas_cron_testing::qstash_emulator::Emulator;
use serde_json::Value;
use tokio::net::TcpListener;
use tokio::sync::mpsc;

/// Timeout of waits, generous for slow machines.
pub const PATIENCE: Duration = Duration::from_mins(2);

/// Returns the wall-clock time.
pub fn now() -> DateTime<Utc> {
    DateTime::<Utc>::from(std::time::UNIX_EPOCH + std::time::UNIX_EPOCH.elapsed().expect("after 1970"))
}

/// Returns client options for the emulator's account, with a timeout that is never exceeded by accident.
pub fn options(emulator: &Emulator, relay_url: &str) -> QstashOptions {
    QstashOptions {
        accounts: vec![account(emulator)],
        relay_url: relay_url.to_owned(),
        retries: 3,
        furthest: Duration::from_hours(7 * 24),
        in_flight: 8,
        timeout: PATIENCE,
    }
}

/// Returns the options of the emulator's account, in its region.
pub fn account(emulator: &Emulator) -> AccountOptions {
    let settings = emulator.settings();
    AccountOptions {
        region: settings.region.and_then(QstashRegion::of_header),
        url: emulator.url().parse().unwrap(),
        token: settings.token.clone().into(),
        current_signing_key: settings.current_key.clone().into(),
        next_signing_key: Some(settings.next_key.clone().into()),
    }
}

/// Returns a client with these options.
pub fn client(options: QstashOptions) -> Qstash {
    let clock: Arc<dyn Clock> = Arc::new(SystemClock);
    Qstash::new(options, &clock).unwrap()
}

/// Returns a new wake-up for a one-shot that is due `millis` from now.
pub fn wake_up(millis: i64) -> WakeUp {
    let due_at = now() + TimeDelta::milliseconds(millis);
    WakeUp {
        callback_url: CallbackUrl::parse("https://agent.example").unwrap(),
        instance_id: InstanceId::new("inst-1").unwrap(),
        job_id: JobId::new("job-1").unwrap(),
        schedule_id: ScheduleId::fresh(),
        generation: 1,
        fire_at: FireAt::parse(&due_at.to_rfc3339()).unwrap(),
        due_at,
        auth: None,
        direct: None,
    }
}

/// Returns a new wake-up as a direct call to this agent.
pub fn direct(millis: i64, url: String) -> WakeUp {
    let call = DirectCall {
        url,
        authorization: "Bearer fire-token".into(),
        body: r#"{"job_id":"job-1","fire_at":"now"}"#.to_owned(),
    };
    WakeUp { direct: Some(call), ..wake_up(millis) }
}

/// Returns the cancel of a wake-up.
pub fn unwanted(wake_up: &WakeUp, message_id: Option<String>) -> Unwanted {
    Unwanted {
        schedule_id: wake_up.schedule_id,
        generation: wake_up.generation,
        message_id,
        unconfirmed: false,
    }
}

/// A call that a destination received.
#[derive(Clone, Debug)]
pub struct Delivery {
    pub at: DateTime<Utc>,
    pub uri: Uri,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Delivery {
    /// Returns a header's text; empty if the header is missing.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).map_or("", |value| value.to_str().unwrap())
    }

    /// Returns the claims of the signature, unverified.
    pub fn claims(&self) -> Value {
        let payload = self.header("upstash-signature").split('.').nth(1).unwrap();
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(payload).unwrap()).unwrap()
    }
}

/// A response of a destination.
pub type Answer = (StatusCode, Vec<(&'static str, String)>);

struct Shared {
    answers: Mutex<VecDeque<Answer>>,
    got: mpsc::UnboundedSender<Delivery>,
}

/// A destination that records its calls. It answers with the queued responses, then with 200.
pub struct Sink {
    address: SocketAddr,
    shared: Arc<Shared>,
    got: tokio::sync::Mutex<mpsc::UnboundedReceiver<Delivery>>,
}

impl Sink {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (sender, got) = mpsc::unbounded_channel();
        let shared = Arc::new(Shared { answers: Mutex::default(), got: sender });
        let router = Router::new().fallback(take).with_state(Arc::clone(&shared));
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, shared, got: got.into() }
    }

    /// Returns the URL to publish to. Its query is part of the URL that signatures name.
    pub fn url(&self) -> String {
        format!("http://{}/api/agent-cron/relay?tenant=a&name=b%20c", self.address)
    }

    /// Queues a response.
    pub fn answer(&self, status: u16, headers: &[(&'static str, &str)]) {
        let headers = headers.iter().map(|(name, value)| (*name, (*value).to_owned())).collect();
        let answer = (StatusCode::from_u16(status).unwrap(), headers);
        self.shared.answers.lock().unwrap().push_back(answer);
    }

    /// Waits for the next call.
    pub async fn next(&self) -> Delivery {
        let mut got = self.got.lock().await;
        tokio::time::timeout(PATIENCE, got.recv())
            .await
            .expect("it is called")
            .expect("the destination is running")
    }

    /// Returns true if no further call was received.
    pub async fn is_empty(&self) -> bool {
        self.got.lock().await.try_recv().is_err()
    }
}

async fn take(State(shared): State<Arc<Shared>>, uri: Uri, headers: HeaderMap, body: Bytes) -> Response {
    let _ = shared.got.send(Delivery { at: now(), uri, headers, body });
    let answer = shared.answers.lock().unwrap().pop_front();
    let (status, headers) = answer.unwrap_or((StatusCode::OK, Vec::new()));
    let mut response = status.into_response();
    for (name, value) in headers {
        response.headers_mut().insert(name, value.parse().unwrap());
    }
    response
}
