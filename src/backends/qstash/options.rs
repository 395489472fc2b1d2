//! Settings of the QStash account and the relay.

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::signature::EmptyKey;
use crate::config;

/// Default of [`QstashOptions::in_flight`].
const IN_FLIGHT: usize = 32;

/// Options of a QStash account.
#[derive(Clone, Debug)]
pub struct QstashOptions {
    /// Base URL of the API, which depends on the region.
    pub url: Url,
    /// The account's `QSTASH_TOKEN`.
    pub token: SecretString,
    /// The account's current signing key.
    pub current_signing_key: SecretString,
    /// The account's next signing key. Without it, a rotation of the keys interrupts the relay.
    pub next_signing_key: Option<SecretString>,
    /// Public URL of the relay, exactly as signatures name it.
    pub relay_url: String,
    /// Number of times QStash repeats a call to the relay that was not answered with 2xx. Plans allow 3 to 5.
    pub retries: u8,
    /// Maximum time ahead of a message: 7 days on the smallest plan.
    pub furthest: Duration,
    /// Maximum calls in flight per batch.
    pub in_flight: usize,
    /// Timeout of one call, including connection, headers and body. 10 s is plenty.
    pub timeout: Duration,
}

/// Invalid options.
#[derive(Debug, thiserror::Error)]
pub enum QstashSetupError {
    /// An empty signing key.
    #[error(transparent)]
    Key(#[from] EmptyKey),
    /// A token that is empty, or has characters that are not allowed in a header.
    #[error("invalid QStash token: it is empty or has characters that are not allowed in an HTTP header")]
    Token,
    /// A relay URL that QStash, and so the signatures, would spell differently.
    #[error("invalid relay URL: it must be absolute, http or https, and in normalized form: {0}")]
    RelayUrl(String),
    /// An API URL to which no path can be appended.
    #[error("invalid QStash URL: it must be http or https, without query and fragment")]
    Url,
    /// The HTTP client could not be created.
    #[error("creating the HTTP client for QStash failed (are the system's CA certificates installed?): {0}")]
    Client(String),
}

impl QstashOptions {
    /// Creates options from the settings; `None` if QStash is not configured.
    pub fn from_config(config: &config::Backends) -> Option<Self> {
        config.qstash.as_ref().map(|qstash| Self {
            url: qstash.url.url().clone(),
            token: qstash.token.clone(),
            current_signing_key: qstash.current_signing_key.clone(),
            next_signing_key: qstash.next_signing_key.clone(),
            relay_url: config.relay_url.to_string(),
            retries: qstash.retries,
            furthest: qstash.furthest,
            in_flight: IN_FLIGHT,
            timeout: config.call_timeout,
        })
    }
}
