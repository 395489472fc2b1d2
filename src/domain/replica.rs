//! The running processes of the service.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

/// A registered replica, for operators.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Registered {
    /// Its number.
    pub replica_id: i32,
    /// Name of its machine or container.
    pub host_name: String,
    /// Its release.
    pub version: String,
    /// Its start.
    pub started_at: DateTime<Utc>,
    /// The database's clock minus its own; `None` if it is of an older release.
    pub clock_offset: Option<TimeDelta>,
    /// Time since its latest renewal.
    pub silent_for: Duration,
}
