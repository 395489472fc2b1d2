//! Reads QStash's responses, and maps failures to [`BackendError`].

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_base::http_client;
use nas_cron_protocol::json;
use reqwest::header::HeaderMap;
use reqwest::{RequestBuilder, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;

use crate::backends::BackendError;

/// Maximum length of a response body, in bytes.
pub(super) const MAX_ANSWER: usize = 64 * 1024;
/// Maximum length of the text in an error, in characters.
const MAX_WORDS: usize = 200;
/// Maximum pause that a rate limit may ask for: a daily limit ends within a day.
const LONGEST_PAUSE: Duration = Duration::from_hours(24);
/// Start of the error text for something that does not exist (any more).
const NOT_FOUND: &str = "404";

/// A complete response.
pub(super) struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Vec<u8>,
}

impl Answer {
    /// Sends the request and reads up to `longest` bytes of the response's body. The client's timeout covers all of it.
    pub(super) async fn to(request: RequestBuilder, longest: usize) -> Result<Self, BackendError> {
        let mut response = request.send().await.map_err(broken)?;
        let (status, headers) = (response.status(), std::mem::take(response.headers_mut()));
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(broken)? {
            if body.len() + chunk.len() > longest {
                return Err(BackendError::Garbage(format!("longer than {longest} bytes ({status})")));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Self { status, headers, body })
    }

    /// Returns the response if its status is 2xx, or the matching error.
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
            BackendError::Unreachable(format!("status {status}{words}"))
        } else {
            // Redirects are not followed: they would send the token to another server.
            BackendError::Garbage(format!("status {status}"))
        })
    }

    /// Parses the body as JSON.
    pub(super) fn json<T: DeserializeOwned>(&self) -> Result<T, BackendError> {
        self.parsed(json::from_slice(&self.body))
    }

    /// Parses the body as a page of a log, which quotes what agents responded.
    pub(super) fn log<T: DeserializeOwned>(&self) -> Result<T, BackendError> {
        self.parsed(json::from_log(&self.body))
    }

    fn parsed<T>(&self, parsed: Result<T, json::Error>) -> Result<T, BackendError> {
        // The text of the error is left out: it may quote the body.
        parsed.map_err(|error| {
            let kind = if error.is_data() { "unexpected JSON" } else { "not JSON" };
            BackendError::Garbage(format!(
                "{kind} ({} bytes, status {})",
                self.body.len(),
                self.status.as_u16()
            ))
        })
    }

    /// Returns `": "` and QStash's error text, if it has the documented form and quotes no secret; else nothing.
    fn words(&self, secrets: &[&SecretString]) -> String {
        let value: Option<serde_json::Value> = json::from_slice(&self.body).ok();
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

/// Returns true if QStash refused a request because its object does not exist.
pub(super) fn is_not_found(error: &BackendError) -> bool {
    matches!(error, BackendError::Refused(words) if words.split(':').next() == Some(NOT_FOUND))
}

/// Returns the time until the next call is allowed: from `Retry-After`, else from QStash's own headers, which name the
/// instant when the exhausted limit is reset. The daily limit takes precedence over the burst limit.
fn pause(headers: &HeaderMap, now: DateTime<Utc>) -> Option<Duration> {
    let reset = |name| headers.get(name).and_then(|value| unix_time(value.to_str().ok()?.trim()));
    let until = |at: DateTime<Utc>| (at - now).to_std().unwrap_or_default();
    http_client::retry_after(headers, now)
        .or_else(|| reset("ratelimit-reset").or_else(|| reset("burst-ratelimit-reset")).map(until))
        .map(|pause| pause.min(LONGEST_PAUSE))
}

/// Parses a "Unix timestamp", as QStash's documentation calls it without a unit. A number that would be thousands of
/// years away in seconds is in milliseconds.
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
    // The server responded, though not with HTTP.
    if text.contains("invalid HTTP") { BackendError::Garbage(text) } else { BackendError::Unreachable(text) }
}

/// Returns the error's text and its causes, shortened, without the URL: in direct mode, it names an agent.
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
    fn each_status_maps_to_its_kind_of_error() {
        let refused = |words: &str| BackendError::Refused(words.to_owned());
        assert_eq!(error(answer(401, &[], r#"{"error":"no such user"}"#)), refused("401: no such user"));
        assert_eq!(error(answer(400, &[], "<html>")), refused("400"));
        assert_eq!(error(answer(503, &[], "")), BackendError::Unreachable("status 503".to_owned()));
        assert_eq!(error(answer(302, &[], "")).kind(), "garbage");
        assert!(is_not_found(&error(answer(404, &[], r#"{"error":"gone"}"#))));
        assert!(is_not_found(&error(answer(404, &[], ""))));
        assert!(!is_not_found(&error(answer(400, &[], r#"{"error":"404"}"#))));
    }

    #[test]
    fn errors_are_short_and_contain_no_secret() {
        let text = |body: &str| error(answer(400, &[], body)).to_string();
        assert_eq!(text(r#"{"error":"bad token t0ken"}"#), "refused the request: 400");
        assert_eq!(text(r#"{"error":"Bearer x"}"#), "refused the request: 400");
        let long = format!(r#"{{"error":"a\n{}"}}"#, "x".repeat(5000));
        let text = error(answer(400, &[], &long)).to_string();
        assert!(text.len() < 250 && text.contains("a x"), "{text}");
    }

    #[test]
    fn text_of_an_agent_hides_no_entry_of_the_log() {
        #[derive(serde::Deserialize)]
        struct Page {
            events: Vec<String>,
        }
        let page = r#"{"events":["a"],"responseBody":"\u0000\ud800","size":18446744073709551615}"#;
        assert_eq!(answer(200, &[], page).log::<Page>().unwrap().events, ["a"]);
        assert!(answer(200, &[], page).json::<Page>().is_err());
    }

    #[test]
    fn pause_is_read_from_each_documented_header() {
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
