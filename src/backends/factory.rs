//! The closed set of backends, and the one place that constructs them. Code elsewhere uses the trait.
//!
//! docs/backends.md#adding-a-backend lists the files that a new backend touches.

use std::sync::Arc;
use std::time::Duration;

use nas_cron_base::clock::Clock;
use nas_cron_protocol::BackendName;
use tokio_util::sync::CancellationToken;

use super::backend::{BackendError, Limits, Refusal, RelayRequest, SchedulerBackend, Unwanted, WakeUp};
use super::checks::BackendCheck;
use super::nats::{self, Nats};
use super::postgres::Postgres;
use super::qstash::direct::QstashDirect;
use super::qstash::{self, Qstash};
use super::wakes::Wakes;
use crate::config;
use crate::db::Db;
use crate::keys::KeyRing;

/// A scheduler backend.
#[derive(Debug)]
pub enum Backend {
    /// The Postgres loop.
    Postgres(Postgres),
    /// `QStash`, which calls the relay.
    Qstash(Arc<Qstash>),
    /// `QStash`, which calls the agents itself.
    QstashDirect(QstashDirect),
    /// NATS `JetStream`.
    Nats(Box<Nats>),
}

/// Constructs every external backend that is configured. Does not wait for connections: an unavailable backend must
/// not keep the service from starting. `keys` sign the fire tokens for backends that call agents themselves; without
/// `keys`, these backends are left out.
pub async fn configured(
    config: &config::Backends,
    keys: Option<&Arc<KeyRing>>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Vec<Backend>> {
    let mut backends = Vec::new();
    if let Some(account) = Qstash::configured(config, clock)? {
        if let Some(keys) = keys {
            let direct = QstashDirect::new(Arc::clone(&account), Arc::clone(keys));
            backends.push(Backend::QstashDirect(direct));
        }
        backends.push(Backend::Qstash(account));
    }
    if let Some(nats) = Nats::configured(config).await? {
        backends.push(Backend::Nats(Box::new(nats)));
    }
    Ok(backends)
}

/// Returns the maximum lifetime of the tokens that are minted ahead for a backend that calls agents itself; `None` if
/// no such backend is configured.
pub fn tokens_minted_ahead(config: &config::Backends) -> Option<Duration> {
    config.qstash.as_ref().map(|_| qstash::direct::FURTHEST + qstash::direct::TOKEN_OUTLIVES)
}

/// Returns the checks of every backend, in display order.
pub fn checks() -> impl Iterator<Item = &'static BackendCheck> {
    [qstash::checks::CHECKS, nats::checks::CHECKS].into_iter().flatten()
}

/// Forwards a call to the backend in each variant.
macro_rules! on_each {
    ($self:ident, $backend:ident => $call:expr) => {
        match $self {
            Backend::Postgres($backend) => $call,
            Backend::Qstash($backend) => $call,
            Backend::QstashDirect($backend) => $call,
            Backend::Nats($backend) => $call,
        }
    };
}

impl SchedulerBackend for Backend {
    fn name(&self) -> BackendName {
        on_each!(self, backend => backend.name())
    }

    fn limits(&self) -> Limits {
        on_each!(self, backend => backend.limits())
    }

    async fn arm(&self, wake_ups: &[WakeUp]) -> Vec<Result<Option<String>, BackendError>> {
        on_each!(self, backend => backend.arm(wake_ups).await)
    }

    async fn cancel(&self, wake_ups: &[Unwanted]) -> Vec<Result<(), BackendError>> {
        on_each!(self, backend => backend.cancel(wake_ups).await)
    }

    fn verify(&self, request: &RelayRequest<'_>) -> Result<(), Refusal> {
        on_each!(self, backend => backend.verify(request))
    }

    async fn health(&self) -> Result<(), BackendError> {
        on_each!(self, backend => backend.health().await)
    }

    async fn listen(&self, wakes: Wakes, stop: CancellationToken) {
        on_each!(self, backend => backend.listen(wakes, stop).await);
    }

    async fn record_results(&self, db: &Db, stop: CancellationToken) {
        on_each!(self, backend => backend.record_results(db, stop).await);
    }
}
