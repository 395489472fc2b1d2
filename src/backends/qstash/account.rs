//! One QStash account, in one region.

use std::sync::Arc;

use nas_cron_base::clock::Clock;
use reqwest::header::{ACCEPT, AUTHORIZATION, HeaderValue};
use reqwest::{Client, Method, RequestBuilder};
use secrecy::{ExposeSecret, SecretString};
use serde::{Deserialize, Deserializer};

use super::answer::{self, Answer, MAX_ANSWER};
use super::options::{AccountOptions, QstashSetupError};
use super::publish::{self, Message};
use super::signature::SigningKeys;
use crate::backends::BackendError;
use crate::domain::qstash_region::QstashRegion;

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

/// A QStash account.
#[derive(Debug)]
pub struct Account {
    client: Client,
    /// Base URL without a trailing slash.
    base: String,
    authorization: HeaderValue,
    keys: SigningKeys,
    options: AccountOptions,
    clock: Arc<dyn Clock>,
}

impl Account {
    /// Checks the options. `client` makes the calls.
    pub(super) fn new(
        options: AccountOptions,
        relay_url: &str,
        client: Client,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, QstashSetupError> {
        let keys = SigningKeys::new(&options.current_signing_key, options.next_signing_key.as_ref())?;
        let base = publish::base(&options.url).ok_or(QstashSetupError::Url)?;
        publish::check_relay_url(&base, relay_url).map_err(QstashSetupError::RelayUrl)?;
        let token = options.token.expose_secret();
        let mut authorization = match HeaderValue::try_from(format!("Bearer {token}")) {
            Ok(value) if !token.trim().is_empty() => value,
            _ => return Err(QstashSetupError::Token),
        };
        // Keeps the token out of debug output and out of the HTTP/2 compression table.
        authorization.set_sensitive(true);
        Ok(Self { client, base, authorization, keys, options, clock })
    }

    /// Its region; `None` for the account of the settings without a region.
    pub fn region(&self) -> Option<QstashRegion> {
        self.options.region
    }

    /// The keys that sign its calls to the relay.
    pub(super) fn keys(&self) -> &SigningKeys {
        &self.keys
    }

    /// Returns its name for a message: the message id, after the region if the account has one. It is stored with the
    /// wake-up, because a message can be cancelled only where it was published.
    pub(super) fn name_of(&self, message_id: &str) -> String {
        match self.options.region {
            None => message_id.to_owned(),
            Some(region) => format!("{region}/{message_id}"),
        }
    }

    /// Compares the configured signing keys with the account's.
    pub async fn key_standing(&self) -> Result<KeyStanding, BackendError> {
        let account = self.keys_of_the_account().await?;
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

    /// Checks that QStash is reachable and accepts the token.
    pub async fn health(&self) -> Result<(), BackendError> {
        self.keys_of_the_account().await.map(drop)
    }

    async fn keys_of_the_account(&self) -> Result<AccountKeys, BackendError> {
        self.get("/v2/keys", MAX_ANSWER).await?.json()
    }

    /// Makes a GET call.
    pub(super) async fn get(&self, path_and_query: &str, longest: usize) -> Result<Answer, BackendError> {
        self.call(self.request(Method::GET, path_and_query), longest).await
    }

    fn request(&self, method: Method, path_and_query: &str) -> RequestBuilder {
        self.authorized(self.client.request(method, format!("{}{path_and_query}", self.base)))
    }

    fn authorized(&self, request: RequestBuilder) -> RequestBuilder {
        request.header(AUTHORIZATION, self.authorization.clone()).header(ACCEPT, "application/json")
    }

    /// Makes one call. A response other than 2xx is an error; its text contains none of the account's secrets.
    async fn call(&self, request: RequestBuilder, longest: usize) -> Result<Answer, BackendError> {
        let mut secrets = vec![&self.options.token, &self.options.current_signing_key];
        secrets.extend(&self.options.next_signing_key);
        Answer::to(request, longest).await?.good(&secrets, self.clock.now())
    }

    /// Publishes a message. Returns its id, or that of the message that QStash has with the same deduplication id.
    pub(super) async fn send(&self, message: Message) -> Result<String, BackendError> {
        let url = publish::url(&self.base, &message.destination)
            .ok_or_else(|| BackendError::Refused("the agent's URL is invalid".to_owned()))?;
        let headers = message
            .headers()
            .ok_or_else(|| BackendError::Refused("a header of the message is invalid".to_owned()))?;
        let request = self.authorized(self.client.post(url)).headers(headers).body(message.body);
        let published: Published = self.call(request, MAX_ANSWER).await?.json()?;
        if message_path(&published.message_id).is_none() {
            return Err(BackendError::Garbage("invalid message id".to_owned()));
        }
        Ok(published.message_id)
    }

    /// Cancels a message. One that does not exist counts as cancelled.
    pub(super) async fn take_back(&self, message_id: &str) -> Result<(), BackendError> {
        let path =
            message_path(message_id).ok_or_else(|| BackendError::Refused("invalid message id".to_owned()))?;
        match self.call(self.request(Method::DELETE, &path), MAX_ANSWER).await {
            Err(error) if answer::is_not_found(&error) => Ok(()),
            result => result.map(drop),
        }
    }
}

/// Creates the client that all accounts share. Installs `ring` as the process's TLS provider unless one is installed
/// already.
pub(super) fn client(timeout: std::time::Duration, in_flight: usize) -> Result<Client, QstashSetupError> {
    // An error means that the process already has a provider.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("nas-cron/", env!("CARGO_PKG_VERSION")))
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .referer(false)
        .no_proxy()
        .connect_timeout(timeout)
        .timeout(timeout)
        .pool_max_idle_per_host(in_flight)
        .build()
        .map_err(|error| QstashSetupError::Client(answer::causes(error)))
}

/// Returns the path of one message; `None` for an id with characters that QStash does not use. An empty or dotted id
/// would lead to the path of all messages, where a DELETE cancels everything.
pub(super) fn message_path(message_id: &str) -> Option<String> {
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'-' | b'~');
    let named = (1..=512).contains(&message_id.len()) && message_id.bytes().all(plain);
    named.then(|| format!("/v2/messages/{message_id}"))
}
