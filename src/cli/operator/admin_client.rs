//! The client of the admin API.

use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use chrono::{DateTime, Utc};
use nas_cron_base::clock::{Clock, SystemClock};
use nas_cron_base::http_client::{self, retry_after};
use nas_cron_protocol::json;
use parking_lot::Mutex;
use reqwest::header::{AUTHORIZATION, DATE, HeaderValue};
use reqwest::{Client, Method, Response, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use url::Url;

/// Timeout of one call. Longer than a server waits for its database to restart (13 s).
const TIMEOUT: Duration = Duration::from_secs(20);
/// Number of tries of a call that reads.
const TRIES: u32 = 3;
/// Delay before the next try, if the server names none, and the longest one that it may name.
const DELAY: Duration = Duration::from_secs(1);
/// A longer `Retry-After` than this is not waited for.
const LONGEST_DELAY: Duration = Duration::from_secs(10);
/// Maximum size of a response.
const MAX_BODY: usize = 64 << 20;

/// The admin API of one server.
pub struct AdminClient {
    base: Url,
    http: Client,
    authorization: HeaderValue,
    /// Time of the server's latest response.
    date: Mutex<Option<DateTime<Utc>>>,
}

impl std::fmt::Debug for AdminClient {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("AdminClient").field("base", &self.base.as_str()).finish_non_exhaustive()
    }
}

/// An error response: problem details (RFC 9457).
#[derive(Deserialize)]
struct ProblemDetails {
    detail: String,
    error: String,
}

/// A failed try.
enum Failure {
    /// Another try may succeed, after this delay.
    Passing(anyhow::Error, Duration),
    /// The server knows nothing by this name.
    Unknown(anyhow::Error),
    /// No other try would succeed.
    Final(anyhow::Error),
}

impl Failure {
    fn error(self) -> anyhow::Error {
        match self {
            Self::Passing(error, _) | Self::Unknown(error) | Self::Final(error) => error,
        }
    }
}

impl AdminClient {
    /// A client of the server at `base`, whose admin API accepts `token`.
    pub fn new(base: &Url, token: &SecretString) -> anyhow::Result<Self> {
        let http =
            http_client::builder(base).timeout(TIMEOUT).build().context("creating the HTTP client failed")?;
        let mut authorization = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()))
            .map_err(|_| anyhow!("the admin token has characters that no token has"))?;
        authorization.set_sensitive(true);
        Ok(Self { base: base.clone(), http, authorization, date: Mutex::new(None) })
    }

    /// Returns the server's time at its latest response.
    pub(super) fn time_of_latest_response(&self) -> anyhow::Result<DateTime<Utc>> {
        self.date.lock().with_context(|| format!("{} sent no valid Date header", self.base))
    }

    /// Reads the resource at `/api/admin/{segments}`.
    pub(in crate::cli) async fn get<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, String)],
    ) -> anyhow::Result<T> {
        self.read_again(segments, query).await.map_err(Failure::error)
    }

    /// Reads the resource at `/api/admin/{segments}`; `None` if it does not exist.
    pub(super) async fn find<T: DeserializeOwned>(&self, segments: &[&str]) -> anyhow::Result<Option<T>> {
        match self.read_again(segments, &[]).await {
            Ok(found) => Ok(Some(found)),
            Err(Failure::Unknown(_)) => Ok(None),
            Err(failure) => Err(failure.error()),
        }
    }

    async fn read_again<T: DeserializeOwned>(
        &self,
        segments: &[&str],
        query: &[(&str, String)],
    ) -> Result<T, Failure> {
        let mut tries = 1;
        loop {
            match self.call(Method::GET, segments, query, None::<&()>).await {
                Err(Failure::Passing(_, delay)) if tries < TRIES => tokio::time::sleep(delay).await,
                other => return other,
            }
            tries += 1;
        }
    }

    /// Sends a request that may change something, once: a lost response does not tell if it did.
    pub(super) async fn send<T: DeserializeOwned>(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, String)],
        body: Option<&impl Serialize>,
    ) -> anyhow::Result<T> {
        self.call(method, segments, query, body).await.map_err(Failure::error)
    }

    async fn call<T: DeserializeOwned>(
        &self,
        method: Method,
        segments: &[&str],
        query: &[(&str, String)],
        body: Option<&impl Serialize>,
    ) -> Result<T, Failure> {
        let url = self.url(segments, query).map_err(Failure::Final)?;
        let request = self.http.request(method, url).header(AUTHORIZATION, self.authorization.clone());
        let request = match body {
            Some(body) => request.json(body),
            None => request,
        };
        let response = request.send().await.map_err(|error| {
            let reason = http_client::reason(error);
            Failure::Passing(anyhow!("the request to {} failed: {reason}", self.base), DELAY)
        })?;
        if let Some(date) = response.headers().get(DATE).and_then(|date| date.to_str().ok()) {
            *self.date.lock() = DateTime::parse_from_rfc2822(date).ok().map(|date| date.to_utc());
        }
        self.read(response).await
    }

    fn url(&self, segments: &[&str], query: &[(&str, String)]) -> anyhow::Result<Url> {
        // URLs drop them, percent-encoded ones included.
        if let Some(dots) = segments.iter().find(|segment| matches!(**segment, "." | "..")) {
            bail!("`{dots}` cannot be a part of a URL: run the command without --server");
        }
        let mut url = http_client::below(&self.base, "/api/admin");
        url.path_segments_mut().map_err(|()| anyhow!("not an HTTP URL"))?.extend(segments);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(url)
    }

    async fn read<T: DeserializeOwned>(&self, mut response: Response) -> Result<T, Failure> {
        let (status, delay) = (response.status(), retry_after(response.headers(), SystemClock.now()));
        let mut bytes = Vec::new();
        loop {
            match response.chunk().await {
                Ok(Some(chunk)) if bytes.len() + chunk.len() <= MAX_BODY => bytes.extend_from_slice(&chunk),
                Ok(Some(_)) => {
                    return Err(Failure::Final(anyhow!("the response of {} is too long", self.base)));
                }
                Ok(None) => break,
                Err(error) => {
                    let reason = http_client::reason(error);
                    let error = anyhow!("reading the response of {} failed: {reason}", self.base);
                    return Err(Failure::Passing(error, DELAY));
                }
            }
        }
        if status.is_success() {
            // Nothing to tell: 202 or 204.
            let bytes = if bytes.is_empty() { b"null".to_vec() } else { bytes };
            return json::from_slice(&bytes).map_err(|error| {
                Failure::Final(anyhow!("{} returned an unexpected response: {error}", self.base))
            });
        }
        let error = refusal(status, &bytes);
        let delay = delay.unwrap_or(DELAY);
        let passes = matches!(status, StatusCode::SERVICE_UNAVAILABLE | StatusCode::TOO_MANY_REQUESTS);
        if passes && delay <= LONGEST_DELAY {
            Err(Failure::Passing(error, delay))
        } else if status == StatusCode::NOT_FOUND {
            Err(Failure::Unknown(error))
        } else {
            Err(Failure::Final(error))
        }
    }
}

/// Describes an error response. Errors of the request are described as the commands on the database do.
fn refusal(status: StatusCode, bytes: &[u8]) -> anyhow::Error {
    match json::from_slice::<ProblemDetails>(bytes) {
        Ok(problem) if matches!(status.as_u16(), 400 | 404 | 409) => anyhow!("{}", problem.detail),
        Ok(problem) => {
            anyhow!("the server returned {} {}: {}", status.as_u16(), problem.error, problem.detail)
        }
        Err(_) => anyhow!(
            "the server returned {} without a problem description: check that --server is the base URL of nas-cron",
            status.as_u16()
        ),
    }
}
