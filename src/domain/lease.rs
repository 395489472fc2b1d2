//! Leases: what a replica holds of a one-shot between its claim and its attempt.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use nas_cron_protocol::{InstanceId, JobId};
use uuid::Uuid;

use super::clock_sample::ClockSample;

/// A lease of a one-shot, from its claim to its confirmation (docs/contract.md#leases).
#[derive(Clone, Debug)]
pub struct Lease {
    /// The instance that owns the job.
    pub instance_id: InstanceId,
    /// The job.
    pub job_id: JobId,
    /// The fencing token of everything that is written about the one-shot.
    pub lease_token: Uuid,
    /// No attempt starts before this, by the database's clock.
    pub due_at: DateTime<Utc>,
    /// When it ends by this process's monotonic clock, never later than by the database's.
    pub ends: Instant,
}

/// The one-shots that a claim found.
#[derive(Debug, Default)]
pub struct Claimed {
    /// The leases that this replica holds now.
    pub leases: Vec<Lease>,
    /// Number of one-shots that came due and were parked: on hold, or of an instance that cannot be reached.
    pub parked: usize,
}

/// What was taken back from leases that had ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Number of one-shots.
    pub one_shots: u64,
    /// Number of attempts among them that had started and whose end nobody recorded.
    pub attempts: u64,
}

/// When the claiming loop has something to do next. Every duration is zero where its instant has passed.
#[derive(Clone, Copy, Debug)]
pub struct NextLook {
    /// Until the first one-shot is due.
    pub due_in: Option<Duration>,
    /// Until the first one-shot that a hosted backend is to wake is overdue by that backend's grace.
    pub missed_in: Option<Duration>,
    /// Until the first lease ends.
    pub lease_ends_in: Option<Duration>,
    /// A reading of the database's clock.
    pub clock: ClockSample,
}
