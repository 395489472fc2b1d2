//! Counts of one-shots and outbox rows, by backend and state.

use nas_cron_protocol::BackendName;

use crate::db::columns::Word;
use crate::db::{Db, DbResult};
use crate::domain::active_backend::{BackendCounts, Untold};

/// Returns the counts of every backend.
pub async fn counts(db: &Db) -> DbResult<Vec<BackendCounts>> {
    Ok(sqlx::query_as!(
        BackendCounts,
        r#"
        SELECT b.backend AS "backend!: Word<BackendName>",
               (SELECT count(*) FROM one_shots o WHERE b.backend <> 'postgres' AND o.awaits = b.backend)
               + (SELECT count(*) FROM one_shots o
                  WHERE b.backend = 'postgres' AND o.state = 'armed' AND o.awaits IS NULL) AS "one_shots!",
               count(u.*) FILTER (WHERE u.state = 'wanted') AS "wanted!",
               count(u.*) FILTER (WHERE u.state = 'wanted' AND u.tries = 0 AND u.next_try_at > now()) AS "postponed!",
               count(u.*) FILTER (WHERE u.state = 'armed') AS "armed!",
               count(u.*) FILTER (WHERE u.state = 'unwanted') AS "unwanted!",
               (SELECT count(*) FROM one_shots o WHERE o.awaits = b.backend AND o.next_attempt_at < now()) AS "overdue!",
               COALESCE((SELECT t.missed FROM missed_wake_ups t WHERE t.backend = b.backend), 0) AS "missed!",
               max(u.last_error) FILTER (WHERE u.state <> 'armed') AS last_error
        FROM unnest(enum_range(NULL::scheduler_backend)) AS b(backend)
        LEFT JOIN wake_ups u USING (backend)
        GROUP BY b.backend ORDER BY b.backend
        "#,
    )
    .fetch_all(db)
    .await?)
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
