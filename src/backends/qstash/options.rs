//! Settings of the QStash accounts and the relay.

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::signature::EmptyKey;
use crate::config;
use crate::domain::qstash_region::QstashRegion;

/// Default of [`QstashOptions::in_flight`].
const IN_FLIGHT: usize = 32;

/// Options of one account. Regions share nothing: each has its own token and signing keys.
#[derive(Clone, Debug)]
pub struct AccountOptions {
    /// Its region; `None` for the account of the settings without a region.
    pub region: Option<QstashRegion>,
    /// Base URL of the API, which depends on the region.
    pub url: Url,
    /// The account's `QSTASH_TOKEN`.
    pub token: SecretString,
    /// The account's current signing key.
    pub current_signing_key: SecretString,
    /// The account's next signing key. Without it, a rotation of the keys interrupts the relay.
    pub next_signing_key: Option<SecretString>,
}

/// Options of QStash.
#[derive(Clone, Debug)]
pub struct QstashOptions {
    /// The accounts, at most one in each region. The first one publishes.
    pub accounts: Vec<AccountOptions>,
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
    /// No account.
    #[error("no QStash account is configured")]
    NoAccount,
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
        let account = |account: &config::backends::QstashAccount| AccountOptions {
            region: account.region,
            url: account.url.url().clone(),
            token: account.token.clone(),
            current_signing_key: account.current_signing_key.clone(),
            next_signing_key: account.next_signing_key.clone(),
        };
        config.qstash.as_ref().map(|qstash| Self {
            accounts: qstash.accounts.iter().map(account).collect(),
            relay_url: config.relay_url.to_string(),
            retries: qstash.retries,
            furthest: qstash.furthest,
            in_flight: IN_FLIGHT,
            timeout: config.call_timeout,
        })
    }
}
