//! Calls to the portal and its like: one client for all of them, and what their failures mean.

use std::time::Duration;

use nas_cron_base::http_client::causes;
use reqwest::{Client, Response, StatusCode, redirect};

use super::fetch_error::FetchError;

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Over connect, headers and body: two calls fit in the budget of a request.
const TOTAL_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a connection is kept that nobody uses: shorter than servers keep it.
const IDLE_TIMEOUT: Duration = Duration::from_secs(15);

/// A client that keeps up to `idle` connections a host. No redirects, which could carry a secret elsewhere; no proxies
/// of the environment.
pub(super) fn client(idle: usize) -> Result<Client, reqwest::Error> {
    // Refused only when there is one already, and ring is the only one in the tree.
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

/// The whole body, unless it is longer than `most` bytes.
pub(super) async fn bounded(mut response: Response, most: usize) -> Result<Vec<u8>, FetchError> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await.map_err(away)? {
        if body.len() + chunk.len() > most {
            return Err(FetchError::Useless(format!("it is longer than {} KiB", most >> 10)));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body)
}

/// There was no answer, or not all of it.
pub(super) fn away(error: reqwest::Error) -> FetchError {
    FetchError::Away(causes(error))
}

/// A status that is none of those which mean something: a server in trouble is away, anything else is no portal.
pub(super) fn no_answer(status: StatusCode, hint: &str) -> FetchError {
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        return FetchError::Away(format!("status {status}"));
    }
    let ours = matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN);
    FetchError::Useless(if ours { format!("status {status}: {hint}") } else { format!("status {status}") })
}
