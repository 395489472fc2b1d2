//! Readings of the database's clock.

use std::time::Instant;

use chrono::{DateTime, Utc};

/// A reading of the database's clock between two readings of this process's monotonic clock.
#[derive(Clone, Copy, Debug)]
pub struct ClockSample {
    /// Right before the statement was sent.
    pub sent: Instant,
    /// Right after its answer arrived.
    pub received: Instant,
    /// What the database's clock read in between.
    pub database: DateTime<Utc>,
}
