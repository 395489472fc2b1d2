//! Statements about calls that an external backend makes to agents itself, and their results.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use crate::db::{Db, DbResult};
use crate::domain::direct_call::{self, DirectCall, DirectResult};

/// Returns direct calls that are due and have no known result, the oldest first, starting after `after`.
pub async fn direct_calls(db: &Db, after: Option<&DirectCall>, limit: i64) -> DbResult<Vec<DirectCall>> {
    Ok(sqlx::query_as!(
        DirectCall,
        r#"
        SELECT u.schedule_id, u.generation, u.message_id AS "message_id!", u.due_at
        FROM wake_ups u
        WHERE u.backend = 'qstash_direct' AND u.state = 'armed' AND u.message_id IS NOT NULL AND u.due_at <= now()
          AND ($1::timestamptz IS NULL OR (u.due_at, u.schedule_id) > ($1, $2))
        ORDER BY u.due_at, u.schedule_id LIMIT $3
        "#,
        after.map(|call| call.due_at),
        after.map(|call| call.schedule_id.0),
        limit,
    )
    .fetch_all(db)
    .await?)
}

/// Records the results of direct calls, with a row of history for each. Delivered one-shots end; the others now belong
/// to the built-in loop, and are due now.
pub async fn settle_direct(db: &Db, results: &[DirectResult]) -> DbResult<()> {
    let schedule_ids: Vec<Uuid> = results.iter().map(|one| one.schedule_id.0).collect();
    let generations: Vec<i32> = results.iter().map(|one| one.generation).collect();
    let attempt_ids: Vec<Uuid> =
        results.iter().map(|one| direct_call::attempt_id(one.schedule_id, one.generation)).collect();
    let ats: Vec<DateTime<Utc>> = results.iter().map(|one| one.at).collect();
    let delivered: Vec<bool> = results.iter().map(|one| one.delivered).collect();
    let statuses: Vec<Option<i16>> =
        results.iter().map(|one| one.http_status.and_then(|status| i16::try_from(status).ok())).collect();
    sqlx::query!(
        r#"
        WITH ended AS MATERIALIZED (
            SELECT r.*, u.instance_id, u.job_id
            FROM unnest($1::uuid[] /* schedule_id */, $2::int4[] /* generation */, $3::uuid[] /* attempt_id */,
                        $4::timestamptz[] /* at */, $5::bool[] /* delivered */, $6::int2[] /* http_status */)
                AS r(schedule_id, generation, attempt_id, at, delivered, http_status)
            JOIN wake_ups u USING (schedule_id, generation)
            WHERE u.backend = 'qstash_direct'
        ), told AS (
            DELETE FROM wake_ups u USING ended e
            WHERE u.schedule_id = e.schedule_id AND u.generation = e.generation
        ), locked AS MATERIALIZED (
            SELECT e.schedule_id, e.generation, o.instance_id, o.job_id
            FROM ended e JOIN one_shots o USING (instance_id, job_id)
            ORDER BY o.instance_id, o.job_id
            FOR NO KEY UPDATE OF o
        ), settled AS (
            UPDATE one_shots o
            SET awaits = NULL,
                delivered_key = CASE WHEN e.delivered THEN o.dedup_key ELSE o.delivered_key END,
                delivered_schedule_id = CASE WHEN e.delivered THEN o.schedule_id ELSE o.delivered_schedule_id END,
                delivered_at = CASE WHEN e.delivered THEN e.at ELSE o.delivered_at END,
                second_fires = CASE WHEN e.delivered THEN 0 ELSE o.second_fires END,
                state = CASE WHEN e.delivered THEN 'delivered' ELSE o.state END,
                next_attempt_at = CASE WHEN e.delivered THEN NULL ELSE o.next_attempt_at END,
                attempts = o.attempts + 1, last_started_at = e.at, last_status = e.http_status,
                last_outcome = CASE WHEN e.delivered THEN 'delivered' ELSE 'failed' END::fire_outcome,
                claimed_at = CASE WHEN e.delivered THEN e.at ELSE o.claimed_at END,
                last_error = CASE WHEN NOT e.delivered THEN 'QStash could not deliver it' END,
                retrying_since = CASE WHEN NOT e.delivered THEN e.at END,
                updated_at = now()
            FROM ended e JOIN locked l USING (schedule_id, generation)
            WHERE o.instance_id = l.instance_id AND o.job_id = l.job_id AND o.schedule_id = e.schedule_id
              -- Written so that only the primary key fits.
              AND o.awaits IS NOT DISTINCT FROM 'qstash_direct'
            RETURNING e.attempt_id, o.instance_id, o.job_id, o.schedule_id, o.dedup_key, o.fire_at, e.at, e.delivered,
                      e.http_status
        )
        INSERT INTO fires (attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at, ended_at,
                           outcome, http_status, error)
        SELECT attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, 1, at, at,
               CASE WHEN delivered THEN 'delivered' ELSE 'failed' END::fire_outcome, http_status,
               CASE WHEN NOT delivered THEN 'QStash could not deliver it' END
        FROM settled
        "#,
        &schedule_ids,
        &generations,
        &attempt_ids,
        &ats,
        &delivered,
        &statuses as &[Option<i16>],
    )
    .execute(db)
    .await?;
    Ok(())
}
