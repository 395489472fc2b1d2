//! Statements about a job's current one-shot on behalf of the agent API: provision, cancel, list.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{
    BackendName, CallbackUrl, DeadReason, DedupKey, FireAt, FireOutcome, InstanceId, JobId, NotAfter,
    OneShotState, ParkReason, ScheduleId,
};
use serde_json::Value;
use uuid::Uuid;

use super::columns::{OptionalWord, Word};
use super::seconds::RuleColumns;
use super::{Db, DbResult, auth_profiles};
use crate::domain::arm_rules::ArmRules;
use crate::domain::one_shot::{Arm, Armed, Moved, OneShot};

/// Maximum time to the instant, in seconds, at which the built-in loop fires a one-shot without its backend: an external
/// backend could not be armed in time. At least the lead plus the granularity of every backend.
pub(in crate::db) const BUILT_IN_LOOP_WITHIN: f64 = 3.0;

/// Provisions the job's one-shot: arms a new job, supersedes, or handles the same key again. The SQL function `provisioned`
/// has the rules for a job that has a one-shot. Durable when it returns. `None`: the instance does not exist.
pub async fn provision(db: &Db, arm: &Arm<'_>, rules: &ArmRules) -> DbResult<Option<Armed>> {
    let rules = RuleColumns::from(rules);
    let row = sqlx::query!(
        r#"
        WITH external AS (
            SELECT backend, generation FROM active_backend WHERE backend <> 'postgres' LIMIT 1
        ), provisioned AS (
            INSERT INTO one_shots AS job (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url,
                                          state, next_attempt_at, awaits, due_since, not_after)
            SELECT i.instance_id, $2 /* job_id */, $3 /* schedule_id */, $4 /* dedup_key */, $5 /* fire_at_text */,
                   $6 /* fire_at */, $7 /* callback_url */, 'armed', due.at,
                   CASE WHEN due.at > now() + make_interval(secs => $12 /* built_in_loop_within */)
                        THEN (SELECT backend FROM external) END,
                   CASE WHEN due.at >= now() THEN due.at END,
                   $13 /* not_after */
            FROM instances i,
                 LATERAL (SELECT $6::timestamptz + skew_guard(i.skew_guard_ms, i.skew_learned_at) AS at) due
            WHERE i.instance_id = $1 /* instance_id */
            ON CONFLICT (instance_id, job_id) DO UPDATE SET
                -- The job's own provision names its callback, also if the key is the same.
                callback_url = excluded.callback_url, own_callback_url = NULL, follows_gone = false,
                (schedule_id, dedup_key, fire_at_text, fire_at, state, next_attempt_at, due_since, parked, awaits,
                 lease_token, claim_expires_at, attempt_expires_at, attempts, retrying_since, retry_after_until,
                 last_started_at, last_status, last_error, asked_again_at, shows_skew, delivered_key, delivered_schedule_id,
                 delivered_at, second_fires, dead_since, created_at, updated_at, last_outcome, claimed_at, refused, expired,
                 not_after) = (
                SELECT (n).schedule_id, (n).dedup_key, (n).fire_at_text, (n).fire_at, (n).state, (n).next_attempt_at,
                       (n).due_since, (n).parked, (n).awaits, (n).lease_token,
                       (n).claim_expires_at, (n).attempt_expires_at, (n).attempts, (n).retrying_since,
                       (n).retry_after_until, (n).last_started_at, (n).last_status, (n).last_error, (n).asked_again_at,
                       (n).shows_skew, (n).delivered_key, (n).delivered_schedule_id, (n).delivered_at,
                       (n).second_fires, (n).dead_since, (n).created_at, (n).updated_at,
                       (n).last_outcome, (n).claimed_at, (n).refused, (n).expired,
                       -- The same key changes or clears the limit of a live one-shot. A new arm has it already.
                       CASE WHEN $14 /* limit_given */ AND (n).next_attempt_at IS NOT NULL
                            THEN excluded.not_after ELSE (n).not_after END
                FROM (SELECT provisioned(job, excluded, ROW(
                          make_interval(secs => $8 /* fire_floor */),
                          make_interval(secs => $9 /* second_fire_delay */),
                          make_interval(secs => $10 /* second_fire_interval */),
                          $11 /* second_fires_max */)::arm_rules) AS n OFFSET 0) once)
            RETURNING schedule_id, state, next_attempt_at, awaits, shows_skew,
                      -- Only a new arm was created by this statement.
                      created_at = now() AS is_new
        ), wanted AS (
            INSERT INTO wake_ups (schedule_id, generation, backend, instance_id, job_id, due_at)
            SELECT p.schedule_id, e.generation, e.backend, $1, $2, p.next_attempt_at
            FROM provisioned p JOIN external e ON e.backend = p.awaits
            WHERE p.is_new
            ON CONFLICT (schedule_id, generation) DO UPDATE
                SET state = 'wanted', due_at = excluded.due_at, next_try_at = now(), tries = 0
        ), unwanted AS (
            UPDATE wake_ups w
            SET state = 'unwanted', next_try_at = next_cancel_at(w.state, w.tries, w.next_try_at)
            FROM provisioned p
            WHERE p.is_new AND w.instance_id = $1 AND w.job_id = $2 AND w.schedule_id <> p.schedule_id
              AND w.state <> 'unwanted'
        )
        SELECT schedule_id AS "schedule_id!", next_attempt_at, awaits AS "awaits!: OptionalWord<BackendName>",
               is_new AND shows_skew AS "shows_skew!",
               (SELECT a.unknown_auth FROM instances i, auth_of_job(i.instance_id, i.org_id, $2) a
                WHERE i.instance_id = $1) AS unknown_auth
        FROM provisioned
        "#,
        arm.instance_id.as_str(),
        arm.job_id.as_str(),
        ScheduleId::fresh().0,
        arm.dedup_key.as_str(),
        arm.fire_at.as_str(),
        arm.fire_at.instant(),
        arm.callback_url.as_str(),
        rules.fire_floor,
        rules.second_fire_delay,
        rules.second_fire_interval,
        rules.second_fires_max,
        BUILT_IN_LOOP_WITHIN,
        arm.not_after.value().map(NotAfter::instant),
        !arm.not_after.is_keep(),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Armed {
        schedule_id: ScheduleId(row.schedule_id),
        next_attempt_at: row.next_attempt_at,
        shows_skew: row.shows_skew,
        awaits: row.awaits.0,
        unknown_auth: auth_profiles::profiles(row.unknown_auth),
        followed: 0,
    }))
}

/// Sets or raises the instance's skew guard after an arm that showed a slow agent clock ([`Armed::shows_skew`]): 1 s,
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
        ), followed AS (
            UPDATE one_shots
            SET callback_url = $3, follows_gone = false, updated_at = now(),
                own_callback_url = NULLIF(COALESCE(own_callback_url, callback_url), $3)
            WHERE instance_id = $1 AND callback_url = $2 /* previous */ AND state NOT IN ('delivered', 'stuck')
            RETURNING job_id
        ), returned AS (
            -- The agent is at their own callback again: only its answer counts.
            UPDATE one_shots SET follows_gone = false, updated_at = now()
            WHERE instance_id = $1 AND callback_url = $3 AND follows_gone
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

/// Cancels a job: deletes its one-shot, and with it the memory of its delivered key, and marks the job as cancelled. No
/// attempt starts after the commit. Returns the id of the deleted one-shot's schedule, if there was one.
pub async fn cancel(db: &Db, instance_id: &InstanceId, job_id: &JobId) -> DbResult<Option<ScheduleId>> {
    let row = sqlx::query_scalar!(
        r#"
        WITH cancelled AS (
            DELETE FROM one_shots WHERE instance_id = $1 AND job_id = $2 RETURNING instance_id, job_id, schedule_id
        ), marked AS (
            INSERT INTO cancelled_jobs (instance_id, job_id) SELECT instance_id, job_id FROM cancelled
            ON CONFLICT (instance_id, job_id) DO UPDATE SET cancelled_at = excluded.cancelled_at
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
            auth: auth_profiles::job_auth(
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
