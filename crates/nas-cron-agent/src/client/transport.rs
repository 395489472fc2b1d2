//! One call over HTTP: what goes out, and what comes of it, whoever it is made as.

use std::time::Duration;

use nas_cron_base::clock::{Clock, SystemClock};
use nas_cron_base::http_client::{self, causes, retry_after};
use nas_cron_protocol::error::{ErrorBody, ErrorWord};
use reqwest::header::{AUTHORIZATION, HeaderValue};
use reqwest::{Method, Response};
use secrecy::{ExposeSecret, SecretString};
use serde::Serialize;
use serde::de::DeserializeOwned;
use url::Url;

use super::bearer::NoToken;

/// What one call may take: longer than a server rides out a restart of its database (13 s).
pub(super) const TIMEOUT: Duration = Duration::from_secs(15);
/// The longest `Retry-After` that is believed.
const LONGEST_WAIT: Duration = Duration::from_hours(24);
/// Answers are read up to here: a list of 100,000 one-shots has its place.
const MAX_BODY: usize = 64 << 20;

/// Why a call did not do.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answered, or not in time.
    #[error("{server} does not answer: {reason}")]
    Away {
        /// The server's base URL.
        server: String,
        /// What happened.
        reason: String,
    },
    /// The server said no. Its words may be shown.
    #[error("answered {status} {error}: {description}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The word to branch on, such as `invalid_client`.
        error: String,
        /// The server's sentence.
        description: String,
        /// When to come again, where the server says so.
        retry_after: Option<Duration>,
    },
    /// The answer is none of a nas-cron server.
    #[error("{server} does not answer as a nas-cron server: {reason}")]
    Strange {
        /// The server's base URL.
        server: String,
        /// What is odd about it.
        reason: String,
    },
    /// The answer is too long to be read. The server may be all right.
    #[error("{server}'s answer is longer than {} MiB", MAX_BODY >> 20)]
    TooLong {
        /// The server's base URL.
        server: String,
    },
    /// There is nothing to prove the caller with, so nothing was sent.
    #[error(transparent)]
    NoToken(#[from] NoToken),
}

impl ClientError {
    /// The word of a refusal, where it is one of nas-cron's.
    pub fn word(&self) -> Option<ErrorWord> {
        match self {
            Self::Refused { error, .. } => error.parse().ok(),
            _ => None,
        }
    }
}

/// A value of the `Authorization` header. It is never shown.
#[derive(Clone, Debug)]
pub(super) struct Authorization(HeaderValue);

impl Authorization {
    /// Of a portal access token.
    pub(super) fn bearer(token: &SecretString) -> Self {
        Self::new("Bearer", token.expose_secret())
    }

    /// Of an agent identity's assertion.
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

/// A server, and the connections to it. Cheap to clone.
#[derive(Clone, Debug)]
pub(super) struct Transport {
    http: reqwest::Client,
    base: Url,
}

impl Transport {
    /// Connections are kept for the next call, or made anew for each, as real agents do.
    pub(super) fn new(base: Url, keep_connections: bool) -> reqwest::Result<Self> {
        let builder = http_client::builder(&base);
        let builder = if keep_connections { builder } else { builder.pool_max_idle_per_host(0) };
        Ok(Self { http: builder.timeout(TIMEOUT).build()?, base })
    }

    /// Sends `body` as JSON, and reads the answer as JSON.
    pub(super) async fn call<B: Serialize, A: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        authorization: Option<&Authorization>,
        body: Option<&B>,
        within: Duration,
    ) -> Result<A, ClientError> {
        let mut request = self.http.request(method, http_client::below(&self.base, path)).timeout(within);
        if let Some(Authorization(value)) = authorization {
            request = request.header(AUTHORIZATION, value);
        }
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| self.away(error))?;
        let status = response.status();
        // A delay that says nothing, or that nobody would wait for, is not repeated to the user.
        let retry_after = retry_after(response.headers(), SystemClock.now())
            .filter(|wait| !wait.is_zero() && *wait <= LONGEST_WAIT);
        let body = self.read(response).await?;
        if status.is_success() {
            // 204, and its like.
            let body = if body.is_empty() { b"null" } else { body.as_slice() };
            return serde_json::from_slice(body).map_err(|error| self.strange(error.to_string()));
        }
        Err(match serde_json::from_slice::<ErrorBody>(&body) {
            Ok(told) => ClientError::Refused {
                status: status.as_u16(),
                description: told.error_description.unwrap_or_else(|| told.error.to_string()),
                error: told.error.into_owned(),
                retry_after,
            },
            Err(_) => self.strange(format!("status {status}")),
        })
    }

    async fn read(&self, mut response: Response) -> Result<Vec<u8>, ClientError> {
        let mut body = Vec::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| self.away(error))? {
            if body.len() + chunk.len() > MAX_BODY {
                return Err(ClientError::TooLong { server: self.base.to_string() });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body)
    }

    fn away(&self, error: reqwest::Error) -> ClientError {
        ClientError::Away { server: self.base.to_string(), reason: causes(error) }
    }

    fn strange(&self, reason: String) -> ClientError {
        ClientError::Strange { server: self.base.to_string(), reason }
    }
}

#[cfg(test)]
mod tests {
    use serde::de::IgnoredAny;
    use tokio::io::{AsyncReadExt, AsyncWriteExt};

    use super::*;

    /// A server that answers once, with so many bytes of JSON.
    async fn answered(bytes: usize) -> Result<IgnoredAny, ClientError> {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let base = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
        let serving = async {
            let (mut stream, _) = listener.accept().await.unwrap();
            let _ = stream.read(&mut [0; 4096]).await.unwrap();
            let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {bytes}\r\n\r\n\"");
            stream.write_all(head.as_bytes()).await.unwrap();
            // Whoever has read enough goes away.
            let _ = stream.write_all(&vec![b'x'; bytes - 2]).await;
            let _ = stream.write_all(b"\"").await;
        };
        let transport = Transport::new(base, true).unwrap();
        let call = transport.call::<(), _>(Method::GET, "/", None, None, Duration::from_mins(1));
        tokio::join!(call, serving).0
    }

    #[tokio::test]
    async fn a_long_answer_is_read_and_one_without_end_is_not() {
        answered(MAX_BODY).await.unwrap();
        let error = answered(MAX_BODY + 1).await.unwrap_err();
        assert!(matches!(error, ClientError::TooLong { .. }), "{error}");
        assert!(error.to_string().ends_with("'s answer is longer than 64 MiB"), "{error}");
    }
}
