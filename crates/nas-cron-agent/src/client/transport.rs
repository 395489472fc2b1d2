//! One HTTP call and its result, with any credentials.

use std::time::Duration;

use nas_cron_base::clock::{Clock, SystemClock};
use nas_cron_base::http_client::{self, retry_after};
use nas_cron_protocol::error::{ErrorBody, ErrorWord};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::bearer::TokenError;

/// Timeout of one call. Longer than a server waits for its database to restart (13 s).
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);
/// Maximum `Retry-After` that is reported; a longer one is ignored.
const LONGEST_WAIT: Duration = Duration::from_hours(24);
/// Maximum size of a response. A list of 100,000 one-shots fits.
const MAX_BODY: usize = 64 << 20;

/// The error of a call.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// The server is unreachable, or did not respond in time.
    #[error("the request to {server} failed: {reason}")]
    Unavailable {
        /// The server's base URL.
        server: String,
        /// The cause.
        reason: String,
    },
    /// The server returned an error, which may be shown.
    #[error("the server returned {status} {error}: {description}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The error code, such as `invalid_client`.
        error: String,
        /// The server's description of the error.
        description: String,
        /// The delay before the next try, if the server gave one.
        retry_after: Option<Duration>,
    },
    /// The response is not one of a nas-cron server.
    #[error("{server} returned an invalid response: {reason}")]
    InvalidResponse {
        /// The server's base URL.
        server: String,
        /// The problem with the response.
        reason: String,
    },
    /// The response exceeds the limit. The server may be healthy.
    #[error("the response from {server} exceeds the limit of {} MiB", MAX_BODY >> 20)]
    ResponseTooLong {
        /// The server's base URL.
        server: String,
    },
    /// There is no access token. Nothing was sent.
    #[error(transparent)]
    NoToken(#[from] TokenError),
}

impl ClientError {
    /// Returns the error code of the response, if nas-cron knows it.
    pub fn word(&self) -> Option<ErrorWord> {
        match self {
            Self::Refused { error, .. } => error.parse().ok(),
            _ => None,
        }
    }
}

/// A value of the `Authorization` header, which is never printed.
#[derive(Clone, Debug)]
pub(super) struct Authorization(HeaderValue);

impl Authorization {
    /// Builds the value for a portal access token.
    pub(super) fn bearer(token: &SecretString) -> Self {
        Self::new("Bearer", token.expose_secret())
    }

    /// Builds the value for an assertion of an agent identity.
    pub(super) fn assertion(assertion: &str) -> Self {
        Self::new("AgentAssertion", assertion)
    }

    fn new(scheme: &str, credential: &str) -> Self {
        let value = HeaderValue::from_str(&format!("{scheme} {credential}"));
        let mut value = value.expect("tokens are checked to be plain characters, and assertions are base64");
        value.set_sensitive(true);
        Self(value)
    }
}

/// The HTTP connections to one server. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    http: reqwest::Client,
    base: Url,
}

impl Transport {
    /// Creates a transport that keeps its connections, or opens a new one for each call, as real agents do.
    pub(super) fn new(base: Url, keep_connections: bool) -> reqwest::Result<Self> {
        let builder = http_client::builder(&base);
        let builder = if keep_connections { builder } else { builder.pool_max_idle_per_host(0) };
        Ok(Self { http: builder.timeout(TIMEOUT).build()?, base })
    }

    /// Sends `body` as JSON and reads the response as JSON. `path` may end with a query.
    pub(super) async fn call<B: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        authorization: Option<&Authorization>,
        body: Option<&B>,
        within: Duration,
    ) -> Result<A, ClientError> {
        let (path, query) = path.split_once('?').map_or((path, None), |(path, query)| (path, Some(query)));
        let mut url = http_client::below(&self.base, path);
        url.set_query(query);
        let mut request = self.http.request(method, url).timeout(within);
        if let Some(Authorization(value)) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| self.unavailable(error))?;
        let status = response.status();
        // A delay of zero or of more than a day is of no use to the user.
        let retry_after = retry_after(response.headers(), SystemClock.now())
            .filter(|wait| !wait.is_zero() && *wait <= LONGEST_WAIT);
        let body = self.read(response).await?;
        if status.is_success() {
            // Such as 204.
            let body = if body.is_empty() { b"null" } else { body.as_slice() };
            return nas_cron_protocol::json::from_slice(body).map_err(|error| {
                self.invalid_response(format!("its body is not the expected JSON: {error}"))
            });
        }
        Err(match nas_cron_protocol::json::from_slice::<ErrorBody>(&body) {
            Ok(body) => ClientError::Refused {
                status: status.as_u16(),
                description: body.error_description.unwrap_or_else(|| body.error.to_string()),
                error: body.error.into_owned(),
                retry_after,
            },
            Err(_) => self.invalid_response(format!("status {status} without an error in JSON")),
        })
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.unavailable(error))? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(ClientError::ResponseTooLong { server: self.base.to_string() });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn unavailable(&self, error: reqwest::Error) -> ClientError {
        ClientError::Unavailable { server: self.base.to_string(), reason: reason(error) }
    }

    fn invalid_response(&self, reason: String) -> ClientError {
        ClientError::InvalidResponse { server: self.base.to_string(), reason }
    }
}

/// Returns the root cause, without the URL and the layers of the HTTP library.
fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    if error.is_timeout() {
        return "it timed out".to_owned();
    }
    let mut cause: &dyn std::error::Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    if error.is_connect() { format!("could not connect: {cause}") } else { cause.to_string() }
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// Calls a server whose response is this many bytes of JSON.
    async fn answered(bytes: usize) -> Result<IgnoredAny, ClientError> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n\"");
            stream.write_all(head.as_bytes()).await.unwrap();
            // The client may close the connection early.
            let _ = stream.write_all(&vec![b'x'; bytes - 2]).await;
            let _ = stream.write_all(b"\"").await;
        };
        let transport = Transport::new(base, true).unwrap();
        let call = transport.call::<(), _>(Method::GET, "/", None, None, Duration::from_mins(1));
        tokio::join!(call, serving).0
    }

    #[tokio::test]
    async fn response_over_the_limit_is_rejected() {
        answered(MAX_BODY).await.unwrap();
        let error = answered(MAX_BODY + 1).await.unwrap_err();
        assert!(matches!(error, ClientError::ResponseTooLong { .. }), "{error}");
        assert!(error.to_string().ends_with(" exceeds the limit of 64 MiB"), "{error}");
    }
}
