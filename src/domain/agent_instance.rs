//! An agent instance, as a request or a fire of it needs to know it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::{InstanceId, OrgId};

use super::PortalDenial;

/// An agent instance as it stands in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentInstance {
    /// Its name at the portal.
    pub instance_id: InstanceId,
    /// Who owns it.
    pub org_id: OrgId,
    /// Whether it may call, and be fired: neither the operator nor the portal has it switched off.
    pub enabled: bool,
    /// The callback it last came with.
    pub callback_url: Option<String>,
    /// How much later its fires start, in milliseconds, as learned at `skew_learned_at` (it decays since).
    pub skew_guard_ms: i32,
    /// When the skew guard was last learned.
    pub skew_learned_at: Option<DateTime<Utc>>,
    /// Since when it cannot be reached.
    pub unreachable_since: Option<DateTime<Utc>>,
    /// When its waiting retries were last pulled forward.
    pub pulled_at: Option<DateTime<Utc>>,
    /// How long ago the portal last answered about it, by the database's clock; `None`: it was never asked.
    pub looked_up: Option<Duration>,
    /// What it answered, unless it was a yes.
    pub denied_by_portal: Option<PortalDenial>,
}
