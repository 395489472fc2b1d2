//! Readings of the database's clock.

use std::time::Instant;

use chrono::{DateTime, TimeDelta, Utc};

/// Maximum offset between a replica's clock and the database's that is not reported.
pub const TOLERATED_OFFSET: TimeDelta = TimeDelta::seconds(5);

/// A reading of the database's clock between two readings of this process's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct ClockSample {
    /// Local time right before the statement was sent.
    pub sent: Instant,
    /// Local time right after its result arrived.
    pub received: Instant,
    /// The database's time in between.
    pub database: DateTime<Utc>,
}
