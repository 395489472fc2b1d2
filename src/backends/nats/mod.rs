//! NATS `JetStream`: a distributed backend that operators run themselves.
//!
//! A wake-up is a scheduled message on a subject of its own (servers from 2.12 on have them); when its time comes
//! the server puts it on the one subject that all replicas consume together.
//!
//! - `options`: what the operator says, checked. `checks`: what `nas-cron doctor` looks at.
//! - `connecting`: the connection, made in the background.
//! - `stream`: the stream and the consumer, made or judged.
//! - `schedules`: arming and cancelling.
//! - `pulling`: from the server into our hands; `consuming`: from our hands into the loop.

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

/// The server looks four times a second for what is due, and a burst takes its time: early enough for both.
const LEAD: Duration = Duration::from_secs(1);

/// The server counts nanoseconds in 64 bits: what lies beyond the year 2262 would fire at once.
const FURTHEST: Duration = Duration::from_hours(100 * 365 * 24);

/// What a message has beside its payload, generously.
const HEADERS: usize = 1024;

/// The payload that servers take unless they are told otherwise.
const USUAL_PAYLOAD: usize = 1024 * 1024;

/// Scheduled messages of a NATS `JetStream`.
#[derive(Debug)]
pub struct Nats {
    options: NatsOptions,
    connection: Connection,
    schedules: Schedules,
}

impl Nats {
    /// Checks the options and begins to connect in the background, for ever: a server that is away fails nothing
    /// here. Needs the runtime.
    pub async fn new(options: NatsOptions) -> Result<Self, NatsOptionsError> {
        let connection = Connection::start(&options).await?;
        Ok(Self { options, connection, schedules: Schedules::new() })
    }

    /// The servers that are configured, if some are. Connects in the background.
    pub async fn configured(config: &config::Backends) -> anyhow::Result<Option<Self>> {
        let Some(options) = NatsOptions::from_config(config) else { return Ok(None) };
        Ok(Some(Self::new(options).await.context("NATS cannot be used as it is configured")?))
    }

    /// Brings in wake-ups until `stop`, as [`SchedulerBackend::listen`] does, into anything that takes batches:
    /// one answer per wake-up, in order. What `wake` fails on is kept in hand and handed in again, however long
    /// that lasts. Up to four batches are handed in at once.
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
            // Not told yet.
            0 => USUAL_PAYLOAD,
            told => told,
        };
        Limits {
            // The own timer's, which has the last second.
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

    /// NATS calls nobody over HTTP.
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
