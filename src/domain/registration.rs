//! The registry of agent instances: registrations, and how instances are listed.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{CallbackUrl, Given, InstanceId, OrgId, SessionId};

use super::PortalDenial;

/// An instance as it is to be registered. What may be left out keeps what an earlier registration, or the
/// agent itself, said.
#[derive(Clone, Debug)]
pub struct Registration {
    /// Its name.
    pub instance_id: InstanceId,
    /// Who owns it.
    pub org_id: OrgId,
    /// The session planted in it at its first boot: how its tokens are told when they carry no `agent:<id>`.
    pub bootstrap_session_id: Given<SessionId>,
    /// Where it is reached; `None` keeps what it last came with. Another one moves its one-shots along.
    pub callback_url: Option<CallbackUrl>,
    /// Whether it may provision and be fired; `None` keeps, and is `true` for a new one. `true` also forgets what the
    /// portal's lookup last said against it, until it says so again.
    pub enabled: Option<bool>,
}

/// What became of a registration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It is new.
    Added,
    /// It was there and has changed.
    Updated,
    /// It was there like this.
    Unchanged,
    /// Refused: it belongs to this other org, and a move was not asked for.
    OtherOrg(String),
    /// Refused: its bootstrap session is this other instance's, in the same org.
    SessionTaken(String),
    /// Refused: the same batch names it before.
    Repeated,
    /// Another statement registered it at the same moment: the same again will know it.
    Raced,
}

/// A registered instance.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct Agent {
    /// Its name.
    pub instance_id: String,
    /// Who owns it.
    pub org_id: String,
    /// The session planted in it at its first boot.
    pub bootstrap_session_id: Option<String>,
    /// Whether it may provision and be fired.
    pub enabled: bool,
    /// Whether its fires are held, by being disabled, by the portal's word or by a hold of any scope.
    pub on_hold: bool,
    /// What the portal's lookup last said against it; absent where it said nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub denied_by_portal: Option<PortalDenial>,
    /// When the portal's lookup last answered about it; absent where it was never asked.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub looked_up_at: Option<DateTime<Utc>>,
    /// The callback it last came with, or was registered with.
    pub callback_url: Option<String>,
    /// Since when it cannot be reached; `null` when it can, as far as is known.
    pub unreachable_since: Option<DateTime<Utc>>,
    /// One-shots that are armed, leased, firing or waiting.
    pub armed: i64,
    /// Of these: parked, because of a hold or because it cannot be reached.
    pub parked: i64,
    /// Dead letters and stuck one-shots.
    pub dead: i64,
    /// When its next attempt may start.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// When its registration last changed.
    pub updated_at: DateTime<Utc>,
}

/// Which instances to list.
#[derive(Clone, Debug, Default)]
pub struct AgentFilter {
    /// Of this org only.
    pub org_id: Option<OrgId>,
    /// Only those that are, or are not, enabled.
    pub enabled: Option<bool>,
    /// Only this one.
    pub instance_id: Option<InstanceId>,
}
