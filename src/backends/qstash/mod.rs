//! QStash, an external backend run by Upstash. It is controlled over HTTP, and wakes the service by signed calls to the
//! relay.
//!
//! QStash's resolution is one second, and it guarantees "not before". A wake-up is therefore scheduled 1 to 2 s before
//! the instant, and the built-in loop's timer covers the rest. A direct call has no such timer: it is scheduled for the
//! next whole second.
//!
//! - `options`: the account, the relay and their limits. `checks`, `relay_check`: the checks of `nas-cron doctor`.
//! - `publish`, `answer`: messages to QStash, and its responses. [`signature`]: verification of its calls to the relay.
//! - [`direct`]: the mode in which QStash calls the agents itself. `direct_results`, `logs`: the results of those calls.

mod answer;
pub mod checks;
pub mod direct;
mod direct_results;
mod logs;
mod options;
mod publish;
mod relay_check;
pub mod signature;

use std::sync::Arc;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use anyhow::Context;
use axum::http::HeaderMap;
use futures::StreamExt;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Client, Method, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};
use tokio_util::sync::CancellationToken;

use self::answer::{Answer, MAX_ANSWER};
pub use self::logs::DirectEnd;
pub use self::options::{QstashOptions, QstashSetupError};
use nas_cron_base::clock::Clock;
use nas_cron_protocol::BackendName;

use self::publish::Kind;
use self::signature::SigningKeys;
use super::{BackendError, Limits, Refusal, RelayRequest, SchedulerBackend, Unwanted, WakeUp, Wakes};
use crate::config;

/// Header with the signature of a call to the relay.
pub const SIGNATURE_HEADER: &str = "upstash-signature";

/// Maximum length of a message on the smallest plan (1 MB).
const LARGEST_MESSAGE: usize = 1_000_000;

/// A QStash account. It pools connections: share one per process.
#[derive(Debug)]
pub struct Qstash {
    client: Client,
    /// Base URL without a trailing slash.
    base: String,
    authorization: HeaderValue,
    keys: SigningKeys,
    options: QstashOptions,
    clock: Arc<dyn Clock>,
}

/// Comparison of the configured signing keys with the account's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyStanding {
    /// Both keys of the account are configured.
    Current,
    /// The account signs with a configured key, but its next key is not configured. The next rotation would interrupt
    /// the relay.
    Behind,
    /// The account signs with a key that is not configured. Every call to the relay is refused.
    Unknown,
}

#[derive(Deserialize)]
struct AccountKeys {
    #[serde(deserialize_with = "secret")]
    current: SecretString,
    #[serde(deserialize_with = "secret")]
    next: SecretString,
}

fn secret<'de, D: Deserializer<'de>>(deserializer: D) -> Result<SecretString, D::Error> {
    String::deserialize(deserializer).map(SecretString::from)
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Published {
    message_id: String,
}

impl Qstash {
    /// Creates the client, and installs `ring` as the process's TLS provider unless one is installed already.
    /// `clock` is needed for a `Retry-After` with a date.
    pub fn new(options: QstashOptions, clock: Arc<dyn Clock>) -> Result<Self, QstashSetupError> {
        // An error means that the process already has a provider.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let keys = SigningKeys::new(&options.current_signing_key, options.next_signing_key.as_ref())?;
        let base = publish::base(&options.url).ok_or(QstashSetupError::Url)?;
        publish::check_relay_url(&base, &options.relay_url).map_err(QstashSetupError::RelayUrl)?;
        let token = options.token.expose_secret();
        let mut authorization = match HeaderValue::try_from(format!("Bearer {token}")) {
            Ok(value) if !token.trim().is_empty() => value,
            _ => return Err(QstashSetupError::Token),
        };
        // Keeps the token out of debug output and out of the HTTP/2 compression table.
        authorization.set_sensitive(true);
        let client = Client::builder()
            .user_agent(concat!("nas-cron/", env!("CARGO_PKG_VERSION")))
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .referer(false)
            .no_proxy()
            .connect_timeout(options.timeout)
            .timeout(options.timeout)
            .pool_max_idle_per_host(options.in_flight)
            .build()
            .map_err(|error| QstashSetupError::Client(answer::causes(error)))?;
        Ok(Self { client, base, authorization, keys, options, clock })
    }

    /// Creates the account if QStash is configured. Does not connect.
    pub fn configured(
        config: &config::Backends,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        let Some(options) = QstashOptions::from_config(config) else { return Ok(None) };
        let account = Self::new(options, Arc::clone(clock));
        Ok(Some(Arc::new(account.context("invalid QStash settings")?)))
    }

    /// Compares the configured signing keys with the account's.
    pub async fn key_standing(&self) -> Result<KeyStanding, BackendError> {
        let account: AccountKeys = self.keys_of_the_account().await?;
        let same = |ours: &SecretString, theirs: &SecretString| {
            subtle::ConstantTimeEq::ct_eq(ours.expose_secret().as_bytes(), theirs.expose_secret().as_bytes())
                .into()
        };
        let (current, next) = (&self.options.current_signing_key, self.options.next_signing_key.as_ref());
        let knows = |theirs| same(current, theirs) || next.is_some_and(|next| same(next, theirs));
        Ok(match (knows(&account.current), knows(&account.next)) {
            (false, _) => KeyStanding::Unknown,
            (true, true) => KeyStanding::Current,
            (true, false) => KeyStanding::Behind,
        })
    }

    async fn keys_of_the_account(&self) -> Result<AccountKeys, BackendError> {
        self.call(self.request(Method::GET, "/v2/keys"), MAX_ANSWER).await?.json()
    }

    fn request(&self, method: Method, path_and_query: &str) -> RequestBuilder {
        self.client
            .request(method, format!("{}{path_and_query}", self.base))
            .header(AUTHORIZATION, self.authorization.clone())
            .header(ACCEPT, "application/json")
    }

    /// Makes one call. A response other than 2xx is an error; its text contains none of the configured secrets.
    async fn call(&self, request: RequestBuilder, longest: usize) -> Result<Answer, BackendError> {
        let mut secrets = vec![&self.options.token, &self.options.current_signing_key];
        secrets.extend(&self.options.next_signing_key);
        Answer::to(request, longest).await?.good(&secrets, self.clock.now())
    }

    async fn publish(&self, wake_up: &WakeUp) -> Result<Option<String>, BackendError> {
        self.send(publish::message(wake_up, &self.options)).await.map(Some)
    }

    /// Publishes a message. Returns its id, or that of the message that QStash has with the same deduplication id.
    async fn send(&self, message: publish::Message) -> Result<String, BackendError> {
        let url = publish::url(&self.base, &message.destination)
            .ok_or_else(|| BackendError::Refused("the agent's URL is invalid".to_owned()))?;
        let headers = message
            .headers()
            .ok_or_else(|| BackendError::Refused("a header of the message is invalid".to_owned()))?;
        let request = self
            .client
            .post(url)
            .header(AUTHORIZATION, self.authorization.clone())
            .header(ACCEPT, "application/json")
            .headers(headers)
            .body(message.body);
        let published: Published = self.call(request, MAX_ANSWER).await?.json()?;
        if message_path(&published.message_id).is_none() {
            return Err(BackendError::Garbage("invalid message id".to_owned()));
        }
        Ok(published.message_id)
    }

    /// Cancels wake-ups, or calls of direct mode.
    async fn cancel_all(&self, wake_ups: &[Unwanted], kind: Kind) -> Vec<Result<(), BackendError>> {
        let take_back = async |index: usize| {
            // It may take two calls. A batch counts on one.
            let both = tokio::time::timeout(self.options.timeout, self.take_back(&wake_ups[index], kind));
            both.await.unwrap_or(Err(BackendError::TimedOut))
        };
        self.batch(wake_ups, take_back).await
    }

    async fn take_back(&self, wake_up: &Unwanted, kind: Kind) -> Result<(), BackendError> {
        let message_id = match &wake_up.message_id {
            Some(message_id) => message_id.clone(),
            None if wake_up.unconfirmed => {
                let placeholder = publish::placeholder(wake_up, kind, &self.options, self.clock.now());
                match self.send(placeholder).await {
                    // It refuses the wake-up as well.
                    Err(BackendError::Refused(_)) => return Ok(()),
                    message_id => message_id?,
                }
            }
            None => return Ok(()),
        };
        let path = message_path(&message_id)
            .ok_or_else(|| BackendError::Refused("invalid message id".to_owned()))?;
        match self.call(self.request(Method::DELETE, &path), MAX_ANSWER).await {
            Err(error) if answer::is_not_found(&error) => Ok(()),
            result => result.map(drop),
        }
    }

    /// Makes a batch of calls, with at most `in_flight` at once. An error that concerns the whole account (QStash is
    /// unreachable, or limits the rate) ends the batch, and the remaining calls fail with it. A batch takes at most
    /// three timeouts of one call.
    async fn batch<T, R, F>(&self, items: &[T], call: impl Fn(usize) -> F) -> Vec<Result<R, BackendError>>
    where
        F: Future<Output = Result<R, BackendError>>,
    {
        let last_start = Instant::now() + 2 * self.options.timeout;
        let stopped = OnceLock::new();
        futures::stream::iter(0..items.len())
            .map(|index| {
                let (stopped, work) = (&stopped, call(index));
                async move {
                    if let Some(error) = stopped.get() {
                        return Err(BackendError::clone(error));
                    }
                    if Instant::now() > last_start {
                        return Err(BackendError::TimedOut);
                    }
                    let result = work.await;
                    if let Err(error) = &result
                        && !matches!(error, BackendError::Refused(_) | BackendError::Garbage(_))
                    {
                        // The first such error is kept.
                        let _ = stopped.set(error.clone());
                    }
                    result
                }
            })
            .buffered(self.options.in_flight.max(1))
            .collect()
            .await
    }
}

/// Returns the path of one message; `None` for an id with characters that QStash does not use. An empty or dotted id
/// would lead to the path of all messages, where a DELETE cancels everything.
fn message_path(message_id: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'~');
    let named = (1..=512).contains(&message_id.len()) && message_id.bytes().all(plain);
    named.then(|| format!("/v2/messages/{message_id}"))
}

/// Returns the signature of a request that has exactly one.
fn signature_of(headers: &HeaderMap) -> Result<&[u8], Refusal> {
    let mut values = headers.get_all(SIGNATURE_HEADER).iter();
    match (values.next(), values.next()) {
        (None, _) => Err(Refusal::Unsigned),
        (Some(value), None) => Ok(value.as_bytes()),
        _ => Err(Refusal::Malformed),
    }
}

impl SchedulerBackend for Qstash {
    fn name(&self) -> BackendName {
        BackendName::Qstash
    }

    fn limits(&self) -> Limits {
        Limits {
            granularity: Duration::from_secs(1),
            lead: publish::LEAD,
            furthest: Some(self.options.furthest),
            largest_payload: LARGEST_MESSAGE,
        }
    }

    async fn arm(&self, wake_ups: &[WakeUp]) -> Vec<Result<Option<String>, BackendError>> {
        self.batch(wake_ups, |index| self.publish(&wake_ups[index])).await
    }

    async fn cancel(&self, wake_ups: &[Unwanted]) -> Vec<Result<(), BackendError>> {
        self.cancel_all(wake_ups, Kind::WakeUp).await
    }

    fn verify(&self, request: &RelayRequest<'_>) -> Result<(), Refusal> {
        let signature = signature_of(request.headers)?;
        signature::verify(signature, &self.keys, &self.options.relay_url, request.body, request.now)
    }

    async fn health(&self) -> Result<(), BackendError> {
        self.keys_of_the_account().await.map(drop)
    }

    async fn listen(&self, _: Wakes, stop: CancellationToken) {
        // Wake-ups arrive over HTTP, at the relay.
        stop.cancelled().await;
    }
}

#[cfg(test)]
mod tests;
