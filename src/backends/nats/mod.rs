//! NATS `JetStream`: an external backend that operators run themselves.
//!
//! A wake-up is a scheduled message on a subject of its own (servers support this since 2.12). When it is due, the
//! server puts it on the one subject that all replicas consume together.
//!
//! - `options`: the operator's settings, validated. `checks`: the checks of `nas-cron doctor`.
//! - `connecting`: the connection, opened in the background. `answers`: the mapping of errors.
//! - `stream`: the stream and the consumer, created or checked.
//! - `schedules`: arming and cancelling.
//! - `pulling`: receives wake-ups from the server; `consuming`: passes them to the scheduler.

mod answers;
pub mod checks;
mod connecting;
mod consuming;
mod options;
mod pulling;
mod schedules;
mod stream;

use std::fmt::Display;
use std::time::Duration;

use anyhow::Context;
use nas_cron_protocol::BackendName;
use tokio_util::sync::CancellationToken;

use self::connecting::Connection;
use self::schedules::Schedules;
use super::backend::{BackendError, Limits, Refusal, RelayRequest, SchedulerBackend, Unwanted, WakeUp};
use super::wakes::Wakes;
use crate::config;
use crate::domain::wake_up::Wake;
use crate::scheduler::Woken;

pub use self::options::{NatsOptions, NatsOptionsError};

/// Time from the wake-up to the instant. The server checks for due messages four times a second, and a burst takes
/// some time: this covers both.
const LEAD: Duration = Duration::from_secs(1);

/// Maximum time ahead. The server counts nanoseconds in 64 bits: a time after the year 2262 would fire at once.
const FURTHEST: Duration = Duration::from_hours(100 * 365 * 24);

/// Upper bound on the length of a message's headers, in bytes.
const HEADERS: usize = 1024;

/// Default maximum payload of a server, in bytes.
const USUAL_PAYLOAD: usize = 1024 * 1024;

/// The NATS backend: scheduled messages of `JetStream`.
#[derive(Debug)]
pub struct Nats {
    options: NatsOptions,
    connection: Connection,
    schedules: Schedules,
}

impl Nats {
    /// Checks the options and starts to connect in the background, with unlimited retries: an unreachable server is
    /// not an error here. Needs a Tokio runtime.
    pub async fn new(options: NatsOptions) -> Result<Self, NatsOptionsError> {
        let connection = Connection::start(&options).await?;
        Ok(Self { options, connection, schedules: Schedules::new() })
    }

    /// Creates the backend if NATS is configured. Connects in the background.
    pub async fn configured(config: &config::Backends) -> anyhow::Result<Option<Self>> {
        let Some(options) = NatsOptions::from_config(config) else { return Ok(None) };
        Ok(Some(Self::new(options).await.context("invalid NATS settings")?))
    }

    /// Receives wake-ups until `stop`, as [`SchedulerBackend::listen`] does, and passes them in batches to `wake`,
    /// which returns one result per wake-up, in order. A batch on which `wake` fails is kept and retried without
    /// limit. Up to four batches are passed on concurrently.
    pub async fn consume<F, Fut, E>(&self, wake: F, stop: CancellationToken)
    where
        F: Fn(Vec<Wake>) -> Fut + Sync,
        Fut: Future<Output = Result<Vec<Woken>, E>> + Send,
        E: Display + Send,
    {
        consuming::run(self, wake, stop).await;
    }
}

impl SchedulerBackend for Nats {
    fn name(&self) -> BackendName {
        BackendName::Nats
    }

    fn limits(&self) -> Limits {
        let payload = match self.connection.client().max_payload() {
            // The server has not reported it yet.
            0 => USUAL_PAYLOAD,
            reported => reported,
        };
        Limits {
            // The resolution of the built-in loop's timer, which covers the lead.
            granularity: Duration::from_micros(1),
            lead: LEAD,
            furthest: Some(FURTHEST),
            largest_payload: payload.saturating_sub(HEADERS),
        }
    }

    async fn arm(&self, wake_ups: &[WakeUp]) -> Vec<Result<Option<String>, BackendError>> {
        self.schedules.arm(&self.connection, &self.options, LEAD, wake_ups).await
    }

    async fn cancel(&self, wake_ups: &[Unwanted]) -> Vec<Result<(), BackendError>> {
        self.schedules.cancel(&self.connection, &self.options, wake_ups).await
    }

    /// Rejects every request: NATS makes no HTTP calls.
    fn verify(&self, _: &RelayRequest<'_>) -> Result<(), Refusal> {
        Err(Refusal::Unsigned)
    }

    async fn health(&self) -> Result<(), BackendError> {
        let asked = async {
            let jetstream = self.schedules.ready(&self.connection, &self.options).await?;
            match jetstream.get_stream(&self.options.stream).await {
                Ok(_) => Ok(()),
                Err(error) => {
                    self.schedules.doubt();
                    Err(answers::get_stream(&error))
                }
            }
        };
        tokio::time::timeout(self.options.timeout, asked).await.unwrap_or(Err(BackendError::TimedOut))
    }

    async fn listen(&self, wakes: Wakes, stop: CancellationToken) {
        let wake = move |batch: Vec<Wake>| {
            let wakes = wakes.clone();
            async move { wakes.wake_all(batch).await }
        };
        self.consume(wake, stop).await;
    }
}
