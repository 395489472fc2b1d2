//! Statements about the auth of jobs.

use std::time::Duration;

use nas_cron_protocol::{AuthChoice, AuthProfile, EffectiveAuth, InstanceId, JobId, resolve_auth};
use serde_json::Value;

use super::{Db, DbResult};
use crate::domain::job_auth::JobAuth;

/// Returns the effective auth among a statement's four candidates, by [`resolve_auth`].
pub(super) fn effective(
    job: Option<Value>,
    instance: Option<Value>,
    org: Option<Value>,
    service: Option<Value>,
) -> Option<EffectiveAuth> {
    let stored = |auth: Option<Value>| auth.map(AuthChoice::stored);
    resolve_auth(stored(job), stored(instance), stored(org), stored(service))
}

/// Returns true if a job exists in the sense of [`set_job`].
pub async fn job_is_there(db: &Db, instance_id: &InstanceId, job_id: &JobId) -> DbResult<bool> {
    Ok(sqlx::query_scalar!(
        r#"
        SELECT EXISTS (SELECT FROM one_shots WHERE instance_id = $1 AND job_id = $2)
            OR EXISTS (SELECT FROM job_auth WHERE instance_id = $1 AND job_id = $2) AS "there!"
        "#,
        instance_id.as_str(),
        job_id.as_str(),
    )
    .fetch_one(db)
    .await?)
}

/// Sets or removes a job's own auth. Returns true if the job existed: it has a one-shot (possibly ended), or an auth of
/// its own. With `also_new`, it is set even if the job did not exist.
pub async fn set_job(
    db: &Db,
    instance_id: &InstanceId,
    job_id: &JobId,
    auth: Option<&AuthChoice>,
    also_new: bool,
) -> DbResult<bool> {
    Ok(sqlx::query_scalar!(
        r#"
        WITH present AS (
            SELECT EXISTS (SELECT FROM one_shots WHERE instance_id = $1 AND job_id = $2) AS armed,
                   (SELECT auth FROM job_auth WHERE instance_id = $1 AND job_id = $2) AS auth
        ), given AS (
            INSERT INTO job_auth AS j (instance_id, job_id, auth)
            SELECT i.instance_id, $2, $3 FROM instances i, present p
            WHERE i.instance_id = $1 AND $3::jsonb IS NOT NULL AND (p.armed OR p.auth IS NOT NULL OR $4)
              -- Nothing is written where nothing changes. (Without a one-shot, it is idle from now on.)
              AND NOT (p.armed AND p.auth IS NOT DISTINCT FROM $3)
            ON CONFLICT (instance_id, job_id) DO UPDATE SET auth = excluded.auth, idle_since = now()
        ), taken AS (
            DELETE FROM job_auth WHERE instance_id = $1 AND job_id = $2 AND $3::jsonb IS NULL
        )
        SELECT armed OR auth IS NOT NULL AS "there!" FROM present
        "#,
        instance_id.as_str(),
        job_id.as_str(),
        auth.map(AuthChoice::to_json),
        also_new,
    )
    .fetch_one(db)
    .await?)
}

/// Returns the auth of a job, from a statement's four candidates.
pub(super) fn job_auth(
    job: Option<Value>,
    instance: Option<Value>,
    org: Option<Value>,
    service: Option<Value>,
    unknown: Option<Vec<String>>,
) -> JobAuth {
    let auth = job.clone().map(AuthChoice::stored);
    JobAuth { auth, effective: effective(job, instance, org, service), unknown: profiles(unknown) }
}

/// Returns the profiles of a column that may be empty.
pub(super) fn profiles(names: Option<Vec<String>>) -> Vec<AuthProfile> {
    names.unwrap_or_default().into_iter().map(AuthProfile::stored).collect()
}

/// Returns the auth that these jobs use, one per job, in order. The jobs need not exist.
pub async fn of_jobs(db: &Db, jobs: &[(&str, &str)]) -> DbResult<Vec<JobAuth>> {
    let (instance_ids, job_ids): (Vec<&str>, Vec<&str>) = jobs.iter().copied().unzip();
    let rows = sqlx::query!(
        r#"
        SELECT a.job_auth, a.instance_auth, a.org_auth, a.service_auth, a.unknown_auth
        FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS g(instance_id, job_id, line)
        LEFT JOIN instances i USING (instance_id)
        CROSS JOIN LATERAL auth_of_job(i.instance_id, i.org_id, g.job_id) a
        ORDER BY g.line
        "#,
        &instance_ids as &[&str],
        &job_ids as &[&str],
    )
    .fetch_all(db)
    .await?;
    Ok(rows
        .into_iter()
        .map(|row| {
            job_auth(row.job_auth, row.instance_auth, row.org_auth, row.service_auth, row.unknown_auth)
        })
        .collect())
}

/// Deletes the auth of at most `limit` jobs that have had no one-shot for `retention`, or are not among the `kept`
/// most recent jobs of their instance without a one-shot. Returns the number of jobs examined; call it again while
/// that is not 0.
pub async fn prune(db: &Db, retention: Duration, kept: i64, limit: i64) -> DbResult<i64> {
    let mut transaction = db.begin().await?;
    let mut idle = sqlx::query!(
        r#"
        SELECT j.instance_id, j.job_id FROM job_auth j JOIN instances i USING (instance_id)
        WHERE j.idle_since < now() - make_interval(secs => $1)
        ORDER BY j.idle_since
        LIMIT $2
        FOR UPDATE OF j, i SKIP LOCKED
        "#,
        retention.as_secs_f64(),
        limit,
    )
    .map(|row| (row.instance_id, row.job_id))
    .fetch_all(&mut transaction)
    .await?;
    if idle.is_empty() {
        idle = sqlx::query!(
            r#"
            WITH crowded AS (
                SELECT instance_id FROM job_auth WHERE idle_since IS NOT NULL GROUP BY instance_id HAVING count(*) > $1
            ), surplus AS (
                SELECT j.instance_id, j.job_id,
                       row_number() OVER (PARTITION BY j.instance_id ORDER BY j.idle_since DESC, j.job_id) AS place
                FROM crowded c JOIN job_auth j USING (instance_id)
                WHERE j.idle_since IS NOT NULL
                  AND NOT EXISTS (SELECT FROM one_shots o WHERE o.instance_id = j.instance_id AND o.job_id = j.job_id)
            )
            SELECT j.instance_id, j.job_id
            FROM surplus s JOIN job_auth j USING (instance_id, job_id) JOIN instances i USING (instance_id)
            WHERE s.place > $1
            LIMIT $2
            FOR UPDATE OF j, i SKIP LOCKED
            "#,
            kept,
            limit,
        )
        .map(|row| (row.instance_id, row.job_id))
        .fetch_all(&mut transaction)
        .await?;
    }
    let (instance_ids, job_ids): (Vec<String>, Vec<String>) = idle.into_iter().unzip();
    // New one-shots share this lock until they are committed. So a job of a locked instance either has its one-shot by now, and
    // the next statement sees it, or gets it after this transaction. The jobs of other instances are left for the next round.
    let locked = sqlx::query!(
        r#"
        SELECT l.instance_id AS "instance_id!", l.job_id AS "job_id!"
        FROM unnest($1::text[], $2::text[]) AS l(instance_id, job_id)
        WHERE pg_try_advisory_xact_lock(hashtext('nas_cron.instances'), instance_lock(l.instance_id))
        "#,
        &instance_ids,
        &job_ids,
    )
    .map(|row| (row.instance_id, row.job_id))
    .fetch_all(&mut transaction)
    .await?;
    let (instance_ids, job_ids): (Vec<String>, Vec<String>) = locked.into_iter().unzip();
    let looked_at = sqlx::query_scalar!(
        r#"
        WITH idle AS MATERIALIZED (
            SELECT l.instance_id, l.job_id,
                   EXISTS (SELECT FROM one_shots o WHERE o.instance_id = l.instance_id AND o.job_id = l.job_id) AS armed
            FROM unnest($1::text[], $2::text[]) AS l(instance_id, job_id)
        ), gone AS (
            DELETE FROM job_auth j USING idle i
            WHERE NOT i.armed AND j.instance_id = i.instance_id AND j.job_id = i.job_id
        ), busy AS (
            UPDATE job_auth j SET idle_since = NULL FROM idle i
            WHERE i.armed AND j.instance_id = i.instance_id AND j.job_id = i.job_id
        )
        SELECT count(*) AS "looked_at!" FROM idle
        "#,
        &instance_ids,
        &job_ids,
    )
    .fetch_one(&mut transaction)
    .await?;
    transaction.commit().await?;
    Ok(looked_at)
}
