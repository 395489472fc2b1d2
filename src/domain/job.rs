//! Jobs as operators see, select and import them.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{
    AuthChoice, BackendName, CallbackUrl, DeadReason, DedupKey, FireAt, FireOutcome, InstanceId, JobId,
    NotAfter, OneShotState, OrgId, ParkReason, ScheduleId,
};

use super::dormancy::DormantReason;

/// A job and its current one-shot.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Job {
    /// The instance that owns the job.
    pub instance_id: String,
    /// The org that owns the instance.
    pub org_id: String,
    /// The job.
    pub job_id: String,
    /// The arm's id.
    pub schedule_id: ScheduleId,
    /// The key that makes arming idempotent.
    pub dedup_key: String,
    /// The instant as text, byte for byte as received.
    pub fire_at: String,
    /// The instant that `fire_at` denotes.
    pub fire_at_instant: DateTime<Utc>,
    /// The base URL that fires are posted to.
    pub callback_url: String,
    /// The callback that its own provision named, if `callback_url` has followed a move of the agent since.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub own_callback_url: Option<String>,
    /// The one-shot's state.
    pub state: OneShotState,
    /// The reason for which it is not attempted although it may be due.
    pub parked: Option<ParkReason>,
    /// The external backend that sends its first wake-up; `None` for the Postgres loop.
    pub awaits: Option<BackendName>,
    /// Earliest start of its next attempt.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Latest start of an attempt.
    pub not_after: Option<DateTime<Utc>>,
    /// The reason for which it is a dead letter, if it is one.
    pub dead_reason: Option<DeadReason>,
    /// End of its lease, if it is leased or firing.
    pub lease_expires_at: Option<DateTime<Utc>>,
    /// Number of attempts started within its current retry budget.
    pub attempts: i32,
    /// Start of the current run of failures.
    pub retrying_since: Option<DateTime<Utc>>,
    /// End of the agent's last `Retry-After`.
    pub retry_after_until: Option<DateTime<Utc>>,
    /// Start of the job's last attempt, which may belong to an earlier one-shot.
    pub last_started_at: Option<DateTime<Utc>>,
    /// The outcome of its latest attempt; `None` before the first one has ended.
    pub last_outcome: Option<FireOutcome>,
    /// HTTP status of the last response.
    pub last_status: Option<i16>,
    /// The last attempt's error.
    pub last_error: Option<String>,
    /// True if the same key was provisioned again during the attempt in flight.
    pub asked_again: bool,
    /// Time at which it was armed.
    pub created_at: DateTime<Utc>,
    /// Time of its last change.
    pub updated_at: DateTime<Utc>,
    /// Time since which the job is dormant: its agent has not armed the next fire in time.
    pub dormant_since: Option<DateTime<Utc>>,
    /// The reason for which it is dormant.
    pub dormant_reason: Option<DormantReason>,
    /// The next fire that the job's history lets expect, if it was delivered and not armed again for some minutes.
    pub expected_at: Option<DateTime<Utc>>,
    /// Time of that delivery.
    pub delivered_at: Option<DateTime<Utc>>,
}

/// Selection of one-shots: all given conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// One-shots of this instance.
    pub instance_id: Option<InstanceId>,
    /// One-shots of this job.
    pub job_id: Option<JobId>,
    /// One-shots of this org.
    pub org_id: Option<OrgId>,
    /// One-shots in one of these states; empty for any state.
    pub states: Vec<OneShotState>,
    /// Those of dormant jobs, in addition to those in one of `states`.
    pub dormant: bool,
    /// Parked one-shots only, for any reason.
    pub parked: bool,
    /// One-shots that are due by the database's clock, not parked, and not in flight.
    pub overdue: bool,
}

impl JobFilter {
    /// Returns true if it selects dormant jobs only.
    pub fn only_dormant(&self) -> bool {
        self.dormant && self.states.is_empty()
    }
}

/// A one-shot from another service.
#[derive(Clone, Debug)]
pub struct Import {
    /// The instance that owns the job.
    pub instance_id: InstanceId,
    /// The job.
    pub job_id: JobId,
    /// The instant, and its text; a past instant fires at once.
    pub fire_at: FireAt,
    /// The URL that the fire goes to.
    pub callback_url: CallbackUrl,
    /// The key that makes arming idempotent.
    pub dedup_key: DedupKey,
    /// The job's own auth, unless it has one already.
    pub auth: Option<AuthChoice>,
    /// The latest start of an attempt.
    pub not_after: Option<NotAfter>,
}

/// The result of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// The one-shot is armed.
    Armed,
    /// A one-shot with this key is armed already, or was delivered here.
    Unchanged,
    /// Not imported: the job has a newer one-shot with another key.
    Kept,
    /// The instance is not registered.
    UnknownInstance,
    /// Another statement armed the job at the same time; repeat the import.
    Raced,
}

/// The result of a redrive.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Redriven {
    /// Number of one-shots.
    pub count: i64,
    /// Earliest start of the last one's next attempt; `None` if there is none.
    pub last_starts_at: Option<DateTime<Utc>>,
}
