//! Statements about the outbox: orders to arm and cancel wake-ups at external backends.

use std::time::Duration;

use nas_cron_protocol::{BackendName, CallbackUrl, FireAt, InstanceId, JobId, ScheduleId};
use uuid::Uuid;

use crate::db::columns::Word;
use crate::db::seconds::duration;
use crate::db::{Db, DbResult, job_auth};
use crate::domain::outbox::{Done, Order, Outbox, ToArm, ToTell, Told};

/// Leases the orders for `backend` that are due, for `lease`. If a replica does not [record](record_results) an order by
/// then, another one repeats it. One-shots that are due later than `furthest` from now are postponed until they are near
/// enough.
pub async fn take_orders(
    db: &Db,
    backend: BackendName,
    furthest: Option<Duration>,
    lease: Duration,
    limit: i64,
) -> DbResult<Outbox> {
    let rows = sqlx::query!(
        r#"
        WITH due AS MATERIALIZED (
            SELECT u.schedule_id, u.generation,
                   u.state = 'wanted' AND u.due_at > now() + make_interval(secs => $2) AS too_far
            FROM wake_ups u
            WHERE u.backend = $1 AND u.next_try_at <= now()
            ORDER BY u.next_try_at
            LIMIT $4
            FOR UPDATE SKIP LOCKED
        ), taken AS (
            UPDATE wake_ups u
            SET next_try_at = CASE WHEN d.too_far THEN u.due_at - make_interval(secs => $2)
                                   ELSE now() + make_interval(secs => $3) END,
                tries = u.tries + (NOT d.too_far)::int
            FROM due d
            WHERE u.schedule_id = d.schedule_id AND u.generation = d.generation
            RETURNING u.*, d.too_far
        ), idle AS (
            -- Nothing of this time round, but what comes next.
            SELECT extract(epoch FROM min(u.next_try_at) - now())::float8 AS next_in
            FROM wake_ups u
            WHERE u.backend = $1 AND u.next_try_at > now() AND NOT EXISTS (SELECT FROM due)
        )
        SELECT i.next_in, t.schedule_id AS "schedule_id?", t.generation AS "generation?", t.tries AS "tries?",
               t.too_far AS "too_far?", t.state = 'wanted' AS wanted, t.message_id, t.due_at AS "due_at?",
               -- Ordered before, without a recorded answer. Once it is due, it has been sent.
               t.message_id IS NULL AND t.tries > 1 AND t.due_at > now() AS unconfirmed,
               t.instance_id AS "instance_id?", t.job_id AS "job_id?", o.fire_at_text AS "fire_at_text?",
               o.fire_at AS "fire_at?", o.callback_url AS "callback_url?",
               a.job_auth, a.instance_auth, a.org_auth, a.service_auth
        FROM idle i
        LEFT JOIN taken t ON true
        LEFT JOIN one_shots o ON o.instance_id = t.instance_id AND o.job_id = t.job_id
                             AND o.schedule_id = t.schedule_id AND o.awaits = $1
        LEFT JOIN instances n ON n.instance_id = o.instance_id
        CROSS JOIN LATERAL auth_of_job(n.instance_id, n.org_id, o.job_id) a
        "#,
        Word(backend) as Word<BackendName>,
        // More than 3,000 years, where there is no limit.
        furthest.map_or(1e11, |furthest| furthest.as_secs_f64()),
        lease.as_secs_f64(),
        limit,
    )
    .fetch_all(db)
    .await?;
    let next_in = rows.first().and_then(|row| row.next_in).map(duration);
    let mut outbox = Outbox { next_in, ..Outbox::default() };
    for row in rows {
        let (Some(schedule_id), Some(generation), Some(due_at)) =
            (row.schedule_id, row.generation, row.due_at)
        else {
            continue;
        };
        outbox.looked_at += 1;
        if row.too_far == Some(true) {
            continue;
        }
        let arm = || {
            Some(ToArm {
                instance_id: InstanceId::stored(row.instance_id?),
                job_id: JobId::stored(row.job_id?),
                fire_at: FireAt::stored(row.fire_at_text?, row.fire_at?),
                due_at,
                callback_url: CallbackUrl::stored(row.callback_url?)?,
                auth: job_auth::effective(row.job_auth, row.instance_auth, row.org_auth, row.service_auth),
            })
        };
        // A row whose one-shot no longer awaits this backend is cancelled like an unwanted one.
        let order = match arm().filter(|_| row.wanted == Some(true)) {
            Some(one_shot) => Order::Arm { one_shot: Box::new(one_shot) },
            None => {
                Order::Cancel { message_id: row.message_id, unconfirmed: row.unconfirmed.unwrap_or_default() }
            }
        };
        outbox.to_tell.push(ToTell {
            schedule_id: ScheduleId(schedule_id),
            generation,
            tries: row.tries.unwrap_or_default().unsigned_abs(),
            order,
        });
    }
    Ok(outbox)
}

/// Records the results of orders. A wake-up that became unwanted while it was being armed is due for a cancel.
pub async fn record_results(db: &Db, results: &[Told]) -> DbResult<()> {
    let schedule_ids: Vec<Uuid> = results.iter().map(|one| one.schedule_id.0).collect();
    let generations: Vec<i32> = results.iter().map(|one| one.generation).collect();
    let mut message_ids: Vec<Option<&str>> = Vec::with_capacity(results.len());
    let mut errors: Vec<Option<&str>> = Vec::with_capacity(results.len());
    let mut again_ins: Vec<Option<f64>> = Vec::with_capacity(results.len());
    let mut cancelled: Vec<bool> = Vec::with_capacity(results.len());
    for one in results {
        let (message_id, error, again_in) = match &one.done {
            Done::Armed(message_id) => (message_id.as_deref(), None, None),
            Done::Cancelled => (None, None, None),
            Done::Failed { again_in, error } => (None, Some(error.as_str()), Some(again_in.as_secs_f64())),
        };
        message_ids.push(message_id);
        errors.push(error);
        again_ins.push(again_in);
        cancelled.push(matches!(one.done, Done::Cancelled));
    }
    sqlx::query!(
        r#"
        WITH told AS (
            SELECT * FROM unnest($1::uuid[], $2::int4[], $3::text[], $4::text[], $5::float8[], $6::bool[])
                AS t(schedule_id, generation, message_id, error, again_in, cancelled)
        ), known AS MATERIALIZED (
            SELECT t.*
            FROM told t JOIN wake_ups u USING (schedule_id, generation)
            ORDER BY t.schedule_id, t.generation
            FOR UPDATE OF u
        ), gone AS (
            DELETE FROM wake_ups u USING known t
            WHERE t.cancelled AND u.schedule_id = t.schedule_id AND u.generation = t.generation
        )
        UPDATE wake_ups u
        SET state = CASE WHEN u.state = 'wanted' AND t.error IS NULL THEN 'armed' ELSE u.state END,
            message_id = COALESCE(t.message_id, u.message_id),
            next_try_at = CASE WHEN t.error IS NOT NULL THEN now() + make_interval(secs => t.again_in)
                               WHEN u.state = 'wanted' THEN NULL
                               ELSE now() END,
            tries = CASE WHEN t.error IS NULL THEN 0 ELSE u.tries END,
            last_error = left(t.error, 1000)
        FROM known t
        WHERE NOT t.cancelled AND u.schedule_id = t.schedule_id AND u.generation = t.generation
          AND u.state <> 'armed'
        "#,
        &schedule_ids,
        &generations,
        &message_ids as &[Option<&str>],
        &errors as &[Option<&str>],
        &again_ins as &[Option<f64>],
        &cancelled,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Makes failed orders due now, without waiting for their back-off. Returns the number of orders.
pub async fn try_again(db: &Db) -> DbResult<u64> {
    let result = sqlx::query!(
        "UPDATE wake_ups SET next_try_at = now() WHERE next_try_at > now() AND last_error IS NOT NULL"
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Marks armed outbox rows that no one-shot awaits as unwanted. Two concurrent calls for one job can leave them behind.
/// Returns the number marked.
pub async fn find_orphans(db: &Db, limit: i64) -> DbResult<u64> {
    let result = sqlx::query!(
        r#"
        UPDATE wake_ups u SET state = 'unwanted', next_try_at = now()
        FROM (
            SELECT w.schedule_id, w.generation
            FROM wake_ups w
            WHERE w.state = 'armed' AND NOT EXISTS (
                SELECT FROM one_shots o
                WHERE o.instance_id = w.instance_id AND o.job_id = w.job_id AND o.schedule_id = w.schedule_id
                  AND o.awaits IS NOT DISTINCT FROM w.backend)
            LIMIT $1
            FOR UPDATE SKIP LOCKED
        ) w
        WHERE u.schedule_id = w.schedule_id AND u.generation = w.generation AND u.state = 'armed'
        "#,
        limit,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Deletes at most `limit` outbox rows that were due `past` ago: no wake-up or cancel is expected for them any more.
/// Returns the number deleted.
pub async fn prune(db: &Db, past: Duration, limit: i64) -> DbResult<u64> {
    let result = sqlx::query!(
        r#"
        DELETE FROM wake_ups
        WHERE (schedule_id, generation) IN (
            SELECT schedule_id, generation FROM wake_ups
            WHERE due_at <= now() - make_interval(secs => $1) ORDER BY due_at LIMIT $2)
        "#,
        past.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
