//! The HTTP client of whoever calls the service from outside: demo agents, the bench, the admin client.

use std::time::Duration;

use reqwest::{Client, ClientBuilder, redirect};
use url::Url;

/// A client for `base`: no redirects, no proxies from the environment, HTTP/1.1.
pub(crate) fn builder(base: &Url) -> ClientBuilder {
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

/// As real agents call: 15 s a call, each over a connection of its own.
pub(super) fn as_agents_call(base: &Url) -> reqwest::Result<Client> {
    builder(base).pool_max_idle_per_host(0).timeout(Duration::from_secs(15)).build()
}

/// An error in words, with its causes: "connection refused" is the last of them.
pub(crate) fn reason(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = std::error::Error::source(&error);
    while let Some(cause) = source {
        let cause_text = cause.to_string();
        if !text.contains(&cause_text) {
            text = format!("{text}: {cause_text}");
        }
        source = cause.source();
    }
    text
}

/// `base` with `path` after it, whether or not it ends with a slash.
pub(crate) fn below(base: &Url, path: &str) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}{path}", base.path().trim_end_matches('/')));
    url
}
