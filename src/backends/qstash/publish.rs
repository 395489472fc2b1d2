//! Converts a wake-up to a QStash message: destination, time and headers.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::ScheduleId;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::QstashOptions;
use crate::backends::{Unwanted, WakeBody, WakeUp};

/// Maximum time from the call of the relay to the instant: one second, plus the rounding to whole seconds.
pub(super) const LEAD: Duration = Duration::from_secs(2);

/// Time that QStash waits for a response. It exceeds the maximum of the relay and of an agent's fire endpoint.
const TIMEOUT: &str = "50s";

/// Maximum retries of a direct call. They are fewer, because the service does not deduplicate direct calls.
const DIRECT_RETRIES: u8 = 2;

/// Time after which a placeholder that was not cancelled is delivered.
const PLACEHOLDER_AFTER: Duration = Duration::from_hours(1);

/// The kind of a message.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    /// A call to the relay.
    WakeUp,
    /// A call to the agent, in direct mode.
    Direct,
}

/// A message to publish.
pub(super) struct Message {
    pub(super) destination: String,
    pub(super) body: String,
    not_before: i64,
    deduplication_id: String,
    retries: u8,
    authorization: Option<SecretString>,
}

/// Returns the message for a wake-up.
pub(super) fn message(wake_up: &WakeUp, options: &QstashOptions) -> Message {
    let name = |kind| deduplication_id(wake_up.schedule_id, wake_up.generation, kind);
    match &wake_up.direct {
        None => Message {
            destination: options.relay_url.clone(),
            body: serde_json::to_string(&WakeBody::from(wake_up)).expect("four strings are always JSON"),
            not_before: relay_second(wake_up.due_at),
            deduplication_id: name(Kind::WakeUp),
            retries: options.retries,
            authorization: None,
        },
        Some(direct) => Message {
            destination: direct.url.clone(),
            body: direct.body.clone(),
            not_before: direct_second(wake_up.due_at),
            deduplication_id: name(Kind::Direct),
            retries: options.retries.min(DIRECT_RETRIES),
            authorization: Some(direct.authorization.clone()),
        },
    }
}

/// Returns a message with the deduplication id of a wake-up whose message id is unknown. QStash answers with the id of
/// the wake-up's message if it has one. Otherwise it takes the placeholder, which the caller cancels in its place; the
/// relay would reject it.
pub(super) fn placeholder(
    wake_up: &Unwanted,
    kind: Kind,
    options: &QstashOptions,
    now: DateTime<Utc>,
) -> Message {
    Message {
        destination: options.relay_url.clone(),
        body: "{}".to_owned(),
        not_before: (now + PLACEHOLDER_AFTER.min(options.furthest)).timestamp(),
        deduplication_id: deduplication_id(wake_up.schedule_id, wake_up.generation, kind),
        retries: 0,
        authorization: None,
    }
}

fn deduplication_id(schedule_id: ScheduleId, generation: i32, kind: Kind) -> String {
    match kind {
        Kind::WakeUp => format!("{schedule_id}-{generation}"),
        Kind::Direct => format!("{schedule_id}-{generation}-direct"),
    }
}

/// Returns the whole second that is 1 to 2 s before the instant. The built-in loop's timer covers the rest.
fn relay_second(due_at: DateTime<Utc>) -> i64 {
    due_at.timestamp() - 1
}

/// Returns the first whole second that is not before the instant: no timer of the service delays a direct call.
fn direct_second(due_at: DateTime<Utc>) -> i64 {
    due_at.timestamp() + i64::from(due_at.timestamp_subsec_nanos() > 0)
}

impl Message {
    /// Returns the headers; `None` if a value is not allowed in a header.
    pub(super) fn headers(&self) -> Option<HeaderMap> {
        let text = |value: String| HeaderValue::try_from(value).ok();
        let mut headers = HeaderMap::new();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let mut set = |name, value| headers.insert(HeaderName::from_static(name), value);
        set("upstash-method", HeaderValue::from_static("POST"));
        set("upstash-not-before", self.not_before.into());
        set("upstash-deduplication-id", text(self.deduplication_id.clone())?);
        set("upstash-retries", u16::from(self.retries).into());
        set("upstash-timeout", HeaderValue::from_static(TIMEOUT));
        if let Some(authorization) = &self.authorization {
            let mut value = text(authorization.expose_secret().to_owned())?;
            value.set_sensitive(true);
            set("upstash-forward-authorization", value);
            // Otherwise, a reader of the account's log could fire the agent.
            set("upstash-redact-fields", HeaderValue::from_static("header[Authorization]"));
        }
        Some(headers)
    }
}

/// Returns the base URL of the API as text to append paths to; `None` if the URL is not suitable.
pub(super) fn base(url: &Url) -> Option<String> {
    let plain = url.query().is_none() && url.fragment().is_none() && matches!(url.scheme(), "http" | "https");
    plain.then(|| url.as_str().trim_end_matches('/').to_owned())
}

/// Returns the URL to publish to. It ends in the unescaped destination, including its query, as with the official
/// clients.
pub(super) fn url(base: &str, destination: &str) -> Option<Url> {
    Url::parse(&format!("{base}/v2/publish/{destination}")).ok()
}

/// Checks that [`url()`] leaves the relay URL unchanged: signatures name it byte for byte.
pub(super) fn check_relay_url(base: &str, relay_url: &str) -> Result<(), String> {
    let parsed = Url::parse(relay_url).map_err(|error| error.to_string())?;
    let sent = url(base, relay_url).ok_or("it cannot be part of a request to QStash")?;
    let sent = sent.as_str().strip_prefix(&format!("{base}/v2/publish/")).unwrap_or_default();
    if !matches!(parsed.scheme(), "http" | "https") || parsed.fragment().is_some() {
        Err("it is not http or https, or it has a fragment".to_owned())
    } else if sent != relay_url || parsed.as_str() != relay_url {
        Err(format!("set it to {parsed}"))
    } else {
        Ok(())
    }
}
