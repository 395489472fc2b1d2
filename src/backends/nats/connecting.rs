//! The connection: opened in the background with unlimited retries, and checked before every call.

use std::sync::Arc;
use std::time::Duration;

use async_nats::connection::State;
use async_nats::jetstream::{self, context::ContextBuilder};
use async_nats::{Client, ClientError, Event};
use parking_lot::Mutex;
use tokio::sync::watch;
use tokio::time::Instant;
use tracing::{debug, info, warn};

use super::options::{NatsOptions, NatsOptionsError};
use crate::backends::BackendError;

/// Interval between pings. A server that died silently is detected after two of them.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// A client that reconnects by itself.
#[derive(Debug)]
pub(super) struct Connection {
    client: Client,
    jetstream: jetstream::Context,
    servers: String,
    news: Arc<News>,
    /// Until this instant, a call waits for the first connection.
    first_until: Instant,
}

/// The latest reports of the client's callbacks.
#[derive(Debug)]
struct News {
    /// Number of connections opened and lost.
    changes: watch::Sender<u64>,
    /// Error of the last failed attempt to connect.
    problem: Mutex<Option<String>>,
}

impl Connection {
    /// Checks the options and starts to connect.
    pub(super) async fn start(options: &NatsOptions) -> Result<Self, NatsOptionsError> {
        let addresses = options.addresses()?;
        let news = Arc::new(News { changes: watch::Sender::new(0), problem: Mutex::new(None) });
        let (events, problems) = (Arc::clone(&news), Arc::clone(&news));
        let client = options
            .connect_options()?
            .ping_interval(PING_INTERVAL)
            .retry_on_initial_connect()
            .max_reconnects(None)
            .event_callback(move |event| {
                events.hear(&event);
                std::future::ready(())
            })
            // Called before every attempt to choose a server. It chooses none: only here does the client report the
            // error of the last attempt.
            .reconnect_to_server_callback(move |servers, _| {
                problems.failed(servers.into_iter().filter_map(|server| {
                    server.last_error.map(|error| format!("{}: {error}", server.addr.as_url_str()))
                }));
                std::future::ready(None)
            })
            .connect(addresses)
            .await
            // Nothing was connected yet: only the addresses can be invalid.
            .map_err(|error| NatsOptionsError::Url(options.urls.join(", "), error.to_string()))?;
        let jetstream = ContextBuilder::new().timeout(options.timeout).build(client.clone());
        let first_until = Instant::now() + options.timeout;
        Ok(Self { client, jetstream, servers: options.urls.join(", "), news, first_until })
    }

    /// Returns `JetStream` if the client is connected. Waits for a connection only within one call timeout after the
    /// start.
    pub(super) async fn jetstream(&self) -> Result<&jetstream::Context, BackendError> {
        let mut changes = self.news.changes.subscribe();
        while !self.is_connected() {
            if !matches!(tokio::time::timeout_at(self.first_until, changes.changed()).await, Ok(Ok(()))) {
                return Err(self.unreachable());
            }
        }
        Ok(&self.jetstream)
    }

    /// Waits for a connection. Returns `JetStream`.
    pub(super) async fn connected(&self) -> &jetstream::Context {
        let mut changes = self.news.changes.subscribe();
        while !self.is_connected() {
            // Cannot fail: `self.news` holds the sender.
            let _ = changes.changed().await;
        }
        &self.jetstream
    }

    /// Returns a receiver that changes with every connection opened or lost from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.news.changes.subscribe()
    }

    /// Returns the client, connected or not.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// Returns the version of the connected server.
    pub(super) fn server_version(&self) -> Option<String> {
        self.client.try_server_info().map(|info| info.version)
    }

    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    fn unreachable(&self) -> BackendError {
        let problem = self.news.problem.lock();
        BackendError::Unreachable(
            problem.clone().unwrap_or_else(|| format!("{}: not connected", self.servers)),
        )
    }
}

impl News {
    fn hear(&self, event: &Event) {
        match event {
            Event::Connected => {
                info!("connected to NATS");
                *self.problem.lock() = None;
                self.changes.send_modify(|changes| *changes += 1);
            }
            Event::Disconnected => {
                warn!("connection to NATS lost; reconnecting");
                self.changes.send_modify(|changes| *changes += 1);
            }
            // The next attempt to connect reports the error in full.
            Event::ClientError(ClientError::Other(_)) => debug!(%event, "NATS client error"),
            Event::ServerError(error) => warn!(%error, "NATS server error"),
            Event::ClientError(_) | Event::SlowConsumer(_) => warn!(%event, "NATS client error"),
            Event::LameDuckMode | Event::Draining | Event::Closed => info!(%event, "NATS connection changed"),
        }
    }

    /// Records why connecting failed. Logs the reason if it has changed.
    fn failed(&self, why: impl Iterator<Item = String>) {
        let why: Vec<String> = why.collect();
        if why.is_empty() {
            return;
        }
        let why = why.join("; ");
        let mut problem = self.problem.lock();
        if problem.as_deref() != Some(&why) {
            warn!(%why, "connecting to NATS failed; retrying");
            *problem = Some(why);
        }
    }
}
