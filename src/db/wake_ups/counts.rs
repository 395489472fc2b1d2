//! Counts of one-shots and outbox rows, by backend and state.

use nas_cron_protocol::BackendName;
use nas_cron_protocol::admin_api::Count;

use crate::db::columns::Word;
use crate::db::{Db, DbResult};
use crate::domain::active_backend::{BackendCounts, Untold};

/// Maximum number of rows of one kind that are counted: about 10 ms.
const COUNTED: i64 = 20_000;

/// Returns the counts of every backend. Reads a limited number of rows, however many there are.
pub async fn counts(db: &Db) -> DbResult<Vec<BackendCounts>> {
    let rows = sqlx::query!(
        r#"
        WITH rows AS (
            SELECT backend, state FROM wake_ups LIMIT $1 /* counted */
        ), confirmed AS (
            SELECT backend, count(*) AS count FROM rows WHERE state = 'armed' GROUP BY backend
        )
        SELECT b.backend AS "backend!: Word<BackendName>", one_shots.count AS "one_shots!", overdue.count AS "overdue!",
               orders.wanted AS "wanted!", orders.postponed AS "postponed!", orders.unwanted AS "unwanted!",
               orders.count >= $1 AS "more_orders!", orders.last_error,
               COALESCE((SELECT c.count FROM confirmed c WHERE c.backend = b.backend), 0) AS "armed!",
               (SELECT count(*) FROM rows) >= $1 AS "more_rows!",
               COALESCE((SELECT m.missed FROM missed_wake_ups m WHERE m.backend = b.backend), 0) AS "missed!"
        FROM unnest(enum_range(NULL::scheduler_backend)) AS b(backend)
        CROSS JOIN LATERAL (
            SELECT count(*) FROM (
                (SELECT FROM one_shots o WHERE o.awaits = b.backend ORDER BY o.next_attempt_at LIMIT $1)
                UNION ALL
                (SELECT FROM one_shots o
                 WHERE b.backend = 'postgres' AND o.next_attempt_at IS NOT NULL AND o.parked IS NULL AND o.awaits IS NULL
                 ORDER BY o.next_attempt_at LIMIT $1)
            ) AS its
        ) AS one_shots
        CROSS JOIN LATERAL (
            SELECT count(*) FROM (
                SELECT FROM one_shots o WHERE o.awaits = b.backend AND o.next_attempt_at < now()
                ORDER BY o.next_attempt_at LIMIT $1
            ) AS its
        ) AS overdue
        CROSS JOIN LATERAL (
            SELECT count(*), count(*) FILTER (WHERE state = 'wanted') AS wanted,
                   count(*) FILTER (WHERE state = 'wanted' AND tries = 0 AND next_try_at > now()) AS postponed,
                   count(*) FILTER (WHERE state = 'unwanted') AS unwanted, max(last_error) AS last_error
            FROM (
                SELECT u.state, u.tries, u.next_try_at, u.last_error FROM wake_ups u
                WHERE u.backend = b.backend AND u.next_try_at IS NOT NULL ORDER BY u.next_try_at LIMIT $1
            ) AS its
        ) AS orders
        ORDER BY b.backend
        "#,
        COUNTED,
    )
    .fetch_all(db)
    .await?;
    let counted = |count: i64, more: bool| Count { count, more };
    Ok(rows
        .into_iter()
        .map(|row| BackendCounts {
            backend: row.backend.0,
            one_shots: Count::up_to(row.one_shots, COUNTED),
            wanted: counted(row.wanted, row.more_orders),
            postponed: counted(row.postponed, row.more_orders),
            armed: counted(row.armed, row.more_rows),
            unwanted: counted(row.unwanted, row.more_orders),
            overdue: Count::up_to(row.overdue, COUNTED),
            missed: row.missed,
            last_error: row.last_error,
        })
        .collect())
}

/// Counts outbox rows by backend that have failed, or were due more than a minute ago. Rows that are in progress or
/// postponed are left out.
pub async fn untold(db: &Db) -> DbResult<Vec<Untold>> {
    Ok(sqlx::query_as!(
        Untold,
        r#"
        SELECT backend AS "backend: Word<BackendName>", count(*) AS "count!", max(last_error) AS last_error
        FROM wake_ups
        WHERE next_try_at IS NOT NULL AND (last_error IS NOT NULL OR next_try_at < now() - interval '1 min')
        GROUP BY backend ORDER BY backend
        "#,
    )
    .fetch_all(db)
    .await?)
}
