//! One attempt: the signed POST of an event to a webhook.
//!
//! It uses the same [`Connections`] as fires: permitted addresses only, no redirects, no proxies.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use chrono::{DateTime, SecondsFormat, Utc};
use nas_cron_base::clock::Clock;
use nas_cron_base::http_client::retry_after;
use reqwest::header::CONTENT_TYPE;
use serde::Serialize;
use serde_json::Value;
use url::Url;
use uuid::Uuid;

use super::secret::{Secret, signatures};
use crate::domain::event::Event;
use crate::domain::webhook::Sent;
use crate::fire::connections::{Connections, cause};
use crate::fire::outcome::one_line;

/// Timeout of one attempt: connect, request and response.
pub const TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum number of bytes that are read of the body of a response whose status is not 2xx.
const READ: usize = 512;
/// Timeout for reading them: the status has decided.
const READ_WITHIN: Duration = Duration::from_secs(2);

/// POSTs events. Share one per process.
#[derive(Clone, Debug)]
pub struct Sender {
    connections: Connections,
    clock: Arc<dyn Clock>,
}

/// The body of a delivery.
#[derive(Serialize)]
struct Body<'a> {
    id: Uuid,
    #[serde(rename = "type")]
    kind: &'a str,
    timestamp: String,
    org_id: Option<&'a str>,
    data: &'a Value,
}

/// Returns the body of an event: the same bytes for every attempt.
fn body(event: &Event) -> Bytes {
    let body = Body {
        id: event.event_id,
        kind: &event.kind,
        timestamp: event.occurred_at.to_rfc3339_opts(SecondsFormat::Micros, true),
        org_id: event.org_id.as_deref(),
        data: &event.data,
    };
    Bytes::from(serde_json::to_vec(&body).expect("it is JSON"))
}

/// The end of a request: status, `Retry-After` and error.
type Ended = (Option<u16>, Option<Duration>, Option<String>);

impl Sender {
    /// Returns a sender. `clock` is the database's clock, for timestamps.
    pub fn new(connections: Connections, clock: Arc<dyn Clock>) -> Self {
        Self { connections, clock }
    }

    /// Returns the time by the clock of the timestamps.
    pub fn now(&self) -> DateTime<Utc> {
        self.clock.now()
    }

    /// Checks the address of a webhook as every attempt does, without a look-up of its host. The error is the problem.
    pub fn check(&self, url: &Url) -> Result<(), String> {
        self.connections.check(url).map_err(|error| error.to_string())
    }

    /// Makes one attempt. It ends after [`TIMEOUT`] at the latest.
    pub async fn send(&self, url: &str, event: &Event, secrets: &[Secret]) -> Sent {
        let (started_at, began) = (self.clock.now(), Instant::now());
        let ended = tokio::time::timeout(TIMEOUT, self.post(url, event, secrets, started_at));
        let (status, retry_after, error) = ended
            .await
            .unwrap_or_else(|_| (None, None, Some(format!("no response within {} s", TIMEOUT.as_secs()))));
        Sent { started_at, took: began.elapsed(), status, error, retry_after }
    }

    async fn post(&self, url: &str, event: &Event, secrets: &[Secret], now: DateTime<Utc>) -> Ended {
        let url = match Url::parse(url).map_err(|error| error.to_string()) {
            Ok(url) => url,
            Err(error) => return (None, None, Some(error)),
        };
        if let Err(error) = self.check(&url) {
            return (None, None, Some(error));
        }
        let body = body(event);
        let timestamp = now.timestamp();
        let request = self
            .connections
            .client(&url)
            .post(url)
            .header(CONTENT_TYPE, "application/json")
            .header("webhook-id", event.event_id.to_string())
            .header("webhook-timestamp", timestamp)
            .header("webhook-signature", signatures(secrets, event.event_id, timestamp, &body))
            .body(body);
        match request.send().await {
            Ok(response) => self.read(response).await,
            Err(error) => (None, None, Some(one_line(&cause(&error)))),
        }
    }

    async fn read(&self, mut response: reqwest::Response) -> Ended {
        let status = response.status();
        if status.is_success() {
            return (Some(status.as_u16()), None, None);
        }
        let retry_after = retry_after(response.headers(), self.clock.now());
        let mut text = Vec::new();
        // Dropping the response early closes the connection, so that an endless body ends.
        let _ = tokio::time::timeout(READ_WITHIN, async {
            while text.len() < READ
                && let Ok(Some(chunk)) = response.chunk().await
            {
                text.extend_from_slice(&chunk[..chunk.len().min(READ - text.len())]);
            }
        })
        .await;
        let text = one_line(&String::from_utf8_lossy(&text));
        let error = match text.as_str() {
            "" => format!("status {}", status.as_u16()),
            text => format!("status {}: {text}", status.as_u16()),
        };
        (Some(status.as_u16()), retry_after, Some(error))
    }
}
