//! The statement that imports one-shots of another service.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{AuthChoice, NotAfter, ScheduleId};
use serde_json::Value;

use crate::db::{Db, DbResult, provisions};
use crate::domain::job::{Import, Imported};

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
        provisions::BUILT_IN_LOOP_WITHIN,
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
