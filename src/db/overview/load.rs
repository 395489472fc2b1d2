//! One-shots by the minute in which they come due.

use chrono::{DateTime, Utc};
use nas_cron_protocol::admin_api::{DueMinute, UpcomingLoad};

use crate::db::{Db, DbResult};

/// Maximum number of one-shots that are counted one by one: about 20 ms.
const COUNTED: i64 = 50_000;
/// Number of pages of the table in a sample: 8 MB.
const SAMPLED_PAGES: f64 = 1_000.0;

/// Counts the one-shots that come due from `from` on and before `before`, by minute. Minutes without any are left out.
pub async fn load(db: &Db, from: DateTime<Utc>, before: DateTime<Utc>) -> DbResult<UpcomingLoad> {
    let minutes = counted(db, from, before).await?;
    let all: i64 = minutes.iter().map(|one| one.due).sum();
    if all < COUNTED {
        return Ok(UpcomingLoad { minutes, estimated: false });
    }
    Ok(UpcomingLoad { minutes: estimated(db, from, before).await?, estimated: true })
}

async fn counted(db: &Db, from: DateTime<Utc>, before: DateTime<Utc>) -> DbResult<Vec<DueMinute>> {
    Ok(sqlx::query_as!(
        DueMinute,
        r#"
        SELECT date_trunc('minute', t.at, 'UTC') AS "minute!", count(*) AS "due!"
        FROM (
            (SELECT next_attempt_at AS at FROM one_shots
             WHERE next_attempt_at >= $1 /* from */ AND next_attempt_at < $2 /* before */
               AND parked IS NULL AND awaits IS NULL
             ORDER BY next_attempt_at LIMIT $3 /* counted */)
            UNION ALL
            (SELECT w.at FROM unnest(enum_range(NULL::scheduler_backend)) AS b(backend) CROSS JOIN LATERAL (
                SELECT o.next_attempt_at AS at FROM one_shots o
                WHERE o.awaits = b.backend AND o.next_attempt_at >= $1 AND o.next_attempt_at < $2
                ORDER BY o.next_attempt_at LIMIT $3) w)
        ) t
        GROUP BY 1 ORDER BY 1
        "#,
        from,
        before,
        COUNTED,
    )
    .fetch_all(db)
    .await?)
}

/// Estimates the numbers from a sample of the table. They are large, so the sample has many of each minute.
async fn estimated(db: &Db, from: DateTime<Utc>, before: DateTime<Utc>) -> DbResult<Vec<DueMinute>> {
    Ok(sqlx::query_as!(
        DueMinute,
        r#"
        WITH share AS MATERIALIZED (
            SELECT LEAST(1.0, $3::float8 /* sampled_pages */ * current_setting('block_size')::int
                              / GREATEST(pg_relation_size('one_shots'), 1)) AS share
        ), sampled AS (
            SELECT date_trunc('minute', next_attempt_at, 'UTC') AS minute, count(*) AS due
            FROM one_shots TABLESAMPLE SYSTEM ((SELECT (100 * share)::real FROM share))
            WHERE next_attempt_at >= $1 /* from */ AND next_attempt_at < $2 /* before */ AND parked IS NULL
            GROUP BY 1
        )
        SELECT s.minute AS "minute!", round(s.due / share.share)::int8 AS "due!" FROM sampled s, share ORDER BY 1
        "#,
        from,
        before,
        SAMPLED_PAGES,
    )
    .fetch_all(db)
    .await?)
}
