//! The account of QStash, our relay, and the limits of both.

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::signature::EmptyKey;
use crate::config;

/// How many calls may be under way at once, per round.
const IN_FLIGHT: usize = 32;

/// How to reach an account of QStash.
#[derive(Clone, Debug)]
pub struct QstashOptions {
    /// The base of its API, by region.
    pub url: Url,
    /// The account's `QSTASH_TOKEN`.
    pub token: SecretString,
    /// The account's current signing key.
    pub current_signing_key: SecretString,
    /// The account's next signing key. Without it a rotation of the keys interrupts the relay.
    pub next_signing_key: Option<SecretString>,
    /// The public URL of our relay, as signatures must name it.
    pub relay_url: String,
    /// How often QStash calls the relay again after an answer that is no 2xx. Plans allow 3 to 5.
    pub retries: u8,
    /// How far ahead it takes a message: 7 days on the smallest plan.
    pub furthest: Duration,
    /// How many calls may be under way at once, per batch.
    pub in_flight: usize,
    /// The deadline of one call, over connection, headers and body. 10 s is plenty.
    pub timeout: Duration,
}

/// The options cannot work.
#[derive(Debug, thiserror::Error)]
pub enum QstashSetupError {
    /// A signing key is empty.
    #[error(transparent)]
    Key(#[from] EmptyKey),
    /// The token is empty or has characters that no header takes.
    #[error("the QStash token cannot be sent in a header")]
    Token,
    /// The relay's URL would reach QStash, and so the signatures, in another spelling.
    #[error("the relay's URL must be absolute, http or https, and spelled as it is sent: {0}")]
    RelayUrl(String),
    /// The base of the API cannot have a path appended.
    #[error("the QStash URL must be http or https, without a query")]
    Url,
    /// No HTTP client could be made.
    #[error("the client for QStash could not be set up (are the system's CA certificates installed?): {0}")]
    Client(String),
}

impl QstashOptions {
    /// As configured; `None` where QStash is not.
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
