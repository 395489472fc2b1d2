//! The listeners and their limits.

use std::time::Duration;

use axum::Router;
use futures::future::OptionFuture;
use tokio::net::TcpListener;
use tracing::warn;

use crate::config::Config;
use crate::http::server::{Bounds, Times, serve};
use crate::limits::Descriptors;
use crate::metrics::Listener;
use crate::shutdown::Shutdown;

/// The bound listeners with their routes.
#[derive(Debug)]
pub(super) struct Serving {
    pub(super) public: (TcpListener, Router),
    /// The admin API, if it has a listener of its own.
    pub(super) admin: Option<(TcpListener, Router)>,
    pub(super) operators: (TcpListener, Router),
    pub(super) descriptors: Descriptors,
    pub(super) idle_timeout: Duration,
}

impl Serving {
    /// Serves all listeners until the shutdown closes them and their requests in flight have finished.
    pub(super) async fn run(self, shutdown: &Shutdown) {
        let Self { public, admin, operators, descriptors, idle_timeout } = self;
        let times = Times::with_idle(idle_timeout);
        let listen = |(listener, router): (TcpListener, Router), name, connections| {
            serve(listener, router, name, Bounds { connections, times }, shutdown.until_stopping())
        };
        let admin = admin.map(|admin| listen(admin, Listener::Admin, descriptors.admin_connections));
        tokio::join!(
            listen(public, Listener::Public, descriptors.public_connections),
            OptionFuture::from(admin),
            listen(operators, Listener::Metrics, descriptors.metrics_connections),
        );
    }
}

/// Raises the file descriptor limit as far as the system allows, and divides it. Logs a warning if `in_flight_max`
/// attempts do not fit.
pub(super) fn descriptors(config: &Config) -> Descriptors {
    let in_flight_max = config.fire.in_flight_max;
    let shares = Descriptors::share(
        nas_cron_base::descriptors::raise(),
        in_flight_max,
        config.database.max_connections,
        config.http.admin_listen.is_some(),
    );
    if !shares.fit(in_flight_max) {
        warn!(
            descriptor_limit = shares.limit,
            needed = shares.needed,
            in_flight_max,
            attempts_that_fit = shares.attempts,
            "file descriptor limit too low for in_flight_max: raise the hard limit (ulimit -Hn, LimitNOFILE) or lower \
             in_flight_max"
        );
    }
    shares
}
