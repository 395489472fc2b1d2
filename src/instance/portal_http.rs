//! The HTTP client for the portal and other issuers, and the classification of failures.

use std::time::Duration;

use nas_cron_base::http_client::causes;
use reqwest::{Client, Response, StatusCode, redirect};

use super::fetch_error::FetchError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Timeout for a whole call, so that two calls fit within the deadline of a request.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(5);
/// Time for which an idle connection is kept; shorter than servers keep theirs.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// Returns a client that keeps up to `idle` connections per host. It does not follow redirects, which could leak a
/// secret to another host, and ignores proxies in the environment.
pub(super) fn client(idle: usize) -> Result<Client, reqwest::Error> {
    // Fails only if a provider is installed already, which can only be ring, too.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("nas-cron/", env!("CARGO_PKG_VERSION")))
        .redirect(redirect::Policy::none())
        .no_proxy()
        .connect_timeout(CONNECT_TIMEOUT)
        .timeout(TOTAL_TIMEOUT)
        .pool_max_idle_per_host(idle)
        .pool_idle_timeout(IDLE_TIMEOUT)
        .build()
}

/// Reads the body. Fails if it is longer than `max` bytes.
pub(super) async fn bounded(mut response: Response, max: usize) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(unavailable)? {
        if body.len() + chunk.len() > max {
            return Err(FetchError::Invalid(format!("the body is longer than {} KiB", max >> 10)));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// The error for a missing or incomplete response.
pub(super) fn unavailable(error: reqwest::Error) -> FetchError {
    FetchError::Unavailable(causes(error))
}

/// The error for an unexpected status: a 5xx or 429 means that the portal is unavailable, any other is an invalid
/// response. `hint` is added if the status shows rejected credentials.
pub(super) fn unexpected_status(status: StatusCode, hint: &str) -> FetchError {
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return FetchError::Unavailable(format!("status {status}"));
    }
    let is_rejected = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    FetchError::Invalid(if is_rejected {
        format!("status {status}: {hint}")
    } else {
        format!("status {status}")
    })
}
