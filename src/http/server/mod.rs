//! The server below the routes: it accepts connections, and bounds each of them in time and all of them in number.
//!
//! - A connection that sends nothing, or a request that is not complete in time, is closed ([`phase`]).
//! - So is one without a request for [`Times::idle`], and one whose caller does not take its response.
//! - A listener keeps a bounded number of connections. Near the bound a new one takes the place of the one that has
//!   kept the service waiting longest ([`registry`]), so that a flood of silent connections shuts out nobody.
//! - When the process wakes from a freeze, what waited meanwhile is closed unserved ([`freeze`]): its callers have
//!   given up, and may have said something newer elsewhere.
//!
//! Handlers are not bounded here: each route has its own budget.

mod accept;
mod connection;
mod freeze;
mod handle;
mod heartbeat;
mod phase;
mod registry;
mod service;
mod stream;
#[cfg(test)]
mod tests;
mod tracker;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tokio_util::task::{AbortOnDropHandle, TaskTracker};

use self::connection::Server;
use self::freeze::Freeze;
pub use self::phase::Times;
use self::registry::Registry;
use crate::metrics::Listener;

impl Times {
    /// The times of a service whose callers' connections may be idle for `idle`.
    pub const fn with_idle(idle: Duration) -> Self {
        Self {
            request: Duration::from_secs(30),
            idle,
            stall: Duration::from_secs(30),
            response: Duration::from_mins(2),
        }
    }
}

/// The bounds of a listener's connections.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Connections that are open at once.
    pub connections: usize,
    /// Deadlines of each of them.
    pub times: Times,
}

/// Serves `router` to those who connect to `listener`, until `stopping` is over. Returns when the responses under way
/// then are sent.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    name: Listener,
    bounds: Bounds,
    stopping: impl Future<Output = ()>,
) {
    let listener = Arc::new(listener);
    let registry = Arc::new(Registry::new(bounds.connections));
    let freeze = Arc::new(Freeze::new(&listener, Arc::clone(&registry), name));
    let beating = AbortOnDropHandle::new(tokio::spawn({
        let freeze = Arc::clone(&freeze);
        async move { freeze.beat_on().await }
    }));
    let closing = CancellationToken::new();
    let server = Arc::new(Server::new(router, name, bounds.times, registry, freeze, closing.clone()));
    let connections = TaskTracker::new();
    tokio::select! {
        () = accept::accept(&listener, &server, &connections) => {}
        () = stopping => {}
    }
    drop(listener);
    closing.cancel();
    connections.close();
    connections.wait().await;
    drop(beating);
}
