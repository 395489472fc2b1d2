//! Leases: a replica's right to start the next attempt of a one-shot.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use nas_cron_protocol::{InstanceId, JobId};
use uuid::Uuid;

use super::clock_sample::ClockSample;
use super::stage::Stage;

/// A lease of a one-shot, from its claim to its confirmation (docs/contract.md#leases).
#[derive(Clone, Debug)]
pub struct Lease {
    /// The instance that owns the job.
    pub instance_id: InstanceId,
    /// The job.
    pub job_id: JobId,
    /// The fencing token of all writes under this lease.
    pub lease_token: Uuid,
    /// Earliest start of the attempt, by the database's clock.
    pub due_at: DateTime<Utc>,
    /// End of the lease by this process's monotonic clock, never later than by the database's clock.
    pub ends: Instant,
    /// The statement that claimed it.
    pub claim: Stage,
    /// Arrival of the wake-up that led to the claim, if an external backend sent one.
    pub woken_at: Option<Instant>,
    /// The attempt that this one repeats.
    pub retries: Option<Uuid>,
}

/// The result of a claim.
#[derive(Debug, Default)]
pub struct Claimed {
    /// The new leases of this replica.
    pub leases: Vec<Lease>,
    /// Number of one-shots that came due and were not leased: parked because of a hold or an unreachable instance, or postponed
    /// until the end of their agent's `Retry-After`.
    pub postponed: usize,
}

/// The one-shots that were recovered from expired leases.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recovered {
    /// Number of one-shots.
    pub one_shots: u64,
    /// Number of their attempts that had started and whose outcome was not recorded.
    pub attempts: u64,
}

/// The next work of the claiming loop. Each duration is zero once its instant has passed.
#[derive(Clone, Copy, Debug)]
pub struct NextLook {
    /// Time until the first one-shot that is not claimed is due. It may be due later if many before it are claimed.
    pub due_in: Option<Duration>,
    /// Time until the first external wake-up is overdue by its backend's grace period.
    pub missed_in: Option<Duration>,
    /// Time until the first one-shot is due, claimed or not. Leases of one-shots that are not due have not expired.
    pub first_in: Option<Duration>,
    /// Time until the first lease of a superseded attempt expires.
    pub superseded_ends_in: Option<Duration>,
    /// Time until the first `not_after` of a one-shot that is not claimed.
    pub expires_in: Option<Duration>,
    /// A reading of the database's clock.
    pub clock: ClockSample,
}
