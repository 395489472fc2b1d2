//! The operator's statements about one-shots: over all instances, by what they have in common.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{
    BackendName, CallbackUrl, DedupKey, FireAt, InstanceId, JobId, OneShotState, OrgId, ParkReason,
    ScheduleId,
};

use super::columns::{OptionalWord, Word};
use super::{Db, DbResult};

/// A job's current one-shot, with everything about it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Job {
    /// Whose job.
    pub instance_id: String,
    /// Whose instance.
    pub org_id: String,
    /// Which job.
    pub job_id: String,
    /// The arm's name.
    pub schedule_id: ScheduleId,
    /// What makes it idempotent.
    pub dedup_key: String,
    /// When, byte for byte as it came.
    pub fire_at: String,
    /// What that means.
    pub fire_at_instant: DateTime<Utc>,
    /// Where.
    pub callback_url: String,
    /// Where it stands.
    pub state: OneShotState,
    /// Why it is not tried although it may be due.
    pub parked: Option<ParkReason>,
    /// The engine that is to bring its first wake-up; nothing: our own loop's.
    pub awaits: Option<BackendName>,
    /// When its next attempt may start.
    pub next_attempt_at: Option<DateTime<Utc>>,
    /// When the lease of a leased or firing one ends.
    pub lease_expires_at: Option<DateTime<Utc>>,
    /// Attempts started of its current budget.
    pub attempts: i32,
    /// When the current run of failures began.
    pub retrying_since: Option<DateTime<Utc>>,
    /// Until when the agent asked to be left alone.
    pub retry_after_until: Option<DateTime<Utc>>,
    /// When the job's last attempt started, also of an earlier one-shot.
    pub last_started_at: Option<DateTime<Utc>>,
    /// The last answer's status.
    pub last_status: Option<i16>,
    /// What was wrong with the last attempt.
    pub last_error: Option<String>,
    /// Whether the same key came again during the attempt that is under way.
    pub asked_again: bool,
    /// When it was armed.
    pub created_at: DateTime<Utc>,
    /// When it last changed.
    pub updated_at: DateTime<Utc>,
}

/// Which one-shots are meant; everything that is given must hold.
#[derive(Clone, Debug, Default)]
pub struct JobFilter {
    /// Of this instance.
    pub instance_id: Option<InstanceId>,
    /// Of this job.
    pub job_id: Option<JobId>,
    /// Of this org.
    pub org_id: Option<OrgId>,
    /// In one of these states; any when empty.
    pub states: Vec<OneShotState>,
    /// Parked, for whatever reason.
    pub parked: bool,
    /// Due by the database's clock, not parked, and not tried yet: what `oldest_overdue_seconds` watches.
    pub overdue: bool,
}

impl JobFilter {
    fn states(&self) -> Vec<String> {
        self.states.iter().map(|state| state.as_str().to_owned()).collect()
    }
}

/// At most `limit` one-shots in the order of instance and job, from after `after` on.
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
               o.state AS "state: Word<OneShotState>", o.parked AS "parked!: OptionalWord<ParkReason>",
               o.awaits AS "awaits!: OptionalWord<BackendName>", o.next_attempt_at,
               o.lease_expires_at, o.attempts, o.retrying_since, o.retry_after_until, o.last_started_at,
               o.last_status, o.last_error, o.asked_again, o.created_at, o.updated_at
        FROM one_shots o JOIN instances i USING (instance_id)
        WHERE ($1::text IS NULL OR o.instance_id = $1) AND ($2::text IS NULL OR o.job_id = $2)
          AND ($3::text IS NULL OR i.org_id = $3)
          AND (cardinality($4::text[]) = 0 OR o.state = ANY ($4::text[]::one_shot_state[]))
          AND (NOT $5 OR o.parked IS NOT NULL)
          AND (NOT $6 OR (o.state IN ('armed', 'waiting') AND o.parked IS NULL AND o.next_attempt_at <= now()))
          AND ($7::text IS NULL OR (o.instance_id, o.job_id) > ($7, $8))
        ORDER BY o.instance_id, o.job_id
        LIMIT $9
        "#,
        filter.instance_id.as_ref().map(InstanceId::as_str),
        filter.job_id.as_ref().map(JobId::as_str),
        filter.org_id.as_ref().map(OrgId::as_str),
        &filter.states(),
        filter.parked,
        filter.overdue,
        after_instance,
        after_job,
        limit,
    )
    .fetch_all(&db.pool)
    .await?)
}

/// How many one-shots in a filter's instances, org and job are dead or stuck, of the filter's states (both
/// when it has none).
pub async fn count_redrivable(db: &Db, filter: &JobFilter) -> DbResult<i64> {
    Ok(sqlx::query_scalar!(
        r#"
        SELECT count(*) AS "count!"
        FROM one_shots o JOIN instances i USING (instance_id)
        WHERE o.state IN ('dead', 'stuck')
          AND ($1::text IS NULL OR o.instance_id = $1) AND ($2::text IS NULL OR o.job_id = $2)
          AND ($3::text IS NULL OR i.org_id = $3)
          AND (cardinality($4::text[]) = 0 OR o.state = ANY ($4::text[]::one_shot_state[]))
        "#,
        filter.instance_id.as_ref().map(InstanceId::as_str),
        filter.job_id.as_ref().map(JobId::as_str),
        filter.org_id.as_ref().map(OrgId::as_str),
        &filter.states(),
    )
    .fetch_one(&db.pool)
    .await?)
}

/// Arms dead and stuck one-shots again: the same `schedule_id`, a fresh budget, due now. A stuck one's key is
/// forgotten, so that it has its second fires again. Takes at most `limit` of those that ended before
/// `ended_before`, so that what dies again meanwhile is not driven in circles. Returns how many.
pub async fn redrive(db: &Db, filter: &JobFilter, ended_before: DateTime<Utc>, limit: i64) -> DbResult<i64> {
    Ok(sqlx::query_scalar!(
        r#"
        WITH ended AS MATERIALIZED (
            SELECT o.instance_id, o.job_id, o.state, o.dedup_key
            FROM one_shots o JOIN instances i USING (instance_id)
            WHERE o.state IN ('dead', 'stuck') AND o.updated_at <= $5
              AND ($1::text IS NULL OR o.instance_id = $1) AND ($2::text IS NULL OR o.job_id = $2)
              AND ($3::text IS NULL OR i.org_id = $3)
              AND (cardinality($4::text[]) = 0 OR o.state = ANY ($4::text[]::one_shot_state[]))
            ORDER BY o.instance_id, o.job_id
            LIMIT $6
            FOR NO KEY UPDATE OF o
        ), forgotten AS (
            DELETE FROM delivered_keys k USING ended e
            WHERE e.state = 'stuck' AND k.instance_id = e.instance_id AND k.job_id = e.job_id
              AND k.dedup_key = e.dedup_key
        ), redriven AS (
            UPDATE one_shots o
            SET state = 'armed', parked = NULL, lease_token = NULL, lease_expires_at = NULL,
                -- Nobody waits for it at the second: the usual floor between two fires of one job will do.
                next_attempt_at = GREATEST(now(), o.fire_at, o.last_started_at + interval '1 s'),
                attempts = 0, retrying_since = NULL, retry_after_until = NULL, last_status = NULL,
                last_error = NULL, asked_again = false, updated_at = now()
            FROM ended e
            WHERE o.instance_id = e.instance_id AND o.job_id = e.job_id
            RETURNING 1
        )
        SELECT count(*) AS "redriven!" FROM redriven
        "#,
        filter.instance_id.as_ref().map(InstanceId::as_str),
        filter.job_id.as_ref().map(JobId::as_str),
        filter.org_id.as_ref().map(OrgId::as_str),
        &filter.states(),
        ended_before,
        limit,
    )
    .fetch_one(&db.pool)
    .await?)
}

/// A one-shot from another service.
#[derive(Clone, Debug)]
pub struct Import {
    /// Whose job.
    pub instance_id: InstanceId,
    /// Which job.
    pub job_id: JobId,
    /// When; one that is past fires at once.
    pub fire_at: FireAt,
    /// Where.
    pub callback_url: CallbackUrl,
    /// What makes it idempotent.
    pub dedup_key: DedupKey,
}

/// What became of an import.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Imported {
    /// Armed.
    Armed,
    /// It was there, or had been delivered here, with this key.
    Unchanged,
    /// The job has a one-shot with another key: provisioned since, it stays.
    Kept,
    /// No such instance is registered.
    UnknownInstance,
    /// The job was armed at the same moment: the same again will tell.
    Raced,
}

/// Arms a batch in one statement where nothing is armed yet; what an agent has provisioned is never touched.
/// No job may be in a batch twice. Returns what became of each, in order; with `dry_run`, what would have.
pub async fn import(db: &Db, batch: &[Import], dry_run: bool) -> DbResult<Vec<Imported>> {
    let instance_ids: Vec<&str> = batch.iter().map(|one| one.instance_id.as_str()).collect();
    let job_ids: Vec<&str> = batch.iter().map(|one| one.job_id.as_str()).collect();
    let schedule_ids: Vec<uuid::Uuid> = batch.iter().map(|_| ScheduleId::fresh().0).collect();
    let dedup_keys: Vec<&str> = batch.iter().map(|one| one.dedup_key.as_str()).collect();
    let texts: Vec<&str> = batch.iter().map(|one| one.fire_at.as_str()).collect();
    let instants: Vec<DateTime<Utc>> = batch.iter().map(|one| one.fire_at.instant()).collect();
    let callbacks: Vec<&str> = batch.iter().map(|one| one.callback_url.as_str()).collect();
    let mut transaction = db.pool.begin().await?;
    let rows = sqlx::query!(
        r#"
        WITH given AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[], $4::text[], $5::text[], $6::timestamptz[], $7::text[])
                WITH ORDINALITY AS g(instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, line)
        ), registered AS MATERIALIZED (
            -- Locked, so that none is deleted under its new one-shots.
            SELECT * FROM instances WHERE instance_id = ANY ($1) ORDER BY instance_id FOR NO KEY UPDATE
        ), engine AS (
            SELECT backend, generation FROM active_backend WHERE backend <> 'postgres' LIMIT 1
        ), armed AS (
            INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url,
                                   state, next_attempt_at, awaits)
            SELECT g.instance_id, g.job_id, g.schedule_id, g.dedup_key, g.fire_at_text, g.fire_at, g.callback_url,
                   'armed', d.due_at,
                   CASE WHEN d.due_at > now() + make_interval(secs => $8) THEN (SELECT backend FROM engine) END
            FROM given g JOIN registered i USING (instance_id)
            CROSS JOIN LATERAL (SELECT g.fire_at + skew_guard(i.skew_guard_ms, i.skew_learned_at) AS due_at) d
            -- Delivered here, and cleared away since.
            WHERE NOT EXISTS (
                SELECT FROM delivered_keys k
                WHERE k.instance_id = g.instance_id AND k.job_id = g.job_id AND k.dedup_key = g.dedup_key)
            ORDER BY g.instance_id, g.job_id
            ON CONFLICT (instance_id, job_id) DO NOTHING
            RETURNING instance_id, job_id, schedule_id, next_attempt_at, awaits
        ), told AS (
            INSERT INTO wake_ups (schedule_id, generation, backend, instance_id, job_id, due_at)
            SELECT a.schedule_id, e.generation, e.backend, a.instance_id, a.job_id, a.next_attempt_at
            FROM armed a JOIN engine e ON e.backend = a.awaits
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
               o.dedup_key = g.dedup_key AS same_key,
               EXISTS (SELECT FROM delivered_keys k
                       WHERE k.instance_id = g.instance_id AND k.job_id = g.job_id AND k.dedup_key = g.dedup_key)
                   AS "delivered!"
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
        super::oneshots::OWN_LOOP_WITHIN,
    )
    .fetch_all(&mut *transaction)
    .await?;
    if dry_run {
        transaction.rollback().await?;
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
            None if row.delivered => Imported::Unchanged,
            None => Imported::Raced,
        })
        .collect())
}
