//! Statements about one-shots on behalf of operators: over all instances, selected by a filter.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::{
    AuthChoice, BackendName, DeadReason, FireOutcome, InstanceId, JobId, NotAfter, OneShotState, OrgId,
    ParkReason, ScheduleId,
};
use serde_json::Value;

use super::columns::{OptionalWord, Word};
use super::{Db, DbResult};
use crate::domain::dormancy::DormantReason;
use crate::domain::job::{Import, Imported, Job, JobFilter, Redriven};

fn states(filter: &JobFilter) -> Vec<String> {
    filter.states.iter().map(|state| state.as_str().to_owned()).collect()
}

/// Returns true if the filter selects nothing but dead and stuck one-shots.
fn only_ended_badly(filter: &JobFilter) -> bool {
    let badly = |state: &OneShotState| matches!(state, OneShotState::Dead | OneShotState::Stuck);
    !filter.dormant && !filter.states.is_empty() && filter.states.iter().all(badly)
}

/// Returns at most `limit` one-shots in the order of instance and job, starting after `after`.
pub async fn list(
    db: &Db,
    filter: &JobFilter,
    after: Option<(&str, &str)>,
    limit: i64,
) -> DbResult<Vec<Job>> {
    let (after_instance, after_job) = after.unzip();
    Ok(sqlx::query_as!(
        Job,
        r#"
        SELECT o.instance_id, i.org_id, o.job_id, o.schedule_id, o.dedup_key,
               o.fire_at_text AS fire_at, o.fire_at AS fire_at_instant, o.callback_url,
               o.own_callback_url, o.state AS "state: Word<OneShotState>", o.parked AS "parked!: OptionalWord<ParkReason>",
               o.awaits AS "awaits!: OptionalWord<BackendName>", o.next_attempt_at,
               o.not_after,
               dead_reason_of(o.state, o.expired) AS "dead_reason!: OptionalWord<DeadReason>",
               COALESCE(o.attempt_expires_at, o.claim_expires_at) AS lease_expires_at, o.attempts, o.retrying_since, o.retry_after_until, o.last_started_at,
               o.last_outcome AS "last_outcome!: OptionalWord<FireOutcome>", o.last_status, o.last_error,
               COALESCE(o.state = 'firing' AND o.asked_again_at > o.last_started_at, false) AS "asked_again!",
               o.created_at, o.updated_at,
               s.dormant_since AS "dormant_since?",
               CASE WHEN s.dormant_since IS NOT NULL THEN s.reason END AS "dormant_reason: DormantReason",
               s.expected_at AS "expected_at?", s.delivered_at AS "delivered_at?"
        FROM one_shots o JOIN instances i USING (instance_id)
        LEFT JOIN LATERAL (
            SELECT * FROM silent_jobs WHERE instance_id = o.instance_id AND job_id = o.job_id
            -- For the rows of the page only.
            LIMIT 1
        ) s ON true
        WHERE ($1::text IS NULL OR o.instance_id = $1) AND ($2::text IS NULL OR o.job_id = $2)
          AND ($3::text IS NULL OR i.org_id = $3)
          AND (cardinality($4::text[]) = 0 AND NOT $11 OR o.state = ANY ($4::text[]::one_shot_state[])
               OR $11 /* dormant */ AND s.dormant_since IS NOT NULL)
          -- Lets the planner begin with the dormant jobs, which are few.
          AND (NOT $12 /* only dormant */
               OR (o.instance_id, o.job_id) IN (SELECT instance_id, job_id FROM awaited_rearms WHERE dormant_since IS NOT NULL))
          AND (NOT $5 OR o.parked IS NOT NULL)
          -- Two cases, each of which has an index.
          AND (NOT $6 OR (o.state IN ('armed', 'waiting') AND o.parked IS NULL
                          AND (o.awaits IS NULL AND o.next_attempt_at <= now()
                               OR o.awaits IS NOT NULL AND o.next_attempt_at <= now())))
          -- Lets the planner use the small index of what ended badly.
          AND (NOT $10 OR o.dead_since IS NOT NULL)
          AND ($7::text IS NULL OR (o.instance_id, o.job_id) > ($7, $8))
        ORDER BY o.instance_id, o.job_id
        LIMIT $9
        "#,
        filter.instance_id.as_ref().map(InstanceId::as_str),
        filter.job_id.as_ref().map(JobId::as_str),
        filter.org_id.as_ref().map(OrgId::as_str),
        &states(filter),
        filter.parked,
        filter.overdue,
        after_instance,
        after_job,
        limit,
        only_ended_badly(filter),
        filter.dormant,
        filter.only_dormant(),
    )
    .fetch_all(db)
    .await?)
}

/// Counts the dead and stuck one-shots in a filter's instance, org and job, limited to the filter's states if it has
/// any.
pub async fn count_redrivable(db: &Db, filter: &JobFilter) -> DbResult<i64> {
    Ok(sqlx::query_scalar!(
        r#"
        SELECT count(*) AS "count!"
        FROM one_shots o JOIN instances i USING (instance_id)
        WHERE o.dead_since IS NOT NULL
          AND ($1::text IS NULL OR o.instance_id = $1) AND ($2::text IS NULL OR o.job_id = $2)
          AND ($3::text IS NULL OR i.org_id = $3)
          AND (cardinality($4::text[]) = 0 OR o.state = ANY ($4::text[]::one_shot_state[]))
        "#,
        filter.instance_id.as_ref().map(InstanceId::as_str),
        filter.job_id.as_ref().map(JobId::as_str),
        filter.org_id.as_ref().map(OrgId::as_str),
        &states(filter),
    )
    .fetch_one(db)
    .await?)
}

/// Redrives dead and stuck one-shots: the same `schedule_id`, a fresh retry budget. Those of one instance are due `pace`
/// after each other, from now on or after those of an earlier redrive, so that no agent gets all of them at once. The
/// delivered key of a stuck one is deleted, so that it may have second fires again. Takes at most `limit` that ended before
/// `ended_before`, so that one that fails again is not redriven in a loop.
pub async fn redrive(
    db: &Db,
    filter: &JobFilter,
    ended_before: DateTime<Utc>,
    pace: Duration,
    limit: i64,
) -> DbResult<Redriven> {
    Ok(sqlx::query_as!(
        Redriven,
        r#"
        WITH found AS MATERIALIZED (
            SELECT o.instance_id, o.job_id
            FROM one_shots o JOIN instances i USING (instance_id)
            WHERE o.dead_since <= $5 /* ended_before */
              AND ($1::text IS NULL OR o.instance_id = $1) AND ($2::text IS NULL OR o.job_id = $2)
              AND ($3::text IS NULL OR i.org_id = $3)
              AND (cardinality($4::text[]) = 0 OR o.state = ANY ($4::text[]::one_shot_state[]))
            ORDER BY o.instance_id, o.job_id
            LIMIT $6 /* limit */
        ), agents AS MATERIALIZED (
            -- Locked before their one-shots, as by the end of an outage, so that there is no deadlock.
            SELECT i.instance_id, GREATEST(i.paced_until, now()) AS begins
            FROM instances i WHERE i.instance_id IN (SELECT instance_id FROM found)
            ORDER BY i.instance_id
            FOR NO KEY UPDATE
        ), ended AS MATERIALIZED (
            SELECT o.instance_id, o.job_id, o.state, a.begins
            FROM found f JOIN agents a USING (instance_id) JOIN one_shots o USING (instance_id, job_id)
            WHERE o.dead_since <= $5 AND (SELECT count(*) FROM agents) >= 0
            ORDER BY o.instance_id, o.job_id
            FOR NO KEY UPDATE OF o
        ), paced AS MATERIALIZED (
            SELECT e.*, begins + (row_number() OVER (PARTITION BY instance_id ORDER BY job_id) - 1)
                                 * make_interval(secs => $7 /* pace */) AS starts
            FROM ended e
        ), continued AS (
            UPDATE instances i SET paced_until = l.starts + make_interval(secs => $7)
            FROM (SELECT instance_id, max(starts) AS starts FROM paced GROUP BY instance_id) l
            WHERE i.instance_id = l.instance_id
        ), redriven AS (
            UPDATE one_shots o
            SET state = 'armed', dead_since = NULL, lease_token = NULL,
                delivered_key = CASE WHEN p.state <> 'stuck' THEN o.delivered_key END,
                delivered_schedule_id = CASE WHEN p.state <> 'stuck' THEN o.delivered_schedule_id END,
                delivered_at = CASE WHEN p.state <> 'stuck' THEN o.delivered_at END,
                second_fires = CASE WHEN p.state <> 'stuck' THEN o.second_fires END,
                -- A redrive is not urgent to the second, so the default floor between two fires is enough.
                next_attempt_at = GREATEST(p.starts, o.fire_at, o.last_started_at + interval '1 s'), due_since = NULL,
                attempts = 0, retrying_since = NULL, retry_after_until = NULL, last_outcome = NULL, last_status = NULL,
                last_error = NULL, refused = false, updated_at = now(),
                -- A redrive is a decision to fire, however late.
                not_after = NULL, expired = false
            FROM paced p
            WHERE o.instance_id = p.instance_id AND o.job_id = p.job_id
            RETURNING o.next_attempt_at
        )
        SELECT count(*) AS "count!", max(next_attempt_at) AS last_starts_at FROM redriven
        "#,
        filter.instance_id.as_ref().map(InstanceId::as_str),
        filter.job_id.as_ref().map(JobId::as_str),
        filter.org_id.as_ref().map(OrgId::as_str),
        &states(filter),
        ended_before,
        limit,
        pace.as_secs_f64(),
    )
    .fetch_one(db)
    .await?)
}

/// Arms a batch of jobs without a one-shot in one statement; one-shots that an agent has provisioned never change.
/// A batch may contain a job only once. Returns the result of each import, in order; with `dry_run`, nothing changes.
pub async fn import(db: &Db, batch: &[Import], dry_run: bool) -> DbResult<Vec<Imported>> {
    let instance_ids: Vec<&str> = batch.iter().map(|one| one.instance_id.as_str()).collect();
    let job_ids: Vec<&str> = batch.iter().map(|one| one.job_id.as_str()).collect();
    let schedule_ids: Vec<uuid::Uuid> = batch.iter().map(|_| ScheduleId::fresh().0).collect();
    let dedup_keys: Vec<&str> = batch.iter().map(|one| one.dedup_key.as_str()).collect();
    let texts: Vec<&str> = batch.iter().map(|one| one.fire_at.as_str()).collect();
    let instants: Vec<DateTime<Utc>> = batch.iter().map(|one| one.fire_at.instant()).collect();
    let callbacks: Vec<&str> = batch.iter().map(|one| one.callback_url.as_str()).collect();
    let auths: Vec<Option<Value>> =
        batch.iter().map(|one| one.auth.as_ref().map(AuthChoice::to_json)).collect();
    let limits: Vec<Option<DateTime<Utc>>> =
        batch.iter().map(|one| one.not_after.as_ref().map(NotAfter::instant)).collect();
    let mut transaction = db.begin().await?;
    let rows = sqlx::query!(
        r#"
        WITH given AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::text[],
                                 $9::jsonb[] /* auth */, $10::timestamptz[] /* not_after */)
                WITH ORDINALITY AS g(instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, auth,
                                     not_after, line)
        ), registered AS MATERIALIZED (
            -- Locked, so that none is deleted under its new one-shots.
            SELECT * FROM instances WHERE instance_id = ANY ($1) ORDER BY instance_id FOR NO KEY UPDATE
        ), external AS (
            SELECT backend, generation FROM active_backend WHERE backend <> 'postgres' LIMIT 1
        ), armed AS (
            INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, not_after, callback_url,
                                   state, next_attempt_at, due_since, awaits)
            SELECT (a.one_shot).instance_id, (a.one_shot).job_id, (a.one_shot).schedule_id, (a.one_shot).dedup_key,
                   (a.one_shot).fire_at_text, (a.one_shot).fire_at, (a.one_shot).not_after, (a.one_shot).callback_url,
                   (a.one_shot).state, (a.one_shot).next_attempt_at, (a.one_shot).due_since, (a.one_shot).awaits
            FROM (
                SELECT armed(i, g.job_id, g.schedule_id, g.dedup_key, g.fire_at_text, g.fire_at, g.not_after, g.callback_url,
                             (SELECT backend FROM external), make_interval(secs => $8 /* built_in_loop_within */)) AS one_shot
                FROM given g JOIN registered i USING (instance_id)
                ORDER BY g.instance_id, g.job_id
                OFFSET 0
            ) a
            ON CONFLICT (instance_id, job_id) DO NOTHING
            RETURNING instance_id, job_id, schedule_id, next_attempt_at, awaits
        ), wanted AS (
            INSERT INTO wake_ups (schedule_id, generation, backend, instance_id, job_id, due_at)
            SELECT a.schedule_id, e.generation, e.backend, a.instance_id, a.job_id, a.next_attempt_at
            FROM armed a JOIN external e ON e.backend = a.awaits
        ), named AS (
            -- A choice of the agent stays.
            INSERT INTO job_auth (instance_id, job_id, auth)
            SELECT instance_id, job_id, g.auth FROM armed a JOIN given g USING (instance_id, job_id) WHERE g.auth IS NOT NULL
            ON CONFLICT (instance_id, job_id) DO NOTHING
        ), reached AS (
            -- So that an agent which comes with another callback is known to have moved.
            UPDATE instances i SET callback_url = l.callback_url, updated_at = now()
            FROM (
                SELECT DISTINCT ON (g.instance_id) g.instance_id, g.callback_url
                FROM armed a JOIN given g USING (instance_id, job_id) ORDER BY g.instance_id, g.line DESC
            ) l
            WHERE i.instance_id = l.instance_id AND i.callback_url IS NULL
        )
        SELECT a.job_id IS NOT NULL AS "armed!", r.instance_id IS NOT NULL AS "registered!",
               g.dedup_key = o.dedup_key OR (o.delivered_key IS NOT NULL AND g.dedup_key = o.delivered_key) AS same_key
        FROM given g
        LEFT JOIN registered r USING (instance_id)
        LEFT JOIN armed a USING (instance_id, job_id)
        LEFT JOIN one_shots o USING (instance_id, job_id)
        ORDER BY g.line
        "#,
        &instance_ids as &[&str],
        &job_ids as &[&str],
        &schedule_ids,
        &dedup_keys as &[&str],
        &texts as &[&str],
        &instants,
        &callbacks as &[&str],
        super::provisions::BUILT_IN_LOOP_WITHIN,
        &auths as &[Option<Value>],
        &limits as &[Option<DateTime<Utc>>],
    )
    .fetch_all(&mut transaction)
    .await?;
    if dry_run {
        drop(transaction);
    } else {
        transaction.commit().await?;
    }
    Ok(rows
        .into_iter()
        .map(|row| match row.same_key {
            _ if !row.registered => Imported::UnknownInstance,
            _ if row.armed => Imported::Armed,
            Some(true) => Imported::Unchanged,
            Some(false) => Imported::Kept,
            None => Imported::Raced,
        })
        .collect())
}
