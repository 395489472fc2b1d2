//! The connection: dialled in the background, for ever, and judged before every call.

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

/// A server that went without a word is noticed after two of these.
const PING_INTERVAL: Duration = Duration::from_secs(5);

/// A client that reconnects by itself.
#[derive(Debug)]
pub(super) struct Connection {
    client: Client,
    jetstream: jetstream::Context,
    servers: String,
    news: Arc<News>,
    /// Until then a call waits for the first connection.
    first_until: Instant,
}

/// What the client's callbacks told last.
#[derive(Debug)]
struct News {
    /// Counts connections made and lost.
    changes: watch::Sender<u64>,
    /// Why the last attempt to connect failed.
    problem: Mutex<Option<String>>,
}

impl Connection {
    /// Checks the options and begins to connect.
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
            // Called before every attempt. It chooses nothing: it is where the last failure is told in words.
            .reconnect_to_server_callback(move |servers, _| {
                problems.failed(servers.into_iter().filter_map(|server| {
                    server.last_error.map(|error| format!("{}: {error}", server.addr.as_url_str()))
                }));
                std::future::ready(None)
            })
            .connect(addresses)
            .await
            // Nothing was dialled yet: only the addresses can be wrong.
            .map_err(|error| NatsOptionsError::Url(options.urls.join(", "), error.to_string()))?;
        let jetstream = ContextBuilder::new().timeout(options.timeout).build(client.clone());
        let first_until = Instant::now() + options.timeout;
        Ok(Self { client, jetstream, servers: options.urls.join(", "), news, first_until })
    }

    /// `JetStream`, if there is a connection. Only a young process waits for it, within a call's deadline.
    pub(super) async fn jetstream(&self) -> Result<&jetstream::Context, BackendError> {
        let mut changes = self.news.changes.subscribe();
        while !self.is_connected() {
            if !matches!(tokio::time::timeout_at(self.first_until, changes.changed()).await, Ok(Ok(()))) {
                return Err(self.unreachable());
            }
        }
        Ok(&self.jetstream)
    }

    /// Waits for a connection.
    pub(super) async fn connected(&self) -> &jetstream::Context {
        let mut changes = self.news.changes.subscribe();
        while !self.is_connected() {
            // We hold the sender: it cannot be gone.
            let _ = changes.changed().await;
        }
        &self.jetstream
    }

    /// Tells of every connection that is made or lost from now on.
    pub(super) fn changes(&self) -> watch::Receiver<u64> {
        self.news.changes.subscribe()
    }

    /// The client, connected or not.
    pub(super) fn client(&self) -> &Client {
        &self.client
    }

    /// The version of the server, where we are connected.
    pub(super) fn server_version(&self) -> Option<String> {
        self.client.try_server_info().map(|info| info.version)
    }

    fn is_connected(&self) -> bool {
        self.client.connection_state() == State::Connected
    }

    fn unreachable(&self) -> BackendError {
        let problem = self.news.problem.lock();
        BackendError::Unreachable(problem.clone().unwrap_or_else(|| format!("{}: no answer", self.servers)))
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
                warn!("the connection to NATS is lost; trying again");
                self.changes.send_modify(|changes| *changes += 1);
            }
            // Told in words by the next attempt.
            Event::ClientError(ClientError::Other(_)) => debug!(%event, "NATS"),
            Event::ServerError(error) => warn!(%error, "NATS refuses something"),
            Event::ClientError(_) | Event::SlowConsumer(_) => warn!(%event, "NATS"),
            Event::LameDuckMode | Event::Draining | Event::Closed => info!(%event, "NATS"),
        }
    }

    /// Keeps why the servers cannot be reached, and says it when it is new.
    fn failed(&self, why: impl Iterator<Item = String>) {
        let why: Vec<String> = why.collect();
        if why.is_empty() {
            return;
        }
        let why = why.join("; ");
        let mut problem = self.problem.lock();
        if problem.as_deref() != Some(&why) {
            warn!(%why, "NATS cannot be reached; trying again");
            *problem = Some(why);
        }
    }
}
