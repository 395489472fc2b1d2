//! Statements about `instances`.

use std::collections::HashMap;
use std::sync::Arc;

use chrono::{DateTime, Utc};
use futures::FutureExt;
use nas_cron_protocol::{CallbackUrl, InstanceId, OrgId, SessionId};

use super::batched::{self, Batched};
use super::seconds::duration;
use super::{Db, DbError, DbResult};
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
    pub(super) version: i64,
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
            // Negative after the database's clock was set back; counts as zero, so that no new lookup is made.
            looked_up: row.looked_up_seconds.map(duration),
            denied_by_portal: row.denied_by_portal,
            version: row.version,
        }
    }
}

/// Batched statements about the callers of the agent API.
#[derive(Debug, Default)]
pub(super) struct Callers {
    by_id: Arc<Batched<InstanceId, Option<AgentInstance>>>,
    by_session: Arc<Batched<(OrgId, SessionId), Option<AgentInstance>>>,
    first_callbacks: Arc<Batched<(InstanceId, CallbackUrl), bool>>,
}

/// Returns the instance with this id, in any org.
#[tracing::instrument(name = "db.instances.by_id", level = "debug", skip_all)]
pub async fn by_id(db: &Db, instance_id: &InstanceId) -> DbResult<Option<AgentInstance>> {
    let reader = db.clone();
    let read = move |ids| {
        let db = reader.clone();
        batched::read_all(ids, |ids| read_by_id(db, ids)).boxed()
    };
    db.callers.by_id.ask(instance_id.clone(), read).await
}

/// Returns the instance of this org with this bootstrap session.
#[tracing::instrument(name = "db.instances.by_session", level = "debug", skip_all)]
pub async fn by_session(db: &Db, org_id: &OrgId, session: &SessionId) -> DbResult<Option<AgentInstance>> {
    let reader = db.clone();
    let read = move |sessions| {
        let db = reader.clone();
        batched::read_all(sessions, |sessions| read_by_session(db, sessions)).boxed()
    };
    db.callers.by_session.ask((org_id.clone(), session.clone()), read).await
}

async fn read_by_id(db: Db, ids: Vec<InstanceId>) -> DbResult<HashMap<InstanceId, AgentInstance>> {
    let ids: Vec<String> = ids.iter().map(|id| id.as_str().to_owned()).collect();
    let rows = sqlx::query_as!(
        Row,
        r#"
        SELECT instance_id, org_id, enabled AND denied_by_portal IS NULL AS "enabled!", callback_url, skew_guard_ms,
               skew_learned_at, unreachable_since, pulled_at,
               extract(epoch FROM clock_timestamp() - looked_up_at)::float8 AS looked_up_seconds,
               denied_by_portal AS "denied_by_portal: PortalDenial", xmin::text::bigint AS "version!"
        FROM instances
        -- As subqueries, arrays do not make Postgres plan anew for their lengths.
        WHERE instance_id = ANY ((SELECT $1::text[])::text[])
        "#,
        &ids,
    )
    .fetch_all(&db)
    .await?;
    let instances = rows.into_iter().map(AgentInstance::from);
    Ok(instances.map(|instance| (instance.instance_id.clone(), instance)).collect())
}

async fn read_by_session(
    db: Db,
    sessions: Vec<(OrgId, SessionId)>,
) -> DbResult<HashMap<(OrgId, SessionId), AgentInstance>> {
    let (orgs, ids): (Vec<String>, Vec<String>) =
        sessions.iter().map(|(org, id)| (org.as_str().to_owned(), id.as_str().to_owned())).unzip();
    let rows = sqlx::query!(
        r#"
        SELECT w.number AS "number!", i.instance_id, i.org_id, i.enabled AND i.denied_by_portal IS NULL AS "enabled!",
               i.callback_url, i.skew_guard_ms, i.skew_learned_at, i.unreachable_since, i.pulled_at,
               extract(epoch FROM clock_timestamp() - i.looked_up_at)::float8 AS looked_up_seconds,
               i.denied_by_portal AS "denied_by_portal: PortalDenial", i.xmin::text::bigint AS "version!"
        FROM unnest((SELECT $1::text[]), (SELECT $2::text[])) WITH ORDINALITY AS w(org_id, session_id, number)
        JOIN instances i ON i.org_id = w.org_id AND i.bootstrap_session_id = w.session_id
        "#,
        &orgs,
        &ids,
    )
    .fetch_all(&db)
    .await?;
    let found = rows.into_iter().filter_map(|row| {
        let key = sessions.get(usize::try_from(row.number).ok()?.checked_sub(1)?)?.clone();
        let row = Row {
            instance_id: row.instance_id,
            org_id: row.org_id,
            enabled: row.enabled,
            callback_url: row.callback_url,
            skew_guard_ms: row.skew_guard_ms,
            skew_learned_at: row.skew_learned_at,
            unreachable_since: row.unreachable_since,
            pulled_at: row.pulled_at,
            looked_up_seconds: row.looked_up_seconds,
            denied_by_portal: row.denied_by_portal,
            version: row.version,
        };
        Some((key, row.into()))
    });
    Ok(found.collect())
}

/// Returns true if there are any instances.
pub(super) async fn exist(db: &Db) -> DbResult<bool> {
    Ok(sqlx::query_scalar!(r#"SELECT EXISTS (SELECT FROM instances) AS "exist!""#).fetch_one(db).await?)
}

/// Executes the statements about callers with no caller.
pub(super) async fn read_nothing(db: &Db) -> DbResult<()> {
    read_by_id(db.clone(), Vec::new()).await?;
    read_by_session(db.clone(), Vec::new()).await?;
    record_first_callbacks(db.clone(), Vec::new()).await;
    Ok(())
}

/// Stores the callback of an instance that has none: it provisions for the first time, and has no one-shots. Returns false
/// if it has one by now.
#[tracing::instrument(name = "db.instances.record_first_callback", level = "debug", skip_all)]
pub async fn record_first_callback(
    db: &Db,
    instance_id: &InstanceId,
    callback_url: &CallbackUrl,
) -> DbResult<bool> {
    let session = db.clone();
    let record = move |callbacks: Vec<_>| record_first_callbacks(session.clone(), callbacks).boxed();
    db.callers.first_callbacks.ask((instance_id.clone(), callback_url.clone()), record).await
}

async fn record_first_callbacks(db: Db, callbacks: Vec<(InstanceId, CallbackUrl)>) -> Vec<DbResult<bool>> {
    let instance_ids: Vec<&str> = callbacks.iter().map(|(instance, _)| instance.as_str()).collect();
    let urls: Vec<&str> = callbacks.iter().map(|(_, callback)| callback.as_str()).collect();
    let recorded = sqlx::query_scalar!(
        r#"
        WITH locked AS MATERIALIZED (
            SELECT i.instance_id
            FROM instances i JOIN (SELECT DISTINCT unnest((SELECT $1::text[] /* instance_id */)) AS instance_id) g USING (instance_id)
            WHERE i.callback_url IS NULL
            ORDER BY i.instance_id
            FOR NO KEY UPDATE OF i
        ), recorded AS (
            UPDATE instances i SET callback_url = g.callback_url, updated_at = now()
            FROM locked l JOIN (
                SELECT DISTINCT ON (instance_id) *
                FROM unnest((SELECT $1::text[]), (SELECT $2::text[] /* callback_url */)) AS g(instance_id, callback_url)
            ) g USING (instance_id)
            WHERE i.instance_id = l.instance_id AND i.callback_url IS NULL
            RETURNING i.instance_id, i.callback_url
        )
        SELECT r.instance_id IS NOT NULL AS "recorded!"
        FROM unnest((SELECT $1::text[]), (SELECT $2::text[])) WITH ORDINALITY AS g(instance_id, callback_url, line)
        LEFT JOIN recorded r USING (instance_id, callback_url)
        ORDER BY g.line
        "#,
        &instance_ids as &[&str],
        &urls as &[&str],
    )
    .fetch_all(&db)
    .await;
    match recorded {
        Ok(recorded) => recorded.into_iter().map(Ok).collect(),
        Err(error) => {
            let error = DbError::from(error);
            callbacks.iter().map(|_| Err(error.again())).collect()
        }
    }
}
