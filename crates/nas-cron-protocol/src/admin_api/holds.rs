//! Holds: fires that operators have stopped.

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use crate::words;

words!(
    /// The scope of a hold, the widest first.
    #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
    pub enum HoldScope {
        /// The whole service.
        All = "all",
        /// Every instance of one org.
        Org = "org",
        /// One instance.
        Instance = "instance",
        /// One job of an instance.
        Job = "job",
    }
);

/// A hold in force.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(example = json!({ "scope": "org", "scope_id": "acme", "reason": "database maintenance", "created_at": "2026-06-18T12:34:56.25Z" })))]
pub struct Hold {
    /// Scope of the hold.
    pub scope: HoldScope,
    /// ID of the org or instance, also of a job's instance; empty for the whole service.
    pub scope_id: String,
    /// ID of the job; absent in other scopes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::JobId>))]
    pub job_id: Option<String>,
    /// The operator's reason.
    pub reason: Option<String>,
    /// Start of the hold.
    pub created_at: DateTime<Utc>,
}

/// Instances and one-shots in the scope of a hold.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Coverage {
    /// Number of instances.
    pub agents: i64,
    /// Number of their one-shots that are armed, leased, firing or waiting.
    pub armed: i64,
    /// Number of `armed` one-shots that came due and are parked by a hold.
    pub parked: i64,
    /// True if the scope is too large to count: there are more than these.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// A hold, and what it covers.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct StandingHold {
    /// The hold.
    #[serde(flatten)]
    pub hold: Hold,
    /// Instances and one-shots in its scope.
    #[serde(flatten)]
    pub covers: Coverage,
}

/// All holds.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct HoldList {
    /// The holds, the widest first, up to 1,000.
    pub holds: Vec<StandingHold>,
    /// True if there are more, of agents or of jobs.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
}

/// A scope that is on hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(example = json!({ "scope": "org", "scope_id": "acme", "new": true, "covers": { "agents": 12, "armed": 340, "parked": 3 } })))]
pub struct HeldScope {
    /// Scope of the hold.
    pub scope: HoldScope,
    /// ID of the org or instance, also of a job's instance; empty for the whole service.
    pub scope_id: String,
    /// ID of the job; absent in other scopes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::JobId>))]
    pub job_id: Option<String>,
    /// False if it was on hold already. A new reason then replaces the old one.
    pub new: bool,
    /// Instances and one-shots in the scope.
    pub covers: Coverage,
}

/// The end of a hold.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
#[cfg_attr(feature = "openapi", schema(example = json!({ "scope": "org", "scope_id": "acme", "existed": true, "released": 3, "still_parked": 0, "releasing": false })))]
pub struct Released {
    /// Scope of the hold.
    pub scope: HoldScope,
    /// ID of the org or instance, also of a job's instance; empty for the whole service.
    pub scope_id: String,
    /// ID of the job; absent in other scopes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<crate::JobId>))]
    pub job_id: Option<String>,
    /// False if there was no such hold.
    pub existed: bool,
    /// Number of one-shots that are not parked any more.
    pub released: i64,
    /// Number of one-shots in the scope that are still parked: because of another hold or a disabled agent, or because they
    /// are released later (`releasing`).
    pub still_parked: i64,
    /// True if there were too many for one call: the running replicas release the rest within minutes.
    #[serde(default)]
    pub releasing: bool,
}
