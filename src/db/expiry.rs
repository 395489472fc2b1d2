//! The statement that ends one-shots whose `not_after` has passed.

use nas_cron_protocol::{InstanceId, JobId, ScheduleId};

use super::{Db, DbResult};
use crate::domain::one_shot::Expired;

/// Makes dead letters of at most `limit` one-shots whose `not_after` has passed, the longest expired first: also of those
/// that are parked, wait for a retry, or await a wake-up, which is withdrawn. Claimed ones are left out, because their
/// confirmation fails, and they are given back. Durable when it returns.
pub async fn expire(db: &Db, limit: i64) -> DbResult<Vec<Expired>> {
    let rows = sqlx::query!(
        r#"
        WITH late AS MATERIALIZED (
            SELECT instance_id, job_id, schedule_id FROM one_shots
            WHERE not_after < now() AND next_attempt_at IS NOT NULL
              AND claim_expires_at IS NULL AND awaits IS DISTINCT FROM 'qstash_direct'
            ORDER BY not_after
            LIMIT $1 /* limit */
            FOR UPDATE SKIP LOCKED
        ), ended AS (
            UPDATE one_shots job
            SET (state, dead_since, expired, next_attempt_at, due_since, parked, awaits, updated_at) = (
                SELECT (n).state, (n).dead_since, (n).expired, (n).next_attempt_at, (n).due_since, (n).parked, (n).awaits,
                       (n).updated_at
                FROM (SELECT expired(job) AS n OFFSET 0) once)
            FROM late l
            WHERE job.instance_id = l.instance_id AND job.job_id = l.job_id
            RETURNING job.instance_id, job.job_id, job.schedule_id, job.attempts
        ), known AS (
            SELECT u.schedule_id, u.generation
            FROM late l JOIN wake_ups u USING (schedule_id)
            ORDER BY 1, 2
            FOR UPDATE OF u
        ), unwanted AS (
            UPDATE wake_ups u
            SET state = 'unwanted', next_try_at = next_cancel_at(u.state, u.tries, u.next_try_at)
            FROM known k
            WHERE u.schedule_id = k.schedule_id AND u.generation = k.generation AND u.state <> 'unwanted'
        )
        SELECT instance_id, job_id, schedule_id, attempts FROM ended
        "#,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| Expired {
            instance_id: InstanceId::stored(row.instance_id),
            job_id: JobId::stored(row.job_id),
            schedule_id: ScheduleId(row.schedule_id),
            attempts: row.attempts,
        })
        .collect())
}
