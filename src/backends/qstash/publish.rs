//! A wake-up as a message of QStash: where it goes, when, and with which headers.

use std::time::Duration;

use chrono::{DateTime, Utc};
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue};
use secrecy::{ExposeSecret, SecretString};
use url::Url;

use super::QstashOptions;
use crate::backends::{WakeBody, WakeUp};

/// How much before its instant the relay is called, at most: a second and the rest of a whole one.
pub(super) const LEAD: Duration = Duration::from_secs(2);

/// How long QStash waits for an answer: longer than the relay or an agent's fire endpoint may take.
const TIMEOUT: &str = "50s";

/// Direct calls are made again less often: nobody of ours keeps two of them apart.
const DIRECT_RETRIES: u8 = 2;

/// What is published.
pub(super) struct Message {
    pub(super) destination: String,
    pub(super) body: String,
    not_before: i64,
    deduplication_id: String,
    retries: u8,
    authorization: Option<SecretString>,
}

/// What a wake-up is to QStash.
pub(super) fn message(wake_up: &WakeUp, options: &QstashOptions) -> Message {
    let name = format!("{}-{}", wake_up.schedule_id, wake_up.generation);
    match &wake_up.direct {
        None => Message {
            destination: options.relay_url.clone(),
            body: serde_json::to_string(&WakeBody::from(wake_up)).expect("four strings are always JSON"),
            not_before: relay_second(wake_up.due_at),
            deduplication_id: name,
            retries: options.retries,
            authorization: None,
        },
        Some(direct) => Message {
            destination: direct.url.clone(),
            body: direct.body.clone(),
            not_before: direct_second(wake_up.due_at),
            deduplication_id: format!("{name}-direct"),
            retries: options.retries.min(DIRECT_RETRIES),
            authorization: Some(direct.authorization.clone()),
        },
    }
}

/// The whole second that is 1 to 2 s before the instant: our own timer does the rest.
fn relay_second(due_at: DateTime<Utc>) -> i64 {
    due_at.timestamp() - 1
}

/// The first whole second that is not before the instant: nobody of ours could wait for the rest.
fn direct_second(due_at: DateTime<Utc>) -> i64 {
    due_at.timestamp() + i64::from(due_at.timestamp_subsec_nanos() > 0)
}

impl Message {
    /// Its headers; `None` if the authorization does not fit into one.
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
            // Or whoever may read the account's log could fire the agent.
            set("upstash-redact-fields", HeaderValue::from_static("header[Authorization]"));
        }
        Some(headers)
    }
}

/// The base of the API as text that paths are appended to.
pub(super) fn base(url: &Url) -> Option<String> {
    let plain = url.query().is_none() && url.fragment().is_none() && matches!(url.scheme(), "http" | "https");
    plain.then(|| url.as_str().trim_end_matches('/').to_owned())
}

/// Where to publish to. The destination is the rest of the path as it is, its query included: that is what the
/// official clients send.
pub(super) fn url(base: &str, destination: &str) -> Option<Url> {
    Url::parse(&format!("{base}/v2/publish/{destination}")).ok()
}

/// Whether this URL comes out of [`url()`] unchanged: signatures name it byte for byte.
pub(super) fn check_relay_url(base: &str, relay_url: &str) -> Result<(), String> {
    let parsed = Url::parse(relay_url).map_err(|error| error.to_string())?;
    let sent = url(base, relay_url).ok_or("it cannot be sent")?;
    let sent = sent.as_str().strip_prefix(&format!("{base}/v2/publish/")).unwrap_or_default();
    if !matches!(parsed.scheme(), "http" | "https") || parsed.fragment().is_some() {
        Err("it is neither http nor https, or has a fragment".to_owned())
    } else if sent != relay_url || parsed.as_str() != relay_url {
        Err(format!("write {parsed}"))
    } else {
        Ok(())
    }
}
