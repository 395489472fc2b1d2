//! The overview: what fires, what does not, and what needs attention.

use std::fmt;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::KeyStep;
use crate::{BackendName, words};

/// A count that may have stopped at its limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Count {
    /// The number.
    pub count: i64,
    /// True if counting stopped there: there may be more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

impl Count {
    /// A count of all.
    pub const fn exactly(count: i64) -> Self {
        Self { count, more: false }
    }

    /// A count that stopped at `limit`.
    pub const fn up_to(count: i64, limit: i64) -> Self {
        Self { count, more: count >= limit }
    }

    /// True if there is none.
    pub const fn is_zero(self) -> bool {
        self.count == 0 && !self.more
    }

    /// Returns the count with its noun: `1 job`, `10000 or more jobs`.
    pub fn of(self, noun: &str) -> String {
        let s = if self.count == 1 && !self.more { "" } else { "s" };
        format!("{self} {noun}{s}")
    }
}

impl fmt::Display for Count {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let more = if self.more { " or more" } else { "" };
        write!(f, "{}{more}", self.count)
    }
}

/// Jobs, agents and holds that need attention. Of each kind, 10,000 are counted at most.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AttentionCounts {
    /// One-shots that are due and not attempted yet.
    pub overdue: Count,
    /// Dead letters.
    pub dead: Count,
    /// Stuck one-shots: their key was delivered again and again.
    pub stuck: Count,
    /// Jobs whose agents have not armed the next fire in time.
    pub dormant: Count,
    /// One-shots that wait for the end of a hold.
    pub held: Count,
    /// One-shots that wait for an unreachable agent.
    pub waiting_for_agent: Count,
    /// Agents that are unreachable.
    pub unreachable: Count,
    /// Holds in force.
    pub holds: Count,
}

words!(
    /// The severity of a problem.
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum Severity {
        /// It works, but needs attention.
        Warning = "warning",
        /// It does not work, or will soon stop working.
        Wrong = "wrong",
    }
);

/// A problem, as `nas-cron doctor` reports it.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(example = json!({ "check": "dead letters", "status": "warning", "found": "3 dead letters, 0 stuck: these jobs do not run", "fix": "`nas-cron jobs list --state dead,stuck` shows the errors; `nas-cron jobs redrive --all` fires all dead letters again" })))]
pub struct Problem {
    /// Name of the check of `nas-cron doctor`.
    pub check: String,
    /// Its severity.
    pub status: Severity,
    /// Description, of one or more lines.
    pub found: String,
    /// Next step of an operator.
    pub fix: String,
}

/// The overview of the service, or of the caller's org.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Overview {
    /// Time at which it was read, by the database's clock. It is read at most once in 5 s.
    pub at: DateTime<Utc>,
    /// The org that the caller is limited to; absent for a caller that sees the whole service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::OrgId>))]
    pub org_id: Option<String>,
    /// Jobs, agents and holds that need attention.
    pub counts: AttentionCounts,
    /// The problems, the worst first.
    pub problems: Vec<Problem>,
    /// The state of the whole service; absent for a caller that is limited to an org.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<ServiceOverview>,
}

/// The state of the whole service.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ServiceOverview {
    /// The registered replicas, in the order of their start.
    pub replicas: Vec<Replica>,
    /// The scheduler backends.
    pub backends: BackendOverview,
    /// The published signing keys, and the next steps of their rotation.
    pub keys: KeyOverview,
    /// The fires of the last hour and the last day.
    pub fires: FireOverview,
    /// The one-shots that come due within an hour.
    pub load: UpcomingLoad,
}

/// A running process of the service.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Replica {
    /// Its number.
    #[cfg_attr(feature = "openapi", schema(example = 7))]
    pub replica_id: i32,
    /// Name of its machine or container.
    #[cfg_attr(feature = "openapi", schema(example = "nas-cron-5c9f7-x2x8d"))]
    pub host_name: String,
    /// Its release.
    #[cfg_attr(feature = "openapi", schema(example = "0.1.0"))]
    pub version: String,
    /// Its start.
    pub started_at: DateTime<Utc>,
    /// Its latest renewal of its registration, at most 10 s ago while it runs.
    pub seen_at: DateTime<Utc>,
    /// False if it has been silent for more than 30 s.
    pub running: bool,
    /// The database's clock minus its own, in milliseconds; `null` for an older release.
    #[cfg_attr(feature = "openapi", schema(example = 3))]
    pub clock_offset_ms: Option<i64>,
}

/// The scheduler backends, and what they have not done yet.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BackendOverview {
    /// The backend of new one-shots.
    pub active: BackendName,
    /// Number of switches so far, plus one.
    #[cfg_attr(feature = "openapi", schema(example = 1))]
    pub generation: i32,
    /// Time of the latest switch.
    pub switched_at: DateTime<Utc>,
    /// Wake-ups that an external backend has missed in the last hour.
    #[cfg_attr(feature = "openapi", schema(example = 0))]
    pub missed_last_hour: i64,
    /// Wake-ups that an external backend has missed in the last 24 hours.
    #[cfg_attr(feature = "openapi", schema(example = 0))]
    pub missed_last_day: i64,
    /// All wake-ups that external backends have missed so far; without those that have missed none.
    pub missed: Vec<MissedWakeUps>,
    /// The outbox, by backend; without rows for one that has nothing to do.
    pub outbox: Vec<OutboxBacklog>,
    /// The remaining work of the latest switch.
    pub left: SwitchBacklog,
}

/// Wake-ups that an external backend has missed so far.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct MissedWakeUps {
    /// The backend.
    pub backend: BackendName,
    /// Their number.
    #[cfg_attr(feature = "openapi", schema(example = 3))]
    pub missed: i64,
    /// Time at which the latest was noticed.
    pub latest_at: DateTime<Utc>,
}

/// The remaining work of a switch to the active backend. At most 10,000 of each kind are counted.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SwitchBacklog {
    /// One-shots that still belong to another backend.
    pub to_move: Count,
    /// Wake-ups that are not yet armed at the active backend, of one-shots armed before the switch.
    pub to_tell: Count,
    /// Wake-ups that are not yet cancelled at the other backends.
    pub to_take_back: Count,
}

impl SwitchBacklog {
    /// True if nothing is left.
    pub const fn is_empty(&self) -> bool {
        self.to_move.is_zero() && self.to_tell.is_zero() && self.to_take_back.is_zero()
    }
}

/// Outbox rows of one backend that are due.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OutboxBacklog {
    /// The backend.
    pub backend: BackendName,
    /// Rows that are due or are retried. At most 10,000 are counted.
    pub pending: Count,
    /// Those that have failed, or were due more than a minute ago.
    pub late: Count,
    /// The error of one of them.
    #[cfg_attr(feature = "openapi", schema(example = "connection refused"))]
    pub last_error: Option<String>,
}

/// The signing keys.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct KeyOverview {
    /// True if keys are rotated by hand, because an imported one is in use.
    pub by_hand: bool,
    /// The published keys.
    pub published: Vec<PublishedKey>,
    /// The next steps, the earliest first.
    pub upcoming: Vec<KeyStep>,
}

/// A published signing key.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PublishedKey {
    /// Its ID in the JWKS.
    #[cfg_attr(feature = "openapi", schema(example = "2027-01-15-5f3a90c2"))]
    pub kid: String,
    /// Its algorithm.
    #[cfg_attr(feature = "openapi", schema(example = "ES256"))]
    pub alg: String,
    /// Its state: next, active or retired.
    #[cfg_attr(feature = "openapi", schema(example = "active"))]
    pub state: String,
    /// Time of its publication.
    pub published_at: DateTime<Utc>,
    /// Time from which on it signed.
    pub activated_at: Option<DateTime<Utc>>,
}

/// Attempts by their start. Replicas report theirs up to 5 s after each minute; those of a killed one are missing.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct FireOverview {
    /// Attempts of the last minute that all replicas have reported.
    #[cfg_attr(feature = "openapi", schema(example = 240))]
    pub per_minute: i64,
    /// The last 60 such minutes, the oldest first.
    pub hour: Vec<FireSpan>,
    /// The last 24 hours in spans of 15 minutes, the oldest first. The last span has not ended yet.
    pub day: Vec<FireSpan>,
}

/// The attempts of a span of time.
#[derive(Clone, Debug, PartialEq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(example = json!({ "begin": "2026-06-18T12:34:00Z", "delivered": 238, "failed": 2, "other": 0, "lateness_p50_ms": 1.2, "lateness_p99_ms": 4.7 })))]
pub struct FireSpan {
    /// Its beginning.
    pub begin: DateTime<Utc>,
    /// Number of deliveries.
    pub delivered: i64,
    /// Number of failed attempts.
    pub failed: i64,
    /// Number of attempts with another outcome: gone, dropped, duplicate or lost.
    pub other: i64,
    /// Median lateness of first attempts, in milliseconds and right to an eighth; `null` without any.
    pub lateness_p50_ms: Option<f64>,
    /// Lateness that 99 of 100 first attempts did not exceed.
    pub lateness_p99_ms: Option<f64>,
}

/// One-shots that come due within an hour. Those on hold or behind an unreachable agent are left out.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct UpcomingLoad {
    /// The current minute from now on, and the 59 after it.
    pub minutes: Vec<DueMinute>,
    /// True if there are more than 50,000: their numbers are then estimated from a sample of the table.
    pub estimated: bool,
}

/// One-shots that come due in a minute.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DueMinute {
    /// Beginning of the minute.
    pub minute: DateTime<Utc>,
    /// Number of one-shots.
    #[cfg_attr(feature = "openapi", schema(example = 120))]
    pub due: i64,
}
