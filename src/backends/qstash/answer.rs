//! What QStash answers, and which of our errors that is.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_base::http_client;
use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;

use crate::backends::BackendError;

/// How much is read of an answer, in bytes.
pub(super) const MAX_ANSWER: usize = 64 * 1024;
/// How much of its words is kept in an error, in characters.
const MAX_WORDS: usize = 200;
/// The longest that "come again" is believed: a daily limit ends within a day.
const LONGEST_PAUSE: Duration = Duration::from_hours(24);
/// The words of a refusal of something that is not there (any more).
const NOT_FOUND: &str = "404";

/// An answer, whole.
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    /// Sends and reads, up to `longest` bytes of body. The client's deadline is over all of it.
    pub(super) async fn to(request: RequestBuilder, longest: usize) -> Result<Self, BackendError> {
        let mut response = request.send().await.map_err(broken)?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > longest {
                return Err(BackendError::Garbage(format!("more than {longest} bytes ({status})")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Self { status, headers, body })
    }

    /// Itself if it is a 2xx, else the error that it is.
    pub(super) fn good(self, secrets: &[&SecretString], now: DateTime<Utc>) -> Result<Self, BackendError> {
        if self.status.is_success() {
            return Ok(self);
        }
        if self.status == StatusCode::TOO_MANY_REQUESTS {
            return Err(BackendError::RateLimited { retry_after: pause(&self.headers, now) });
        }
        let status = self.status.as_u16();
        let words = self.words(secrets);
        Err(if self.status.is_client_error() {
            BackendError::Refused(format!("{status}{words}"))
        } else if self.status.is_server_error() {
            BackendError::Unreachable(format!("it answered {status}{words}"))
        } else {
            // Redirects are not followed: they would take the token elsewhere.
            BackendError::Garbage(format!("status {status}"))
        })
    }

    /// Its body, as JSON of this shape.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, BackendError> {
        // The error's text may quote the body.
        serde_json::from_slice(&self.body).map_err(|error| {
            let kind = if error.is_data() { "JSON of another shape" } else { "no JSON" };
            BackendError::Garbage(format!(
                "{kind} ({} bytes, status {})",
                self.body.len(),
                self.status.as_u16()
            ))
        })
    }

    /// `": …"`, what it says is wrong, if it says so in the documented form and quotes no secret.
    fn words(&self, secrets: &[&SecretString]) -> String {
        let value: Option<serde_json::Value> = serde_json::from_slice(&self.body).ok();
        let Some(words) = value.as_ref().and_then(|value| value.get("error")?.as_str()) else {
            return String::new();
        };
        if words.contains("Bearer") || secrets.iter().any(|secret| words.contains(secret.expose_secret())) {
            return String::new();
        }
        let plain = words.chars().map(|letter| if letter.is_control() { ' ' } else { letter });
        format!(": {}", plain.take(MAX_WORDS).collect::<String>())
    }
}

/// Whether it refused because the thing is not there.
pub(super) fn is_not_found(error: &BackendError) -> bool {
    matches!(error, BackendError::Refused(words) if words.split(':').next() == Some(NOT_FOUND))
}

/// When to come again: `Retry-After`, else QStash's own headers, which name the instant at which the exhausted limit
/// is reset: the daily one where there is one, else the one for bursts.
fn pause(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let reset = |name| headers.get(name).and_then(|value| unix_time(value.to_str().ok()?.trim()));
    let until = |at: DateTime<Utc>| (at - now).to_std().unwrap_or_default();
    http_client::retry_after(headers, now)
        .or_else(|| reset("ratelimit-reset").or_else(|| reset("burst-ratelimit-reset")).map(until))
        .map(|pause| pause.min(LONGEST_PAUSE))
}

/// "Unix timestamp" is all that is documented: what would be thousands of years away in seconds is in milliseconds.
fn unix_time(text: &str) -> Option<DateTime<Utc>> {
    match text.parse().ok()? {
        seconds @ 0..100_000_000_000 => DateTime::from_timestamp(seconds, 0),
        millis => DateTime::from_timestamp_millis(millis),
    }
}

fn broken(error: reqwest::Error) -> BackendError {
    if error.is_timeout() {
        return BackendError::TimedOut;
    }
    let text = causes(error);
    // An answer that is no HTTP is one, if a bad one.
    if text.contains("invalid HTTP") { BackendError::Garbage(text) } else { BackendError::Unreachable(text) }
}

/// What happened, in so many words; without the URL, which names an agent in direct mode.
pub(super) fn causes(error: reqwest::Error) -> String {
    http_client::causes(error).chars().take(MAX_WORDS).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answer(status: u16, headers: &[(&'static str, &str)], body: &str) -> Answer {
        let headers = headers
            .iter()
            .map(|(name, value)| (reqwest::header::HeaderName::from_static(name), value.parse().unwrap()));
        Answer {
            status: StatusCode::from_u16(status).unwrap(),
            headers: headers.collect(),
            body: body.as_bytes().to_vec(),
        }
    }

    fn error(answer: Answer) -> BackendError {
        let now = DateTime::from_timestamp(1_800_000_000, 0).unwrap();
        answer.good(&[&"t0ken".into()], now).err().unwrap()
    }

    #[test]
    fn a_status_is_told_by_what_can_be_done_about_it() {
        let refused = |words: &str| BackendError::Refused(words.to_owned());
        assert_eq!(error(answer(401, &[], r#"{"error":"no such user"}"#)), refused("401: no such user"));
        assert_eq!(error(answer(400, &[], "<html>")), refused("400"));
        assert_eq!(error(answer(503, &[], "")), BackendError::Unreachable("it answered 503".to_owned()));
        assert_eq!(error(answer(302, &[], "")).kind(), "garbage");
        assert!(is_not_found(&error(answer(404, &[], r#"{"error":"gone"}"#))));
        assert!(is_not_found(&error(answer(404, &[], ""))));
        assert!(!is_not_found(&error(answer(400, &[], r#"{"error":"404"}"#))));
    }

    #[test]
    fn errors_are_short_and_hold_no_secret() {
        assert_eq!(error(answer(400, &[], r#"{"error":"bad token t0ken"}"#)).to_string(), "refused: 400");
        assert_eq!(error(answer(400, &[], r#"{"error":"Bearer x"}"#)).to_string(), "refused: 400");
        let long = format!(r#"{{"error":"a\n{}"}}"#, "x".repeat(5000));
        let text = error(answer(400, &[], &long)).to_string();
        assert!(text.len() < 250 && text.contains("a x"), "{text}");
    }

    #[test]
    fn a_pause_is_found_in_any_of_the_documented_headers() {
        let pause = |headers: &[(&'static str, &str)]| {
            error(answer(429, headers, "")).retry_after().map(|pause| pause.as_secs())
        };
        assert_eq!(pause(&[("retry-after", "7")]), Some(7));
        assert_eq!(pause(&[("burst-ratelimit-reset", "1800000002")]), Some(2));
        let daily = ("ratelimit-reset", "1800003600");
        assert_eq!(pause(&[("burst-ratelimit-reset", "1800000002"), daily]), Some(3600));
        assert_eq!(pause(&[("burst-ratelimit-reset", "1700000000")]), Some(0));
        assert_eq!(pause(&[("burst-ratelimit-reset", "1800000002000")]), Some(2));
        assert_eq!(pause(&[("burst-ratelimit-reset", "9900000000")]), Some(86_400));
        assert_eq!(pause(&[("burst-ratelimit-reset", "soon")]), None);
        assert_eq!(pause(&[]), None);
    }
}
