//! The backlog of the outboxes, and what backends have missed.

use nas_cron_protocol::BackendName;
use nas_cron_protocol::admin_api::{Count, MissedWakeUps, OutboxBacklog};

use super::COUNTED;
use crate::db::columns::Word;
use crate::db::{Db, DbResult};

/// Counts the outbox rows of each backend that are due or have failed. Examines the rows that are tried next.
pub async fn backlog(db: &Db) -> DbResult<Vec<OutboxBacklog>> {
    let rows = sqlx::query!(
        r#"
        SELECT b.backend AS "backend!: Word<BackendName>", u.examined AS "examined!", u.pending AS "pending!",
               u.late AS "late!", u.last_error
        FROM unnest(enum_range(NULL::scheduler_backend)) AS b(backend) CROSS JOIN LATERAL (
            SELECT count(*) AS examined,
                   -- Postponed: too far ahead for the backend, never tried.
                   count(*) FILTER (WHERE next_try_at <= now() OR tries > 0) AS pending,
                   count(*) FILTER (WHERE last_error IS NOT NULL OR next_try_at < now() - interval '1 min') AS late,
                   max(last_error) AS last_error
            FROM (SELECT next_try_at, tries, last_error FROM wake_ups
                  WHERE backend = b.backend AND next_try_at IS NOT NULL
                  ORDER BY next_try_at LIMIT $1 /* counted */) w
        ) u
        WHERE u.pending > 0
        "#,
        COUNTED,
    )
    .fetch_all(db)
    .await?;
    let backlog = rows.into_iter().map(|row| {
        let of = |count| Count { count, more: count == row.examined && count >= COUNTED };
        OutboxBacklog {
            backend: row.backend.0,
            pending: of(row.pending),
            late: of(row.late),
            last_error: row.last_error,
        }
    });
    Ok(backlog.collect())
}

/// Returns the wake-ups that each external backend has missed so far.
pub async fn missed(db: &Db) -> DbResult<Vec<MissedWakeUps>> {
    let rows = sqlx::query!(
        r#"SELECT backend AS "backend: Word<BackendName>", missed, latest_at FROM missed_wake_ups ORDER BY backend"#
    )
    .fetch_all(db)
    .await?;
    let missed = rows.into_iter().map(|row| MissedWakeUps {
        backend: row.backend.0,
        missed: row.missed,
        latest_at: row.latest_at,
    });
    Ok(missed.collect())
}
