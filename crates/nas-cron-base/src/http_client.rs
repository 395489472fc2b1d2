//! An HTTP client for callers of a server: the agent's tools, demo agents, the benchmark. Also `Retry-After`, for every
//! client.

mod retry_after;

use std::error::Error;

use reqwest::{Client, ClientBuilder, redirect};
use url::Url;

pub use self::retry_after::retry_after;

/// Returns a builder of a client for `base`: HTTP/1.1, no redirects, no proxies from the environment.
pub fn builder(base: &Url) -> ClientBuilder {
    // An error means that a provider is already installed, and ring is the only one in the dependency tree.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .user_agent(concat!("nas-cron/", env!("CARGO_PKG_VERSION")))
        .http1_only()
        .no_proxy()
        .redirect(redirect::Policy::none());
    // A plain-HTTP client does not load the system's certificates, which may be missing.
    if base.scheme() == "https" { builder } else { builder.tls_certs_only([]) }
}

/// Returns `base` with `path` appended. `base` may or may not end with a slash.
pub fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

/// Returns the reason for a failed request in words for a user: a timeout, or the most specific cause, such as
/// "Connection refused (os error 111)".
pub fn reason(error: reqwest::Error) -> String {
    if error.is_timeout() {
        return "no response in time".to_owned();
    }
    let error = error.without_url();
    let mut cause: &dyn Error = &error;
    while let Some(source) = cause.source() {
        cause = source;
    }
    cause.to_string()
}

/// Formats an error with all its causes; the last one is the most specific. The URL is left out: it may hold credentials
/// or name an agent.
pub fn causes(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text
}
