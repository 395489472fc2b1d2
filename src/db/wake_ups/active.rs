//! Statements about the active backend, and the move of one-shots to it.

use chrono::{DateTime, Utc};
use nas_cron_protocol::BackendName;

use crate::db::columns::Word;
use crate::db::provisions::BUILT_IN_LOOP_WITHIN;
use crate::db::{Db, DbError, DbResult};
use crate::domain::active_backend::{ActiveBackend, Left, Moved};

/// Returns the active backend. At the very first start, `first` becomes active.
pub async fn active(db: &Db, first: BackendName) -> DbResult<ActiveBackend> {
    sqlx::query!(
        "INSERT INTO active_backend (backend) VALUES ($1) ON CONFLICT (only_one) DO NOTHING",
        Word(first) as Word<BackendName>,
    )
    .execute(db)
    .await?;
    find_active(db).await?.ok_or_else(|| DbError::Defect(sqlx::Error::RowNotFound.into()))
}

/// Returns the active backend; `None` before the very first start.
pub async fn find_active(db: &Db) -> DbResult<Option<ActiveBackend>> {
    Ok(sqlx::query_as!(
        ActiveBackend,
        r#"SELECT backend AS "backend: Word<BackendName>", generation, switched_at FROM active_backend"#,
    )
    .fetch_optional(db)
    .await?)
}

/// Makes `backend` the active one: new one-shots go to it after this commit. Does nothing if it is active already.
pub async fn activate(db: &Db, backend: BackendName) -> DbResult<ActiveBackend> {
    activate_after(db, backend, None).await
}

/// As [`activate`], but does nothing unless `generation` is that of the latest switch, if it is given. Returns the active
/// backend.
pub async fn activate_after(
    db: &Db,
    backend: BackendName,
    generation: Option<i32>,
) -> DbResult<ActiveBackend> {
    sqlx::query!(
        r#"
        INSERT INTO active_backend AS a (backend) VALUES ($1)
        ON CONFLICT (only_one) DO UPDATE
            SET backend = excluded.backend, generation = a.generation + 1, switched_at = now()
            WHERE a.backend <> excluded.backend AND ($2::int IS NULL OR a.generation = $2 /* generation */)
        "#,
        Word(backend) as Word<BackendName>,
        generation,
    )
    .execute(db)
    .await?;
    active(db, backend).await
}

/// Returns true if external backends are in use: one is active, or has outbox rows or one-shots left.
pub async fn concerned(db: &Db) -> DbResult<bool> {
    Ok(sqlx::query_scalar!(
        r#"
        SELECT EXISTS (SELECT FROM active_backend WHERE backend <> 'postgres')
            OR EXISTS (SELECT FROM wake_ups)
            OR EXISTS (SELECT FROM one_shots WHERE awaits IS NOT NULL) AS "concerned!"
        "#,
    )
    .fetch_one(db)
    .await?)
}

/// Maximum time to the instant, in seconds, at which a one-shot stays with the built-in loop when an external backend
/// becomes active. A backend that has just sent its wake-up would also deduplicate a new one.
pub(in crate::db) const STAYS_WITHIN: f64 = 60.0;

/// Moves one-shots that await another backend to the active one, at most 500 from each backend. Their old outbox rows
/// become unwanted, and new ones are wanted. One-shots that are due soon stay with the backend that they await.
pub async fn move_to_active(db: &Db) -> DbResult<Moved> {
    let mut transaction = db.begin().await?;
    // The lock excludes a switch during this transaction, so that a later move sees everything that this one moves. The
    // statement begins after the lock, so that it sees everything that was moved before.
    let to = sqlx::query_scalar!(
        r#"SELECT backend AS "backend: Word<BackendName>" FROM active_backend FOR SHARE"#
    )
    .fetch_one(&mut transaction)
    .await?;
    let count = sqlx::query_scalar!(
        r#"
        WITH active AS (
            -- The limits are for the planner, who else expects thousands of rows, and compiles what it plans for them.
            SELECT backend, generation, NULLIF(backend, 'postgres') AS external FROM active_backend LIMIT 1
        ), strays AS MATERIALIZED (
            (SELECT o.instance_id, o.job_id, o.schedule_id
             FROM one_shots o
             -- As a subquery it is looked at once: joined, everything that is armed would be read in vain.
             WHERE (SELECT external FROM active) IS NOT NULL AND o.state = 'armed' AND o.claim_expires_at IS NULL AND o.parked IS NULL AND o.awaits IS NULL
               AND o.next_attempt_at > now() + make_interval(secs => $2)
             ORDER BY o.next_attempt_at LIMIT 500)
            UNION ALL
            (SELECT s.instance_id, s.job_id, s.schedule_id
             FROM active a, unnest(enum_range(NULL::scheduler_backend)) AS b(backend)
             CROSS JOIN LATERAL (
                 SELECT o.instance_id, o.job_id, o.schedule_id FROM one_shots o
                 WHERE o.awaits = b.backend AND o.next_attempt_at > now() + make_interval(secs => $1)
                   -- A call that QStash may make itself stays: it is an hour ahead at most, and would be made twice.
                   AND (b.backend <> 'qstash_direct' OR NOT EXISTS (
                       SELECT FROM wake_ups u
                       WHERE u.schedule_id = o.schedule_id AND u.backend = b.backend
                         AND (u.state = 'armed' OR u.tries > 0)))
                 ORDER BY o.next_attempt_at LIMIT 500
             ) s
             WHERE b.backend <> a.backend)
        ), locked AS MATERIALIZED (
            SELECT l.*
            FROM strays s, active a
            CROSS JOIN LATERAL (
                SELECT o.instance_id, o.job_id, o.schedule_id, o.next_attempt_at
                FROM one_shots o
                WHERE o.instance_id = s.instance_id AND o.job_id = s.job_id
                  -- Not if superseded in between: its new wake-up is not seen by this statement, but by the next.
                  AND o.schedule_id = s.schedule_id
                  AND o.state = 'armed' AND o.parked IS NULL AND o.awaits IS DISTINCT FROM a.external
                  AND o.next_attempt_at > now() + make_interval(secs => $1)
                FOR NO KEY UPDATE SKIP LOCKED
            ) l
        ), moved AS (
            UPDATE one_shots o SET awaits = a.external
            FROM locked l, active a
            WHERE o.instance_id = l.instance_id AND o.job_id = l.job_id
            RETURNING o.instance_id, o.job_id, o.schedule_id, o.next_attempt_at
        ), known AS (
            SELECT u.schedule_id, u.generation
            FROM moved m JOIN wake_ups u USING (schedule_id)
            ORDER BY 1, 2
            FOR UPDATE OF u
        ), untold AS (
            UPDATE wake_ups u
            SET state = 'unwanted',
                next_try_at = next_cancel_at(u.state, u.tries, u.next_try_at)
            FROM known k, active a
            WHERE u.schedule_id = k.schedule_id AND u.generation = k.generation
              AND u.generation <> a.generation AND u.state <> 'unwanted'
        ), told AS (
            INSERT INTO wake_ups AS u (schedule_id, generation, backend, instance_id, job_id, due_at)
            SELECT m.schedule_id, a.generation, a.backend, m.instance_id, m.job_id, m.next_attempt_at
            FROM moved m, active a WHERE a.external IS NOT NULL
            ON CONFLICT (schedule_id, generation) DO UPDATE
                SET state = 'wanted', due_at = excluded.due_at, next_try_at = now(), tries = 0
        )
        SELECT count(*) AS "count!" FROM moved
        "#,
        BUILT_IN_LOOP_WITHIN,
        STAYS_WITHIN,
    )
    .fetch_one(&mut transaction)
    .await?;
    transaction.commit().await?;
    Ok(Moved { to: to.0, count: count.unsigned_abs() })
}

/// Maximum number of each kind that [`left`] counts: about a second.
pub const MOST_LEFT: i64 = 3_000_000;

/// Counts the steps left of a move, limited to one-shots that were armed before `armed_before`. Counts at most [`MOST_LEFT`] of each
/// kind.
pub async fn left(db: &Db, armed_before: DateTime<Utc>) -> DbResult<Left> {
    Ok(sqlx::query_as!(
        Left,
        r#"
        WITH active AS (
            SELECT backend FROM active_backend LIMIT 1
        ), to_do AS (
            SELECT u.state, u.last_error, u.backend = a.backend AS active,
                   -- Postponed: never tried, and not due yet.
                   u.state = 'wanted' AND u.tries = 0 AND u.next_try_at > now() AS postponed,
                   u.state = 'wanted' AND u.backend = a.backend AND EXISTS (
                       SELECT FROM one_shots o
                       WHERE o.instance_id = u.instance_id AND o.job_id = u.job_id AND o.schedule_id = u.schedule_id
                         -- Written so that only the primary key fits.
                         AND o.awaits IS NOT DISTINCT FROM u.backend AND o.created_at <= $1) AS awaited
            FROM wake_ups u, active a
            WHERE u.next_try_at IS NOT NULL
            LIMIT $4 /* counted */
        )
        SELECT (SELECT count(*) FROM (SELECT FROM one_shots o, active a
                WHERE a.backend <> 'postgres' AND o.state = 'armed' AND o.claim_expires_at IS NULL AND o.parked IS NULL AND o.awaits IS NULL
                  AND o.next_attempt_at > now() + make_interval(secs => $3) LIMIT $4) s)
               + (SELECT count(*) FROM (SELECT
                  FROM unnest(enum_range(NULL::scheduler_backend)) AS b(backend), one_shots o, active a
                  WHERE b.backend <> a.backend AND o.awaits = b.backend
                    AND o.next_attempt_at > now() + make_interval(secs => $2)
                    AND (b.backend <> 'qstash_direct' OR NOT EXISTS (
                        SELECT FROM wake_ups u
                        WHERE u.schedule_id = o.schedule_id AND u.backend = b.backend
                          AND (u.state = 'armed' OR u.tries > 0))) LIMIT $4) s) AS "to_move!",
               count(*) FILTER (WHERE awaited AND NOT postponed) AS "to_tell!",
               count(*) FILTER (WHERE NOT active AND state = 'unwanted') AS "to_take_back!",
               count(*) FILTER (WHERE active AND postponed) AS "postponed!",
               max(last_error) AS last_error
        FROM to_do
        "#,
        armed_before,
        BUILT_IN_LOOP_WITHIN,
        STAYS_WITHIN,
        MOST_LEFT,
    )
    .fetch_one(db)
    .await?)
}
