//! A plain HTTP client, for whoever calls a server from outside: the tools, demo agents, the bench. And what every
//! client reads of an answer: `Retry-After`.

mod retry_after;

use std::error::Error;

use reqwest::{Client, ClientBuilder, redirect};
use url::Url;

pub use self::retry_after::retry_after;

/// A client for `base`: no redirects, no proxies from the environment, HTTP/1.1.
pub fn builder(base: &Url) -> ClientBuilder {
    // An error means that the process has a provider, and ring is the only one in the tree.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let builder = Client::builder()
        .user_agent(concat!("nas-cron/", env!("CARGO_PKG_VERSION")))
        .http1_only()
        .no_proxy()
        .redirect(redirect::Policy::none());
    // What never speaks TLS is spared the system's certificates, and their absence.
    if base.scheme() == "https" { builder } else { builder.tls_certs_only([]) }
}

/// `base` with `path` after it, whether or not it ends with a slash.
pub fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}

/// An error's causes down to the first one, which says what happened. Without its URL, which may hold credentials, or
/// name an agent.
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
