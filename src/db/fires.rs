//! Statements about the history of attempts, and about what is thrown away.

use std::time::Duration;

use nas_cron_protocol::{InstanceId, JobId, OneShotState, ParkReason};

use super::columns::OptionalWord;
use super::seconds::duration;
use super::{Db, DbResult};
use crate::domain::FireOutcome;
use crate::domain::attempt::FireRecord;
use crate::domain::one_shot::{DueKind, OneShotCounts};

/// A job's latest attempts, newest first.
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

/// Throws away at most `limit` rows of each kind that are older than `retention`: history, delivered keys, and
/// the one-shots that ended (a dead letter is kept as long as its history). Returns how many rows went; call it
/// again while that is not 0.
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

/// Closes the history of attempts whose replica died after their one-shot had been superseded or cancelled: no
/// lease is left to recover them by. Looks at attempts that started between 10 minutes and a day ago.
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

/// Counts, for the gauges and for upkeep.
pub async fn counts(db: &Db) -> DbResult<OneShotCounts> {
    let rows = sqlx::query!(
        r#"
        SELECT c.state AS "state!: OptionalWord<OneShotState>", COALESCE(c.count, 0) AS "count!",
               COALESCE(c.held, 0) AS "held!", COALESCE(c.behind_probe, 0) AS "behind_probe!",
               COALESCE(c.due, 0) AS "due!", COALESCE(c.due_punctual, 0) AS "due_punctual!",
               COALESCE(c.due_armed_late, 0) AS "due_armed_late!", COALESCE(c.due_again, 0) AS "due_again!",
               COALESCE(extract(epoch FROM now() - c.oldest), 0)::float8 AS "overdue!", outage AS "outage!"
        FROM (SELECT EXISTS (SELECT FROM instances WHERE unreachable_since IS NOT NULL)) AS always(outage)
        LEFT JOIN (
            SELECT state, count(*) AS count,
                   count(*) FILTER (WHERE parked = 'hold') AS held,
                   count(*) FILTER (WHERE parked = 'unreachable') AS behind_probe,
                   count(*) FILTER (WHERE is_due) AS due,
                   count(*) FILTER (WHERE is_due AND is_punctual) AS due_punctual,
                   count(*) FILTER (WHERE is_due AND is_again) AS due_again,
                   count(*) FILTER (WHERE is_due AND NOT is_punctual AND NOT is_again AND fire_at < created_at)
                       AS due_armed_late,
                   -- Also what this service has put off, or leased and not started. `fire_at`: see the column.
                   min(GREATEST(due_since, fire_at)) FILTER (WHERE is_punctual) AS oldest
            FROM (
                SELECT *, state IN ('armed', 'waiting', 'leased') AND parked IS NULL AND next_attempt_at <= now() AS is_due,
                       attempts > 0 OR state = 'waiting' AS is_again,
                       state IN ('armed', 'leased') AND attempts = 0 AND parked IS NULL AND due_since IS NOT NULL
                           AS is_punctual
                FROM one_shots
            ) o
            GROUP BY state
        ) c ON true
        "#,
    )
    .fetch_all(db)
    .await?;
    let mut counts = OneShotCounts {
        oldest_overdue: duration(rows.iter().map(|row| row.overdue).fold(0.0, f64::max)),
        unsettled: rows.iter().any(|row| row.outage || row.held + row.behind_probe > 0),
        ..OneShotCounts::default()
    };
    for row in rows {
        let Some(state) = row.state.0 else { continue };
        counts.states.push((state, row.count));
        counts.parked.push((ParkReason::Hold, row.held));
        counts.parked.push((ParkReason::Unreachable, row.behind_probe));
        let released = row.due - row.due_punctual - row.due_armed_late - row.due_again;
        counts.due.push((DueKind::Punctual, row.due_punctual));
        counts.due.push((DueKind::ArmedLate, row.due_armed_late));
        counts.due.push((DueKind::Released, released));
        counts.due.push((DueKind::Again, row.due_again));
    }
    Ok(counts)
}
