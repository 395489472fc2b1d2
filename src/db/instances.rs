//! Statements about `instances`.

use chrono::{DateTime, Utc};

use super::{Db, DbResult};
use crate::domain::{InstanceId, OrgId, SessionId};

/// An agent instance as it stands in the database.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AgentInstance {
    /// Its name at the portal.
    pub instance_id: InstanceId,
    /// Who owns it.
    pub org_id: OrgId,
    /// Whether it may call, and be fired.
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
}

struct Row {
    instance_id: String,
    org_id: String,
    enabled: bool,
    callback_url: Option<String>,
    skew_guard_ms: i32,
    skew_learned_at: Option<DateTime<Utc>>,
    unreachable_since: Option<DateTime<Utc>>,
    pulled_at: Option<DateTime<Utc>>,
}

impl From<Row> for AgentInstance {
    fn from(row: Row) -> Self {
        Self {
            instance_id: InstanceId::stored(row.instance_id),
            org_id: OrgId::stored(row.org_id),
            enabled: row.enabled,
            callback_url: row.callback_url,
            skew_guard_ms: row.skew_guard_ms,
            skew_learned_at: row.skew_learned_at,
            unreachable_since: row.unreachable_since,
            pulled_at: row.pulled_at,
        }
    }
}

/// The instance of this name, whichever org owns it.
#[tracing::instrument(name = "db.instances.by_id", level = "debug", skip_all)]
pub async fn by_id(db: &Db, instance_id: &InstanceId) -> DbResult<Option<AgentInstance>> {
    let row = sqlx::query_as!(
        Row,
        "SELECT instance_id, org_id, enabled, callback_url, skew_guard_ms, skew_learned_at, unreachable_since, \
                pulled_at \
         FROM instances WHERE instance_id = $1",
        instance_id.as_str(),
    )
    .fetch_optional(&db.pool)
    .await?;
    Ok(row.map(AgentInstance::from))
}

/// The instance of this org whose bootstrap session this is.
#[tracing::instrument(name = "db.instances.by_session", level = "debug", skip_all)]
pub async fn by_session(db: &Db, org_id: &OrgId, session: &SessionId) -> DbResult<Option<AgentInstance>> {
    let row = sqlx::query_as!(
        Row,
        "SELECT instance_id, org_id, enabled, callback_url, skew_guard_ms, skew_learned_at, unreachable_since, \
                pulled_at \
         FROM instances WHERE org_id = $1 AND bootstrap_session_id = $2",
        org_id.as_str(),
        session.as_str(),
    )
    .fetch_optional(&db.pool)
    .await?;
    Ok(row.map(AgentInstance::from))
}
