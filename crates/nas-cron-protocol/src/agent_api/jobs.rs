//! Response about one job: its state, its current one-shot and its latest attempts.

use chrono::{DateTime, Utc};
use serde::Serialize;

use super::ShownAuth;
use crate::{BackendName, DeadReason, FireOutcome, OneShotState, ParkReason, words};

/// Maximum number of attempts in the response about a job.
pub const MAX_SHOWN_ATTEMPTS: u32 = 100;

words!(
    /// The state of a job: that of its current one-shot, or how it lost it.
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum JobState {
        /// Waits for its instant.
        Armed = "armed",
        /// Claimed by a replica that waits for the instant.
        Leased = "leased",
        /// An attempt is in flight.
        Firing = "firing",
        /// Waits for a retry, or for a second fire of the same key.
        Waiting = "waiting",
        /// The agent's own answer ended it.
        Delivered = "delivered",
        /// The same key was provisioned again after three second fires.
        Stuck = "stuck",
        /// A dead letter: no more attempts, but visible and redrivable.
        Dead = "dead",
        /// A cancel removed its one-shot, within the history retention.
        Cancelled = "cancelled",
        /// Cancelled or ended longer ago than the history retention: what is stored does not tell which.
        Unknown = "unknown",
    }
);

impl From<OneShotState> for JobState {
    fn from(state: OneShotState) -> Self {
        match state {
            OneShotState::Armed => Self::Armed,
            OneShotState::Leased => Self::Leased,
            OneShotState::Firing => Self::Firing,
            OneShotState::Waiting => Self::Waiting,
            OneShotState::Delivered => Self::Delivered,
            OneShotState::Stuck => Self::Stuck,
            OneShotState::Dead => Self::Dead,
        }
    }
}

/// A job of the caller.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobStatus {
    /// ID of the job, chosen by the agent.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::JobId))]
    pub job_id: String,
    /// `cancelled` and `unknown` occur without a current one-shot only. `delivered` without one: the agent's answer to
    /// the latest attempt ended it, and the one-shot was deleted since.
    pub state: JobState,
    /// Next event, or the way to fire the job again: a sentence for people, which may change.
    #[cfg_attr(
        feature = "openapi",
        schema(example = "the next attempt may start at 2026-06-18T12:35:02.118Z")
    )]
    pub next: String,
    /// Time of the cancel; present if `state` is `cancelled`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cancelled_at: Option<DateTime<Utc>>,
    /// Current one-shot, also if it was delivered; absent if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub one_shot: Option<CurrentOneShot>,
    /// Attempts that have ended, newest first, also those of earlier one-shots of the job.
    pub attempts: Vec<JobAttempt>,
}

/// A job's current one-shot in any state, with the fields of `list`.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CurrentOneShot {
    /// ID of the job, chosen by the agent.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::JobId))]
    pub job_id: String,
    /// Time of the fire, byte for byte as provisioned.
    pub fire_at: String,
    /// Opaque ID of the one-shot.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::ScheduleId))]
    pub schedule_id: String,
    /// Base URL of the agent that the fire is sent to.
    pub agent_callback_url: String,
    /// State of the one-shot.
    pub state: OneShotState,
    /// Attempts started in the current retry budget.
    pub attempts: i32,
    /// Earliest time of the next attempt; absent if there will be none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Latest start of an attempt; absent without a limit.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub not_after: Option<DateTime<Utc>>,
    /// Reason why a due one-shot is not attempted; absent if it is not parked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parked: Option<ParkReason>,
    /// External scheduler backend that sends the wake-up; absent if the built-in loop does.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub awaits: Option<BackendName>,
    /// Outcome of the last attempt; absent before the first one has ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_outcome: Option<FireOutcome>,
    /// HTTP status of the agent's last response.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_status: Option<i16>,
    /// Error of the last attempt.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last_error: Option<String>,
    /// Reason why it is a dead letter; absent if it is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dead_reason: Option<DeadReason>,
    /// Time at which it became a dead letter or stuck.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub died_at: Option<DateTime<Utc>>,
    /// Auth of the job.
    #[serde(flatten)]
    pub auth: ShownAuth,
}

/// An attempt that has ended.
#[derive(Clone, Debug, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobAttempt {
    /// Opaque ID of the attempt.
    pub attempt_id: String,
    /// Opaque ID of the one-shot that was attempted.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::ScheduleId))]
    pub schedule_id: String,
    /// Instant of that one-shot's fire.
    pub fire_at: DateTime<Utc>,
    /// Number of the attempt within the retry budget, from 1.
    pub attempt: i32,
    /// Start of the attempt.
    pub started_at: DateTime<Utc>,
    /// Time at which the outcome was recorded.
    pub ended_at: DateTime<Utc>,
    /// Outcome of the attempt.
    pub outcome: FireOutcome,
    /// HTTP status of the agent's response; absent without one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub http_status: Option<i16>,
    /// Error of the attempt in one line.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    /// The `status` in the JSON body of a delivery, if it is an unknown one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub answer: Option<String>,
}
