//! Attempts, from the confirmation to the recorded outcome.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use nas_cron_protocol::{
    CallbackUrl, DedupKey, EffectiveAuth, FireAt, InstanceId, JobId, OneShotState, ScheduleId,
};
use uuid::Uuid;

use super::FireOutcome;
use super::clock_sample::ClockSample;
use super::stage::Stage;
use super::trace_context::TraceContext;

/// Maximum `Retry-After` that an agent's other one-shots and early retries wait for (docs/contract.md#retries).
const RETRY_AFTER_RESPECTED: Duration = Duration::from_mins(1);

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
    /// The attempt's id in the history: the fencing token of its lease.
    pub attempt_id: Uuid,
    /// The instant, and its text.
    pub fire_at: FireAt,
    /// The URL that the fire goes to.
    pub callback_url: CallbackUrl,
    /// The auth that is set when the attempt starts.
    pub auth: Option<EffectiveAuth>,
    /// Number of the attempt within the retry budget, from 1.
    pub attempt: u32,
    /// Time since the first failure of the current run of failures.
    pub retrying_for: Duration,
    /// Time at which it was due: `fire_at`, or later after a retry, a fire floor or a skew guard.
    pub due_at: DateTime<Utc>,
    /// Earliest time at which this service could have made it, if its lateness is measured. `None` for retries, second
    /// fires, and one-shots that were armed after their instant, held, or parked by an outage.
    pub late_since: Option<DateTime<Utc>>,
    /// Time at which its one-shot was armed.
    pub armed_at: DateTime<Utc>,
    /// Its start, by the database's clock.
    pub started_at: DateTime<Utc>,
    /// True if it probes an unreachable instance.
    pub probes: bool,
    /// True if another callback than the job's own answered `gone`, so that its own is asked (docs/contract.md#outcomes).
    pub follows_gone: bool,
    /// The span of the provision that armed its one-shot, if that was recorded in a trace.
    pub provision_trace: Option<TraceContext>,
    /// End of its lease by this process's monotonic clock, never later than by the database's clock.
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
            armed_at: self.armed_at,
            started_at: self.started_at,
            callback_url: self.callback_url.as_str().to_owned(),
        }
    }
}

/// The steps of an attempt after its confirmation.
#[derive(Clone, Copy, Debug)]
pub struct Steps {
    /// Minting of the fire token.
    pub token: Stage,
    /// The request to the agent, until its response is read.
    pub callback: Stage,
}

/// The part of an attempt that the history records, known when it has started.
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
    /// Time at which its one-shot was armed.
    pub armed_at: DateTime<Utc>,
    /// Start of the attempt, by the database's clock.
    pub started_at: DateTime<Utc>,
    /// The callback that it goes to.
    pub callback_url: String,
}

/// The result of a confirmation (docs/contract.md#confirmation).
#[derive(Debug)]
pub struct Confirmed {
    /// The attempts that have started. Leases of the batch that are not among them must not be fired.
    pub attempts: Vec<Attempt>,
    /// Attempts that have started in the database, but whose rows are unreadable, so that nothing can be sent: a defect.
    pub unreadable: Vec<Uuid>,
    /// A reading of the database's clock.
    pub clock: ClockSample,
}

/// The end of an attempt, with the retry that follows.
#[derive(Clone, Debug)]
pub struct Ended {
    /// The attempt.
    pub attempt: StartedAttempt,
    /// The outcome.
    pub outcome: FireOutcome,
    /// HTTP status of the response, if there was one.
    pub http_status: Option<u16>,
    /// The error, for the operator.
    pub error: Option<String>,
    /// The `status` in the JSON body of a delivery, if it is an unknown one.
    pub answer: Option<String>,
    /// After a failure: true if the agent may have accepted the fire.
    pub ambiguous: bool,
    /// After a failure: time until the next attempt; `None` if the retry budget is spent.
    pub retry_in: Option<Duration>,
    /// After a failure: the agent's `Retry-After`.
    pub retry_after: Option<Duration>,
}

impl Ended {
    /// Returns the part of the agent's `Retry-After` that its other one-shots and early retries wait for
    /// (docs/contract.md#retries).
    pub fn respected_retry_after(&self) -> Option<Duration> {
        self.retry_after.map(|asked| asked.min(RETRY_AFTER_RESPECTED))
    }
}

/// A one-shot after an outcome of it was recorded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Recorded {
    /// The attempt.
    pub attempt_id: Uuid,
    /// The one-shot's new state; `None` if it was superseded or cancelled in the meantime.
    pub state: Option<OneShotState>,
    /// True if its next attempt would have started after its `not_after`: it is a dead letter.
    pub expired: bool,
}
