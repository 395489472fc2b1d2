//! Statements about orgs, and about the deletion of everything of an org or an instance.

use nas_cron_protocol::OrgId;
use nas_cron_protocol::admin_api::{DeletionCount, ListedOrg, Org};

use super::{Db, DbResult};

/// Maximum number of agents that [`list`] counts of each org.
const LISTED: i64 = 1_000;
/// Maximum number of rows of one kind that [`find`] and [`count_of`] count: about 50 ms.
const COUNTED: i64 = 100_000;

/// Returns at most `limit` orgs with agents after `after`, ordered by id. Skips from one org to the next in the index.
pub async fn list(
    db: &Db,
    within: Option<&OrgId>,
    after: Option<&OrgId>,
    limit: i64,
) -> DbResult<Vec<ListedOrg>> {
    Ok(sqlx::query_as!(
        ListedOrg,
        r#"
        WITH RECURSIVE orgs AS (
            (SELECT org_id FROM instances
             WHERE org_id > COALESCE($1 /* after */, '') AND ($2::text IS NULL OR org_id = $2 /* within */)
             ORDER BY org_id LIMIT 1)
            UNION ALL
            SELECT (SELECT i.org_id FROM instances i
                    WHERE i.org_id > o.org_id AND $2 IS NULL ORDER BY i.org_id LIMIT 1)
            FROM orgs o WHERE o.org_id IS NOT NULL
        ), page AS (
            SELECT org_id FROM orgs WHERE org_id IS NOT NULL LIMIT $3 /* limit */
        )
        SELECT p.org_id AS "org_id!", LEAST(c.agents, $4::bigint /* listed */) AS "agents!", c.agents > $4::bigint AS "more!",
               EXISTS (SELECT FROM holds h WHERE h.scope = 'org' AND h.scope_id = p.org_id) AS "on_hold!"
        FROM page p CROSS JOIN LATERAL (
            SELECT count(*) AS agents FROM (SELECT FROM instances i WHERE i.org_id = p.org_id LIMIT $4::bigint + 1) s
        ) c
        ORDER BY p.org_id
        "#,
        after.map(OrgId::as_str),
        within.map(OrgId::as_str),
        limit,
        LISTED,
    )
    .fetch_all(db)
    .await?)
}

/// Counts the agents and jobs of an org. Returns `None` if it has no agents.
pub async fn find(db: &Db, org_id: &OrgId) -> DbResult<Option<Org>> {
    let found = sqlx::query_as!(
        Org,
        r#"
        SELECT $1 AS "org_id!", a.agents AS "agents!", a.disabled AS "disabled!", a.unreachable AS "unreachable!",
               j.armed AS "armed!", j.parked AS "parked!", j.dead AS "dead!",
               a.agents >= $2 OR j.jobs >= $2 AS "more!",
               EXISTS (SELECT FROM holds h WHERE h.scope = 'org' AND h.scope_id = $1) AS "on_hold!"
        FROM (
            SELECT count(*) AS agents, count(*) FILTER (WHERE NOT enabled) AS disabled,
                   count(unreachable_since) AS unreachable
            FROM (SELECT enabled, unreachable_since FROM instances WHERE org_id = $1 LIMIT $2 /* counted */) s
        ) a, (
            SELECT count(*) AS jobs, count(next_attempt_at) AS armed, count(parked) AS parked, count(dead_since) AS dead
            FROM (
                SELECT o.next_attempt_at, o.parked, o.dead_since
                FROM instances i JOIN one_shots o USING (instance_id) WHERE i.org_id = $1 LIMIT $2
            ) s
        ) j
        "#,
        org_id.as_str(),
        COUNTED,
    )
    .fetch_one(db)
    .await?;
    Ok(Some(found).filter(|org| org.agents > 0))
}

/// Returns at most `limit` instances of an org, ordered by id.
pub async fn instances(db: &Db, org_id: &OrgId, limit: i64) -> DbResult<Vec<String>> {
    Ok(sqlx::query_scalar!(
        "SELECT instance_id FROM instances WHERE org_id = $1 ORDER BY instance_id LIMIT $2",
        org_id.as_str(),
        limit,
    )
    .fetch_all(db)
    .await?)
}

/// Counts what a deletion removes: of an org, or of an instance. Returns the counts, and true if there is more.
pub async fn count_of(
    db: &Db,
    org_id: Option<&OrgId>,
    instance_id: Option<&str>,
) -> DbResult<(DeletionCount, bool)> {
    let row = sqlx::query!(
        r#"
        WITH agents AS MATERIALIZED (
            (SELECT instance_id FROM instances WHERE $1::text IS NOT NULL AND org_id = $1 /* org_id */ LIMIT $3)
            UNION ALL
            (SELECT instance_id FROM instances WHERE $1 IS NULL AND instance_id = $2 /* instance_id */)
        )
        SELECT (SELECT count(*) FROM agents) AS "agents!",
               (SELECT count(*) FROM (SELECT FROM agents JOIN one_shots USING (instance_id) LIMIT $3 /* counted */) s)
               AS "jobs!",
               (SELECT count(*) FROM (SELECT FROM agents JOIN fires USING (instance_id) LIMIT $3) s) AS "attempts!",
               (SELECT count(*) FROM (
                    SELECT FROM holds WHERE scope = 'org' AND scope_id = $1
                    UNION ALL SELECT FROM quotas WHERE scope = 'org' AND scope_id = $1
                    UNION ALL SELECT FROM auth_profiles WHERE scope = 'org' AND scope_id = $1
                    UNION ALL SELECT FROM auth_defaults WHERE scope = 'org' AND scope_id = $1
                    UNION ALL SELECT FROM webhooks WHERE org_id = $1
                    LIMIT $3) s) AS "settings!",
               (SELECT count(*) FROM (SELECT FROM events WHERE org_id = $1 LIMIT $3) s) AS "events!"
        "#,
        org_id.map(OrgId::as_str),
        instance_id,
        COUNTED,
    )
    .fetch_one(db)
    .await?;
    let found = DeletionCount {
        agents: row.agents,
        jobs: row.jobs,
        attempts: row.attempts,
        settings: row.settings,
        events: row.events,
    };
    let more = [found.agents, found.jobs, found.attempts, found.settings, found.events].contains(&COUNTED);
    Ok((found, more))
}

/// Key of the advisory lock of deletions: a random number.
const DELETION_LOCK: i64 = 0x3b41_9e7d_52c6_08af;

/// Deletes at most `limit` attempts of these instances from the history. Returns their number. Of concurrent deletions, each
/// counts only its own attempts, so a number below `limit` means that none are left. Fails with `Contended` if another one
/// takes longer than 4 s.
pub async fn delete_history(db: &Db, instance_ids: &[String], limit: i64) -> DbResult<i64> {
    let mut transaction = db.begin().await?;
    sqlx::raw_sql("SET LOCAL lock_timeout = '4s'").execute(&mut transaction).await?;
    // Without the lock, another deletion would wait for the same attempts, delete none of them, and take the rest for gone.
    sqlx::query!("SELECT pg_advisory_xact_lock($1)", DELETION_LOCK).execute(&mut transaction).await?;
    let gone = sqlx::query_scalar!(
        r#"
        WITH found AS MATERIALIZED (
            SELECT instance_id, job_id, started_at, attempt_id FROM fires WHERE instance_id = ANY ($1) LIMIT $2 /* limit */
        ), gone AS (
            DELETE FROM fires f USING found d
            WHERE f.instance_id = d.instance_id AND f.job_id = d.job_id AND f.started_at = d.started_at
              AND f.attempt_id = d.attempt_id
            RETURNING 1
        )
        SELECT count(*) AS "gone!" FROM gone
        "#,
        instance_ids,
        limit,
    )
    .fetch_one(&mut transaction)
    .await?;
    transaction.commit().await?;
    Ok(gone)
}

/// Deletes the holds of these instances. Those of their jobs are deleted with them.
pub async fn delete_holds(db: &Db, instance_ids: &[String]) -> DbResult<()> {
    sqlx::query!("DELETE FROM holds WHERE scope = 'instance' AND scope_id = ANY ($1)", instance_ids)
        .execute(db)
        .await?;
    Ok(())
}

/// Deletes the settings of an org: its hold, its quota, its auth profiles and its webhooks. Returns their number. Delete its
/// events before: those of a webhook have its deliveries.
pub async fn delete_settings(db: &Db, org_id: &OrgId) -> DbResult<i64> {
    Ok(sqlx::query_scalar!(
        r#"
        WITH hold AS (
            DELETE FROM holds WHERE scope = 'org' AND scope_id = $1 RETURNING 1
        ), profiles AS (
            DELETE FROM auth_profiles WHERE scope = 'org' AND scope_id = $1 RETURNING 1
        ), defaults AS (
            DELETE FROM auth_defaults WHERE scope = 'org' AND scope_id = $1 RETURNING 1
        ), quota AS (
            DELETE FROM quotas WHERE scope = 'org' AND scope_id = $1 RETURNING 1
        ), hooks AS (
            DELETE FROM webhooks WHERE org_id = $1 RETURNING 1
        ), facts AS (
            DELETE FROM event_facts WHERE org_id = $1
        )
        SELECT count(*) AS "deleted!" FROM (
            TABLE hold UNION ALL TABLE profiles UNION ALL TABLE defaults UNION ALL TABLE quota UNION ALL TABLE hooks) d
        "#,
        org_id.as_str(),
    )
    .fetch_one(db)
    .await?)
}

/// Deletes at most `limit` events for the webhooks of an org, with their deliveries. Returns their number.
pub async fn delete_events(db: &Db, org_id: &OrgId, limit: i64) -> DbResult<i64> {
    Ok(sqlx::query_scalar!(
        r#"
        WITH gone AS (
            DELETE FROM events WHERE sequence IN (SELECT sequence FROM events WHERE org_id = $1 LIMIT $2 /* limit */)
            RETURNING 1
        )
        SELECT count(*) AS "gone!" FROM gone
        "#,
        org_id.as_str(),
        limit,
    )
    .fetch_one(db)
    .await?)
}
