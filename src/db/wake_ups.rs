//! What hosted engines are told, and what they tell us: the statements of the room [`crate::backends`].
//!
//! A wake-up is `wanted` from the commit of its one-shot on, `armed` once its engine has confirmed it, and `unwanted`
//! when its one-shot was cancelled, superseded, moved to another backend or woken by our own loop. Its row goes
//! when the engine has woken us, or has taken it back.
//!
//! Statements that touch many of these rows lock them in the order of their key, one-shots before them: so none waits
//! for another that waits for it. What becomes unwanted while it is being told stays with whoever tells it until that
//! is over, or the engine could be told to take back what it does not have yet, and get it right after.

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::leases::Lease;
use super::oneshots::OWN_LOOP_WITHIN;
use super::{Db, DbError, DbResult};
use crate::domain::{BackendName, CallbackUrl, FireAt, InstanceId, JobId, OneShotState, ScheduleId};

/// Graces as SQL takes them.
pub(super) fn graces(graces: &[(BackendName, Duration)]) -> (Vec<String>, Vec<f64>) {
    graces.iter().map(|(backend, grace)| (backend.as_str().to_owned(), grace.as_secs_f64())).unzip()
}

/// A one-shot that an engine wakes.
#[derive(Clone, Debug)]
pub struct Wake {
    /// Whose job.
    pub instance_id: InstanceId,
    /// Which job.
    pub job_id: JobId,
    /// Which arm of it.
    pub schedule_id: ScheduleId,
}

/// What a wake-up found, and what it has changed.
#[derive(Debug)]
pub enum Found {
    /// Leased by us now.
    Leased(Lease),
    /// Its current one-shot, as it stands. If it awaited the engine, it is our own loop's now.
    Standing {
        /// Where it stands.
        state: OneShotState,
        /// On hold, or behind another's probe.
        parked: bool,
        /// Until its next attempt may start, in seconds; negative when that is past.
        due_in: Option<f64>,
    },
    /// This arm is not the job's current one, and was delivered.
    Delivered,
    /// Another arm has taken its place.
    Superseded,
    /// There is nothing of the job.
    Gone,
    /// Somebody else is writing its row this very moment. Nothing has changed; it is to be handed in again.
    Locked,
}

/// Takes in wake-ups, one answer each, in order: whatever awaited its engine is our own loop's from now on, and what
/// is due within `horizon` is leased, at most `room` of them. Durable when it returns.
///
/// What is on hold or waits for another's probe is parked when it comes due, as in [`super::leases::claim_due`].
pub async fn take(
    db: &Db,
    wakes: &[Wake],
    horizon: Duration,
    grace: Duration,
    room: i64,
) -> DbResult<Vec<Found>> {
    let (instance_ids, job_ids, schedule_ids) = columns(wakes);
    let sent = Instant::now();
    let rows = sqlx::query!(
        r#"
        WITH given AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[])
                WITH ORDINALITY AS g(instance_id, job_id, schedule_id, line)
        ), awaited AS MATERIALIZED (
            SELECT o.instance_id, o.job_id, o.schedule_id, min(g.line) AS line
            FROM given g JOIN one_shots o USING (instance_id, job_id, schedule_id)
            WHERE o.awaits IS NOT NULL
            GROUP BY 1, 2, 3
        ), locked AS MATERIALIZED (
            SELECT a.line, o.instance_id, o.job_id,
                   o.next_attempt_at <= now() + make_interval(secs => $4) AS near
            FROM awaited a JOIN one_shots o USING (instance_id, job_id)
            -- Looked at again once it is locked: it may have been superseded in between.
            WHERE o.awaits IS NOT NULL AND o.schedule_id = a.schedule_id
            ORDER BY o.next_attempt_at
            FOR UPDATE OF o SKIP LOCKED
        ), judged AS (
            SELECT l.*, CASE WHEN NOT l.near THEN NULL
                             WHEN i.on_hold THEN 'hold'
                             WHEN i.probe_job_id <> l.job_id THEN 'unreachable' END::park_reason AS park
            FROM locked l JOIN instance_status i USING (instance_id)
        ), ranked AS (
            SELECT j.*, near AND park IS NULL
                        AND row_number() OVER (PARTITION BY near AND park IS NULL ORDER BY line) <= $6 AS lease
            FROM judged j
        ), woken AS (
            UPDATE one_shots o
            SET awaits = NULL,
                state = CASE WHEN r.lease THEN 'leased' ELSE o.state END,
                parked = r.park,
                retrying_since = CASE WHEN r.park = 'unreachable' THEN COALESCE(o.retrying_since, now())
                                      ELSE o.retrying_since END,
                lease_token = CASE WHEN r.lease THEN gen_random_uuid() ELSE o.lease_token END,
                lease_expires_at = CASE WHEN r.lease
                    THEN GREATEST(o.next_attempt_at, clock_timestamp()) + make_interval(secs => $5) END
            FROM ranked r
            WHERE o.instance_id = r.instance_id AND o.job_id = r.job_id
            RETURNING r.line, o.state, o.parked, o.next_attempt_at, o.lease_token, o.lease_expires_at
        ), passed_over AS (
            -- Locked by somebody else, who may only have looked: awaited still, as far as anybody knows.
            SELECT a.line, a.schedule_id FROM awaited a
            WHERE NOT EXISTS (SELECT FROM woken w WHERE w.line = a.line)
        ), heard AS MATERIALIZED (
            SELECT u.schedule_id, u.generation FROM wake_ups u
            WHERE u.schedule_id = ANY ($3) AND u.schedule_id NOT IN (SELECT schedule_id FROM passed_over)
            -- In the order of everybody who locks several: nobody waits in a circle.
            ORDER BY u.schedule_id, u.generation FOR UPDATE
        ), told AS (
            DELETE FROM wake_ups u USING heard h
            WHERE u.schedule_id = h.schedule_id AND u.generation = h.generation
        )
        SELECT w.lease_token, w.lease_expires_at, clock_timestamp() AS "now!",
               COALESCE(w.next_attempt_at, o.next_attempt_at) AS due_at,
               COALESCE(w.state, o.state) AS "state: OneShotState",
               COALESCE(w.parked, o.parked) IS NOT NULL AS "parked!",
               o.schedule_id = g.schedule_id AS current,
               EXISTS (SELECT FROM passed_over p WHERE p.line = g.line) AS "locked!",
               EXISTS (SELECT FROM delivered_keys k
                       WHERE k.instance_id = g.instance_id AND k.job_id = g.job_id AND k.schedule_id = g.schedule_id)
                   AS "delivered!"
        FROM given g
        LEFT JOIN one_shots o USING (instance_id, job_id)
        LEFT JOIN woken w USING (line)
        ORDER BY g.line
        "#,
        &instance_ids as &[&str],
        &job_ids as &[&str],
        &schedule_ids,
        horizon.as_secs_f64(),
        grace.as_secs_f64(),
        room,
    )
    .fetch_all(&db.pool)
    .await?;
    let found = rows.into_iter().zip(wakes).map(|(row, wake)| {
        let leased = row.state == Some(OneShotState::Leased);
        match (row.current, row.lease_token, row.lease_expires_at, row.due_at, row.state) {
            _ if row.locked => Found::Locked,
            (_, Some(lease_token), Some(expires), Some(due_at), _) if leased => {
                // Counted from before the statement was sent: never later than the database thinks.
                let ends = sent + (expires - row.now).to_std().unwrap_or_default();
                let (instance_id, job_id) = (wake.instance_id.clone(), wake.job_id.clone());
                Found::Leased(Lease { instance_id, job_id, lease_token, due_at, ends })
            }
            (Some(true), _, _, due_at, Some(state)) => Found::Standing {
                state,
                parked: row.parked,
                due_in: due_at.map(|at| (at - row.now).as_seconds_f64()),
            },
            _ if row.delivered => Found::Delivered,
            (Some(_), ..) => Found::Superseded,
            (None, ..) => Found::Gone,
        }
    });
    Ok(found.collect())
}

/// As SQL takes them.
fn columns(wakes: &[Wake]) -> (Vec<&str>, Vec<&str>, Vec<Uuid>) {
    let names =
        wakes.iter().map(|wake| (wake.instance_id.as_str(), wake.job_id.as_str(), wake.schedule_id.0));
    names.collect()
}

/// The watchdog: what its engine should have woken `grace` ago, by its backend, is our own loop's from now on. At
/// most `limit` of each. Returns how many, by backend.
pub async fn take_over_missed(
    db: &Db,
    graces: &[(BackendName, Duration)],
    limit: i64,
) -> DbResult<Vec<(BackendName, u64)>> {
    let (backends, graces) = self::graces(graces);
    let rows = sqlx::query!(
        r#"
        WITH missed AS MATERIALIZED (
            SELECT m.*
            FROM unnest($1::text[], $2::float8[]) AS g(backend, grace)
            CROSS JOIN LATERAL (
                SELECT o.instance_id, o.job_id, o.schedule_id, o.awaits
                FROM one_shots o
                WHERE o.awaits = g.backend::scheduler_backend
                  AND o.next_attempt_at <= now() - make_interval(secs => g.grace)
                ORDER BY o.next_attempt_at
                LIMIT $3
                FOR UPDATE SKIP LOCKED
            ) m
        ), ours AS (
            UPDATE one_shots o SET awaits = NULL
            FROM missed m WHERE o.instance_id = m.instance_id AND o.job_id = m.job_id
        ), known AS (
            SELECT u.schedule_id, u.generation
            FROM missed m JOIN wake_ups u USING (schedule_id)
            ORDER BY 1, 2
            FOR UPDATE OF u
        ), untold AS (
            UPDATE wake_ups u
            SET state = 'unwanted',
                next_try_at = CASE WHEN u.state = 'wanted' AND u.tries > 0
                                   THEN LEAST(u.next_try_at, now() + interval '1 min') ELSE now() END
            FROM known k
            WHERE u.schedule_id = k.schedule_id AND u.generation = k.generation AND u.state <> 'unwanted'
        )
        SELECT awaits AS "backend!: BackendName", count(*) AS "count!" FROM missed GROUP BY awaits
        "#,
        &backends,
        &graces,
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    Ok(rows.into_iter().map(|row| (row.backend, row.count.unsigned_abs())).collect())
}

/// What an engine is to be told about a wake-up.
#[derive(Clone, Debug)]
pub enum Order {
    /// To bring it.
    Arm {
        /// What, when, and where to.
        one_shot: ToArm,
    },
    /// To take it back.
    Cancel {
        /// What the engine calls it, where it said so.
        message_id: Option<String>,
    },
}

/// A one-shot whose wake-up is wanted.
#[derive(Clone, Debug)]
pub struct ToArm {
    /// Whose job.
    pub instance_id: InstanceId,
    /// Which job.
    pub job_id: JobId,
    /// The instant and its text.
    pub fire_at: FireAt,
    /// When its first attempt may start.
    pub due_at: DateTime<Utc>,
    /// Where the fire goes.
    pub callback_url: CallbackUrl,
}

/// One thing to tell an engine.
#[derive(Clone, Debug)]
pub struct ToTell {
    /// Of which arm.
    pub schedule_id: ScheduleId,
    /// Of which generation.
    pub generation: i32,
    /// How often it was tried, this time included.
    pub tries: u32,
    /// What.
    pub order: Order,
}

/// A harvest of the outbox.
#[derive(Clone, Debug, Default)]
pub struct Outbox {
    /// What is to be told now.
    pub to_tell: Vec<ToTell>,
    /// How many rows were looked at; as many as asked for: there may be more.
    pub looked_at: usize,
    /// Until something else is to be told, in seconds.
    pub next_in: Option<f64>,
}

/// Takes what is to be told to `backend` now, for `lease`: whoever does not [`tell`](told) by then has died, and another
/// replica does it again. What is due later than `furthest` from now is put off until it is near enough.
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
               t.instance_id AS "instance_id?", t.job_id AS "job_id?", o.fire_at_text AS "fire_at_text?",
               o.fire_at AS "fire_at?", o.callback_url AS "callback_url?"
        FROM idle i
        LEFT JOIN taken t ON true
        LEFT JOIN one_shots o ON o.instance_id = t.instance_id AND o.job_id = t.job_id
                             AND o.schedule_id = t.schedule_id AND o.awaits = $1
        "#,
        backend as BackendName,
        // Beyond any calendar, where there is no bound.
        furthest.map_or(1e11, |furthest| furthest.as_secs_f64()),
        lease.as_secs_f64(),
        limit,
    )
    .fetch_all(&db.pool)
    .await?;
    let next_in = rows.first().and_then(|row| row.next_in);
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
            })
        };
        // What is wanted no more, without having been told so yet, is taken back like the rest.
        let order = match arm().filter(|_| row.wanted == Some(true)) {
            Some(one_shot) => Order::Arm { one_shot },
            None => Order::Cancel { message_id: row.message_id },
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

/// How an order went.
#[derive(Clone, Debug)]
pub struct Told {
    /// Of which arm.
    pub schedule_id: ScheduleId,
    /// Of which generation.
    pub generation: i32,
    /// What was done.
    pub done: Done,
}

/// What was done about an order.
#[derive(Clone, Debug)]
pub enum Done {
    /// The engine brings it, under this name where it says so.
    Armed(Option<String>),
    /// The engine has taken it back.
    Cancelled,
    /// Not yet: it is told again in so long.
    Failed {
        /// When.
        again_in: Duration,
        /// Why, for the operator.
        error: String,
    },
}

/// Records how orders went. What became unwanted while it was being armed is taken back next.
pub async fn told(db: &Db, told: &[Told]) -> DbResult<()> {
    let schedule_ids: Vec<Uuid> = told.iter().map(|one| one.schedule_id.0).collect();
    let generations: Vec<i32> = told.iter().map(|one| one.generation).collect();
    let mut message_ids: Vec<Option<&str>> = Vec::with_capacity(told.len());
    let mut errors: Vec<Option<&str>> = Vec::with_capacity(told.len());
    let mut again_ins: Vec<Option<f64>> = Vec::with_capacity(told.len());
    let mut cancelled: Vec<bool> = Vec::with_capacity(told.len());
    for one in told {
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
    .execute(&db.pool)
    .await?;
    Ok(())
}

/// What failed is told again now, whatever wait it had before it: somebody has mended something. Returns how many.
pub async fn try_again(db: &Db) -> DbResult<u64> {
    let result = sqlx::query!(
        "UPDATE wake_ups SET next_try_at = now() WHERE next_try_at > now() AND last_error IS NOT NULL"
    )
    .execute(&db.pool)
    .await?;
    Ok(result.rows_affected())
}

/// Throws away what no engine will bring or take back any more: due `past` ago. Returns how many.
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
    .execute(&db.pool)
    .await?;
    Ok(result.rows_affected())
}

/// The backend that new one-shots go to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct ActiveBackend {
    /// Which.
    pub backend: BackendName,
    /// How many switches there were, plus one.
    pub generation: i32,
    /// Since when.
    pub switched_at: DateTime<Utc>,
}

/// Which backend is active. `first` is, if this is the first start ever.
pub async fn active(db: &Db, first: BackendName) -> DbResult<ActiveBackend> {
    sqlx::query!(
        "INSERT INTO active_backend (backend) VALUES ($1) ON CONFLICT (only_one) DO NOTHING",
        first as BackendName,
    )
    .execute(&db.pool)
    .await?;
    find_active(db).await?.ok_or_else(|| DbError::Defect(sqlx::Error::RowNotFound))
}

/// Which backend is active; nothing before the first start.
pub async fn find_active(db: &Db) -> DbResult<Option<ActiveBackend>> {
    Ok(sqlx::query_as!(
        ActiveBackend,
        r#"SELECT backend AS "backend: BackendName", generation, switched_at FROM active_backend"#,
    )
    .fetch_optional(&db.pool)
    .await?)
}

/// Makes `backend` the one that new one-shots go to, from this commit on. Does nothing where it is already.
pub async fn activate(db: &Db, backend: BackendName) -> DbResult<ActiveBackend> {
    sqlx::query!(
        r#"
        INSERT INTO active_backend AS a (backend) VALUES ($1)
        ON CONFLICT (only_one) DO UPDATE
            SET backend = excluded.backend, generation = a.generation + 1, switched_at = now()
            WHERE a.backend <> excluded.backend
        "#,
        backend as BackendName,
    )
    .execute(&db.pool)
    .await?;
    active(db, backend).await
}

/// What is due within so many seconds stays our own loop's when an engine becomes active: it is in good hands, and an
/// engine that has just woken it would take it for told already.
const OURS_WITHIN: f64 = 60.0;

/// What a batch of a move did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Moved {
    /// Where to.
    pub to: BackendName,
    /// One-shots that have moved.
    pub count: u64,
}

/// Moves one-shots that await another backend than the active one over to it, at most 500 per backend they come from:
/// their old wake-ups are unwanted, new ones wanted. What is due in a moment is left to whom it awaits.
pub async fn move_to_active(db: &Db) -> DbResult<Moved> {
    let mut transaction = db.pool.begin().await?;
    // No switch while this is under way: whoever moves after the next one sees all that this has moved. And only
    // then the statement begins, so that it sees all that was moved before.
    let to = sqlx::query_scalar!(r#"SELECT backend AS "backend: BackendName" FROM active_backend FOR SHARE"#)
        .fetch_one(&mut *transaction)
        .await?;
    let count = sqlx::query_scalar!(
        r#"
        WITH active AS (
            -- The limits are for the planner, who else expects thousands of rows, and compiles what it plans for them.
            SELECT backend, generation, NULLIF(backend, 'postgres') AS engine FROM active_backend LIMIT 1
        ), strays AS MATERIALIZED (
            (SELECT o.instance_id, o.job_id, o.schedule_id
             FROM one_shots o, active a
             WHERE a.engine IS NOT NULL AND o.state = 'armed' AND o.parked IS NULL AND o.awaits IS NULL
               AND o.next_attempt_at > now() + make_interval(secs => $2)
             ORDER BY o.next_attempt_at LIMIT 500)
            UNION ALL
            (SELECT s.instance_id, s.job_id, s.schedule_id
             FROM active a, unnest(enum_range(NULL::scheduler_backend)) AS b(backend)
             CROSS JOIN LATERAL (
                 SELECT o.instance_id, o.job_id, o.schedule_id FROM one_shots o
                 WHERE o.awaits = b.backend AND o.next_attempt_at > now() + make_interval(secs => $1)
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
                  AND o.state = 'armed' AND o.parked IS NULL AND o.awaits IS DISTINCT FROM a.engine
                  AND o.next_attempt_at > now() + make_interval(secs => $1)
                FOR NO KEY UPDATE SKIP LOCKED
            ) l
        ), moved AS (
            UPDATE one_shots o SET awaits = a.engine
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
                next_try_at = CASE WHEN u.state = 'wanted' AND u.tries > 0
                                   THEN LEAST(u.next_try_at, now() + interval '1 min') ELSE now() END
            FROM known k, active a
            WHERE u.schedule_id = k.schedule_id AND u.generation = k.generation
              AND u.generation <> a.generation AND u.state <> 'unwanted'
        ), told AS (
            INSERT INTO wake_ups AS u (schedule_id, generation, backend, instance_id, job_id, due_at)
            SELECT m.schedule_id, a.generation, a.backend, m.instance_id, m.job_id, m.next_attempt_at
            FROM moved m, active a WHERE a.engine IS NOT NULL
            ON CONFLICT (schedule_id, generation) DO UPDATE
                SET state = 'wanted', due_at = excluded.due_at, next_try_at = now(), tries = 0
        )
        SELECT count(*) AS "count!" FROM moved
        "#,
        OWN_LOOP_WITHIN,
        OURS_WITHIN,
    )
    .fetch_one(&mut *transaction)
    .await?;
    transaction.commit().await?;
    Ok(Moved { to, count: count.unsigned_abs() })
}

/// What is left to do of a move to the active backend.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Left {
    /// One-shots that are still to be moved.
    pub to_move: i64,
    /// Wake-ups that the active backend is still to be told of, of what was armed before a certain instant.
    pub to_tell: i64,
    /// Wake-ups that the other backends are still to take back.
    pub to_take_back: i64,
    /// Wake-ups too far ahead for the active backend: it is told once they are near enough.
    pub put_off: i64,
    /// What is wrong with telling, where something is.
    pub last_error: Option<String>,
}

impl Left {
    /// How many things somebody has to do now.
    pub const fn count(&self) -> i64 {
        self.to_move + self.to_tell + self.to_take_back
    }
}

/// What is left to do of the move, as far as it is about what was `armed_before` then.
pub async fn left(db: &Db, armed_before: DateTime<Utc>) -> DbResult<Left> {
    Ok(sqlx::query_as!(
        Left,
        r#"
        WITH active AS (
            SELECT backend FROM active_backend LIMIT 1
        ), to_do AS (
            SELECT u.state, u.last_error, u.backend = a.backend AS active,
                   -- Only what was never tried and has yet a time to come was put off.
                   u.state = 'wanted' AND u.tries = 0 AND u.next_try_at > now() AS put_off,
                   u.state = 'wanted' AND u.backend = a.backend AND EXISTS (
                       SELECT FROM one_shots o
                       WHERE o.instance_id = u.instance_id AND o.job_id = u.job_id AND o.schedule_id = u.schedule_id
                         -- Written so that only the primary key fits.
                         AND o.awaits IS NOT DISTINCT FROM u.backend AND o.created_at <= $1) AS awaited
            FROM wake_ups u, active a
            WHERE u.next_try_at IS NOT NULL
        )
        SELECT (SELECT count(*) FROM one_shots o, active a
                WHERE a.backend <> 'postgres' AND o.state = 'armed' AND o.parked IS NULL AND o.awaits IS NULL
                  AND o.next_attempt_at > now() + make_interval(secs => $3))
               + (SELECT count(*)
                  FROM unnest(enum_range(NULL::scheduler_backend)) AS b(backend), one_shots o, active a
                  WHERE b.backend <> a.backend AND o.awaits = b.backend
                    AND o.next_attempt_at > now() + make_interval(secs => $2)) AS "to_move!",
               count(*) FILTER (WHERE awaited AND NOT put_off) AS "to_tell!",
               count(*) FILTER (WHERE NOT active AND state = 'unwanted') AS "to_take_back!",
               count(*) FILTER (WHERE active AND put_off) AS "put_off!",
               max(last_error) AS last_error
        FROM to_do
        "#,
        armed_before,
        OWN_LOOP_WITHIN,
        OURS_WITHIN,
    )
    .fetch_one(&db.pool)
    .await?)
}

/// Where a backend's one-shots and wake-ups stand.
#[derive(Clone, Debug, PartialEq, serde::Serialize)]
pub struct BackendCensus {
    /// Which.
    pub backend: BackendName,
    /// Armed one-shots that are to be woken by it.
    pub one_shots: i64,
    /// Wake-ups it has still to be told of.
    pub wanted: i64,
    /// Of these, the ones too far ahead for it.
    pub put_off: i64,
    /// Wake-ups it has confirmed.
    pub armed: i64,
    /// Wake-ups it has still to take back.
    pub unwanted: i64,
    /// What was last wrong with telling it, where something still is to be told.
    pub last_error: Option<String>,
}

/// All backends, with what they hold.
pub async fn census(db: &Db) -> DbResult<Vec<BackendCensus>> {
    Ok(sqlx::query_as!(
        BackendCensus,
        r#"
        SELECT b.backend AS "backend!: BackendName",
               (SELECT count(*) FROM one_shots o WHERE b.backend <> 'postgres' AND o.awaits = b.backend)
               + (SELECT count(*) FROM one_shots o
                  WHERE b.backend = 'postgres' AND o.state = 'armed' AND o.awaits IS NULL) AS "one_shots!",
               count(u.*) FILTER (WHERE u.state = 'wanted') AS "wanted!",
               count(u.*) FILTER (WHERE u.state = 'wanted' AND u.tries = 0 AND u.next_try_at > now()) AS "put_off!",
               count(u.*) FILTER (WHERE u.state = 'armed') AS "armed!",
               count(u.*) FILTER (WHERE u.state = 'unwanted') AS "unwanted!",
               max(u.last_error) FILTER (WHERE u.state <> 'armed') AS last_error
        FROM unnest(enum_range(NULL::scheduler_backend)) AS b(backend)
        LEFT JOIN wake_ups u USING (backend)
        GROUP BY b.backend ORDER BY b.backend
        "#,
    )
    .fetch_all(&db.pool)
    .await?)
}

/// Wake-ups that a backend should have been told of, or told to take back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untold {
    /// Which.
    pub backend: BackendName,
    /// How many.
    pub count: i64,
    /// Why it could not be told; nothing where nobody has tried for more than a minute.
    pub last_error: Option<String>,
}

/// What could not be told, and what nobody tells. What is merely on its way, or put off, is not in it.
pub async fn untold(db: &Db) -> DbResult<Vec<Untold>> {
    Ok(sqlx::query_as!(
        Untold,
        r#"
        SELECT backend AS "backend: BackendName", count(*) AS "count!", max(last_error) AS last_error
        FROM wake_ups
        WHERE next_try_at IS NOT NULL AND (last_error IS NOT NULL OR next_try_at < now() - interval '1 min')
        GROUP BY backend ORDER BY backend
        "#,
    )
    .fetch_all(&db.pool)
    .await?)
}

/// A call that an engine makes to an agent in our place, and whose time has come.
#[derive(Clone, Debug)]
pub struct DirectCall {
    /// Of which arm.
    pub schedule_id: ScheduleId,
    /// What the engine calls it.
    pub message_id: String,
    /// Not before.
    pub due_at: DateTime<Utc>,
}

/// Direct calls whose time has come and whose end is not known yet, the oldest first.
pub async fn direct_calls(db: &Db, limit: i64) -> DbResult<Vec<DirectCall>> {
    Ok(sqlx::query_as!(
        DirectCall,
        r#"
        SELECT u.schedule_id AS "schedule_id: ScheduleId", u.message_id AS "message_id!", u.due_at
        FROM wake_ups u
        WHERE u.backend = 'qstash_direct' AND u.state = 'armed' AND u.message_id IS NOT NULL AND u.due_at <= now()
        ORDER BY u.due_at LIMIT $1
        "#,
        limit,
    )
    .fetch_all(&db.pool)
    .await?)
}

/// How a direct call ended, by the engine's log.
#[derive(Clone, Debug)]
pub struct DirectResult {
    /// Of which arm.
    pub schedule_id: ScheduleId,
    /// When, by the engine's clock.
    pub at: DateTime<Utc>,
    /// Whether the agent accepted.
    pub delivered: bool,
    /// The agent's last status, where the log has one.
    pub http_status: Option<u16>,
}

/// Records how direct calls ended, with a row of history each: what was delivered is, and the rest is our own loop's,
/// due now.
pub async fn settle_direct(db: &Db, results: &[DirectResult]) -> DbResult<()> {
    let schedule_ids: Vec<Uuid> = results.iter().map(|one| one.schedule_id.0).collect();
    let ats: Vec<DateTime<Utc>> = results.iter().map(|one| one.at).collect();
    let delivered: Vec<bool> = results.iter().map(|one| one.delivered).collect();
    let statuses: Vec<Option<i16>> =
        results.iter().map(|one| one.http_status.and_then(|status| i16::try_from(status).ok())).collect();
    sqlx::query!(
        r#"
        WITH ended AS MATERIALIZED (
            SELECT r.*, u.instance_id, u.job_id
            FROM unnest($1::uuid[], $2::timestamptz[], $3::bool[], $4::int2[])
                AS r(schedule_id, at, delivered, http_status)
            JOIN wake_ups u ON u.schedule_id = r.schedule_id AND u.backend = 'qstash_direct'
        ), told AS (
            DELETE FROM wake_ups u USING ended e WHERE u.schedule_id = e.schedule_id
        ), settled AS (
            UPDATE one_shots o
            SET awaits = NULL,
                state = CASE WHEN e.delivered THEN 'delivered' ELSE o.state END,
                next_attempt_at = CASE WHEN e.delivered THEN NULL ELSE o.next_attempt_at END,
                attempts = o.attempts + 1, last_started_at = e.at, last_status = e.http_status,
                last_error = CASE WHEN NOT e.delivered THEN 'QStash could not deliver it' END,
                retrying_since = CASE WHEN NOT e.delivered THEN e.at END,
                updated_at = now()
            FROM ended e
            WHERE o.instance_id = e.instance_id AND o.job_id = e.job_id AND o.schedule_id = e.schedule_id
              AND o.awaits = 'qstash_direct'
            RETURNING o.instance_id, o.job_id, o.schedule_id, o.dedup_key, o.fire_at, e.at, e.delivered, e.http_status
        ), history AS (
            INSERT INTO fires (attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at,
                               ended_at, outcome, http_status, error)
            SELECT gen_random_uuid(), instance_id, job_id, schedule_id, dedup_key, fire_at, 1, at, at,
                   CASE WHEN delivered THEN 'delivered' ELSE 'failed' END::fire_outcome, http_status,
                   CASE WHEN NOT delivered THEN 'QStash could not deliver it' END
            FROM settled
        )
        INSERT INTO delivered_keys AS k (instance_id, job_id, dedup_key, schedule_id, delivered_at)
        SELECT instance_id, job_id, dedup_key, schedule_id, at FROM settled WHERE delivered
        ON CONFLICT (instance_id, job_id, dedup_key) DO UPDATE
            SET delivered_at = excluded.delivered_at, second_fires = k.second_fires + 1
        "#,
        &schedule_ids,
        &ats,
        &delivered,
        &statuses as &[Option<i16>],
    )
    .execute(&db.pool)
    .await?;
    Ok(())
}
