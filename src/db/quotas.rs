//! Statements about quotas of armed jobs. Counts read an index of armed one-shots, and stop at the quota.

use std::collections::HashMap;
use std::sync::Arc;

use futures::FutureExt;
use nas_cron_protocol::admin_api::{QuotaScope, QuotaUse};
use nas_cron_protocol::{InstanceId, OrgId};

use super::batched::{self, Batched};
use super::columns::Word;
use super::{Db, DbError, DbResult};
use crate::domain::quota::{DefaultQuotas, QuotaCount, QuotaTarget};

/// Maximum number of nearly used quotas that [`recount`] counts again, the oldest counts first.
const RECOUNTED: i64 = 200;

/// Batched counts of instances.
pub(super) type Counts = Arc<Batched<InstanceId, Option<QuotaCount>>>;

/// Counts the armed jobs of an instance or org up to its quota, which is `default` if it has none of its own.
#[tracing::instrument(name = "db.quotas.count", level = "debug", skip_all)]
pub async fn count(db: &Db, target: &QuotaTarget, default: i64) -> DbResult<QuotaCount> {
    match target {
        QuotaTarget::Instance(instance_id) => {
            let session = db.clone();
            let read = move |ids| {
                let db = session.clone();
                batched::read_all(ids, move |ids| count_instances(db, ids, default)).boxed()
            };
            let counted = db.quota_counts.ask(instance_id.clone(), read).await?;
            Ok(counted.unwrap_or(QuotaCount { own: None, armed: 0 }))
        }
        QuotaTarget::Org(org_id) => count_org(db, org_id, default).await,
    }
}

async fn count_instances(
    db: Db,
    ids: Vec<InstanceId>,
    default: i64,
) -> DbResult<HashMap<InstanceId, QuotaCount>> {
    let texts: Vec<&str> = ids.iter().map(InstanceId::as_str).collect();
    let rows = sqlx::query!(
        r#"
        SELECT g.instance_id AS "instance_id!", q.armed_jobs::bigint AS own, c.armed AS "armed!"
        -- As a subquery, the array does not make Postgres plan anew for its length.
        FROM unnest((SELECT $1::text[])) AS g(instance_id)
        LEFT JOIN quotas q ON q.scope = 'instance' AND q.scope_id = g.instance_id
        CROSS JOIN LATERAL (
            SELECT count(*) AS armed
            FROM (SELECT FROM one_shots o WHERE o.instance_id = g.instance_id AND o.next_attempt_at IS NOT NULL
                  LIMIT COALESCE(q.armed_jobs, $2::bigint /* default */)) s
        ) c
        "#,
        &texts as &[&str],
        default,
    )
    .fetch_all(&db)
    .await?;
    let counts = rows
        .into_iter()
        .map(|row| (InstanceId::stored(row.instance_id), QuotaCount { own: row.own, armed: row.armed }));
    Ok(counts.collect())
}

async fn count_org(db: &Db, org_id: &OrgId, default: i64) -> DbResult<QuotaCount> {
    Ok(sqlx::query_as!(
        QuotaCount,
        r#"
        SELECT (SELECT armed_jobs FROM quotas WHERE scope = 'org' AND scope_id = $1)::bigint AS own, count(*) AS "armed!"
        FROM (
            SELECT FROM instances i CROSS JOIN LATERAL (
                -- In one go for each instance, which the index answers without its rows.
                SELECT FROM one_shots o WHERE o.instance_id = i.instance_id AND o.next_attempt_at IS NOT NULL OFFSET 0
            ) o
            WHERE i.org_id = $1 /* org_id */
            LIMIT (SELECT COALESCE((SELECT armed_jobs FROM quotas WHERE scope = 'org' AND scope_id = $1), $2::bigint /* default */))
        ) s
        "#,
        org_id.as_str(),
        default,
    )
    .fetch_one(db)
    .await?)
}

/// Sets the quota of an instance or org; `None` for the default. Returns false if the instance does not exist.
pub async fn set(db: &Db, target: &QuotaTarget, quota: Option<u32>) -> DbResult<bool> {
    let set = sqlx::query!(
        r#"
        WITH unset AS (
            DELETE FROM quotas WHERE scope = $1 AND scope_id = $2 AND $3::integer IS NULL
        )
        INSERT INTO quotas AS q (scope, scope_id, armed_jobs)
        SELECT $1, $2, $3 WHERE $3 IS NOT NULL
        ON CONFLICT (scope, scope_id) DO UPDATE SET armed_jobs = excluded.armed_jobs, updated_at = now()
        "#,
        Word(target.scope()) as Word<QuotaScope>,
        target.id(),
        quota.map(|quota| i32::try_from(quota).unwrap_or(i32::MAX)),
    )
    .execute(db)
    .await;
    match set.map_err(DbError::from) {
        Ok(_) => Ok(true),
        // The instance was deleted meanwhile.
        Err(DbError::Conflict { constraint }) if constraint == "quotas_instance_id_fkey" => Ok(false),
        Err(error) => Err(error),
    }
}

/// Remembers that a quota is nearly used.
pub async fn note_nearly_used(db: &Db, target: &QuotaTarget, quota: i64, armed: i64) -> DbResult<()> {
    sqlx::query!(
        r#"
        INSERT INTO nearly_used_quotas AS n (scope, scope_id, quota, armed) VALUES ($1, $2, $3, $4)
        ON CONFLICT (scope, scope_id) DO UPDATE SET quota = excluded.quota, armed = excluded.armed, noticed_at = now()
        "#,
        Word(target.scope()) as Word<QuotaScope>,
        target.id(),
        quota,
        armed,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Counts the nearly used quotas again, forgets those that are not any more, and returns the number of the others by scope.
pub async fn recount(db: &Db, defaults: DefaultQuotas) -> DbResult<Vec<(QuotaScope, i64)>> {
    let rows = sqlx::query!(
        r#"
        WITH noted AS MATERIALIZED (
            SELECT n.scope, n.scope_id,
                   COALESCE(q.armed_jobs, CASE n.scope WHEN 'instance' THEN $1::bigint ELSE $2::bigint END) AS quota
            FROM nearly_used_quotas n LEFT JOIN quotas q USING (scope, scope_id)
            ORDER BY n.noticed_at LIMIT $3 /* recounted */
        ), counted AS MATERIALIZED (
            SELECT n.*, c.armed, c.armed * 100 >= n.quota * 90 AND c.armed > 0 AS still
            FROM noted n CROSS JOIN LATERAL (
                SELECT count(*) AS armed FROM (
                    SELECT FROM (
                        SELECT n.scope_id AS instance_id WHERE n.scope = 'instance'
                        UNION ALL
                        SELECT i.instance_id FROM instances i WHERE n.scope = 'org' AND i.org_id = n.scope_id
                    ) i CROSS JOIN LATERAL (
                        SELECT FROM one_shots o
                        WHERE o.instance_id = i.instance_id AND o.next_attempt_at IS NOT NULL OFFSET 0
                    ) o
                    LIMIT n.quota
                ) s
            ) c
        ), forgotten AS (
            DELETE FROM nearly_used_quotas n USING counted c
            WHERE n.scope = c.scope AND n.scope_id = c.scope_id AND NOT c.still
            RETURNING n.scope
        ), updated AS (
            UPDATE nearly_used_quotas n SET quota = c.quota, armed = c.armed, noticed_at = now()
            FROM counted c
            WHERE n.scope = c.scope AND n.scope_id = c.scope_id AND c.still
        )
        SELECT s.scope AS "scope!: Word<QuotaScope>",
               (SELECT count(*) FROM nearly_used_quotas n WHERE n.scope = s.scope)
               - (SELECT count(*) FROM forgotten f WHERE f.scope = s.scope) AS "count!"
        FROM unnest(enum_range(NULL::quota_scope)) AS s(scope)
        "#,
        i64::from(defaults.instance),
        i64::from(defaults.org),
        RECOUNTED,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.scope.0, row.count)).collect())
}

/// Returns at most `limit` nearly used quotas, those that are used most first. With `within`, those of an org and its
/// instances.
pub async fn nearly_used(db: &Db, within: Option<&OrgId>, limit: i64) -> DbResult<Vec<QuotaUse>> {
    let rows = sqlx::query!(
        r#"
        SELECT n.scope AS "scope: Word<QuotaScope>", n.scope_id, n.quota, q.scope IS NULL AS "is_default!", n.armed
        FROM nearly_used_quotas n LEFT JOIN quotas q USING (scope, scope_id)
        WHERE $1::text IS NULL OR (n.scope = 'org' AND n.scope_id = $1)
           OR (n.scope = 'instance' AND EXISTS (
               SELECT FROM instances i WHERE i.instance_id = n.scope_id AND i.org_id = $1 /* within */))
        ORDER BY n.armed::float8 / greatest(n.quota, 1) DESC, n.scope, n.scope_id
        LIMIT $2
        "#,
        within.map(OrgId::as_str),
        limit,
    )
    .fetch_all(db)
    .await?;
    let used = rows.into_iter().map(|row| QuotaUse {
        scope: row.scope.0,
        scope_id: row.scope_id,
        quota: row.quota,
        is_default: row.is_default,
        armed: row.armed,
    });
    Ok(used.collect())
}
