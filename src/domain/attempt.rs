//! An attempt: from its confirmation to its recorded outcome.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use nas_cron_protocol::{
    CallbackUrl, DedupKey, EffectiveAuth, FireAt, InstanceId, JobId, OneShotState, ScheduleId,
};
use uuid::Uuid;

use super::FireOutcome;
use super::clock_sample::ClockSample;

/// An attempt that has started: everything that its POST and its outcome need.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// The instance that owns the job.
    pub instance_id: InstanceId,
    /// The job.
    pub job_id: JobId,
    /// The arm that the attempt belongs to.
    pub schedule_id: ScheduleId,
    /// The arm's key.
    pub dedup_key: DedupKey,
    /// The attempt's name in the history: the token of its lease.
    pub attempt_id: Uuid,
    /// The instant, and its text.
    pub fire_at: FireAt,
    /// The URL that the fire goes to.
    pub callback_url: CallbackUrl,
    /// The auth profile, as it is set when the attempt starts.
    pub auth: Option<EffectiveAuth>,
    /// The number of the attempt within the retry budget, from 1.
    pub attempt: u32,
    /// How long the one-shot has been failing.
    pub retrying_for: Duration,
    /// When it was due: `fire_at`, or later for a retry, a floor or a skew guard.
    pub due_at: DateTime<Utc>,
    /// When this service could have made it at the earliest, where its lateness is measured: not of a retry, a second
    /// fire, nor of what was armed after its instant, held, or behind an outage.
    pub late_since: Option<DateTime<Utc>>,
    /// When it started, by the database's clock.
    pub started_at: DateTime<Utc>,
    /// Whether it is the probe of an unreachable instance.
    pub probes: bool,
    /// When its lease ends by this process's monotonic clock, never later than by the database's.
    pub lease_ends: Instant,
}

impl Attempt {
    /// Returns what the history records of this attempt.
    pub fn started(&self) -> StartedAttempt {
        StartedAttempt {
            attempt_id: self.attempt_id,
            instance_id: self.instance_id.clone(),
            job_id: self.job_id.clone(),
            schedule_id: self.schedule_id,
            dedup_key: self.dedup_key.clone(),
            fire_at: self.fire_at.instant(),
            attempt: self.attempt,
            started_at: self.started_at,
        }
    }
}

/// What the history records of an attempt that has started.
#[derive(Clone, Debug)]
pub struct StartedAttempt {
    /// Id of the attempt: the token of its lease.
    pub attempt_id: Uuid,
    /// The instance that owns the job.
    pub instance_id: InstanceId,
    /// The job.
    pub job_id: JobId,
    /// The arm that the attempt belongs to.
    pub schedule_id: ScheduleId,
    /// The arm's key.
    pub dedup_key: DedupKey,
    /// The arm's instant.
    pub fire_at: DateTime<Utc>,
    /// The number of the attempt within the retry budget, from 1.
    pub attempt: u32,
    /// Start of the attempt, by the database's clock.
    pub started_at: DateTime<Utc>,
}

/// The answer to a confirmation (docs/contract.md#confirmation).
#[derive(Debug)]
pub struct Confirmed {
    /// The attempts that have started. A lease that was handed in and is not among them must not be fired.
    pub attempts: Vec<Attempt>,
    /// Attempts that have started by the database but cannot be sent, because their rows cannot be read: a defect.
    pub unreadable: Vec<Uuid>,
    /// A reading of the database's clock.
    pub clock: ClockSample,
}

/// How an attempt ended, and what follows.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The attempt.
    pub attempt: StartedAttempt,
    /// How it ended.
    pub outcome: FireOutcome,
    /// HTTP status of the answer, if there was one.
    pub http_status: Option<u16>,
    /// What was wrong, for the operator.
    pub error: Option<String>,
    /// After a failure: when to try again; `None` gives up.
    pub retry_in: Option<Duration>,
    /// After a failure: how long the agent asked to be left alone, 60 s at most (docs/contract.md#retries).
    pub retry_after: Option<Duration>,
}

impl Ended {
    /// Returns whether the agent accepted the fire or no longer has the job: either way there is nothing to retry.
    pub fn is_accepted(&self) -> bool {
        matches!(self.outcome, FireOutcome::Delivered | FireOutcome::Gone)
    }
}

/// What a recorded outcome made of its one-shot.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The attempt.
    pub attempt_id: Uuid,
    /// The one-shot's state now; `None` when it had been superseded or cancelled in the meantime.
    pub state: Option<OneShotState>,
}

/// One attempt, as history has it.
#[derive(Clone, Debug, serde::Serialize)]
pub struct FireRecord {
    /// Its name.
    pub attempt_id: Uuid,
    /// Of which arm.
    pub schedule_id: ScheduleId,
    /// The arm's key.
    pub dedup_key: String,
    /// When the arm was for.
    pub fire_at: DateTime<Utc>,
    /// Which attempt of its budget, from 1.
    pub attempt: i32,
    /// When it started.
    pub started_at: DateTime<Utc>,
    /// When its outcome was recorded.
    pub ended_at: DateTime<Utc>,
    /// How it ended.
    pub outcome: FireOutcome,
    /// The answer's status.
    pub http_status: Option<i16>,
    /// What was wrong.
    pub error: Option<String>,
}
