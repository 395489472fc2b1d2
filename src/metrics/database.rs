//! The database as this replica sees it: connections, silence, schema.

use std::time::Duration;

use metrics::{Unit, describe_gauge, gauge};

const CONNECTIONS: &str = "nas_cron_database_connections";
const CONNECTIONS_MAX: &str = "nas_cron_database_connections_max";
const WAITING: &str = "nas_cron_database_waiting_statements";
const SILENT: &str = "nas_cron_database_silent_seconds";
const SCHEMA: &str = "nas_cron_database_schema_version";
const KNOWN_SCHEMA: &str = "nas_cron_known_schema_version";

/// A pool of connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DatabasePool {
    /// For requests and background work.
    Requests,
    /// Reserved for fires.
    Fires,
}

impl DatabasePool {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Requests => "requests",
            Self::Fires => "fires",
        }
    }
}

/// The connections of a pool at one moment.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PoolConnections {
    /// Connections that no statement uses.
    pub idle: usize,
    /// Connections that a statement uses.
    pub in_use: usize,
    /// Statements that wait for a connection.
    pub waiting: usize,
    /// Maximum number of connections.
    pub max: usize,
}

pub(super) fn describe() {
    describe_gauge!(
        CONNECTIONS,
        "Open database connections of this replica, by pool (requests, fires) and state (idle, in_use)"
    );
    describe_gauge!(CONNECTIONS_MAX, "Maximum number of database connections of this replica, by pool");
    describe_gauge!(WAITING, "Statements that wait for a free database connection, by pool");
    describe_gauge!(
        SILENT,
        Unit::Seconds,
        "Time since the database last answered a statement of this replica. An idle replica runs one every few seconds"
    );
    describe_gauge!(
        SCHEMA,
        "Version of the database schema, as this replica last read it; 0 if it does not fit the release"
    );
    describe_gauge!(KNOWN_SCHEMA, "Newest version of the database schema that this release knows");
}

/// Sets the gauges of a pool.
pub fn set_pool(pool: DatabasePool, connections: PoolConnections) {
    let PoolConnections { idle, in_use, waiting, max } = connections;
    let pool = pool.as_str();
    for (state, count) in [("idle", idle), ("in_use", in_use)] {
        gauge!(CONNECTIONS, "pool" => pool, "state" => state).set(as_f64(count));
    }
    gauge!(CONNECTIONS_MAX, "pool" => pool).set(as_f64(max));
    gauge!(WAITING, "pool" => pool).set(as_f64(waiting));
}

/// Sets the time since the database last answered.
pub fn set_database_silent(silent: Duration) {
    gauge!(SILENT).set(silent.as_secs_f64());
}

/// Sets the version of the database schema (0 if it does not fit this release), and the newest one that this release knows.
#[expect(clippy::cast_precision_loss, reason = "versions are small numbers")]
pub fn set_schema(found: i64, known: i64) {
    gauge!(SCHEMA).set(found as f64);
    gauge!(KNOWN_SCHEMA).set(known as f64);
}

#[expect(clippy::cast_precision_loss, reason = "counts of connections are far below 2^52")]
fn as_f64(count: usize) -> f64 {
    count as f64
}
