//! Jobs as operators see, select and import them.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{
    BackendName, CallbackUrl, DedupKey, FireAt, InstanceId, JobId, OneShotState, OrgId, ParkReason,
    ScheduleId,
};

/// A job's current one-shot, with everything about it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Job {
    /// Whose job.
    pub instance_id: String,
    /// Whose instance.
    pub org_id: String,
    /// Which job.
    pub job_id: String,
    /// The arm's name.
    pub schedule_id: ScheduleId,
    /// What makes it idempotent.
    pub dedup_key: String,
    /// When, byte for byte as it came.
    pub fire_at: String,
    /// What that means.
    pub fire_at_instant: DateTime<Utc>,
    /// Where.
    pub callback_url: String,
    /// Where it stands.
    pub state: OneShotState,
    /// Why it is not tried although it may be due.
    pub parked: Option<ParkReason>,
    /// The external scheduler backend that sends its first wake-up; `None`: our own loop does.
    pub awaits: Option<BackendName>,
    /// When its next attempt may start.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When the lease of a leased or firing one ends.
    pub lease_expires_at: Option<DateTime<Utc>>,
    /// Attempts started of its current budget.
    pub attempts: i32,
    /// When the current run of failures began.
    pub retrying_since: Option<DateTime<Utc>>,
    /// Until when the agent asked to be left alone.
    pub retry_after_until: Option<DateTime<Utc>>,
    /// When the job's last attempt started, also of an earlier one-shot.
    pub last_started_at: Option<DateTime<Utc>>,
    /// The last answer's status.
    pub last_status: Option<i16>,
    /// What was wrong with the last attempt.
    pub last_error: Option<String>,
    /// Whether the same key came again during the attempt that is under way.
    pub asked_again: bool,
    /// When it was armed.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// Which one-shots are meant; everything that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// Of this instance.
    pub instance_id: Option<InstanceId>,
    /// Of this job.
    pub job_id: Option<JobId>,
    /// Of this org.
    pub org_id: Option<OrgId>,
    /// In one of these states; any when empty.
    pub states: Vec<OneShotState>,
    /// Parked, for whatever reason.
    pub parked: bool,
    /// Due by the database's clock, not parked, and not under way.
    pub overdue: bool,
}

/// A one-shot from another service.
#[derive(Clone, Debug)]
pub struct Import {
    /// Whose job.
    pub instance_id: InstanceId,
    /// Which job.
    pub job_id: JobId,
    /// When; one that is past fires at once.
    pub fire_at: FireAt,
    /// Where.
    pub callback_url: CallbackUrl,
    /// What makes it idempotent.
    pub dedup_key: DedupKey,
}

/// What became of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// Armed.
    Armed,
    /// It was there, or had been delivered here, with this key.
    Unchanged,
    /// The job has a one-shot with another key: provisioned since, it stays.
    Kept,
    /// No such instance is registered.
    UnknownInstance,
    /// The job was armed at the same moment: the same again will tell.
    Raced,
}
