//! Statements about holds. Holds of single jobs are in a table of their own: releases before them run on the same schema.

use nas_cron_protocol::{InstanceId, JobId, OrgId};

use super::columns::Word;
use super::{Db, DbResult};
use crate::domain::hold::{Coverage, Hold, HoldScope, HoldTarget, StandingHold};

/// Puts a scope on hold. No attempt starts after the commit; attempts in flight continue. Returns false if the hold
/// existed already; a new reason then replaces the old one.
pub async fn hold(db: &Db, target: &HoldTarget, reason: Option<&str>) -> DbResult<bool> {
    if let HoldTarget::Job(instance_id, job_id) = target {
        return hold_job(db, instance_id, job_id, reason).await;
    }
    Ok(sqlx::query_scalar!(
        r#"
        INSERT INTO holds (scope, scope_id, reason) VALUES ($1, $2, $3)
        ON CONFLICT (scope, scope_id) DO UPDATE SET reason = COALESCE(excluded.reason, holds.reason)
        RETURNING (xmax = 0) AS "inserted!"
        "#,
        Word(target.scope()) as Word<HoldScope>,
        target.scope_id(),
        reason,
    )
    .fetch_one(db)
    .await?)
}

/// Puts one job on hold. A lease ends, so that a confirmation which does not see the hold yet starts nothing.
async fn hold_job(db: &Db, instance_id: &InstanceId, job_id: &JobId, reason: Option<&str>) -> DbResult<bool> {
    Ok(sqlx::query_scalar!(
        r#"
        WITH held AS (
            INSERT INTO job_holds (instance_id, job_id, reason) VALUES ($1, $2, $3)
            ON CONFLICT (instance_id, job_id) DO UPDATE SET reason = COALESCE(excluded.reason, job_holds.reason)
            RETURNING (xmax = 0) AS inserted
        ), parked AS (
            UPDATE one_shots o
            SET state = CASE WHEN o.attempts > 0 THEN 'waiting' ELSE 'armed' END::one_shot_state, parked = 'hold',
                due_since = NULL, lease_token = NULL, claim_expires_at = NULL, updated_at = now()
            WHERE o.instance_id = $1 AND o.job_id = $2 AND o.state = 'leased'
        )
        SELECT inserted AS "inserted!" FROM held
        "#,
        instance_id.as_str(),
        job_id.as_str(),
        reason,
    )
    .fetch_one(db)
    .await?)
}

/// Ends a hold. The next run of [`super::outages::tidy_parked`] releases the parked one-shots. Returns false if there was
/// no hold.
pub async fn release(db: &Db, target: &HoldTarget) -> DbResult<bool> {
    let job_id = target.job_id().map(JobId::as_str);
    let result = sqlx::query!(
        r#"
        WITH job AS (
            DELETE FROM job_holds WHERE $3::text IS NOT NULL AND instance_id = $2 AND job_id = $3 RETURNING 1
        ), scope AS (
            DELETE FROM holds WHERE $3::text IS NULL AND scope::text = $1 AND scope_id = $2 RETURNING 1
        )
        SELECT (SELECT count(*) FROM job) + (SELECT count(*) FROM scope) AS "ended!"
        "#,
        target.scope().as_str(),
        target.scope_id(),
        job_id,
    )
    .fetch_one(db)
    .await?;
    Ok(result.ended > 0)
}

/// Maximum number of one-shots that a statement counts, of all scopes together: about 100 ms.
const COUNTED: i64 = 200_000;

/// Maximum number of holds in a list.
pub const LISTED: u32 = 1_000;

/// Returns the holds and what they cover, the widest first; with `org_id`, those of this org, its instances and their jobs.
///
/// Each hold counts at most an equal share of [`COUNTED`]. Returns one more than [`LISTED`] if there are more.
pub async fn list(db: &Db, org_id: Option<&OrgId>) -> DbResult<Vec<StandingHold>> {
    let rows = sqlx::query!(
        r#"
        WITH listed AS (
            SELECT scope::text, scope_id, NULL AS job_id, reason, created_at, scope AS width FROM holds
            WHERE $1::text IS NULL OR scope = 'org' AND scope_id = $1 /* org_id */
               OR scope = 'instance'
                  AND EXISTS (SELECT FROM instances i WHERE i.instance_id = holds.scope_id AND i.org_id = $1)
            UNION ALL
            SELECT 'job', instance_id, job_id, reason, created_at, NULL FROM job_holds
            WHERE $1::text IS NULL
               OR EXISTS (SELECT FROM instances i WHERE i.instance_id = job_holds.instance_id AND i.org_id = $1)
            ORDER BY 6 NULLS LAST, 2, 3
            LIMIT $2 /* listed */
        ), share AS (
            SELECT $3::bigint /* counted */ / greatest(count(*), 1) AS counted FROM listed
        )
        SELECT h.scope AS "scope!: Word<HoldScope>", h.scope_id AS "scope_id!", h.job_id, h.reason,
               h.created_at AS "created_at!", c.agents AS "agents!", c.armed AS "armed!", c.parked AS "parked!",
               c.more AS "more!"
        FROM listed h CROSS JOIN LATERAL (
            SELECT count(DISTINCT s.instance_id) AS agents, count(s.next_attempt_at) AS armed,
                   count(*) FILTER (WHERE s.parked = 'hold') AS parked, count(*) >= (SELECT counted FROM share) AS more
            FROM (
                SELECT i.instance_id, o.next_attempt_at, o.parked
                FROM (
                    SELECT instance_id FROM instances WHERE h.scope = 'all'
                    UNION ALL
                    SELECT instance_id FROM instances WHERE h.scope = 'org' AND org_id = h.scope_id
                    UNION ALL
                    SELECT instance_id FROM instances WHERE h.scope IN ('instance', 'job') AND instance_id = h.scope_id
                ) i LEFT JOIN LATERAL (
                    SELECT o.next_attempt_at, o.parked FROM one_shots o
                    WHERE o.instance_id = i.instance_id AND (h.job_id IS NULL OR o.job_id = h.job_id)
                    -- Keeps the plan from reading all one-shots for each hold, of which it expects many.
                    OFFSET 0
                ) o ON true
                LIMIT (SELECT counted FROM share)
            ) s
        ) c
        ORDER BY h.width NULLS LAST, h.scope_id, h.job_id
        "#,
        org_id.map(OrgId::as_str),
        i64::from(LISTED) + 1,
        COUNTED,
    )
    .fetch_all(db)
    .await?;
    let standing = rows.into_iter().map(|row| StandingHold {
        hold: Hold {
            scope: row.scope.0,
            scope_id: row.scope_id,
            job_id: row.job_id,
            reason: row.reason,
            created_at: row.created_at,
        },
        covers: Coverage { agents: row.agents, armed: row.armed, parked: row.parked, more: row.more },
    });
    Ok(standing.collect())
}

/// Returns the holds that apply to a job, the widest first.
pub(super) async fn of_job(db: &Db, instance_id: &InstanceId, job_id: &JobId) -> DbResult<Vec<Hold>> {
    Ok(sqlx::query_as!(
        Hold,
        r#"
        SELECT scope AS "scope!: Word<HoldScope>", scope_id AS "scope_id!", job_id, reason, created_at AS "created_at!"
        FROM (
            SELECT h.scope::text, h.scope_id, NULL AS job_id, h.reason, h.created_at, h.scope AS width
            FROM holds h JOIN instances i ON i.instance_id = $1
            WHERE h.scope = 'all' OR (h.scope = 'org' AND h.scope_id = i.org_id)
               OR (h.scope = 'instance' AND h.scope_id = i.instance_id)
            UNION ALL
            SELECT 'job', instance_id, job_id, reason, created_at, NULL FROM job_holds
            WHERE instance_id = $1 AND job_id = $2
        ) h
        ORDER BY width NULLS LAST
        "#,
        instance_id.as_str(),
        job_id.as_str(),
    )
    .fetch_all(db)
    .await?)
}

/// Counts the instances and one-shots in a scope, whether or not it is on hold. Of a larger scope only a part is counted.
pub async fn coverage(db: &Db, target: &HoldTarget) -> DbResult<Coverage> {
    Ok(sqlx::query_as!(
        Coverage,
        r#"
        SELECT count(DISTINCT c.instance_id) AS "agents!", count(c.next_attempt_at) AS "armed!",
               count(*) FILTER (WHERE c.parked = 'hold') AS "parked!", count(*) >= $4 AS "more!"
        FROM (
            SELECT i.instance_id, o.next_attempt_at, o.parked
            FROM (
                -- A branch for each scope, because a generic plan of one condition would read all instances.
                SELECT instance_id FROM instances WHERE $1 = 'all'
                UNION ALL
                SELECT instance_id FROM instances WHERE $1 = 'org' AND org_id = $2
                UNION ALL
                SELECT instance_id FROM instances WHERE $1 IN ('instance', 'job') AND instance_id = $2
            ) i LEFT JOIN LATERAL (
                SELECT o.next_attempt_at, o.parked FROM one_shots o
                WHERE o.instance_id = i.instance_id AND ($3::text IS NULL OR o.job_id = $3 /* job_id */)
                -- As in `list`.
                OFFSET 0
            ) o ON true
            LIMIT $4 /* counted */
        ) c
        "#,
        target.scope().as_str(),
        target.scope_id(),
        target.job_id().map(JobId::as_str),
        COUNTED,
    )
    .fetch_one(db)
    .await?)
}
