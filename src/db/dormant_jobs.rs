//! Statements about dormant jobs on behalf of operators.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{InstanceId, JobId, ScheduleId};

use super::columns::Word;
use super::{Db, DbResult};
use crate::domain::dormancy::{DormantCounts, DormantReason, Nudged};

/// Maximum number of dormant jobs that are counted.
const COUNTED: i64 = 10_000;

/// Counts the dormant jobs by reason, up to 10,000 in total. Reads dormant jobs only.
pub async fn counts(db: &Db) -> DbResult<DormantCounts> {
    let rows = sqlx::query!(
        r#"
        SELECT reason AS "reason!: Word<DormantReason>", count(*) AS "count!"
        FROM (SELECT reason FROM silent_jobs WHERE dormant_since IS NOT NULL LIMIT $1 /* counted */) d
        GROUP BY reason
        "#,
        COUNTED,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.reason.0, row.count)).collect())
}

/// Fires the key of a delivered one-shot once more, with a fresh retry budget: the same `schedule_id`. `None` without an
/// effect if the job's one-shot is no longer this one, no longer delivered, or was delivered by another attempt than the one
/// that started at `seen`.
pub async fn nudge(
    db: &Db,
    instance_id: &InstanceId,
    job_id: &JobId,
    schedule_id: ScheduleId,
    seen: Option<DateTime<Utc>>,
) -> DbResult<Option<Nudged>> {
    Ok(sqlx::query_as!(
        Nudged,
        r#"
        WITH nudged AS (
            UPDATE one_shots job
            SET (state, lease_token, delivered_key, delivered_schedule_id, delivered_at, second_fires, next_attempt_at, due_since,
                 attempts, retrying_since, retry_after_until, last_outcome, last_status, last_error, refused, not_after,
                 updated_at) = (
                SELECT (n).state, (n).lease_token, (n).delivered_key, (n).delivered_schedule_id, (n).delivered_at,
                       (n).second_fires, (n).next_attempt_at, (n).due_since, (n).attempts, (n).retrying_since,
                       (n).retry_after_until, (n).last_outcome, (n).last_status, (n).last_error, (n).refused, (n).not_after,
                       (n).updated_at
                FROM (SELECT nudged(job) AS n OFFSET 0) once)
            WHERE instance_id = $1 AND job_id = $2 AND schedule_id = $3 /* schedule_id */ AND state = 'delivered'
              AND last_started_at IS NOT DISTINCT FROM $4 /* seen */
            RETURNING instance_id, job_id, next_attempt_at
        )
        SELECT n.next_attempt_at AS "next_attempt_at!",
               i.on_hold OR EXISTS (
                   SELECT FROM job_holds h WHERE h.instance_id = n.instance_id AND h.job_id = n.job_id) AS "on_hold!"
        FROM nudged n JOIN instance_status i USING (instance_id)
        "#,
        instance_id.as_str(),
        job_id.as_str(),
        schedule_id.0,
        seen,
    )
    .fetch_optional(db)
    .await?)
}

/// Forgets that a job is dormant, because it has finished. Returns false if it is not dormant. A later delivery without a
/// re-arm is noticed again.
pub async fn dismiss(db: &Db, instance_id: &InstanceId, job_id: &JobId) -> DbResult<bool> {
    let dismissed = sqlx::query!(
        r#"
        DELETE FROM awaited_rearms
        WHERE (instance_id, job_id) IN (
            SELECT instance_id, job_id FROM silent_jobs
            WHERE instance_id = $1 AND job_id = $2 AND dormant_since IS NOT NULL
        )
        "#,
        instance_id.as_str(),
        job_id.as_str(),
    )
    .execute(db)
    .await?;
    Ok(dismissed.rows_affected() > 0)
}
