//! Statements about auth: that of jobs, the defaults, and the known profiles.

use std::time::Duration;

use nas_cron_protocol::{
    AuthChoice, AuthPlace, AuthProfile, AuthScope, EffectiveAuth, Given, InstanceId, JobId, OrgId,
    resolve_auth,
};

use serde_json::Value;

use super::columns::Word;
use super::{Db, DbError, DbResult};
use crate::domain::job_auth::{AuthEntry, EntryPlace, JobAuth};

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

struct EntryRow {
    scope: AuthScope,
    scope_id: String,
    auth: Value,
    is_default: bool,
}

impl From<EntryRow> for AuthEntry {
    fn from(row: EntryRow) -> Self {
        let auth = AuthChoice::stored(row.auth);
        Self { scope: row.scope, scope_id: row.scope_id, auth, default: row.is_default }
    }
}

/// Returns the entries of these places, at most `limit`, ordered by place and profile.
pub async fn entries(db: &Db, places: &[AuthPlace], limit: i64) -> DbResult<Vec<AuthEntry>> {
    let scopes: Vec<&str> = places.iter().map(|place| place.scope().as_str()).collect();
    let ids: Vec<&str> = places.iter().map(AuthPlace::id).collect();
    let rows = sqlx::query_as!(
        EntryRow,
        r#"
        SELECT e.scope AS "scope!: Word<AuthScope>", e.scope_id AS "scope_id!", e.auth AS "auth!", e.is_default AS "is_default!"
        FROM unnest($1::text[], $2::text[]) AS p(scope, scope_id)
        -- Each place by its key, however many there are in all.
        CROSS JOIN LATERAL (
            SELECT k.scope, k.scope_id, to_jsonb(k.auth) AS auth, false AS is_default FROM auth_profiles k
            WHERE k.scope = p.scope::auth_scope AND k.scope_id = p.scope_id
            UNION ALL
            SELECT d.scope, d.scope_id, d.auth, true FROM auth_defaults d
            WHERE d.scope = p.scope::auth_scope AND d.scope_id = p.scope_id
        ) e
        ORDER BY e.scope, e.scope_id, e.auth, e.is_default
        LIMIT $3
        "#,
        &scopes as &[&str],
        &ids as &[&str],
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(AuthEntry::from).collect())
}

/// Returns at most `limit` entries of all places after `after`, ordered by scope and ID; of each place the known profiles
/// first, then its default.
pub async fn all_entries(db: &Db, after: &EntryPlace, limit: i64) -> DbResult<Vec<AuthEntry>> {
    let rows = sqlx::query_as!(
        EntryRow,
        r#"
        SELECT e.scope AS "scope!: Word<AuthScope>", e.scope_id AS "scope_id!", e.auth AS "auth!", e.is_default AS "is_default!"
        FROM (
            (SELECT k.scope, k.scope_id, to_jsonb(k.auth) AS auth, false AS is_default, k.auth AS name FROM auth_profiles k
             WHERE (k.scope, k.scope_id, k.auth) > ($1, $2, $3 /* after */)
               AND NOT ($4 /* after_default */ AND k.scope = $1 AND k.scope_id = $2)
             -- By the column: `auth` alone would be the JSON of the result, which no index has.
             ORDER BY k.scope, k.scope_id, k.auth LIMIT $5)
            UNION ALL
            (SELECT scope, scope_id, auth, true, '' FROM auth_defaults
             WHERE (scope, scope_id) >= ($1, $2) AND NOT ($4 AND scope = $1 AND scope_id = $2)
             ORDER BY scope, scope_id LIMIT $5)
        ) e
        ORDER BY e.scope, e.scope_id, e.is_default, e.name
        LIMIT $5 /* limit */
        "#,
        Word(after.scope) as Word<AuthScope>,
        after.scope_id,
        after.name,
        after.default,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(AuthEntry::from).collect())
}

/// Returns the same for an org and its agents. Each place is read by its key, however many other orgs there are.
pub async fn entries_of_org(
    db: &Db,
    org_id: &OrgId,
    after: &EntryPlace,
    limit: i64,
) -> DbResult<Vec<AuthEntry>> {
    let rows = sqlx::query_as!(
        EntryRow,
        r#"
        SELECT e.scope AS "scope!: Word<AuthScope>", e.scope_id AS "scope_id!", e.auth AS "auth!", e.is_default AS "is_default!"
        FROM (
            SELECT k.scope, k.scope_id, to_jsonb(k.auth) AS auth, false AS is_default, k.auth AS name
            FROM auth_profiles k WHERE k.scope = 'org' AND k.scope_id = $6 /* org_id */
            UNION ALL
            SELECT d.scope, d.scope_id, d.auth, true, '' FROM auth_defaults d WHERE d.scope = 'org' AND d.scope_id = $6
            UNION ALL
            (SELECT 'instance', i.instance_id, e.auth, e.is_default, e.name
             FROM instances i CROSS JOIN LATERAL (
                 SELECT to_jsonb(k.auth) AS auth, false AS is_default, k.auth AS name
                 FROM auth_profiles k WHERE k.scope = 'instance' AND k.scope_id = i.instance_id
                 UNION ALL
                 SELECT d.auth, true, '' FROM auth_defaults d WHERE d.scope = 'instance' AND d.scope_id = i.instance_id
             ) e
             WHERE i.org_id = $6 AND i.instance_id >= CASE WHEN $1 = 'instance'::auth_scope THEN $2 ELSE '' END
               AND ('instance'::auth_scope, i.instance_id, e.is_default, e.name) > ($1, $2, $4, $3)
             -- In the order of the index, so that it stops at the limit.
             ORDER BY i.instance_id, e.is_default, e.name LIMIT $5)
        ) e
        WHERE (e.scope, e.scope_id, e.is_default, e.name) > ($1, $2, $4 /* after_default */, $3 /* after */)
        ORDER BY e.scope, e.scope_id, e.is_default, e.name
        LIMIT $5 /* limit */
        "#,
        Word(after.scope) as Word<AuthScope>,
        after.scope_id,
        after.name,
        after.default,
        limit,
        org_id.as_str(),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(AuthEntry::from).collect())
}

/// Replaces the known profiles of a place, if `profiles` is given, and sets its default. Returns true if the place
/// exists; for an unknown instance, nothing changes. With `within`, every instance of another org is unknown.
///
/// Concurrent calls for one place do not mix: while one is in progress, others fail at once with
/// [`DbError::Contended`]. A retry holds no connection while it waits, and replaces what the first call has committed.
pub async fn put(
    db: &Db,
    place: &AuthPlace,
    profiles: Option<&[AuthProfile]>,
    default: &Given<AuthChoice>,
    within: Option<&OrgId>,
) -> DbResult<bool> {
    let profiles: Option<Vec<&str>> =
        profiles.map(|profiles| profiles.iter().map(AuthProfile::as_str).collect());
    let mut transaction = db.begin().await?;
    let there = sqlx::query_scalar!(
        r#"
        SELECT CASE WHEN $1 = 'instance'
                    -- Locked, so that it is not deleted under its new rows.
                    THEN EXISTS (SELECT FROM instances
                                 WHERE instance_id = $2 AND ($3::text IS NULL OR org_id = $3 /* within */)
                                 FOR KEY SHARE)
                    ELSE true END AS "there!"
        FROM pg_try_advisory_xact_lock(hashtextextended('auth_profiles ' || $1 || ' ' || $2, 0)) AS own
        WHERE own
        "#,
        place.scope().as_str(),
        place.id(),
        within.map(OrgId::as_str),
    )
    .fetch_optional(&mut transaction)
    .await?;
    match there {
        None => {
            return Err(DbError::Contended("another call is changing the same auth profiles".into()));
        }
        Some(false) => return Ok(false),
        Some(true) => {}
    }
    sqlx::query!(
        r#"
        WITH dropped AS (
            DELETE FROM auth_profiles WHERE scope = $1 AND scope_id = $2 AND auth <> ALL ($3::text[])
        ), added AS (
            INSERT INTO auth_profiles (scope, scope_id, auth)
            SELECT DISTINCT $1, $2, auth FROM unnest($3::text[]) AS given(auth)
            ON CONFLICT (scope, scope_id, auth) DO NOTHING
        ), cleared AS (
            DELETE FROM auth_defaults WHERE scope = $1 AND scope_id = $2 AND $4 AND $5::jsonb IS NULL
        )
        INSERT INTO auth_defaults (scope, scope_id, auth)
        SELECT $1, $2, $5 WHERE $5::jsonb IS NOT NULL
        ON CONFLICT (scope, scope_id) DO UPDATE SET auth = excluded.auth
        "#,
        Word(place.scope()) as Word<AuthScope>,
        place.id(),
        profiles.as_deref() as Option<&[&str]>,
        !default.is_keep(),
        default.value().map(AuthChoice::to_json),
    )
    .execute(&mut transaction)
    .await?;
    transaction.commit().await?;
    Ok(true)
}

/// Deletes the known profiles of a place, or only those in `only`. The default stays. Returns the number deleted. With
/// `within`, an instance of another org has none.
pub async fn forget(
    db: &Db,
    place: &AuthPlace,
    only: Option<&[AuthProfile]>,
    within: Option<&OrgId>,
) -> DbResult<u64> {
    let only: Option<Vec<&str>> = only.map(|only| only.iter().map(AuthProfile::as_str).collect());
    let result = sqlx::query!(
        r#"
        DELETE FROM auth_profiles p
        WHERE scope = $1 AND scope_id = $2 AND ($3::text[] IS NULL OR auth = ANY ($3))
          AND ($4::text IS NULL OR scope <> 'instance'
               OR EXISTS (SELECT FROM instances i WHERE i.instance_id = p.scope_id AND i.org_id = $4 /* within */))
        "#,
        Word(place.scope()) as Word<AuthScope>,
        place.id(),
        only.as_deref() as Option<&[&str]>,
        within.map(OrgId::as_str),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
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
