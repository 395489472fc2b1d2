//! The server below the routes. It accepts connections and limits their number and the time that each may take.
//!
//! - A connection whose request is not complete in time is closed ([`phase`]), and so is one that sends nothing.
//! - A connection without a request for [`Times::idle`] is closed, and so is one whose caller does not read the
//!   response.
//! - A listener has a maximum number of connections. Near the limit, a new connection replaces the one that has kept
//!   the service waiting longest ([`registry`]), so that a flood of silent connections cannot lock out other callers.
//! - After a freeze of the process, requests that arrived meanwhile are dropped ([`freeze`]): their callers have timed
//!   out, and may have sent newer requests elsewhere.
//!
//! Handlers have no timeout here: each route has its own.

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
    /// The default deadlines, with this idle timeout.
    pub const fn with_idle(idle: Duration) -> Self {
        Self {
            request: Duration::from_secs(30),
            idle,
            stall: Duration::from_secs(30),
            response: Duration::from_mins(2),
        }
    }
}

/// Limits of a listener's connections.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// Maximum number of open connections.
    pub connections: usize,
    /// Deadlines of each connection.
    pub times: Times,
}

/// Serves `router` on `listener` until `stopping` completes. Returns after the responses in flight have been sent.
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
