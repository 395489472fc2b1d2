//! The statement that selects jobs by a filter. Its work is bounded, whatever the filter.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{FireOutcome, InstanceId, JobId, OneShotState, OrgId};

use crate::db::{Db, DbResult};
use crate::domain::dead_letters::GROUPED_BY;
use crate::domain::job::{JobKey, JobPosition, SelectedJobs};
use crate::domain::job_filter::{JobFilter, LastStatus, Parked};

/// Maximum number of one-shots that one call examines, and of agents of an org: about 20 ms.
pub(super) const EXAMINED: i64 = 10_000;

/// The index that a selection reads. Each has a branch of the statement of its own, because a generic plan of one with
/// optional conditions would read the whole table.
///
/// A selection of an org examines one-shots of its own agents only: where it ends, and how many calls it takes, shows nothing
/// about other orgs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Path {
    /// The primary key, within one instance.
    Instance,
    /// The dead letters and stuck one-shots, by the primary key.
    Ended,
    /// Those of dormant jobs, by the primary key.
    Dormant,
    /// The parked one-shots, by instance.
    Parked,
    /// Those of one org: its instances, then the primary key.
    Org,
    /// The dead letters and stuck one-shots of one org.
    OrgEnded,
    /// Those of dormant jobs of one org.
    OrgDormant,
    /// The parked one-shots of one org.
    OrgParked,
    /// By the start of the next attempt.
    Time,
    /// The primary key of all.
    All,
}

impl Path {
    /// Returns the path that examines the fewest one-shots.
    fn of(filter: &JobFilter) -> Self {
        let badly = |state: &OneShotState| matches!(state, OneShotState::Dead | OneShotState::Stuck);
        let of_org = filter.org_id.is_some();
        let either = |own, all| if of_org { own } else { all };
        if filter.instance_id.is_some() {
            Self::Instance
        } else if !filter.dormant && !filter.states.is_empty() && filter.states.iter().all(badly) {
            either(Self::OrgEnded, Self::Ended)
        } else if filter.only_dormant() {
            either(Self::OrgDormant, Self::Dormant)
        } else if matches!(filter.parked, Parked::Parked | Parked::Hold | Parked::Unreachable) {
            either(Self::OrgParked, Self::Parked)
        } else if of_org {
            // No index has the times of one org, so a condition on them does not change what is examined.
            Self::Org
        } else if filter.overdue || !filter.next_attempt.is_unlimited() {
            Self::Time
        } else {
            Self::All
        }
    }

    const fn as_str(self) -> &'static str {
        match self {
            Self::Instance => "instance",
            Self::Ended => "ended",
            Self::Dormant => "dormant",
            Self::Parked => "parked",
            Self::Org => "org",
            Self::OrgEnded => "org_ended",
            Self::OrgDormant => "org_dormant",
            Self::OrgParked => "org_parked",
            Self::Time => "time",
            Self::All => "all",
        }
    }
}

/// Returns jobs as arguments of a statement.
pub(super) fn columns(keys: &[JobKey]) -> (Vec<&str>, Vec<&str>) {
    keys.iter().map(|key| (key.instance_id.as_str(), key.job_id.as_str())).unzip()
}

/// Selects at most `limit` jobs after `after`, ordered by instance and job, or by the start of the next attempt if the
/// filter has such a condition and names neither an instance nor an org. Examines at most [`EXAMINED`] one-shots, and agents
/// of an org: fewer jobs than `limit` may be selected although others follow.
#[expect(clippy::too_many_lines, reason = "one statement is best read in one piece")]
pub async fn select(
    db: &Db,
    filter: &JobFilter,
    after: Option<&JobPosition>,
    limit: u32,
) -> DbResult<SelectedJobs> {
    let path = Path::of(filter);
    let states: Vec<_> = filter.states.iter().map(|state| state.as_str().to_owned()).collect();
    let row = sqlx::query!(
        r#"
        WITH examined AS MATERIALIZED (
            SELECT e.*, row_number() OVER (ORDER BY e.at, e.instance_id, e.job_id) AS n
            FROM (
                (SELECT o.instance_id, o.job_id, o.state, o.parked, o.awaits, o.next_attempt_at, o.fire_at, o.last_outcome,
                        o.last_error, o.expired, o.last_status, NULL::timestamptz AS at
                 FROM one_shots o
                 WHERE $1 = 'all' AND (o.instance_id, o.job_id) > ($2 /* after instance */, $3 /* after job */)
                 ORDER BY o.instance_id, o.job_id LIMIT $4 /* examined */)
                UNION ALL
                (SELECT o.instance_id, o.job_id, o.state, o.parked, o.awaits, o.next_attempt_at, o.fire_at, o.last_outcome,
                        o.last_error, o.expired, o.last_status, NULL
                 FROM one_shots o
                 WHERE $1 = 'instance' AND o.instance_id = $5 /* instance_id */ AND o.job_id > $3
                   AND ($6::text IS NULL /* org_id */
                        OR EXISTS (SELECT FROM instances i WHERE i.instance_id = $5 AND i.org_id = $6))
                 ORDER BY o.job_id LIMIT $4)
                UNION ALL
                (SELECT o.instance_id, o.job_id, o.state, o.parked, o.awaits, o.next_attempt_at, o.fire_at, o.last_outcome,
                        o.last_error, o.expired, o.last_status, NULL
                 FROM one_shots o
                 WHERE $1 = 'ended' AND o.dead_since IS NOT NULL AND (o.instance_id, o.job_id) > ($2, $3)
                 ORDER BY o.instance_id, o.job_id LIMIT $4)
                UNION ALL
                (SELECT o.instance_id, o.job_id, o.state, o.parked, o.awaits, o.next_attempt_at, o.fire_at, o.last_outcome,
                        o.last_error, o.expired, o.last_status, NULL
                 FROM awaited_rearms a JOIN one_shots o USING (instance_id, job_id)
                 WHERE $1 = 'dormant' AND a.dormant_since IS NOT NULL AND (a.instance_id, a.job_id) > ($2, $3)
                 ORDER BY a.instance_id, a.job_id LIMIT $4)
                UNION ALL
                (SELECT o.instance_id, o.job_id, o.state, o.parked, o.awaits, o.next_attempt_at, o.fire_at, o.last_outcome,
                        o.last_error, o.expired, o.last_status, NULL
                 FROM one_shots o
                 WHERE $1 = 'parked' AND o.parked IS NOT NULL AND o.instance_id >= $2
                   AND (o.instance_id, o.job_id) > ($2, $3)
                 ORDER BY o.instance_id, o.job_id LIMIT $4)
                UNION ALL
                (SELECT o.instance_id, o.job_id, o.state, o.parked, o.awaits, o.next_attempt_at, o.fire_at, o.last_outcome,
                        o.last_error, o.expired, o.last_status, NULL
                 FROM (
                     SELECT instance_id FROM instances
                     WHERE $1 IN ('org', 'org_ended', 'org_dormant', 'org_parked') AND org_id = $6 AND instance_id >= $2
                     ORDER BY instance_id LIMIT $4
                 ) i CROSS JOIN LATERAL (
                     (SELECT o.* FROM one_shots o
                      WHERE $1 = 'org' AND o.instance_id = i.instance_id AND (o.instance_id, o.job_id) > ($2, $3)
                      ORDER BY o.job_id LIMIT $4)
                     UNION ALL
                     (SELECT o.* FROM one_shots o
                      WHERE $1 = 'org_ended' AND o.instance_id = i.instance_id AND o.dead_since IS NOT NULL
                        AND (o.instance_id, o.job_id) > ($2, $3)
                      ORDER BY o.job_id LIMIT $4)
                     UNION ALL
                     (SELECT o.* FROM awaited_rearms a JOIN one_shots o USING (instance_id, job_id)
                      WHERE $1 = 'org_dormant' AND a.instance_id = i.instance_id AND a.dormant_since IS NOT NULL
                        AND (a.instance_id, a.job_id) > ($2, $3)
                      ORDER BY a.job_id LIMIT $4)
                     UNION ALL
                     (SELECT o.* FROM one_shots o
                      WHERE $1 = 'org_parked' AND o.instance_id = i.instance_id AND o.parked IS NOT NULL
                        AND (o.instance_id, o.job_id) > ($2, $3)
                      ORDER BY o.job_id LIMIT $4)
                 ) o
                 ORDER BY i.instance_id, o.job_id LIMIT $4)
                UNION ALL
                (SELECT t.* FROM (
                    (SELECT o.instance_id, o.job_id, o.state, o.parked, o.awaits, o.next_attempt_at, o.fire_at,
                            o.last_outcome, o.last_error, o.expired, o.last_status, o.next_attempt_at AS at
                     FROM one_shots o
                     WHERE $1 = 'time' AND o.next_attempt_at IS NOT NULL AND o.parked IS NULL AND o.awaits IS NULL
                       AND o.next_attempt_at >= GREATEST($7::timestamptz /* from */, $9::timestamptz /* after */)
                       AND o.next_attempt_at < LEAST($8::timestamptz /* before */, CASE WHEN $10::bool /* overdue */ THEN now() END)
                       AND (o.next_attempt_at, o.instance_id, o.job_id) > ($9, $2, $3)
                     ORDER BY o.next_attempt_at, o.instance_id, o.job_id LIMIT $4)
                    UNION ALL
                    (SELECT w.* FROM unnest(enum_range(NULL::scheduler_backend)) AS b(backend) CROSS JOIN LATERAL (
                        SELECT o.instance_id, o.job_id, o.state, o.parked, o.awaits, o.next_attempt_at, o.fire_at,
                               o.last_outcome, o.last_error, o.expired, o.last_status, o.next_attempt_at AS at
                        FROM one_shots o
                        WHERE o.awaits = b.backend AND o.next_attempt_at >= GREATEST($7, $9)
                          AND o.next_attempt_at < LEAST($8, CASE WHEN $10 THEN now() END)
                          AND (o.next_attempt_at, o.instance_id, o.job_id) > ($9, $2, $3)
                        ORDER BY o.next_attempt_at, o.instance_id, o.job_id LIMIT $4
                     ) w
                     WHERE $1 = 'time')
                    UNION ALL
                    -- Those have no index by time: an overdue one-shot is not parked, and a span of time reads all of them.
                    (SELECT o.instance_id, o.job_id, o.state, o.parked, o.awaits, o.next_attempt_at, o.fire_at,
                            o.last_outcome, o.last_error, o.expired, o.last_status, o.next_attempt_at AS at
                     FROM one_shots o
                     WHERE $1 = 'time' AND NOT $10 AND $13::text <> 'none' AND o.parked IS NOT NULL
                       AND o.next_attempt_at >= $7 AND o.next_attempt_at < $8
                       AND (o.next_attempt_at, o.instance_id, o.job_id) > ($9, $2, $3)
                     ORDER BY o.next_attempt_at, o.instance_id, o.job_id LIMIT $4)
                 ) t
                 ORDER BY t.at, t.instance_id, t.job_id LIMIT $4)
            ) e
        ), matching AS MATERIALIZED (
            SELECT e.n, e.instance_id, e.job_id, e.at
            FROM examined e
            WHERE ($11::text IS NULL /* job_id */ OR e.job_id = $11)
              AND (cardinality($12::text[] /* states */) = 0 AND NOT $20::bool /* dormant */
                   OR e.state = ANY ($12::text[]::one_shot_state[])
                   OR $20 AND e.state = 'delivered'
                      AND EXISTS (SELECT FROM silent_jobs s
                                  WHERE s.instance_id = e.instance_id AND s.job_id = e.job_id AND s.dormant_since IS NOT NULL))
              AND CASE $13::text /* parked */
                       WHEN 'false' THEN true WHEN 'true' THEN e.parked IS NOT NULL WHEN 'none' THEN e.parked IS NULL
                       ELSE e.parked::text IS NOT DISTINCT FROM $13
                  END
              AND (NOT $10 OR (e.state IN ('armed', 'waiting') AND e.parked IS NULL AND e.next_attempt_at <= now()))
              AND ($14::text IS NULL /* outcome */ OR e.last_outcome = $14::fire_outcome)
              AND ($15::text IS NULL /* error */ OR strpos(lower(e.last_error), lower($15)) > 0)
              AND ($21::bool IS NULL /* expired */ OR e.expired = $21)
              AND (NOT $22::bool /* by status */ OR e.last_status IS NOT DISTINCT FROM $23::int2 /* last_status */)
              AND ($24::text IS NULL /* error_group */ OR left(e.last_error, $25::int4 /* characters */) = $24)
              AND (NOT $26::bool /* no_error */ OR e.last_error IS NULL)
              AND ($16::timestamptz IS NULL OR e.fire_at >= $16 /* fire_at from */)
              AND ($17::timestamptz IS NULL OR e.fire_at < $17 /* fire_at before */)
              AND (e.at IS NOT NULL OR NOT $19::bool /* spans time */ OR e.next_attempt_at >= $7 AND e.next_attempt_at < $8)
            ORDER BY e.n
            -- One more shows that others follow.
            LIMIT $18::bigint /* limit */ + 1
        ), last AS (
            -- Of an org with more agents than are examined: the first one of those that follow. All its jobs come after it.
            (SELECT true AS follows, instance_id, '' AS job_id, NULL::timestamptz AS at FROM instances
             WHERE $1 IN ('org', 'org_ended', 'org_dormant', 'org_parked') AND org_id = $6 AND instance_id >= $2
               AND (SELECT count(*) FROM examined) < $4
             ORDER BY instance_id OFFSET $4 LIMIT 1)
            UNION ALL
            (SELECT (SELECT count(*) FROM examined) >= $4, instance_id, job_id, at FROM examined ORDER BY n DESC LIMIT 1)
        )
        SELECT ARRAY(SELECT instance_id FROM matching ORDER BY n) AS "instance_ids!",
               ARRAY(SELECT job_id FROM matching ORDER BY n) AS "job_ids!",
               ARRAY(SELECT at FROM matching WHERE at IS NOT NULL ORDER BY n) AS "ats!",
               l.instance_id AS "last_instance_id?", l.job_id AS "last_job_id?", l.at AS "last_at?"
        FROM (SELECT) always
        LEFT JOIN (SELECT * FROM last WHERE follows LIMIT 1) l ON true
        "#,
        path.as_str(),
        after.map_or("", |after| after.key.instance_id.as_str()),
        after.map_or("", |after| after.key.job_id.as_str()),
        EXAMINED,
        filter.instance_id.as_ref().map(InstanceId::as_str),
        filter.org_id.as_ref().map(OrgId::as_str),
        filter.next_attempt.from.unwrap_or(EARLIEST),
        filter.next_attempt.before.unwrap_or(LATEST),
        after.and_then(|after| after.at).unwrap_or(EARLIEST),
        filter.overdue,
        filter.job_id.as_ref().map(JobId::as_str),
        &states,
        filter.parked.as_str(),
        filter.outcome.map(FireOutcome::as_str),
        filter.error,
        filter.fire_at.from,
        filter.fire_at.before,
        i64::from(limit),
        !filter.next_attempt.is_unlimited(),
        filter.dormant,
        filter.expired,
        filter.last_status.is_some(),
        match filter.last_status {
            Some(LastStatus::Code(code)) => Some(code),
            Some(LastStatus::None) | None => None,
        },
        filter.error_group,
        GROUPED_BY,
        filter.no_error,
    )
    .fetch_one(db)
    .await?;
    let mut ats = row.ats.into_iter().map(Some).chain(std::iter::repeat(None));
    let found = row.instance_ids.into_iter().zip(row.job_ids);
    let mut positions: Vec<_> =
        found.map(|(instance_id, job_id)| position(instance_id, job_id, ats.next().flatten())).collect();
    let more = positions.len() > limit as usize;
    positions.truncate(limit as usize);
    let last = row.last_instance_id.zip(row.last_job_id);
    let next = match last {
        _ if more => positions.last().cloned(),
        Some((instance_id, job_id)) => Some(position(instance_id, job_id, row.last_at)),
        None => None,
    };
    Ok(SelectedJobs { keys: positions.into_iter().map(|position| position.key).collect(), next })
}

fn position(instance_id: String, job_id: String, at: Option<DateTime<Utc>>) -> JobPosition {
    JobPosition { at, key: JobKey { instance_id, job_id } }
}

/// The beginning of a span without one.
const EARLIEST: DateTime<Utc> = DateTime::UNIX_EPOCH;
/// The end of a span without one: after the year 9999, the last one of an instant.
const LATEST: DateTime<Utc> = match DateTime::from_timestamp(253_500_000_000, 0) {
    Some(latest) => latest,
    None => DateTime::UNIX_EPOCH,
};
