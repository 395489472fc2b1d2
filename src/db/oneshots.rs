//! Statements about a job's current one-shot on behalf of the agent API: moves, cancel, list. [`super::provisions`] arms it.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{
    BackendName, CallbackUrl, DeadReason, DedupKey, FireAt, FireOutcome, InstanceId, JobId, OneShotState,
    ParkReason, ScheduleId,
};
use serde_json::Value;
use uuid::Uuid;

use super::columns::{OptionalWord, Word};
use super::{Db, DbResult, job_auth, provisions};
use crate::domain::one_shot::{Moved, OneShot};

/// Sets or raises the instance's skew guard after an arm that showed a slow agent clock ([`Armed::shows_skew`](crate::domain::one_shot::Armed::shows_skew)): 1 s,
/// then twice the remaining guard, at most 30 s. It already delays this arm. Returns the earliest start of its next
/// attempt; `None` if it is no longer armed.
pub async fn learn_skew(
    db: &Db,
    instance_id: &InstanceId,
    job_id: &JobId,
    schedule_id: ScheduleId,
) -> DbResult<Option<DateTime<Utc>>> {
    Ok(sqlx::query_scalar!(
        r#"
        WITH learned AS (
            UPDATE instances i
            SET skew_guard_ms = LEAST(30000, GREATEST(1000,
                    2000 * extract(epoch FROM skew_guard(i.skew_guard_ms, i.skew_learned_at)))),
                skew_learned_at = now(), updated_at = now()
            WHERE i.instance_id = $1
            RETURNING make_interval(secs => i.skew_guard_ms / 1000.0) AS guard
        )
        UPDATE one_shots o
        SET next_attempt_at = GREATEST(o.next_attempt_at, o.fire_at + l.guard),
            due_since = CASE WHEN o.due_since IS NOT NULL THEN GREATEST(o.due_since, o.fire_at + l.guard) END
        FROM learned l
        WHERE o.instance_id = $1 AND o.job_id = $2 AND o.schedule_id = $3 AND o.state IN ('armed', 'leased')
        RETURNING o.next_attempt_at
        "#,
        instance_id.as_str(),
        job_id.as_str(),
        schedule_id.0,
    )
    .fetch_optional(db)
    .await?
    .flatten())
}

/// Sets the new callback of an agent that has moved, also on its one-shots with the previous callback. `job_id` is the job
/// whose provision showed it.
pub async fn move_callback(
    db: &Db,
    instance_id: &InstanceId,
    job_id: &JobId,
    previous: Option<&str>,
    new: &CallbackUrl,
) -> DbResult<Moved> {
    let row = sqlx::query!(
        r#"
        WITH before AS MATERIALIZED (
            SELECT callback_alternates(callback_returns, callback_moved_at) AS alternated
            FROM instances WHERE instance_id = $1
            FOR NO KEY UPDATE
        ), instance AS (
            UPDATE instances i
            SET (callback_url, earlier_callbacks, callback_moved_at, callback_returns, updated_at) = (
                SELECT (n).callback_url, (n).earlier_callbacks, (n).callback_moved_at, (n).callback_returns, (n).updated_at
                FROM (SELECT called_from(i, $3 /* new */) AS n OFFSET 0) once)
            FROM before b
            WHERE i.instance_id = $1
            RETURNING callback_alternates(callback_returns, callback_moved_at) AND NOT b.alternated AS alternates_now
        ), locked AS MATERIALIZED (
            -- After the instance, and in the order of other statements, so that there is no deadlock.
            SELECT instance_id, job_id FROM one_shots
            WHERE instance_id = $1 AND (SELECT count(*) FROM before) >= 0
              AND (callback_url = $2 /* previous */ AND state NOT IN ('delivered', 'stuck') OR callback_url = $3 AND follows_gone)
            ORDER BY instance_id, job_id
            FOR NO KEY UPDATE
        ), followed AS (
            UPDATE one_shots o
            SET callback_url = $3, follows_gone = false, updated_at = now(),
                own_callback_url = NULLIF(COALESCE(o.own_callback_url, o.callback_url), $3)
            FROM locked l
            WHERE o.instance_id = l.instance_id AND o.job_id = l.job_id
              AND o.callback_url = $2 AND o.state NOT IN ('delivered', 'stuck')
            RETURNING o.job_id
        ), returned AS (
            -- The agent is at their own callback again: only its answer counts.
            UPDATE one_shots o SET follows_gone = false, updated_at = now()
            FROM locked l
            WHERE o.instance_id = l.instance_id AND o.job_id = l.job_id AND o.callback_url = $3 AND o.follows_gone
        )
        SELECT (SELECT count(*) FROM followed WHERE job_id <> $4 /* job_id */) AS "followed!",
               COALESCE((SELECT alternates_now FROM instance), false) AS "alternates_now!"
        "#,
        instance_id.as_str(),
        previous,
        new.as_str(),
        job_id.as_str(),
    )
    .fetch_one(db)
    .await?;
    Ok(Moved { followed: row.followed, alternates_now: row.alternates_now })
}

/// Returns true if a job has a one-shot, in any state.
pub async fn exists(db: &Db, instance_id: &InstanceId, job_id: &JobId) -> DbResult<bool> {
    Ok(sqlx::query_scalar!(
        r#"SELECT EXISTS (SELECT FROM one_shots WHERE instance_id = $1 AND job_id = $2) AS "exists!""#,
        instance_id.as_str(),
        job_id.as_str(),
    )
    .fetch_one(db)
    .await?)
}

/// Cancels a job: deletes its one-shot, and with it the memory of its delivered key, and marks the job as cancelled. No
/// attempt starts after the commit. Returns the id of the deleted one-shot's schedule, if there was one.
pub async fn cancel(db: &Db, instance_id: &InstanceId, job_id: &JobId) -> DbResult<Option<ScheduleId>> {
    provisions::settled(db, instance_id, job_id).await;
    let row = sqlx::query_scalar!(
        r#"
        WITH cancelled AS (
            DELETE FROM one_shots WHERE instance_id = $1 AND job_id = $2
            RETURNING instance_id, job_id, schedule_id, fire_at, created_at
        ), marked AS (
            INSERT INTO cancelled_jobs (instance_id, job_id, fire_at, armed_at)
            SELECT instance_id, job_id, fire_at, created_at FROM cancelled
            ON CONFLICT (instance_id, job_id) DO UPDATE
                SET cancelled_at = excluded.cancelled_at, fire_at = excluded.fire_at, armed_at = excluded.armed_at
        ), idle AS (
            -- The auth profile stays: a job that is resumed does not name it again.
            UPDATE job_auth SET idle_since = now() WHERE instance_id = $1 AND job_id = $2
        ), unwanted AS (
            UPDATE wake_ups w
            SET state = 'unwanted', next_try_at = next_cancel_at(w.state, w.tries, w.next_try_at)
            WHERE w.instance_id = $1 AND w.job_id = $2 AND w.state <> 'unwanted'
        )
        SELECT schedule_id FROM cancelled
        "#,
        instance_id.as_str(),
        job_id.as_str(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(ScheduleId))
}

struct Row {
    instance_id: String,
    job_id: String,
    schedule_id: Uuid,
    dedup_key: String,
    fire_at_text: String,
    fire_at: DateTime<Utc>,
    callback_url: String,
    state: OneShotState,
    parked: Option<ParkReason>,
    awaits: Option<BackendName>,
    attempts: i32,
    next_attempt_at: Option<DateTime<Utc>>,
    not_after: Option<DateTime<Utc>>,
    dead_reason: Option<DeadReason>,
    last_outcome: Option<FireOutcome>,
    last_status: Option<i16>,
    last_error: Option<String>,
    updated_at: DateTime<Utc>,
    job_auth: Option<Value>,
    instance_auth: Option<Value>,
    org_auth: Option<Value>,
    service_auth: Option<Value>,
    unknown_auth: Option<Vec<String>>,
}

impl From<Row> for OneShot {
    fn from(row: Row) -> Self {
        Self {
            instance_id: InstanceId::stored(row.instance_id),
            job_id: JobId::stored(row.job_id),
            schedule_id: ScheduleId(row.schedule_id),
            dedup_key: DedupKey::stored(row.dedup_key),
            fire_at: FireAt::stored(row.fire_at_text, row.fire_at),
            callback_url: row.callback_url,
            state: row.state,
            parked: row.parked,
            awaits: row.awaits,
            attempts: row.attempts,
            next_attempt_at: row.next_attempt_at,
            not_after: row.not_after,
            dead_reason: row.dead_reason,
            last_outcome: row.last_outcome,
            last_status: row.last_status,
            last_error: row.last_error,
            auth: job_auth::job_auth(
                row.job_auth,
                row.instance_auth,
                row.org_auth,
                row.service_auth,
                row.unknown_auth,
            ),
            updated_at: row.updated_at,
        }
    }
}

/// Returns an instance's one-shots that are not delivered, soonest first.
pub async fn list(db: &Db, instance_id: &InstanceId) -> DbResult<Vec<OneShot>> {
    let rows = sqlx::query_as!(
        Row,
        r#"
        SELECT p.instance_id, p.job_id, p.schedule_id, p.dedup_key, p.fire_at_text, p.fire_at, p.callback_url,
               p.state AS "state: Word<OneShotState>", p.parked AS "parked!: OptionalWord<ParkReason>", p.awaits AS "awaits!: OptionalWord<BackendName>",
               p.attempts, p.next_attempt_at, p.last_outcome AS "last_outcome!: OptionalWord<FireOutcome>", p.last_status, p.last_error, p.updated_at,
               p.not_after,
               dead_reason_of(p.state, p.expired) AS "dead_reason!: OptionalWord<DeadReason>",
               a.job_auth, a.instance_auth, a.org_auth, a.service_auth, a.unknown_auth
        FROM one_shots p
        JOIN instances i USING (instance_id)
        CROSS JOIN LATERAL auth_of_job(i.instance_id, i.org_id, p.job_id) a
        WHERE p.instance_id = $1 AND p.state <> 'delivered'
        ORDER BY p.fire_at, p.job_id
        "#,
        instance_id.as_str(),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(OneShot::from).collect())
}
