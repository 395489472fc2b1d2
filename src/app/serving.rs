//! The two listeners: what they serve, and within which bounds.

use std::time::Duration;

use axum::Router;
use tokio::net::TcpListener;
use tracing::warn;

use crate::config::Config;
use crate::http::server::{Bounds, Times, serve};
use crate::limits::{self, Descriptors};
use crate::metrics::Listener;
use crate::shutdown::Shutdown;

/// The listeners, bound.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) public: (TcpListener, Router),
    pub(super) operators: (TcpListener, Router),
    pub(super) descriptors: Descriptors,
    pub(super) idle_timeout: Duration,
}

impl Serving {
    /// Serves both until they are to be closed and what is under way is finished.
    pub(super) async fn run(self, shutdown: &Shutdown) {
        let Self { public, operators, descriptors, idle_timeout } = self;
        let times = Times::with_idle(idle_timeout);
        let listen = |(listener, router): (TcpListener, Router), name, connections| {
            serve(listener, router, name, Bounds { connections, times }, shutdown.until_stopping())
        };
        tokio::join!(
            listen(public, Listener::Public, descriptors.public_connections),
            listen(operators, Listener::Metrics, descriptors.metrics_connections),
        );
    }
}

/// Raises the descriptor limit as far as the system allows and divides it; warns where attempts do not fit.
pub(super) fn descriptors(config: &Config) -> Descriptors {
    let in_flight_max = config.fire.in_flight_max;
    let shares = Descriptors::share(limits::raise(), in_flight_max, config.database.max_connections);
    if !shares.fit(in_flight_max) {
        warn!(
            descriptor_limit = shares.limit,
            needed = shares.needed,
            in_flight_max,
            attempts_that_fit = shares.attempts,
            "the descriptor limit is too low for in_flight_max: raise the hard limit (ulimit -Hn, LimitNOFILE), or \
             lower in_flight_max"
        );
    }
    shares
}
