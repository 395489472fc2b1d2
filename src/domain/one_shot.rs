//! A job's current one-shot: how it is armed, and how it stands.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::{
    AuthProfile, BackendName, CallbackUrl, DedupKey, FireAt, InstanceId, JobId, OneShotState, ParkReason,
    ScheduleId, words,
};

use super::job_auth::JobAuth;

/// A one-shot that is to be armed.
#[derive(Clone, Debug)]
pub struct Arm<'a> {
    /// The instance that owns the job.
    pub instance_id: &'a InstanceId,
    /// The job.
    pub job_id: &'a JobId,
    /// The key that makes arming idempotent.
    pub dedup_key: &'a DedupKey,
    /// The instant, and its text.
    pub fire_at: &'a FireAt,
    /// The URL that the fire goes to.
    pub callback_url: &'a CallbackUrl,
}

/// The one-shot that stands after a provision.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Armed {
    /// The arm's name.
    pub schedule_id: ScheduleId,
    /// When its next attempt may start; `None` when it is stuck.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Whether a new key followed a delivered second fire: the agent's clock is slow (docs/contract.md#same-key-again).
    pub shows_skew: bool,
    /// The hosted backend that is to bring the first wake-up, and is still to be told; `None`: the scheduler itself.
    pub awaits: Option<BackendName>,
    /// The job's own auth profile, if it is registered nowhere around its instance: worth a warning, no error.
    pub unknown_auth: Option<AuthProfile>,
}

/// A one-shot as `list` and the operator's tools show it.
#[derive(Clone, Debug)]
pub struct OneShot {
    /// The instance that owns the job.
    pub instance_id: InstanceId,
    /// The job.
    pub job_id: JobId,
    /// The arm's name.
    pub schedule_id: ScheduleId,
    /// The arm's key.
    pub dedup_key: DedupKey,
    /// The instant, and its text.
    pub fire_at: FireAt,
    /// The URL that the fire goes to.
    pub callback_url: String,
    /// The state it is in.
    pub state: OneShotState,
    /// Why it is not attempted although it may be due.
    pub parked: Option<ParkReason>,
    /// The hosted backend that is to bring its first wake-up; `None`: the scheduler itself.
    pub awaits: Option<BackendName>,
    /// Attempts started of its current retry budget.
    pub attempts: i32,
    /// When its next attempt may start.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// HTTP status of the last answer.
    pub last_status: Option<i16>,
    /// What was wrong with the last attempt.
    pub last_error: Option<String>,
    /// The auth profile that its job is fired with.
    pub auth: JobAuth,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

words!(
    /// Why a due one-shot is due now.
    pub enum DueKind {
        /// Its instant has come, and its first attempt is late from then on.
        Punctual = "punctual",
        /// It was armed after its instant.
        ArmedLate = "armed_late",
        /// It was parked, or a dead letter, and has been released or redriven.
        Released = "released",
        /// It was tried before: a retry, or a second fire.
        Again = "again",
    }
);

/// How many one-shots are in each state, and how long the oldest has been due without an attempt.
#[derive(Clone, Debug, Default)]
pub struct OneShotCounts {
    /// Every state that occurs, with its count.
    pub states: Vec<(OneShotState, i64)>,
    /// How long the oldest one has been overdue; zero when nothing is. What is not [`DueKind::Punctual`] does not count.
    pub oldest_overdue: Duration,
    /// Those that are due and not under way, by kind.
    pub due: Vec<(DueKind, i64)>,
    /// Those that are parked, by reason.
    pub parked: Vec<(ParkReason, i64)>,
    /// Whether anything is parked or any instance unreachable: what tidying looks after.
    pub unsettled: bool,
}
