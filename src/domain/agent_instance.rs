//! An agent instance as requests and fires see it.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::{InstanceId, OrgId};

use super::PortalDenial;

/// An agent instance as stored in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentInstance {
    /// Its id at the portal.
    pub instance_id: InstanceId,
    /// The org that owns it.
    pub org_id: OrgId,
    /// True if it may call and be fired: neither the operator nor the portal has disabled it.
    pub enabled: bool,
    /// Its last callback URL.
    pub callback_url: Option<String>,
    /// Delay of its fires in milliseconds, as learned at `skew_learned_at`. It decays from then on.
    pub skew_guard_ms: i32,
    /// Time at which the skew guard was last learned.
    pub skew_learned_at: Option<DateTime<Utc>>,
    /// Start of the current outage, if the instance is unreachable.
    pub unreachable_since: Option<DateTime<Utc>>,
    /// Time at which its waiting retries were last pulled forward.
    pub pulled_at: Option<DateTime<Utc>>,
    /// Time since the last response of the portal's lookup, by the database's clock; `None` if there was no lookup.
    pub looked_up: Option<Duration>,
    /// The portal's denial, if its last response was one.
    pub denied_by_portal: Option<PortalDenial>,
    /// Version of the row: each change of it gives another one.
    pub version: i64,
}
