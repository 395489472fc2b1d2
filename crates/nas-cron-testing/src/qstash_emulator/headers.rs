//! The headers of a publish call.

use std::time::Duration;

use axum::body::Bytes;
use axum::http::{HeaderMap, HeaderName, Method, StatusCode};
use chrono::{DateTime, TimeDelta, Utc};
use ring::digest;

use super::Settings;
use super::store::Message;

/// Default and maximum timeout of the destination.
const LONGEST_ANSWER: Duration = Duration::from_mins(15);
/// Default number of retries.
const RETRIES: u32 = 3;
/// Headers of features that are not emulated.
const NOT_EMULATED: [&str; 6] = [
    "upstash-cron",
    "upstash-callback",
    "upstash-failure-callback",
    "upstash-flow-control-key",
    "upstash-queue",
    "upstash-schedule-id",
];

type Refused = (StatusCode, String);

fn bad(text: impl Into<String>) -> Refused {
    (StatusCode::BAD_REQUEST, text.into())
}

/// Creates the message for these headers and this body.
pub fn message(
    destination: &str,
    headers: &HeaderMap,
    body: Bytes,
    settings: &Settings,
    now: DateTime<Utc>,
) -> Result<Message, Refused> {
    if let Some(name) = NOT_EMULATED.iter().find(|name| headers.contains_key(**name)) {
        return Err(bad(format!("{name} is not emulated")));
    }
    if !(destination.starts_with("http://") || destination.starts_with("https://"))
        || url::Url::parse(destination).is_err()
    {
        return Err(bad("invalid destination url: only absolute http and https URLs are emulated"));
    }
    if body.len() > settings.largest_message {
        return Err((StatusCode::PAYLOAD_TOO_LARGE, "the message is too large".to_owned()));
    }
    let not_before = not_before(headers, settings, now)?;
    let max_retries = max_retries(headers, settings)?;
    let retry_delay = text(headers, "upstash-retry-delay")?
        .map(|millis| millis.parse().map(Duration::from_millis))
        .transpose()
        .map_err(|_| bad("only a number of Upstash-Retry-Delay is emulated"))?;
    let timeout = match text(headers, "upstash-timeout")? {
        None => LONGEST_ANSWER,
        Some(timeout) => duration(timeout).ok_or_else(|| bad("invalid Upstash-Timeout"))?.min(LONGEST_ANSWER),
    };
    let method = Method::from_bytes(text(headers, "upstash-method")?.unwrap_or("POST").as_bytes())
        .map_err(|_| bad("invalid Upstash-Method"))?;
    let forwarded = forwarded(headers);
    let by_content = text(headers, "upstash-content-based-deduplication")?
        .is_some_and(|value| value.eq_ignore_ascii_case("true"))
        .then(|| content_id(destination, &forwarded, &body));
    let deduplication_id = text(headers, "upstash-deduplication-id")?.map(str::to_owned).or(by_content);
    let (redacted_headers, redacted_body) = redacted(headers)?;
    Ok(Message {
        id: format!("msg_{}{}", uuid::Uuid::new_v4().simple(), uuid::Uuid::new_v4().simple()),
        url: destination.to_owned(),
        method,
        headers: forwarded,
        not_before,
        created_at: now,
        max_retries,
        retry_delay,
        timeout,
        retried: 0,
        deduplication_id,
        redacted_headers,
        redacted_body,
        body,
        caller: "127.0.0.1".to_owned(),
    })
}

fn text<'a>(headers: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, Refused> {
    match headers.get(name).map(|value| value.to_str()) {
        None => Ok(None),
        Some(Ok(value)) => Ok(Some(value.trim())),
        Some(Err(_)) => Err(bad(format!("{name} is not text"))),
    }
}

fn not_before(
    headers: &HeaderMap,
    settings: &Settings,
    now: DateTime<Utc>,
) -> Result<DateTime<Utc>, Refused> {
    let not_before = match (text(headers, "upstash-not-before")?, text(headers, "upstash-delay")?) {
        (Some(seconds), _) => seconds
            .parse()
            .ok()
            .and_then(|seconds| DateTime::from_timestamp(seconds, 0))
            .ok_or_else(|| bad("invalid Upstash-Not-Before"))?,
        (None, Some(delay)) => duration(delay)
            .and_then(|delay| now.checked_add_signed(TimeDelta::from_std(delay).ok()?))
            .ok_or_else(|| bad("invalid Upstash-Delay"))?,
        (None, None) => now,
    };
    if (not_before - now).to_std().unwrap_or_default() > settings.furthest {
        return Err(bad("the delay is longer than the plan allows"));
    }
    Ok(not_before)
}

fn max_retries(headers: &HeaderMap, settings: &Settings) -> Result<u32, Refused> {
    match text(headers, "upstash-retries")? {
        None => Ok(RETRIES.min(settings.most_retries)),
        Some(number) => number
            .parse()
            .ok()
            .filter(|number| *number <= settings.most_retries)
            .ok_or_else(|| bad("invalid Upstash-Retries, or more than the plan allows")),
    }
}

/// Returns the names of the redacted headers (`None` for all), and true if the body is redacted.
fn redacted(headers: &HeaderMap) -> Result<(Option<Vec<String>>, bool), Refused> {
    let redacted = text(headers, "upstash-redact-fields")?.unwrap_or_default().to_ascii_lowercase();
    let fields: Vec<&str> = redacted.split(',').map(str::trim).collect();
    let all_headers = fields.iter().any(|field| matches!(*field, "header" | "headers"));
    let named = fields.iter().filter_map(|field| {
        let name = field.strip_suffix(']')?.strip_prefix("header")?;
        Some(name.trim_start_matches('s').strip_prefix('[')?.to_owned())
    });
    Ok(((!all_headers).then(|| named.collect()), fields.contains(&"body")))
}

/// Returns the headers for the destination: the content type and the forwarded headers.
fn forwarded(headers: &HeaderMap) -> HeaderMap {
    let marked = headers.iter().filter_map(|(name, value)| {
        let name = match name.as_str() {
            "content-type" => name.clone(),
            other => HeaderName::try_from(other.strip_prefix("upstash-forward-")?).ok()?,
        };
        Some((name, value.clone()))
    });
    let mut forwarded = HeaderMap::new();
    forwarded.extend(marked);
    forwarded
}

fn content_id(destination: &str, forwarded: &HeaderMap, body: &[u8]) -> String {
    let mut content = digest::Context::new(&digest::SHA256);
    content.update(destination.as_bytes());
    let mut lines: Vec<String> =
        forwarded.iter().map(|(name, value)| format!("\n{name}:{value:?}")).collect();
    lines.sort();
    content.update(lines.concat().as_bytes());
    content.update(body);
    hex::encode(content.finish())
}

/// Parses a duration such as `10s`, `1d10h30m`, `6m5s` or `250ms`.
pub fn duration(text: &str) -> Option<Duration> {
    let mut total = Duration::ZERO;
    let mut rest = text.trim();
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit())?;
        let number: u32 = rest[..digits].parse().ok()?;
        let after = &rest[digits..];
        let unit = after.find(|letter: char| letter.is_ascii_digit()).unwrap_or(after.len());
        let one = match &after[..unit] {
            "ns" => Duration::from_nanos(1),
            "us" | "µs" => Duration::from_micros(1),
            "ms" => Duration::from_millis(1),
            "s" => Duration::from_secs(1),
            "m" => Duration::from_mins(1),
            "h" => Duration::from_hours(1),
            "d" => Duration::from_hours(24),
            _ => return None,
        };
        total = total.checked_add(one.checked_mul(number)?)?;
        rest = &after[unit..];
    }
    Some(total)
}
