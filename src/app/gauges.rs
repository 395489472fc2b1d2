//! The gauges that are read when Prometheus asks for them.

use std::sync::Arc;

use chrono::TimeDelta;

use super::readiness::Readiness;
use crate::config::Config;
use crate::db::Db;
use crate::db::migrate::known_version;
use crate::http::health::{self, Probe};
use crate::keys::KeyRing;
use crate::limits::Descriptors;
use crate::metrics::{self, DatabasePool, Listener, PoolConnections};

/// The parts of the running service that these gauges describe.
pub(super) struct Gauges {
    pub(super) requests: Db,
    pub(super) fires: Db,
    pub(super) keys: Arc<KeyRing>,
    pub(super) readiness: Arc<Readiness>,
}

impl Gauges {
    /// Sets the gauges. Needs neither the database nor a wait.
    pub(super) fn refresh(&self) {
        for (pool, db) in [(DatabasePool::Requests, &self.requests), (DatabasePool::Fires, &self.fires)] {
            let now = db.pool_use();
            let (idle, in_use, waiting, max) = (now.idle, now.in_use, now.waiting, now.max);
            metrics::set_pool(pool, PoolConnections { idle, in_use, waiting, max });
        }
        metrics::set_database_silent(self.requests.silent_for());
        let next_step = self.keys.next_step_in().map(TimeDelta::as_seconds_f64);
        metrics::set_signing_keys(|state| self.keys.count(state), self.keys.has_active_key(), next_step);
        let ready = health::readiness(self.readiness.as_ref()).is_ok();
        metrics::set_health(ready, self.readiness.stopped_loops().len());
        metrics::set_schema(self.readiness.schema_version(), known_version());
    }
}

/// Sets the gauges of limits, which stay the same while the process runs.
pub(super) fn set_limits(config: &Config, descriptors: &Descriptors) {
    metrics::set_in_flight_max(config.fire.in_flight_max);
    metrics::set_connections_max(Listener::Public, descriptors.public_connections);
    metrics::set_connections_max(Listener::Metrics, descriptors.metrics_connections);
    if config.http.admin_listen.is_some() {
        metrics::set_connections_max(Listener::Admin, descriptors.admin_connections);
    }
}
