//! Statements about the history of attempts, about maintenance, and the counts for the gauges.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::{DeadReason, FireOutcome, InstanceId, JobId, OneShotState, OrgId, ParkReason};
use uuid::Uuid;

use super::columns::Word;
use super::seconds::duration;
use super::{Db, DbResult};
use crate::domain::one_shot::{DueKind, OneShotCounts};
use nas_cron_protocol::admin_api::Attempt as AttemptRecord;

/// Returns a job's latest attempts, the newest first, from those before `before` on. With `org_id`, those since its instance
/// was registered, if it belongs to this org: earlier ones are of a deleted instance with the same id.
pub async fn of_job(
    db: &Db,
    instance_id: &InstanceId,
    job_id: &JobId,
    org_id: Option<&OrgId>,
    before: Option<(DateTime<Utc>, Uuid)>,
    limit: i64,
) -> DbResult<Vec<AttemptRecord>> {
    let (before_start, before_id) = before.unzip();
    Ok(sqlx::query_as!(
        AttemptRecord,
        r#"
        SELECT attempt_id, schedule_id, dedup_key, fire_at, attempt, armed_at, started_at,
               ended_at, outcome AS "outcome: Word<FireOutcome>", http_status, retry_after_s, error, answer
        FROM fires
        WHERE instance_id = $1 AND job_id = $2
          AND started_at <= COALESCE($3::timestamptz /* before */, 'infinity')
          AND ($3::timestamptz IS NULL OR (started_at, attempt_id) < ($3, $4::uuid))
          AND ($5::text IS NULL /* org_id */
               OR started_at >= (SELECT created_at FROM instances WHERE instance_id = $1 AND org_id = $5))
        ORDER BY started_at DESC, attempt_id DESC
        LIMIT $6 /* limit */
        "#,
        instance_id.as_str(),
        job_id.as_str(),
        before_start,
        before_id,
        org_id.map(OrgId::as_str),
        limit,
    )
    .fetch_all(db)
    .await?)
}

/// Creates the partitions of the coming weeks, and drops those that ended before `retention`. Returns the number of dropped
/// partitions. Only one replica does it at a time.
pub async fn maintain_history(db: &Db, retention: Duration) -> DbResult<i32> {
    Ok(sqlx::query_scalar!(
        r#"SELECT maintain_history(make_interval(secs => $1)) AS "dropped!""#,
        retention.as_secs_f64(),
    )
    .fetch_one(db)
    .await?)
}

/// Erases texts of agents' errors from the history, of attempts that started before `retention`: in the next `pages` pages
/// of a partition, which are read in their order on disk. Returns false if nothing is left to read now. Only one replica
/// does it at a time.
pub async fn erase_error_texts(db: &Db, retention: Duration, pages: i32) -> DbResult<bool> {
    Ok(sqlx::query_scalar!(
        r#"SELECT erase_error_texts(make_interval(secs => $1), $2) AS "more!""#,
        retention.as_secs_f64(),
        pages,
    )
    .fetch_one(db)
    .await?)
}

/// The job after which [`prune_ended`] continues.
pub type PruneCursor = (String, String);

/// Deletes one-shots that ended before `retention`, and erases texts of errors of attempts that started before
/// `error_texts`. Examines `limit` rows in the order of the primary key after `after`, so
/// that no index has to be kept for it. Returns the cursor of the next call, `None` at the end of the table, and the number
/// of deleted rows.
pub async fn prune_ended(
    db: &Db,
    retention: Duration,
    error_texts: Duration,
    after: Option<&PruneCursor>,
    limit: i64,
) -> DbResult<(Option<PruneCursor>, i64)> {
    let row = sqlx::query!(
        r#"
        WITH examined AS MATERIALIZED (
            SELECT instance_id, job_id, state, updated_at,
                   last_error IS NOT NULL
                       AND COALESCE(last_started_at, created_at) < now() - make_interval(secs => $5 /* error texts */) AS has_text
            FROM one_shots
            WHERE (instance_id, job_id) > ($2 /* after instance */, $3 /* after job */)
            ORDER BY instance_id, job_id
            LIMIT $4 /* limit */
        ), ended AS MATERIALIZED (
            SELECT o.instance_id, o.job_id FROM one_shots o JOIN examined e USING (instance_id, job_id)
            WHERE e.state IN ('delivered', 'stuck', 'dead') AND e.updated_at < now() - make_interval(secs => $1 /* retention */)
              -- Unless it was provisioned again since.
              AND o.state IN ('delivered', 'stuck', 'dead') AND o.updated_at = e.updated_at
            FOR UPDATE OF o SKIP LOCKED
        ), pruned AS (
            DELETE FROM one_shots o USING ended e
            WHERE o.instance_id = e.instance_id AND o.job_id = e.job_id
            RETURNING o.instance_id, o.job_id
        ), outdated AS MATERIALIZED (
            SELECT o.instance_id, o.job_id FROM one_shots o JOIN examined e USING (instance_id, job_id)
            WHERE e.has_text AND o.updated_at = e.updated_at
              AND NOT EXISTS (SELECT FROM ended d WHERE d.instance_id = o.instance_id AND d.job_id = o.job_id)
            FOR NO KEY UPDATE OF o SKIP LOCKED
        ), erased AS (
            UPDATE one_shots o SET last_error = NULL FROM outdated d
            WHERE o.instance_id = d.instance_id AND o.job_id = d.job_id
        ), idle AS (
            UPDATE job_auth j SET idle_since = now() FROM pruned p
            WHERE j.instance_id = p.instance_id AND j.job_id = p.job_id
        )
        SELECT (SELECT count(*) FROM pruned) AS "pruned!", l.instance_id AS "instance_id?", l.job_id AS "job_id?",
               (SELECT count(*) FROM examined) AS "examined!"
        FROM (SELECT) always
        LEFT JOIN (SELECT instance_id, job_id FROM examined ORDER BY instance_id DESC, job_id DESC LIMIT 1) l ON true
        "#,
        retention.as_secs_f64(),
        after.map_or("", |after| after.0.as_str()),
        after.map_or("", |after| after.1.as_str()),
        limit,
        error_texts.as_secs_f64(),
    )
    .fetch_one(db)
    .await?;
    let next = if row.examined < limit { None } else { row.instance_id.zip(row.job_id) };
    Ok((next, row.pruned))
}

/// Maximum number of rows of one kind that [`counts`] counts exactly: due or claimed, parked.
const COUNTED: i64 = 10_000;

/// Number of pages of the table in a sample. Smaller tables are read as a whole.
const SAMPLED_PAGES: f64 = 1_000.0;

/// Counts one-shots for the gauges and for maintenance, without reading the whole table: states of a large table are
/// estimated from a sample of its pages; rare states and what is due, claimed or parked are counted by their indexes, up
/// to 10,000 each.
pub async fn counts(db: &Db) -> DbResult<OneShotCounts> {
    let row = sqlx::query!(
        r#"
        WITH share AS MATERIALIZED (
            -- Of the pages in the sample.
            SELECT LEAST(1.0, $2::float8 /* sampled_pages */ * current_setting('block_size')::int
                              / GREATEST(pg_relation_size('one_shots'), 1)) AS share
        ), sampled AS (
            SELECT count(*) FILTER (WHERE state = 'armed') AS armed, count(*) FILTER (WHERE state = 'waiting') AS waiting,
                   count(*) FILTER (WHERE state = 'delivered') AS delivered,
                   count(*) FILTER (WHERE parked = 'hold') AS held,
                   count(*) FILTER (WHERE parked = 'unreachable') AS behind_probe
            FROM one_shots TABLESAMPLE SYSTEM ((SELECT (100 * share)::real FROM share))
        ), near AS MATERIALIZED (
            -- A little ahead: what is claimed before its instant, and deferred attempts, which are due again soon.
            (SELECT * FROM one_shots
             WHERE next_attempt_at <= now() + interval '10 s' AND parked IS NULL AND awaits IS NULL
             ORDER BY next_attempt_at LIMIT $1 /* counted */)
            UNION ALL
            (SELECT * FROM one_shots WHERE awaits IS NOT NULL AND next_attempt_at <= now() LIMIT $1)
        ), judged AS (
            SELECT next_attempt_at <= now() AND state <> 'firing' AS is_due, attempts > 0 OR state = 'waiting' AS again,
                   fire_at < created_at AS armed_late,
                   CASE WHEN attempts = 0 AND state <> 'waiting' THEN due_since END AS late_since
            FROM near
        ), due AS (
            SELECT count(*) FILTER (WHERE is_due) AS all_due,
                   count(*) FILTER (WHERE is_due AND late_since IS NOT NULL) AS punctual,
                   count(*) FILTER (WHERE is_due AND again) AS again,
                   count(*) FILTER (WHERE is_due AND late_since IS NULL AND NOT again AND armed_late) AS armed_late,
                   min(late_since) AS oldest
            FROM judged
        ), parked AS (
            SELECT count(*) FILTER (WHERE parked = 'hold') AS held,
                   count(*) FILTER (WHERE parked = 'unreachable') AS behind_probe
            FROM (SELECT parked FROM one_shots WHERE parked IS NOT NULL LIMIT $1) p
        ), claimed AS (
            SELECT count(*) FILTER (WHERE state = 'leased') AS leased, count(*) FILTER (WHERE state = 'firing') AS firing
            FROM near
        ), dead AS (
            SELECT count(*) FILTER (WHERE state = 'dead') AS dead, count(*) FILTER (WHERE state = 'stuck') AS stuck,
                   count(*) FILTER (WHERE expired) AS expired
            FROM one_shots WHERE dead_since IS NOT NULL
        )
        SELECT parked.held AS "held!", parked.behind_probe AS "behind_probe!", all_due AS "all_due!", punctual AS "punctual!",
               again AS "again!", armed_late AS "armed_late!", leased AS "leased!", firing AS "firing!",
               dead AS "dead!", stuck AS "stuck!", expired AS "expired!",
               COALESCE(extract(epoch FROM now() - oldest), 0)::float8 AS "overdue!",
               EXISTS (SELECT FROM instances WHERE unreachable_since IS NOT NULL) AS "outage!",
               round(s.armed / share)::int8 AS "armed!", round(s.waiting / share)::int8 AS "waiting!",
               round(s.delivered / share)::int8 AS "delivered!", round(s.held / share)::int8 AS "sampled_held!",
               round(s.behind_probe / share)::int8 AS "sampled_behind_probe!"
        FROM due, parked, claimed, dead, sampled s, share
        "#,
        COUNTED,
        SAMPLED_PAGES,
    )
    .fetch_one(db)
    .await?;
    let released = row.all_due - row.punctual - row.again - row.armed_late;
    Ok(OneShotCounts {
        states: vec![
            (OneShotState::Armed, row.armed),
            (OneShotState::Leased, row.leased),
            (OneShotState::Firing, row.firing),
            (OneShotState::Waiting, row.waiting),
            (OneShotState::Delivered, row.delivered),
            (OneShotState::Stuck, row.stuck),
            (OneShotState::Dead, row.dead),
        ],
        dead_letters: vec![
            (DeadReason::BudgetSpent, row.dead - row.expired),
            (DeadReason::Expired, row.expired),
        ],
        oldest_overdue: duration(row.overdue),
        due: vec![
            (DueKind::Punctual, row.punctual),
            (DueKind::ArmedLate, row.armed_late),
            (DueKind::Released, released),
            (DueKind::Again, row.again),
        ],
        parked: vec![
            (ParkReason::Hold, estimated(row.held, row.held + row.behind_probe, row.sampled_held)),
            (
                ParkReason::Unreachable,
                estimated(row.behind_probe, row.held + row.behind_probe, row.sampled_behind_probe),
            ),
        ],
        unsettled: row.outage || row.held + row.behind_probe > 0,
    })
}

/// Returns the exact count, or the estimate where counting stopped at its limit.
fn estimated(count: i64, all: i64, estimate: i64) -> i64 {
    if all < COUNTED { count } else { estimate }
}
