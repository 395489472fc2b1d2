//! Jobs as operators see, select and import them.

use chrono::{DateTime, Utc};
pub use nas_cron_protocol::admin_api::{Job, LatestCancel};
use nas_cron_protocol::{AuthChoice, CallbackUrl, DedupKey, FireAt, InstanceId, JobId, NotAfter};

/// The name of a job: its instance, and its ID there.
#[derive(Clone, Debug, PartialEq, Eq, Hash, serde::Serialize)]
pub struct JobKey {
    /// The instance that owns the job.
    pub instance_id: String,
    /// The job.
    pub job_id: String,
}

/// A place in a list of jobs, after which the next page begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct JobPosition {
    /// The start of the next attempt, in a list that is ordered by it.
    pub at: Option<DateTime<Utc>>,
    /// The job, which may not exist any more.
    pub key: JobKey,
}

/// Jobs that a filter selects.
#[derive(Clone, Debug)]
pub struct SelectedJobs {
    /// The jobs, in order.
    pub keys: Vec<JobKey>,
    /// The place at which to continue; `None` at the end.
    pub next: Option<JobPosition>,
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
