//! The closed set of backends, and the one place that makes them.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use nas_cron_base::clock::Clock;
use nas_cron_protocol::BackendName;
use tokio_util::sync::CancellationToken;

use super::backend::{BackendError, Limits, Refusal, RelayRequest, SchedulerBackend, Unwanted, WakeUp};
use super::nats::{Nats, NatsOptions};
use super::postgres::Postgres;
use super::qstash::{Qstash, QstashOptions};
use super::qstash_direct::QstashDirect;
use super::wakes::Wakes;
use crate::config;
use crate::keys::KeyRing;

/// How many calls to `QStash` may be under way at once, per round.
const QSTASH_IN_FLIGHT: usize = 32;
/// How long a wake-up of NATS may be in one replica's hands without a word before another gets it.
const NATS_ACK_WAIT: Duration = Duration::from_secs(30);

/// Every backend there is.
#[derive(Debug)]
pub enum Backend {
    /// Our own loop.
    Postgres(Postgres),
    /// `QStash` calling our relay.
    Qstash(Arc<Qstash>),
    /// `QStash` calling the agents.
    QstashDirect(QstashDirect),
    /// NATS.
    Nats(Box<Nats>),
}

/// Makes every hosted engine that is configured. Reaches none of them yet: an engine that
/// is away must not keep the service from starting. `keys` sign what `QStash` forwards in direct mode, which is left
/// out without them.
pub async fn hosted(
    config: &config::Backends,
    keys: Option<&Arc<KeyRing>>,
    clock: &Arc<dyn Clock>,
) -> anyhow::Result<Vec<Backend>> {
    let mut backends = Vec::new();
    if let Some(qstash) = &config.qstash {
        let options = qstash_options(config, qstash);
        let qstash = Arc::new(
            Qstash::new(options, Arc::clone(clock)).context("QStash cannot be used as it is configured")?,
        );
        if let Some(keys) = keys {
            backends.push(Backend::QstashDirect(QstashDirect::new(Arc::clone(&qstash), Arc::clone(keys))));
        }
        backends.push(Backend::Qstash(qstash));
    }
    if let Some(nats) = &config.nats {
        let options = nats_options(config, nats);
        let nats = Nats::new(options).await.context("NATS cannot be used as it is configured")?;
        backends.push(Backend::Nats(Box::new(nats)));
    }
    Ok(backends)
}

fn qstash_options(config: &config::Backends, qstash: &config::backends::Qstash) -> QstashOptions {
    QstashOptions {
        url: qstash.url.url().clone(),
        token: qstash.token.clone(),
        current_signing_key: qstash.current_signing_key.clone(),
        next_signing_key: qstash.next_signing_key.clone(),
        relay_url: config.relay_url.to_string(),
        retries: qstash.retries,
        furthest: qstash.furthest,
        in_flight: QSTASH_IN_FLIGHT,
        timeout: config.call_timeout,
    }
}

fn nats_options(config: &config::Backends, nats: &config::backends::Nats) -> NatsOptions {
    NatsOptions {
        urls: nats.urls.clone(),
        credentials_file: nats.credentials_file.clone(),
        tls_ca_file: nats.ca_file.clone(),
        tls_cert_file: nats.certificate_file.clone(),
        tls_key_file: nats.key_file.clone(),
        stream: nats.stream.clone(),
        subject_prefix: nats.subject.clone(),
        replicas: nats.replicas,
        timeout: config.call_timeout,
        ack_wait: NATS_ACK_WAIT,
        ..NatsOptions::new(Vec::new())
    }
}

/// The same call on whichever it is.
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
}
