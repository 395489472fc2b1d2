//! Orgs, and the deletion of everything of an org or an instance.

use serde::{Deserialize, Serialize};

/// An org in a list.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ListedOrg {
    /// The org's ID in the portal.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::OrgId))]
    pub org_id: String,
    /// Number of its agents, counted up to 1,000.
    pub agents: i64,
    /// True if it has more agents than that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// True if the org itself is on hold.
    pub on_hold: bool,
}

/// A page of orgs with agents.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct OrgPage {
    /// The orgs, ordered by ID.
    pub orgs: Vec<ListedOrg>,
    /// Value of `after` for the next page; `null` on the last page.
    pub next: Option<String>,
}

/// An org with the counts of its agents and jobs.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Org {
    /// The org's ID in the portal.
    #[cfg_attr(feature = "openapi", schema(value_type = crate::OrgId))]
    pub org_id: String,
    /// Number of its agents.
    pub agents: i64,
    /// Number of agents that an operator has disabled.
    pub disabled: i64,
    /// Number of agents that are unreachable.
    pub unreachable: i64,
    /// Number of its one-shots that are armed, leased, firing or waiting.
    pub armed: i64,
    /// Number of `armed` one-shots that are parked.
    pub parked: i64,
    /// Number of dead letters and stuck one-shots.
    pub dead: i64,
    /// True if the org is too large to count: there are more than these.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// True if the org itself is on hold.
    pub on_hold: bool,
}

/// Everything of an org or an instance that a deletion removes, or has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeletionCount {
    /// Number of agents.
    pub agents: i64,
    /// Number of jobs with a one-shot in any state.
    pub jobs: i64,
    /// Number of attempts in the history.
    pub attempts: i64,
    /// Number of the org's own settings: its hold, quota, auth profiles and webhooks. Those of an agent go with it.
    #[serde(default)]
    pub settings: i64,
    /// Number of events for the org's webhooks.
    #[serde(default)]
    pub events: i64,
}

/// The plan of a deletion, or its progress.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeletionReport {
    /// Everything that is there, counted up to 100,000 each.
    pub found: DeletionCount,
    /// True if there is more than that.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more: bool,
    /// Everything that this request has deleted.
    pub deleted: DeletionCount,
    /// Value of `confirm` for a request that deletes it, or continues; `null` if all is deleted.
    pub confirm: Option<String>,
}
