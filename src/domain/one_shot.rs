//! A job's current one-shot: arming, state and counts.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::{
    AuthProfile, BackendName, CallbackUrl, DeadReason, DedupKey, FireAt, FireOutcome, Given, InstanceId,
    JobId, NotAfter, OneShotState, ParkReason, ScheduleId, words,
};

use super::job_auth::JobAuth;
use super::trace_context::TraceContext;

/// The parameters of an arm.
#[derive(Clone, Debug)]
pub struct Arm {
    /// The instance that owns the job.
    pub instance_id: InstanceId,
    /// The job.
    pub job_id: JobId,
    /// The key that makes arming idempotent.
    pub dedup_key: DedupKey,
    /// The instant, and its text.
    pub fire_at: FireAt,
    /// The URL that the fire goes to.
    pub callback_url: CallbackUrl,
    /// The latest start of an attempt. `Keep` keeps that of a live one-shot with this key; a new arm has none then.
    pub not_after: Given<NotAfter>,
    /// Version of the instance's row that the caller was admitted with: with another one, nothing is armed. `None`: any.
    pub seen: Option<i64>,
    /// The span of the provision, if it is recorded in a trace.
    pub trace: Option<TraceContext>,
}

/// A job's current one-shot after a provision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Armed {
    /// The arm's id.
    pub schedule_id: ScheduleId,
    /// Earliest start of its next attempt; `None` if it is stuck.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// True if the job had no one-shot before.
    pub is_new_job: bool,
    /// True if a new key followed a delivered second fire: the agent's clock is slow (docs/contract.md#same-key-again).
    pub shows_skew: bool,
    /// The external backend that must be called to arm the first wake-up; `None` for the Postgres loop.
    pub awaits: Option<BackendName>,
    /// The job's own auth profiles that are registered neither for its instance, nor for its org, nor for the service.
    /// They are worth a warning, not an error.
    pub unknown_auth: Vec<AuthProfile>,
    /// Number of the instance's other one-shots that followed to the callback of this provision.
    pub followed: i64,
}

/// The result of a provision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Provisioned {
    /// The job's one-shot.
    Armed(Armed),
    /// Nothing was armed: the job has no one-shot, and no new job was admitted.
    JobIsNew,
    /// Nothing was armed: the instance does not exist, or has changed since it was [seen](Arm::seen).
    InstanceChanged,
}

impl Provisioned {
    /// Returns the one-shot if it was armed.
    pub fn armed(self) -> Option<Armed> {
        match self {
            Self::Armed(armed) => Some(armed),
            Self::JobIsNew | Self::InstanceChanged => None,
        }
    }
}

/// The effect of a provision with another callback than the instance's previous one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Number of other one-shots that followed.
    pub followed: i64,
    /// True if this move was the one that shows that the callback moves back and forth (docs/contract.md#provision).
    pub alternates_now: bool,
}

/// A one-shot as `list` and the operator's tools show it.
#[derive(Clone, Debug)]
pub struct OneShot {
    /// The instance that owns the job.
    pub instance_id: InstanceId,
    /// The job.
    pub job_id: JobId,
    /// The arm's id.
    pub schedule_id: ScheduleId,
    /// The arm's key.
    pub dedup_key: DedupKey,
    /// The instant, and its text.
    pub fire_at: FireAt,
    /// The URL that the fire goes to.
    pub callback_url: String,
    /// The one-shot's state.
    pub state: OneShotState,
    /// The reason for which it is not attempted although it may be due.
    pub parked: Option<ParkReason>,
    /// The external backend that sends its first wake-up; `None` for the Postgres loop.
    pub awaits: Option<BackendName>,
    /// Number of attempts started within its current retry budget.
    pub attempts: i32,
    /// Earliest start of its next attempt.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Latest start of an attempt.
    pub not_after: Option<DateTime<Utc>>,
    /// The reason for which it is a dead letter, if it is one.
    pub dead_reason: Option<DeadReason>,
    /// The outcome of its latest attempt; `None` before the first one has ended.
    pub last_outcome: Option<FireOutcome>,
    /// HTTP status of the last response.
    pub last_status: Option<i16>,
    /// The last attempt's error.
    pub last_error: Option<String>,
    /// The auth that its job is fired with.
    pub auth: JobAuth,
    /// Time of its last change.
    pub updated_at: DateTime<Utc>,
}

/// A one-shot that became a dead letter because its `not_after` has passed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Expired {
    /// The instance that owns the job.
    pub instance_id: InstanceId,
    /// The job.
    pub job_id: JobId,
    /// The arm's id.
    pub schedule_id: ScheduleId,
    /// Number of attempts started.
    pub attempts: i32,
}

words!(
    /// The reason for which a one-shot is due now.
    pub enum DueKind {
        /// Its instant has passed, and its first attempt has been late since then.
        Punctual = "punctual",
        /// It was armed after its instant.
        ArmedLate = "armed_late",
        /// It was parked or a dead letter, and was released or redriven.
        Released = "released",
        /// It was attempted before: a retry or a second fire.
        Again = "again",
    }
);

/// Counts of one-shots by state, due kind and park reason.
#[derive(Clone, Debug, Default)]
pub struct OneShotCounts {
    /// Number of one-shots by state. States without one-shots may be missing.
    pub states: Vec<(OneShotState, i64)>,
    /// Number of dead letters by reason.
    pub dead_letters: Vec<(DeadReason, i64)>,
    /// Time for which the oldest [`DueKind::Punctual`] one-shot has been overdue; zero if there is none.
    pub oldest_overdue: Duration,
    /// Number of one-shots that are due and not in flight, by kind.
    pub due: Vec<(DueKind, i64)>,
    /// Number of parked one-shots, by reason.
    pub parked: Vec<(ParkReason, i64)>,
    /// True if a one-shot is parked or an instance is unreachable: maintenance then has parked one-shots to check.
    pub unsettled: bool,
}
