//! QStash, an external backend run by Upstash. It is controlled over HTTP, and wakes the service by signed calls to the
//! relay.
//!
//! QStash's resolution is one second, and it guarantees "not before". A wake-up is therefore scheduled 1 to 2 s before
//! the instant, and the built-in loop's timer covers the rest. A direct call has no such timer: it is scheduled for the
//! next whole second.
//!
//! - `options`: the accounts, the relay and their limits. `account`: one account, with the token and the signing keys of its
//!   region. `checks`, `relay_check`: the checks of `nas-cron doctor`.
//! - `publish`, `answer`: messages to QStash, and its responses. [`signature`]: verification of its calls to the relay.
//! - [`direct`]: the mode in which QStash calls the agents itself. `direct_results`, `logs`: the results of those calls.

mod account;
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
use futures::future::join_all;
use nas_cron_base::clock::Clock;
use nas_cron_protocol::BackendName;
use tokio_util::sync::CancellationToken;

pub use self::account::{Account, KeyStanding};
pub use self::logs::DirectEnd;
pub use self::options::{AccountOptions, QstashOptions, QstashSetupError};
use self::publish::Kind;
use super::{BackendError, Limits, Refusal, RelayRequest, SchedulerBackend, Unwanted, WakeUp, Wakes};
use crate::config;
use crate::domain::qstash_region::QstashRegion;

/// Header with the signature of a call to the relay.
pub const SIGNATURE_HEADER: &str = "upstash-signature";
/// Header with the region that made a call to the relay.
pub const REGION_HEADER: &str = "upstash-region";

/// Maximum length of a message on the smallest plan (1 MB).
const LARGEST_MESSAGE: usize = 1_000_000;

/// QStash, with an account in each configured region. It pools connections: share one per process.
#[derive(Debug)]
pub struct Qstash {
    /// The first one publishes. The others still verify and cancel what was published there.
    accounts: Vec<Account>,
    options: QstashOptions,
    clock: Arc<dyn Clock>,
}

impl Qstash {
    /// Checks the options and creates the client. `clock` is needed for a `Retry-After` with a date.
    pub fn new(options: QstashOptions, clock: &Arc<dyn Clock>) -> Result<Self, QstashSetupError> {
        let client = account::client(options.timeout, options.in_flight)?;
        let account = |one: &AccountOptions| {
            Account::new(one.clone(), &options.relay_url, client.clone(), Arc::clone(clock))
        };
        let accounts: Vec<_> = options.accounts.iter().map(account).collect::<Result<_, _>>()?;
        if accounts.is_empty() {
            return Err(QstashSetupError::NoAccount);
        }
        Ok(Self { accounts, options, clock: Arc::clone(clock) })
    }

    /// Creates the accounts if QStash is configured. Does not connect.
    pub fn configured(
        config: &config::Backends,
        clock: &Arc<dyn Clock>,
    ) -> anyhow::Result<Option<Arc<Self>>> {
        let Some(options) = QstashOptions::from_config(config) else { return Ok(None) };
        Ok(Some(Arc::new(Self::new(options, clock).context("invalid QStash settings")?)))
    }

    /// All accounts. The first one publishes.
    pub fn accounts(&self) -> &[Account] {
        &self.accounts
    }

    fn publisher(&self) -> &Account {
        &self.accounts[0]
    }

    fn of_region(&self, region: Option<QstashRegion>) -> Option<&Account> {
        self.accounts.iter().find(|account| account.region() == region)
    }

    /// Returns the account whose keys verify a call: that of the region in its header, as in the official SDK. A call
    /// without the header of a configured region belongs to the account without a region, or else to the publishing one.
    fn signer(&self, headers: &HeaderMap) -> &Account {
        let mut named = headers.get_all(REGION_HEADER).iter();
        let region = match (named.next(), named.next()) {
            (Some(value), None) => value.to_str().ok().and_then(QstashRegion::of_header),
            _ => None,
        };
        region
            .and_then(|region| self.of_region(Some(region)))
            .or_else(|| self.of_region(None))
            .unwrap_or_else(|| self.publisher())
    }

    /// Returns the accounts that may hold a message, and its id there. A name without a region is from the account
    /// without one; if that is no longer configured, its region is unknown, and any account may hold the message.
    fn holders<'a>(&self, name: &'a str) -> (Vec<&Account>, &'a str) {
        match name.split_once('/') {
            Some((region, id)) => {
                let region = region.parse().ok();
                (region.and_then(|region| self.of_region(Some(region))).into_iter().collect(), id)
            }
            None => match self.of_region(None) {
                Some(account) => (vec![account], name),
                None => (self.accounts.iter().collect(), name),
            },
        }
    }

    async fn publish(&self, wake_up: &WakeUp) -> Result<Option<String>, BackendError> {
        let account = self.publisher();
        let message_id = account.send(publish::message(wake_up, &self.options)).await?;
        Ok(Some(account.name_of(&message_id)))
    }

    /// Cancels wake-ups, or calls of direct mode, each in the account that has its message.
    async fn cancel_all(&self, wake_ups: &[Unwanted], kind: Kind) -> Vec<Result<(), BackendError>> {
        let homeless = |name: &String| self.holders(name).0.is_empty();
        let mut results: Vec<_> = wake_ups
            .iter()
            .map(|unwanted| match &unwanted.message_id {
                Some(name) if homeless(name) => {
                    Err(BackendError::Refused(format!("its region is not configured: {name}")))
                }
                _ => Ok(()),
            })
            .collect();
        let ended = self.accounts.iter().map(|account| self.take_back(account, wake_ups, kind));
        for ends in join_all(ended).await {
            ends.into_iter().filter(|(_, end)| end.is_err()).for_each(|(index, end)| results[index] = end);
        }
        results
    }

    /// Cancels the messages that an account has or may have. Returns the results by index.
    async fn take_back(
        &self,
        account: &Account,
        wake_ups: &[Unwanted],
        kind: Kind,
    ) -> Vec<(usize, Result<(), BackendError>)> {
        // `None`: the id is unknown, and any account may have the message.
        let held = |unwanted: &'_ Unwanted| -> Option<Option<String>> {
            let Some(name) = &unwanted.message_id else { return unwanted.unconfirmed.then_some(None) };
            let (holders, id) = self.holders(name);
            holders.iter().any(|holder| std::ptr::eq(*holder, account)).then(|| Some(id.to_owned()))
        };
        let held: Vec<_> =
            wake_ups.iter().enumerate().filter_map(|(index, one)| Some((index, held(one)?))).collect();
        let take_back = async |position: usize| {
            let (index, message_id) = &held[position];
            let work = async {
                if let Some(message_id) = message_id {
                    return account.take_back(message_id).await;
                }
                let now = self.clock.now();
                let placeholder = publish::placeholder(&wake_ups[*index], kind, &self.options, now);
                match account.send(placeholder).await {
                    // It refuses the wake-up as well.
                    Err(BackendError::Refused(_)) => Ok(()),
                    message_id => account.take_back(&message_id?).await,
                }
            };
            // It may take two calls. A batch counts on one.
            tokio::time::timeout(self.options.timeout, work).await.unwrap_or(Err(BackendError::TimedOut))
        };
        let ends = self.batch(&held, take_back).await;
        held.iter().map(|(index, _)| *index).zip(ends).collect()
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
        let keys = self.signer(request.headers).keys();
        signature::verify(signature, keys, &self.options.relay_url, request.body, request.now)
    }

    async fn health(&self) -> Result<(), BackendError> {
        self.publisher().health().await
    }

    async fn listen(&self, _: Wakes, stop: CancellationToken) {
        // Wake-ups arrive over HTTP, at the relay.
        stop.cancelled().await;
    }
}

#[cfg(test)]
mod tests;
