//! Groups dead letters by their error.

use nas_cron_protocol::{OneShotState, OrgId};

use crate::db::columns::Word;
use crate::db::{Db, DbResult};
use crate::domain::dead_letters::{DeadLetterGroup, DeadLetters, GROUPED_BY};

/// Maximum number of dead letters that are examined.
const EXAMINED: i64 = 10_000;
/// Maximum number of groups.
const GROUPS: u8 = 100;

/// Groups dead letters and stuck one-shots, of an org or of all.
pub async fn dead_letters(db: &Db, org_id: Option<&OrgId>) -> DbResult<DeadLetters> {
    let rows = sqlx::query!(
        r#"
        WITH ended AS MATERIALIZED (
            (SELECT o.instance_id, o.state, o.expired, o.last_status, o.last_error, o.dead_since
             FROM one_shots o
             WHERE $1::text IS NULL AND o.dead_since IS NOT NULL
             ORDER BY o.instance_id, o.job_id LIMIT $2 /* examined */)
            UNION ALL
            (SELECT o.instance_id, o.state, o.expired, o.last_status, o.last_error, o.dead_since
             FROM instances i CROSS JOIN LATERAL (
                 SELECT * FROM one_shots o WHERE o.instance_id = i.instance_id AND o.dead_since IS NOT NULL
                 ORDER BY o.job_id LIMIT $2
             ) o
             WHERE i.org_id = $1
             LIMIT $2)
        )
        SELECT state AS "state!: Word<OneShotState>", expired AS "expired!", last_status, left(last_error, $3) AS error,
               count(*) AS "count!", count(DISTINCT instance_id) AS "agents!",
               min(dead_since) AS "first_at!", max(dead_since) AS "last_at!",
               (SELECT count(*) FROM ended) >= $2 AS "more!"
        FROM ended
        GROUP BY 1, 2, 3, 4
        ORDER BY 5 DESC, 8 DESC
        LIMIT $4 /* groups */
        "#,
        org_id.map(OrgId::as_str),
        EXAMINED,
        GROUPED_BY,
        i64::from(GROUPS) + 1,
    )
    .fetch_all(db)
    .await?;
    let more = rows.first().is_some_and(|row| row.more);
    let more_groups = rows.len() > usize::from(GROUPS);
    let groups = rows.into_iter().take(GROUPS.into()).map(|row| DeadLetterGroup {
        state: row.state.0,
        expired: row.expired,
        status: row.last_status,
        error: row.error,
        count: row.count,
        agents: row.agents,
        first_at: row.first_at,
        last_at: row.last_at,
    });
    Ok(DeadLetters { groups: groups.collect(), more, more_groups })
}
