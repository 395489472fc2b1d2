//! The registry of agent instances: registration and listing.

use chrono::{DateTime, Utc};
use nas_cron_protocol::admin_api::QuotaScope;
use nas_cron_protocol::{CallbackUrl, Given, InstanceId, OrgId, SessionId};

use super::PortalDenial;
use super::agent_search::AgentSearch;
use super::login::Login;
use super::quota::DefaultQuotas;

/// The registration of an instance. An omitted value keeps the value from an earlier registration or from the agent
/// itself.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Its id.
    pub instance_id: InstanceId,
    /// The org that owns it.
    pub org_id: OrgId,
    /// The session planted in it at its first boot. It identifies tokens that carry no `agent:<id>`.
    pub bootstrap_session_id: Given<SessionId>,
    /// Its callback URL; `None` keeps the current one. A new URL also moves its one-shots.
    pub callback_url: Option<CallbackUrl>,
    /// True if it may provision and be fired. `None` keeps the current value, and means `true` for a new instance. `true`
    /// also deletes the denial of the portal's last lookup, until the next lookup.
    pub enabled: Option<bool>,
}

/// The result of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// The instance was added.
    Added,
    /// The instance was updated.
    Updated,
    /// The instance was registered already, with the same values.
    Unchanged,
    /// Rejected: the instance belongs to this other org, and no move was requested.
    OtherOrg(String),
    /// Rejected: its bootstrap session belongs to this other instance of the same org.
    SessionTaken(String),
    /// Rejected: the instance occurs earlier in the same batch.
    Repeated,
    /// Another statement registered it at the same time; repeat the registration.
    Raced,
}

/// A registered instance.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct Agent {
    /// Its id.
    #[schema(value_type = InstanceId)]
    pub instance_id: String,
    /// The org that owns it.
    #[schema(value_type = OrgId)]
    pub org_id: String,
    /// The session planted in it at its first boot.
    #[schema(value_type = Option<SessionId>)]
    pub bootstrap_session_id: Option<String>,
    /// True if it may provision and be fired.
    pub enabled: bool,
    /// True if its fires are held: it is disabled, the portal denies it, or a hold of any scope covers it.
    pub on_hold: bool,
    /// The portal's denial in its last lookup response; absent if the portal did not deny it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied_by_portal: Option<PortalDenial>,
    /// Time of the portal's last lookup response; absent if there was no lookup.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looked_up_at: Option<DateTime<Utc>>,
    /// Its last callback URL, from the agent or from its registration.
    pub callback_url: Option<String>,
    /// The callback that `callback_url` alternates with; absent unless the callback moves back and forth. Two homes of the
    /// agent then share its identity.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub alternating_callback_url: Option<String>,
    /// Start of the current outage; `null` if the instance is not known to be unreachable.
    pub unreachable_since: Option<DateTime<Utc>>,
    /// End of the time for which the agent asked to wait (`Retry-After`, at most 60 s): its one-shots are not due earlier.
    /// Absent if that time is over.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub busy_until: Option<DateTime<Utc>>,
    /// Last time at which it armed one of its present one-shots or one of them was attempted; `null` if it has none.
    pub last_contact_at: Option<DateTime<Utc>>,
    /// Delay of its fires because its clock is slow, in milliseconds; absent for most.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(example = json!(null))]
    pub skew_guard_ms: Option<i32>,
    /// Number of one-shots that are armed, leased, firing or waiting.
    pub armed: i64,
    /// Its own quota of armed jobs; absent if the default applies.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub own_quota: Option<i64>,
    /// Number of `armed` one-shots that are parked, because of a hold or because the instance is unreachable.
    pub parked: i64,
    /// Number of dead letters and stuck one-shots.
    pub dead: i64,
    /// Earliest start of its next attempt.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// Time of its registration.
    pub created_at: DateTime<Utc>,
    /// Time of the last change of its registration.
    pub updated_at: DateTime<Utc>,
}

impl Agent {
    /// Returns its quota of armed jobs: its own, or else the default.
    pub fn quota(&self, defaults: DefaultQuotas) -> i64 {
        self.own_quota.unwrap_or_else(|| defaults.of(QuotaScope::Instance))
    }
}

/// A page of agents.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct AgentPage {
    /// The agents, ordered by ID.
    pub agents: Vec<Agent>,
    /// True if more than 1,000 callbacks begin with the text of `search`: the pages do not have all of their agents. Use a longer
    /// text, or search within an org.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub more_callbacks: bool,
    /// Value of `after` for the next page; `null` on the last page.
    pub next: Option<String>,
}

/// An agent with its last login at the built-in portal.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct ShownAgent {
    /// The agent.
    #[serde(flatten)]
    pub agent: Agent,
    /// Its last login; absent if it has none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<Login>,
    /// Its quota of armed jobs: its own, or the default. Releases before quotas leave it out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub quota: Option<i64>,
}

/// An agent that was enabled or disabled.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct EnabledAgent {
    /// False if it was so already.
    pub changed: bool,
    /// Number of one-shots that are not parked any more.
    pub released: i64,
    /// The agent.
    pub agent: Agent,
}

/// An agent whose callback URL was set.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct MovedAgent {
    /// The agent.
    #[schema(value_type = InstanceId)]
    pub instance_id: String,
    /// Its callback URL.
    pub callback_url: String,
    /// Number of its one-shots that had another one.
    pub moved: i64,
}

/// Numbers of rows that a deletion of instances has removed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Deleted {
    /// Instances.
    pub instances: i64,
    /// Their one-shots.
    pub one_shots: i64,
    /// Those of them that were not delivered.
    pub undelivered: i64,
}

/// Selection of instances for a listing.
#[derive(Clone, Debug, Default)]
pub struct AgentFilter {
    /// Instances of this org.
    pub org_id: Option<OrgId>,
    /// Enabled (`true`) or disabled (`false`) instances.
    pub enabled: Option<bool>,
    /// This instance.
    pub instance_id: Option<InstanceId>,
    /// Instances whose ID or callback begins with this.
    pub search: Option<AgentSearch>,
    /// Only instances whose callback is unreachable.
    pub unreachable: bool,
    /// Instances that a caller of this org may see; `None` for no limit.
    pub within: Option<OrgId>,
}
