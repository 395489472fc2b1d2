//! Connections to permitted addresses only: the HTTP clients below fires and webhooks.
//!
//! Literal hosts are checked in the URL, names in the resolver. No proxies from the environment, no redirects, no retries,
//! and plain http only within the allow-list.

use std::time::Duration;

use url::Url;

use super::address_policy::{AddressError, AddressPolicy};
use super::classify;
use super::resolver::{GuardedResolver, Names, Scope};
use super::shortage::Recent;

/// Settings of the connections. The defaults are meant for production.
#[derive(Clone, Debug)]
pub struct ClientConfig {
    /// Timeout of name resolution, TCP and TLS together. Default 10 s; a longer wait counts as an outage.
    pub connect_timeout: Duration,
    /// Time for which an idle connection is kept. Default 4 s, below the 5 s after which common agent servers (uvicorn,
    /// Node) close it: a request that is sent during the close is lost with an ambiguous result.
    pub pool_idle_timeout: Duration,
    /// Maximum number of idle connections per agent. Default 256.
    pub pool_max_idle_per_host: usize,
    /// Maximum time from the status to the end of the body, within the attempt's timeout. Default 5 s: the status has
    /// decided, and the outcome should be recorded soon.
    pub body_timeout: Duration,
    /// Trusted root certificates in addition to the system's.
    pub extra_roots: Vec<reqwest::Certificate>,
}

impl Default for ClientConfig {
    fn default() -> Self {
        Self {
            connect_timeout: Duration::from_secs(10),
            pool_idle_timeout: Duration::from_secs(4),
            pool_max_idle_per_host: 256,
            body_timeout: Duration::from_secs(5),
            extra_roots: Vec::new(),
        }
    }
}

/// Building the client failed: the system has no trusted certificates, or an extra one is unreadable.
#[derive(Debug, thiserror::Error)]
#[error("setting up the HTTP client failed: {cause}; install the system's CA certificates")]
pub struct ClientError {
    /// Text of the innermost error.
    cause: String,
}

/// The clients for https and http, with one address policy.
#[derive(Clone, Debug)]
pub struct Connections {
    policy: AddressPolicy,
    https: reqwest::Client,
    /// A separate client, because a resolver does not know the scheme: its resolver returns allow-listed addresses only.
    http: reqwest::Client,
    pub(super) resolver: GuardedResolver,
    pub(super) shortages: Recent,
}

impl Connections {
    /// Returns the clients. Installs `ring` as the process's TLS provider unless one is installed already.
    pub fn new(policy: AddressPolicy, config: &ClientConfig) -> Result<Self, ClientError> {
        Self::with_names(policy, config, &Names::System)
    }

    pub(super) fn with_names(
        policy: AddressPolicy,
        config: &ClientConfig,
        names: &Names,
    ) -> Result<Self, ClientError> {
        // An error means that a provider is installed already.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let shortages = Recent::default();
        let resolver = |scope| GuardedResolver::new(policy.clone(), scope, names.clone(), shortages.clone());
        let builder = |scope| {
            reqwest::Client::builder()
                .dns_resolver(resolver(scope))
                .no_proxy()
                .redirect(reqwest::redirect::Policy::none())
                .retry(reqwest::retry::never())
                .referer(false)
                .user_agent(concat!("nas-cron/", env!("CARGO_PKG_VERSION")))
                .connect_timeout(config.connect_timeout)
                .pool_idle_timeout(config.pool_idle_timeout)
                .pool_max_idle_per_host(config.pool_max_idle_per_host)
        };
        let https =
            builder(Scope::Permitted).https_only(true).tls_certs_merge(config.extra_roots.iter().cloned());
        // This client never uses TLS, so it does not load the system's certificates.
        let http = builder(Scope::AllowListed).tls_certs_only([]);
        let build = |builder: reqwest::ClientBuilder| {
            builder.build().map_err(|error| ClientError { cause: classify::innermost(&error) })
        };
        Ok(Self {
            https: build(https)?,
            http: build(http)?,
            resolver: resolver(Scope::Permitted),
            policy,
            shortages,
        })
    }

    /// Checks a URL, without a look-up of its host. To be called before every request.
    pub fn check(&self, url: &Url) -> Result<(), AddressError> {
        self.policy.check_url(url)
    }

    /// Returns the client for a URL that was checked.
    pub fn client(&self, url: &Url) -> &reqwest::Client {
        if url.scheme() == "https" { &self.https } else { &self.http }
    }
}

/// Returns the error text of a request that got no response.
pub fn cause(error: &reqwest::Error) -> String {
    classify::refused(error).to_string()
}
