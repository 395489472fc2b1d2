//! Jobs of all agents, as operators see them.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::agent_api::ShownAuth;
use crate::{BackendName, DeadReason, FireOutcome, OneShotState, ParkReason, ScheduleId, words};

words!(
    /// Reason for which a job is dormant.
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum DormantReason {
        /// Unknown: its agent accepted the fire, and has not armed the next one.
        Silent = "silent",
        /// Its agent's gateway was stopped on purpose, and dropped the fire.
        GatewayStopped = "gateway_stopped",
        /// Its instance is disabled, denied by the portal or on hold.
        Withheld = "withheld",
    }
);

/// A job and its current one-shot.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Job {
    /// The instance that owns the job.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::InstanceId))]
    pub instance_id: String,
    /// The org that owns the instance.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::OrgId))]
    pub org_id: String,
    /// The job.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::JobId))]
    pub job_id: String,
    /// Opaque ID of the one-shot.
    pub schedule_id: ScheduleId,
    /// The key that makes arming idempotent.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::DedupKey))]
    pub dedup_key: String,
    /// The instant as text, byte for byte as received.
    pub fire_at: String,
    /// The instant that `fire_at` denotes, or the time at which an operator fired it earlier.
    pub fire_at_instant: DateTime<Utc>,
    /// The base URL that fires are posted to.
    #[cfg_attr(feature = "openapi", schema(example = "https://agent-1.example"))]
    pub callback_url: String,
    /// The callback that its own provision named, if `callback_url` has followed a move of the agent since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_callback_url: Option<String>,
    /// State of the one-shot.
    pub state: OneShotState,
    /// The reason for which it is not attempted although it may be due.
    pub parked: Option<ParkReason>,
    /// The external backend that sends its first wake-up; `null` for the built-in loop.
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
    /// The outcome of its latest attempt; `null` before the first one has ended.
    pub last_outcome: Option<FireOutcome>,
    /// HTTP status of the last response.
    pub last_status: Option<i16>,
    /// The last attempt's error.
    pub last_error: Option<String>,
    /// True if the same key was provisioned again during the attempt in flight.
    #[cfg_attr(feature = "openapi", schema(example = false))]
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
    /// The instant of the one-shot that this one superseded when it was armed, if that one had not been attempted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub superseded_fire_at: Option<DateTime<Utc>>,
    /// Number of one-shots since the job's latest attempt that were superseded without an attempt.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(example = 2))]
    pub superseded_untried: Option<i32>,
}

/// The current one-shot of a job, and the auth profiles of the job.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ShownJob {
    /// The one-shot.
    #[serde(flatten)]
    pub job: Job,
    /// The auth profiles; absent if none is set.
    #[serde(flatten)]
    pub auth: ShownAuth,
}

/// A page of jobs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobPage {
    /// The jobs: ordered by instance and job, or by their next attempt if it is part of the filter.
    pub jobs: Vec<ShownJob>,
    /// Value of `after` for the next page; `null` on the last page. A page may have fewer jobs than `limit`, or none,
    /// although others follow: each request examines a limited number of one-shots.
    pub next: Option<String>,
}

words!(
    /// Reason for which a job does not fire at present, or the next event.
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum WhyCode {
        /// Its instant is in the future.
        Scheduled = "scheduled",
        /// Its instant is in the future, and its fire is delayed because the agent's clock is slow.
        SkewGuard = "skew_guard",
        /// An external scheduler backend sends its wake-up.
        AwaitsBackend = "awaits_backend",
        /// It is due, and no replica has taken it.
        Overdue = "overdue",
        /// The hold or outage that parked it is over; it is due within seconds.
        Releasing = "releasing",
        /// An attempt is in flight.
        Firing = "firing",
        /// The last attempt failed; it waits for the next one.
        Retrying = "retrying",
        /// The agent asked to wait (`Retry-After`).
        AgentBusy = "agent_busy",
        /// A hold covers it.
        OnHold = "on_hold",
        /// Its agent is disabled.
        AgentDisabled = "agent_disabled",
        /// The portal does not know its agent, or has disabled it.
        DeniedByPortal = "denied_by_portal",
        /// Its agent is unreachable.
        Unreachable = "unreachable",
        /// Its fire was delivered; the agent has not armed the next one.
        Delivered = "delivered",
        /// Its fire was delivered, and its agent has not armed the next one in time.
        Dormant = "dormant",
        /// It is a dead letter: its retry budget is spent.
        BudgetSpent = "budget_spent",
        /// It is a dead letter: its `not_after` has passed.
        Expired = "expired",
        /// The agent armed the same key again after each of its fires.
        Stuck = "stuck",
        /// Nothing is scheduled.
        Idle = "idle",
        /// There is no one-shot: it was cancelled.
        Cancelled = "cancelled",
        /// There is no one-shot: it ended, or was cancelled, longer ago than the history retention.
        Unknown = "unknown",
    }
);

/// The explanation of why a job has not fired, or when it fires.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Why {
    /// Code to branch on.
    pub code: WhyCode,
    /// Description for people.
    #[cfg_attr(feature = "openapi", schema(example = "org acme has been on hold for 5 min"))]
    pub text: String,
    /// The next step of an operator; absent if there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(example = "`nas-cron release --org acme` ends that"))]
    pub fix: Option<String>,
}

impl std::fmt::Display for Why {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.text)?;
        self.fix.as_deref().map_or(Ok(()), |fix| write!(f, "; {fix}"))
    }
}

/// An attempt in the history.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Attempt {
    /// Opaque ID of the attempt.
    pub attempt_id: Uuid,
    /// Opaque ID of the one-shot that was attempted.
    pub schedule_id: ScheduleId,
    /// The one-shot's key.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::DedupKey))]
    pub dedup_key: String,
    /// The one-shot's instant.
    pub fire_at: DateTime<Utc>,
    /// Number of the attempt within the retry budget, from 1.
    pub attempt: i32,
    /// Time at which the one-shot was armed; absent if that was not recorded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub armed_at: Option<DateTime<Utc>>,
    /// Start of the attempt.
    pub started_at: DateTime<Utc>,
    /// Time at which its outcome was recorded.
    pub ended_at: DateTime<Utc>,
    /// The outcome.
    pub outcome: FireOutcome,
    /// HTTP status of the response.
    pub http_status: Option<i16>,
    /// The `Retry-After` of a response that is retried, in seconds, rounded up; absent if there was none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<i32>,
    /// The error.
    pub error: Option<String>,
    /// The `status` in the JSON body of a delivery, if it is an unknown one.
    pub answer: Option<String>,
}

/// A job with its explanation and latest attempts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobDetails {
    /// The job and its current one-shot; `null` if it has none.
    pub job: Option<ShownJob>,
    /// The explanation of why it has not fired, or when it fires.
    pub why: Why,
    /// Time of the cancel that removed its one-shot.
    pub cancelled_at: Option<DateTime<Utc>>,
    /// The latest cancel that removed a one-shot, also if the job was armed again since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub latest_cancel: Option<LatestCancel>,
    /// Its latest attempts, the newest first, also those of earlier one-shots.
    pub attempts: Vec<Attempt>,
}

/// A cancel that removed a job's one-shot.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct LatestCancel {
    /// Time of the cancel.
    pub at: DateTime<Utc>,
    /// The instant of the one-shot; `null` if an older release cancelled it.
    pub fire_at: Option<DateTime<Utc>>,
    /// Time at which the one-shot was armed; `null` if an older release cancelled it.
    pub armed_at: Option<DateTime<Utc>>,
}

/// A page of a job's attempts.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AttemptPage {
    /// The attempts, the newest first, also those of earlier one-shots.
    pub attempts: Vec<Attempt>,
    /// Value of `after` for the next page; `null` on the last page.
    pub next: Option<String>,
}

/// The result of a cancel.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct CancelledJob {
    /// True if the job had a one-shot.
    pub cancelled: bool,
    /// Opaque ID of that one-shot.
    pub schedule_id: Option<ScheduleId>,
}

/// A one-shot that an operator fires now.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FiredJob {
    /// Opaque ID of the one-shot.
    pub schedule_id: ScheduleId,
    /// Earliest start of its attempt: now, or a second after the job's last attempt.
    pub next_attempt_at: DateTime<Utc>,
}

/// A delivered one-shot that an operator fires once more.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NudgedJob {
    /// Always true.
    pub nudged: bool,
    /// Opaque ID of the one-shot, which stays the same.
    pub schedule_id: ScheduleId,
    /// Earliest start of its attempt.
    pub next_attempt_at: DateTime<Utc>,
    /// True while its agent is disabled, denied by the portal or on hold: it fires afterwards.
    pub on_hold: bool,
}

/// A dormant job that an operator has closed.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DismissedJob {
    /// Always true.
    pub dismissed: bool,
}

/// The progress of a redrive.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RedriveReport {
    /// True if nothing was changed.
    pub dry_run: bool,
    /// Number of one-shots that this request has redriven.
    pub redriven: i64,
    /// With `dry_run`: number of one-shots that would be redriven, counted up to a limit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redrivable: Option<i64>,
    /// With `dry_run`: true if there are more than `redrivable`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub more: Option<bool>,
    /// Earliest start of the last one's next attempt: those of one agent start one after the other.
    pub last_starts_at: Option<DateTime<Utc>>,
    /// Value of `after` for a request that continues; `null` if all are done.
    pub next: Option<String>,
}
