//! Jobs whose latest fire was delivered, and whose agents have not armed the next one in time.

use chrono::{DateTime, Utc};
pub use nas_cron_protocol::admin_api::DormantReason;
use nas_cron_protocol::{InstanceId, JobId, ScheduleId, words};

use super::recurrence::{Expectation, PastArm, RecurrenceKind};

words!(
    /// The change of a dormant job.
    pub enum DormancyChange {
        /// It has become dormant, and was not stopped on purpose.
        Dormant = "dormant",
        /// Its agent has armed it again.
        Back = "back",
        /// It has counted as finished for long enough, and is no longer shown.
        Closed = "closed",
    }
);

/// The delivered one-shot of a job that was not armed again.
#[derive(Clone, Debug)]
pub struct Unanswered {
    /// The instance that owns the job.
    pub instance_id: InstanceId,
    /// The job.
    pub job_id: JobId,
    /// The delivered one-shot.
    pub schedule_id: ScheduleId,
    /// Time of the delivery.
    pub delivered_at: DateTime<Utc>,
    /// The latest one-shots of the job, the oldest first.
    pub arms: Vec<PastArm>,
}

/// Deliveries that a replica has examined.
#[derive(Clone, Debug)]
pub struct Examined {
    /// Those recorded before this time were examined before.
    pub from: DateTime<Utc>,
    /// Those recorded before this time are examined now.
    pub until: DateTime<Utc>,
    /// Number of deliveries that were read.
    pub read: i64,
    /// Those after which the job was not armed again.
    pub unanswered: Vec<Unanswered>,
}

/// A re-arm that is awaited.
#[derive(Clone, Copy, Debug)]
pub struct AwaitedRearm<'a> {
    /// The job and its delivered one-shot.
    pub of: &'a Unanswered,
    /// The expected fire.
    pub expectation: Expectation,
}

/// A job that has become dormant, or is no longer. A change is reported once, by one replica.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dormancy {
    /// The change.
    pub change: DormancyChange,
    /// The instance that owns the job.
    pub instance_id: InstanceId,
    /// The job.
    pub job_id: JobId,
    /// The delivered one-shot.
    pub schedule_id: ScheduleId,
    /// Time of the delivery.
    pub delivered_at: DateTime<Utc>,
    /// The pattern of its fires.
    pub recurrence: RecurrenceKind,
    /// The fire that its history let expect.
    pub expected_at: DateTime<Utc>,
}

/// Number of dormant jobs by reason, up to 10,000 in total.
pub type DormantCounts = Vec<(DormantReason, i64)>;

/// A nudged job.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Nudged {
    /// Earliest start of its attempt.
    pub next_attempt_at: DateTime<Utc>,
    /// True while its instance is disabled, denied or on hold: it fires afterwards.
    pub on_hold: bool,
}
