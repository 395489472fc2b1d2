//! Statements about `instances`.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{InstanceId, OrgId, SessionId};

use super::seconds::duration;
use super::{Db, DbResult};
use crate::domain::PortalDenial;
use crate::domain::agent_instance::AgentInstance;

pub(super) struct Row {
    pub(super) instance_id: String,
    pub(super) org_id: String,
    pub(super) enabled: bool,
    pub(super) callback_url: Option<String>,
    pub(super) skew_guard_ms: i32,
    pub(super) skew_learned_at: Option<DateTime<Utc>>,
    pub(super) unreachable_since: Option<DateTime<Utc>>,
    pub(super) pulled_at: Option<DateTime<Utc>>,
    pub(super) looked_up_seconds: Option<f64>,
    pub(super) denied_by_portal: Option<PortalDenial>,
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
            // A clock that was set back is no reason to ask again.
            looked_up: row.looked_up_seconds.map(duration),
            denied_by_portal: row.denied_by_portal,
        }
    }
}

/// The instance of this name, whichever org owns it.
#[tracing::instrument(name = "db.instances.by_id", level = "debug", skip_all)]
pub async fn by_id(db: &Db, instance_id: &InstanceId) -> DbResult<Option<AgentInstance>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        SELECT instance_id, org_id, enabled AND denied_by_portal IS NULL AS "enabled!", callback_url, skew_guard_ms,
               skew_learned_at, unreachable_since, pulled_at,
               extract(epoch FROM clock_timestamp() - looked_up_at)::float8 AS looked_up_seconds,
               denied_by_portal AS "denied_by_portal: PortalDenial"
        FROM instances WHERE instance_id = $1
        "#,
        instance_id.as_str(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(AgentInstance::from))
}

/// The instance of this org whose bootstrap session this is.
#[tracing::instrument(name = "db.instances.by_session", level = "debug", skip_all)]
pub async fn by_session(db: &Db, org_id: &OrgId, session: &SessionId) -> DbResult<Option<AgentInstance>> {
    let row = sqlx::query_as!(
        Row,
        r#"
        SELECT instance_id, org_id, enabled AND denied_by_portal IS NULL AS "enabled!", callback_url, skew_guard_ms,
               skew_learned_at, unreachable_since, pulled_at,
               extract(epoch FROM clock_timestamp() - looked_up_at)::float8 AS looked_up_seconds,
               denied_by_portal AS "denied_by_portal: PortalDenial"
        FROM instances WHERE org_id = $1 AND bootstrap_session_id = $2
        "#,
        org_id.as_str(),
        session.as_str(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(AgentInstance::from))
}
