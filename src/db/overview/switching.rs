//! The work of a switch of backends, counted up to a limit. [`crate::db::wake_ups::left`] counts all of it.

use nas_cron_protocol::BackendName;
use nas_cron_protocol::admin_api::{Count, SwitchBacklog};

use super::COUNTED;
use crate::db::columns::Word;
use crate::db::provisions::BUILT_IN_LOOP_WITHIN;
use crate::db::wake_ups::STAYS_WITHIN;
use crate::db::{Db, DbResult};
use crate::domain::active_backend::ActiveBackend;

/// Counts what is left of the switch to the active backend.
pub async fn switch_backlog(db: &Db, active: &ActiveBackend) -> DbResult<SwitchBacklog> {
    let row = sqlx::query!(
        r#"
        WITH strays AS (
            (SELECT state = 'armed' AND claim_expires_at IS NULL AS moves FROM one_shots
             WHERE $2::scheduler_backend <> 'postgres' AND parked IS NULL AND awaits IS NULL
               AND next_attempt_at > now() + make_interval(secs => $5 /* stays_within */)
             ORDER BY next_attempt_at LIMIT $1 /* counted */)
            UNION ALL
            (SELECT s.moves FROM unnest(enum_range(NULL::scheduler_backend)) AS b(backend) CROSS JOIN LATERAL (
                -- A call that QStash may make itself stays.
                SELECT b.backend <> 'qstash_direct' OR NOT EXISTS (
                           SELECT FROM wake_ups u
                           WHERE u.schedule_id = o.schedule_id AND u.backend = b.backend
                             AND (u.state = 'armed' OR u.tries > 0)) AS moves
                FROM one_shots o
                WHERE o.awaits = b.backend AND b.backend <> $2 /* active */
                  AND o.next_attempt_at > now() + make_interval(secs => $4 /* built_in_loop_within */)
                ORDER BY o.next_attempt_at LIMIT $1) s)
        ), orders AS (
            SELECT w.* FROM unnest(enum_range(NULL::scheduler_backend)) AS b(backend) CROSS JOIN LATERAL (
                SELECT u.backend <> $2 AND u.state = 'unwanted' AS is_unwanted,
                       u.backend = $2 AND u.state = 'wanted' AND (u.next_try_at <= now() OR u.tries > 0)
                       AND EXISTS (
                           SELECT FROM one_shots o
                           WHERE o.instance_id = u.instance_id AND o.job_id = u.job_id AND o.schedule_id = u.schedule_id
                             -- Written so that only the primary key fits.
                             AND o.awaits IS NOT DISTINCT FROM u.backend AND o.created_at <= $3 /* switched_at */) AS is_wanted
                FROM wake_ups u
                WHERE u.backend = b.backend AND u.next_try_at IS NOT NULL
                ORDER BY u.next_try_at LIMIT $1) w
        )
        SELECT (SELECT count(*) FILTER (WHERE moves) FROM strays) AS "to_move!",
               (SELECT count(*) FROM strays) >= $1 AS "more_to_move!",
               count(*) FILTER (WHERE is_wanted) AS "to_tell!", count(*) FILTER (WHERE is_unwanted) AS "to_take_back!"
        FROM orders
        "#,
        COUNTED,
        Word(active.backend) as Word<BackendName>,
        active.switched_at,
        BUILT_IN_LOOP_WITHIN,
        STAYS_WITHIN,
    )
    .fetch_one(db)
    .await?;
    Ok(SwitchBacklog {
        to_move: Count { count: row.to_move, more: row.more_to_move },
        to_tell: Count::up_to(row.to_tell, COUNTED),
        to_take_back: Count::up_to(row.to_take_back, COUNTED),
    })
}

/// Counts the one-shots that a switch to this backend would move, up to `limit` from each backend.
pub async fn movable(db: &Db, to: BackendName, limit: i64) -> DbResult<Count> {
    let row = sqlx::query!(
        r#"
        WITH others AS (
            (SELECT state = 'armed' AS moves FROM one_shots
             WHERE $2::scheduler_backend <> 'postgres' AND next_attempt_at IS NOT NULL AND parked IS NULL AND awaits IS NULL
             ORDER BY next_attempt_at LIMIT $1 /* limit */)
            UNION ALL
            (SELECT true FROM unnest(enum_range(NULL::scheduler_backend)) AS b(backend) CROSS JOIN LATERAL (
                SELECT FROM one_shots o WHERE o.awaits = b.backend AND b.backend <> $2 /* to */
                ORDER BY o.next_attempt_at LIMIT $1) w)
        )
        SELECT count(*) FILTER (WHERE moves) AS "moves!", count(*) >= $1 AS "more!" FROM others
        "#,
        limit,
        Word(to) as Word<BackendName>,
    )
    .fetch_one(db)
    .await?;
    Ok(Count { count: row.moves, more: row.more })
}
