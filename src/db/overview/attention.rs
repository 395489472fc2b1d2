//! Counts of jobs, agents and holds that need attention.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::OrgId;
use nas_cron_protocol::admin_api::{AttentionCounts, Count, DormantReason};

use super::COUNTED;
use crate::db::columns::Word;
use crate::db::seconds::duration;
use crate::db::{Db, DbResult};
use crate::domain::HoldScope;
use crate::domain::dormancy::DormantCounts;
use crate::domain::hold::Hold;

/// Maximum number of an org's armed one-shots that are examined for overdue ones: no index has the times of one org.
const ARMED: i64 = 50_000;

/// Everything that needs attention.
#[derive(Clone, Debug)]
pub struct Attention {
    /// Time at which it was read.
    pub at: DateTime<Utc>,
    /// The counts.
    pub counts: AttentionCounts,
    /// Age of the oldest overdue one-shot.
    pub oldest_overdue: Duration,
    /// The dormant jobs by reason.
    pub dormant: DormantCounts,
    /// The first holds, the widest first.
    pub holds: Vec<Hold>,
}

struct Row {
    at: DateTime<Utc>,
    overdue: i64,
    overdue_more: bool,
    oldest: f64,
    dead: i64,
    stuck: i64,
    held: i64,
    waiting_for_agent: i64,
    unreachable: i64,
    limited: bool,
}

impl Row {
    /// Returns the counts. A count that stopped at its limit shows in all of its kind.
    fn counts(&self, dormant: Count, holds: i64) -> AttentionCounts {
        let of = |count, all: i64| Count { count, more: self.limited || all >= COUNTED };
        let (ended, parked) = (self.dead + self.stuck, self.held + self.waiting_for_agent);
        AttentionCounts {
            overdue: Count { count: self.overdue, more: self.overdue_more },
            dead: of(self.dead, ended),
            stuck: of(self.stuck, ended),
            dormant,
            held: of(self.held, parked),
            waiting_for_agent: of(self.waiting_for_agent, parked),
            unreachable: of(self.unreachable, self.unreachable),
            holds: Count::up_to(holds, COUNTED),
        }
    }
}

/// Counts what needs attention in the whole service. Reads at most `named` holds.
pub async fn of_service(db: &Db, named: i64) -> DbResult<Attention> {
    let row = sqlx::query_as!(
        Row,
        r#"
        WITH overdue AS (
            (SELECT next_attempt_at FROM one_shots
             WHERE next_attempt_at <= now() AND parked IS NULL AND awaits IS NULL AND state IN ('armed', 'waiting')
             ORDER BY next_attempt_at LIMIT $1 /* counted */)
            UNION ALL
            (SELECT w.next_attempt_at FROM unnest(enum_range(NULL::scheduler_backend)) AS b(backend) CROSS JOIN LATERAL (
                SELECT o.next_attempt_at FROM one_shots o
                WHERE o.awaits = b.backend AND o.next_attempt_at <= now()
                ORDER BY o.next_attempt_at LIMIT $1) w)
        ), ended AS (
            SELECT state FROM one_shots WHERE dead_since IS NOT NULL LIMIT $1
        ), parked AS (
            SELECT parked FROM one_shots WHERE parked IS NOT NULL LIMIT $1
        )
        SELECT now() AS "at!", o.count AS "overdue!", o.count >= $1 AS "overdue_more!",
               COALESCE(extract(epoch FROM now() - o.oldest), 0)::float8 AS "oldest!",
               (SELECT count(*) FROM ended WHERE state = 'dead') AS "dead!",
               (SELECT count(*) FROM ended WHERE state = 'stuck') AS "stuck!",
               (SELECT count(*) FROM parked WHERE parked = 'hold') AS "held!",
               (SELECT count(*) FROM parked WHERE parked = 'unreachable') AS "waiting_for_agent!",
               (SELECT count(*) FROM (SELECT FROM instances WHERE unreachable_since IS NOT NULL LIMIT $1) u)
               AS "unreachable!", false AS "limited!"
        FROM (SELECT count(*) AS count, min(next_attempt_at) AS oldest FROM overdue) o
        "#,
        COUNTED,
    )
    .fetch_one(db)
    .await?;
    attention(db, row, None, named).await
}

/// Counts what needs attention in an org, whose first 10,000 agents are examined. Overdue one-shots are looked for among the
/// first [`ARMED`] that are armed. Reads one-shots of the org's agents only, so that no count shows anything about other orgs,
/// and at most `named` holds.
pub async fn of_org(db: &Db, org_id: &OrgId, named: i64) -> DbResult<Attention> {
    let row = sqlx::query_as!(
        Row,
        r#"
        WITH agents AS MATERIALIZED (
            SELECT instance_id, unreachable_since FROM instances WHERE org_id = $2 /* org_id */
            ORDER BY instance_id LIMIT $1 /* counted */
        ), armed AS MATERIALIZED (
            SELECT n.next_attempt_at, n.is_waiting FROM agents a CROSS JOIN LATERAL (
                SELECT o.next_attempt_at,
                       o.parked IS NULL AND (o.awaits IS NOT NULL OR o.state IN ('armed', 'waiting')) AS is_waiting
                FROM one_shots o
                WHERE o.instance_id = a.instance_id AND o.next_attempt_at IS NOT NULL LIMIT $3 /* armed */) n
            LIMIT $3
        ), own_overdue AS (
            SELECT count(*) AS count, min(next_attempt_at) AS oldest
            FROM armed WHERE is_waiting AND next_attempt_at <= now()
        ), ended AS (
            SELECT e.state FROM agents a CROSS JOIN LATERAL (
                SELECT o.state FROM one_shots o
                WHERE o.instance_id = a.instance_id AND o.dead_since IS NOT NULL ORDER BY o.job_id LIMIT $1) e
            LIMIT $1
        ), parked AS (
            SELECT p.parked FROM agents a CROSS JOIN LATERAL (
                SELECT o.parked FROM one_shots o
                WHERE o.instance_id = a.instance_id AND o.parked IS NOT NULL ORDER BY o.next_attempt_at LIMIT $1) p
            LIMIT $1
        )
        SELECT now() AS "at!", LEAST(o.count, $1) AS "overdue!",
               o.count >= $1 OR (SELECT count(*) FROM armed) >= $3 OR (SELECT count(*) FROM agents) >= $1 AS "overdue_more!",
               COALESCE(extract(epoch FROM now() - o.oldest), 0)::float8 AS "oldest!",
               (SELECT count(*) FROM ended WHERE state = 'dead') AS "dead!",
               (SELECT count(*) FROM ended WHERE state = 'stuck') AS "stuck!",
               (SELECT count(*) FROM parked WHERE parked = 'hold') AS "held!",
               (SELECT count(*) FROM parked WHERE parked = 'unreachable') AS "waiting_for_agent!",
               (SELECT count(*) FROM agents WHERE unreachable_since IS NOT NULL) AS "unreachable!",
               (SELECT count(*) FROM agents) >= $1 AS "limited!"
        FROM own_overdue o
        "#,
        COUNTED,
        org_id.as_str(),
        ARMED,
    )
    .fetch_one(db)
    .await?;
    attention(db, row, Some(org_id), named).await
}

async fn attention(db: &Db, row: Row, org_id: Option<&OrgId>, named: i64) -> DbResult<Attention> {
    let dormant = dormant(db, org_id).await?;
    let count: i64 = dormant.iter().map(|(_, count)| count).sum();
    let count = Count { count, more: row.limited || count >= COUNTED };
    let (holds, all) = holds(db, org_id, named).await?;
    Ok(Attention {
        at: row.at,
        counts: row.counts(count, all),
        oldest_overdue: duration(row.oldest),
        dormant,
        holds,
    })
}

/// Counts dormant jobs by reason. For an org: those of its first agents only.
async fn dormant(db: &Db, org_id: Option<&OrgId>) -> DbResult<DormantCounts> {
    let rows = sqlx::query!(
        r#"
        SELECT reason AS "reason!: Word<DormantReason>", count(*) AS "count!"
        FROM (
            (SELECT reason FROM silent_jobs
             WHERE $2::text IS NULL AND dormant_since IS NOT NULL LIMIT $1 /* counted */)
            UNION ALL
            (SELECT s.reason
             FROM (SELECT instance_id FROM instances WHERE org_id = $2 /* org_id */ ORDER BY instance_id LIMIT $1) i
             CROSS JOIN LATERAL (
                SELECT reason FROM silent_jobs WHERE instance_id = i.instance_id AND dormant_since IS NOT NULL LIMIT $1) s
             LIMIT $1)
        ) d
        GROUP BY reason
        "#,
        COUNTED,
        org_id.map(OrgId::as_str),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.reason.0, row.count)).collect())
}

/// Returns the first holds, the widest first, and the number of all up to the limit. For an org: its own, and that of the
/// whole service.
async fn holds(db: &Db, org_id: Option<&OrgId>, named: i64) -> DbResult<(Vec<Hold>, i64)> {
    let rows = sqlx::query!(
        r#"
        WITH standing AS MATERIALIZED (
            (SELECT scope::text, scope_id, NULL AS job_id, reason, created_at, scope AS width
             FROM holds h
             WHERE $2::text IS NULL OR h.scope = 'all' OR (h.scope = 'org' AND h.scope_id = $2 /* org_id */)
                OR (h.scope = 'instance'
                    AND EXISTS (SELECT FROM instances i WHERE i.instance_id = h.scope_id AND i.org_id = $2))
             LIMIT $1 /* counted */)
            UNION ALL
            (SELECT 'job', j.instance_id, j.job_id, j.reason, j.created_at, NULL
             FROM job_holds j
             WHERE $2 IS NULL OR EXISTS (SELECT FROM instances i WHERE i.instance_id = j.instance_id AND i.org_id = $2)
             LIMIT $1)
        )
        SELECT scope AS "scope!: Word<HoldScope>", scope_id AS "scope_id!", job_id, reason, created_at AS "created_at!",
               (SELECT count(*) FROM standing) AS "all!"
        FROM standing
        ORDER BY width NULLS LAST, scope_id, job_id
        LIMIT $3 /* named */
        "#,
        COUNTED,
        org_id.map(OrgId::as_str),
        named,
    )
    .fetch_all(db)
    .await?;
    let all = rows.first().map_or(0, |row| row.all);
    let holds = rows.into_iter().map(|row| Hold {
        scope: row.scope.0,
        scope_id: row.scope_id,
        job_id: row.job_id,
        reason: row.reason,
        created_at: row.created_at,
    });
    Ok((holds.collect(), all))
}
