//! Statements about the history of attempts, about maintenance, and the counts for the gauges.

use std::time::Duration;

use nas_cron_protocol::{InstanceId, JobId, OneShotState, ParkReason};

use super::columns::OptionalWord;
use super::seconds::duration;
use super::{Db, DbResult};
use crate::domain::FireOutcome;
use crate::domain::attempt::FireRecord;
use crate::domain::one_shot::{DueKind, OneShotCounts};

/// Returns a job's latest attempts, newest first.
pub async fn of_job(
    db: &Db,
    instance_id: &InstanceId,
    job_id: &JobId,
    limit: i64,
) -> DbResult<Vec<FireRecord>> {
    Ok(sqlx::query_as!(
        FireRecord,
        r#"
        SELECT attempt_id, schedule_id, dedup_key, fire_at, attempt, started_at,
               ended_at, outcome AS "outcome: FireOutcome", http_status, error
        FROM fires
        WHERE instance_id = $1 AND job_id = $2
        ORDER BY started_at DESC
        LIMIT $3
        "#,
        instance_id.as_str(),
        job_id.as_str(),
        limit,
    )
    .fetch_all(db)
    .await?)
}

/// Deletes at most `limit` rows of each kind that are older than `retention`: history, delivered keys, and one-shots
/// that ended (a dead letter is kept as long as its history). Returns the number of deleted rows; call it again while
/// that is not 0.
pub async fn prune(db: &Db, retention: Duration, limit: i64) -> DbResult<i64> {
    let gone = sqlx::query_scalar!(
        r#"
        WITH old AS (
            SELECT now() - make_interval(secs => $1) AS before
        ), fires_gone AS (
            DELETE FROM fires WHERE attempt_id IN (
                SELECT attempt_id FROM fires WHERE started_at < (SELECT before FROM old)
                ORDER BY started_at LIMIT $2)
            RETURNING 1
        ), keys_gone AS (
            DELETE FROM delivered_keys WHERE (instance_id, job_id, dedup_key) IN (
                SELECT instance_id, job_id, dedup_key FROM delivered_keys
                WHERE delivered_at < (SELECT before FROM old)
                ORDER BY delivered_at LIMIT $2)
            RETURNING 1
        ), one_shots_gone AS (
            DELETE FROM one_shots o
            WHERE (instance_id, job_id) IN (
                SELECT instance_id, job_id FROM one_shots
                WHERE state IN ('delivered', 'stuck', 'dead') AND updated_at < (SELECT before FROM old)
                ORDER BY updated_at LIMIT $2)
              AND o.state IN ('delivered', 'stuck', 'dead')
            RETURNING o.instance_id, o.job_id
        ), idle AS (
            UPDATE job_auth j SET idle_since = now() FROM one_shots_gone o
            WHERE j.instance_id = o.instance_id AND j.job_id = o.job_id
        )
        SELECT (SELECT count(*) FROM fires_gone) + (SELECT count(*) FROM keys_gone)
             + (SELECT count(*) FROM one_shots_gone) AS "gone!"
        "#,
        retention.as_secs_f64(),
        limit,
    )
    .fetch_one(db)
    .await?;
    Ok(gone)
}

/// Closes the history of attempts whose replica died after their one-shot had been superseded or cancelled, which have
/// no lease that could expire. Covers attempts that started between 10 minutes and a day ago.
pub async fn close_abandoned(db: &Db) -> DbResult<u64> {
    let result = sqlx::query!(
        r#"
        UPDATE fires f
        SET outcome = 'lost', ended_at = now(), error = 'the replica that made the attempt did not record its end'
        WHERE f.outcome = 'started'
          AND f.started_at BETWEEN now() - interval '1 day' AND now() - interval '10 minutes'
          AND NOT EXISTS (
              SELECT FROM one_shots o
              WHERE o.instance_id = f.instance_id AND o.job_id = f.job_id
                AND o.lease_token = f.attempt_id AND o.state = 'firing')
        "#,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Counts one-shots for the gauges and for maintenance. The states take one pass over the table; the other counts use
/// indexes.
pub async fn counts(db: &Db) -> DbResult<OneShotCounts> {
    let rows = sqlx::query!(
        r#"
        WITH near AS MATERIALIZED (
            -- A little ahead, because deferred attempts are due again soon.
            SELECT * FROM one_shots
            WHERE state IN ('armed', 'waiting') AND parked IS NULL AND awaits IS NULL
              AND next_attempt_at <= now() + interval '10 s'
            UNION ALL
            SELECT * FROM one_shots WHERE awaits IS NOT NULL AND next_attempt_at <= now()
            UNION ALL
            -- Said twice, for the index.
            SELECT * FROM one_shots WHERE state IN ('leased', 'firing') AND state = 'leased'
        ), judged AS (
            SELECT next_attempt_at <= now() AS is_due, attempts > 0 OR state = 'waiting' AS again,
                   fire_at < created_at AS armed_late,
                   -- `fire_at`: see the column.
                   CASE WHEN attempts = 0 AND state <> 'waiting' AND due_since IS NOT NULL
                        THEN GREATEST(due_since, fire_at) END AS late_since
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
            FROM one_shots WHERE parked IS NOT NULL
        )
        SELECT c.state AS "state!: OptionalWord<OneShotState>", COALESCE(c.count, 0) AS "count!",
               parked.held AS "held!", parked.behind_probe AS "behind_probe!", due.all_due AS "all_due!",
               due.punctual AS "punctual!", due.again AS "again!", due.armed_late AS "armed_late!",
               COALESCE(extract(epoch FROM now() - due.oldest), 0)::float8 AS "overdue!",
               EXISTS (SELECT FROM instances WHERE unreachable_since IS NOT NULL) AS "outage!"
        FROM due CROSS JOIN parked
        LEFT JOIN (SELECT state, count(*) AS count FROM one_shots GROUP BY state) c ON true
        "#,
    )
    .fetch_all(db)
    .await?;
    let mut counts = OneShotCounts::default();
    if let Some(row) = rows.first() {
        counts.oldest_overdue = duration(row.overdue);
        counts.unsettled = row.outage || row.held + row.behind_probe > 0;
        counts.parked = vec![(ParkReason::Hold, row.held), (ParkReason::Unreachable, row.behind_probe)];
        let released = row.all_due - row.punctual - row.again - row.armed_late;
        counts.due = vec![
            (DueKind::Punctual, row.punctual),
            (DueKind::ArmedLate, row.armed_late),
            (DueKind::Released, released),
            (DueKind::Again, row.again),
        ];
    }
    counts.states = rows.into_iter().filter_map(|row| Some((row.state.0?, row.count))).collect();
    Ok(counts)
}
