//! Statements that find jobs whose agents have not armed the next fire (docs/ARCHITECTURE.md#dormant-jobs).
//!
//! A replica examines the deliveries of the history in the order of their end, and awaits a re-arm where none has followed.
//! An awaited re-arm is checked when it is due, and a dormant job until it is armed again. A statement decides by its
//! snapshot: a re-arm that commits at that instant is found by the next check.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::{InstanceId, JobId, ScheduleId};
use uuid::Uuid;

use super::{Db, DbResult};
use crate::domain::dormancy::{AwaitedRearm, Dormancy, DormancyChange, Examined, Unanswered};
use crate::domain::recurrence::{CONSIDERED, PastArm, REARMS, RecurrenceKind};

/// Maximum number of attempts of a job that are read: retries and second fires belong to one one-shot.
const ATTEMPTS: i64 = 120;

/// Reads the next deliveries: at most `limit`, of at most `window`, that ended more than `settled` ago, so that their
/// statements have certainly committed. Returns `None` while these are not yet a `window`.
pub async fn examine(db: &Db, settled: Duration, window: Duration, limit: i64) -> DbResult<Option<Examined>> {
    let span = sqlx::query!(
        r#"
        SELECT examined_until, examined_until + make_interval(secs => $1 /* window */) AS "ends!",
               now() - make_interval(secs => $2 /* settled */) AS "settled!"
        FROM rearm_watch
        "#,
        window.as_secs_f64(),
        settled.as_secs_f64(),
    )
    .fetch_one(db)
    .await?;
    if span.ends > span.settled {
        return Ok(None);
    }
    let (from, ends) = (span.examined_until, span.ends);
    let rows = sqlx::query!(
        r#"
        WITH ended AS MATERIALIZED (
            SELECT instance_id, job_id, schedule_id, ended_at FROM fires
            -- An outcome is recorded seconds after the start, or after an outage of the database. It selects the partitions.
            WHERE started_at >= $1::timestamptz /* from */ - interval '1 day' AND ended_at >= $1 AND ended_at < $2 /* ends */
              AND outcome IN ('delivered', 'dropped', 'duplicate')
            ORDER BY ended_at
            LIMIT $3 /* limit */
        ), unanswered AS MATERIALIZED (
            SELECT e.instance_id, e.job_id, e.schedule_id, max(e.ended_at) AS ended_at, max(s.created_at) AS registered_at
            FROM ended e CROSS JOIN LATERAL (
                SELECT i.created_at
                FROM one_shots o JOIN instances i USING (instance_id)
                WHERE o.instance_id = e.instance_id AND o.job_id = e.job_id AND o.schedule_id = e.schedule_id
                  AND o.state = 'delivered'
                -- One row by the primary key. It keeps the planner from reading all one-shots.
                LIMIT 1
            ) s
            GROUP BY e.instance_id, e.job_id, e.schedule_id
        ), known AS (
            SELECT u.instance_id, u.job_id, u.schedule_id, u.ended_at, h.*
            FROM unanswered u CROSS JOIN LATERAL (
                SELECT array_agg(fire_at ORDER BY began) AS fire_at, array_agg(armed_at ORDER BY began) AS armed_at,
                       array_agg(delivered_at ORDER BY began) AS delivered_at
                FROM (
                    SELECT min(started_at) AS began, min(fire_at) AS fire_at, min(armed_at) AS armed_at,
                           max(ended_at) FILTER (WHERE outcome IN ('delivered', 'dropped', 'duplicate')) AS delivered_at
                    FROM (
                        SELECT schedule_id, started_at, ended_at, fire_at, armed_at, outcome FROM fires
                        -- Earlier history belongs to a deleted instance of the same id.
                        WHERE instance_id = u.instance_id AND job_id = u.job_id AND started_at >= u.registered_at
                        ORDER BY started_at DESC
                        LIMIT $4 /* attempts */
                    ) attempts
                    GROUP BY schedule_id
                    ORDER BY began DESC
                    LIMIT $5 /* considered */
                ) arms
                HAVING count(*) > $6 /* rearms */
            ) h
        )
        SELECT r.read AS "read!", r.latest, k.instance_id AS "instance_id?", k.job_id AS "job_id?",
               k.schedule_id AS "schedule_id?", k.ended_at AS "ended_at?", k.fire_at AS "fire_at?",
               k.armed_at AS "armed_at?: Vec<Option<DateTime<Utc>>>",
               k.delivered_at AS "delivered_at?: Vec<Option<DateTime<Utc>>>"
        FROM (SELECT count(*) AS read, max(ended_at) AS latest FROM ended) r LEFT JOIN known k ON true
        "#,
        from,
        ends,
        limit,
        ATTEMPTS,
        i64::try_from(CONSIDERED).unwrap_or(i64::MAX),
        i64::try_from(REARMS).unwrap_or(i64::MAX),
    )
    .fetch_all(db)
    .await?;
    let (read, latest) = rows.first().map_or((0, None), |row| (row.read, row.latest));
    // Those of the latest instant are read again, because others of it may be missing.
    let until = if read < limit { ends } else { latest.unwrap_or(ends) };
    let unanswered = rows.into_iter().filter_map(|row| {
        let arms = row.fire_at?.into_iter().zip(row.armed_at?).zip(row.delivered_at?);
        Some(Unanswered {
            instance_id: InstanceId::stored(row.instance_id?),
            job_id: JobId::stored(row.job_id?),
            schedule_id: ScheduleId(row.schedule_id?),
            delivered_at: row.ended_at?,
            arms: arms
                .map(|((fire_at, armed_at), delivered_at)| PastArm { fire_at, armed_at, delivered_at })
                .collect(),
        })
    });
    Ok(Some(Examined { from, until, read, unanswered: unanswered.collect() }))
}

/// Stores the awaited re-arms of examined deliveries, at most one for each job, and with them that these are examined.
/// Returns false without an effect if another replica was faster.
pub async fn store(db: &Db, examined: &Examined, awaited: &[AwaitedRearm<'_>]) -> DbResult<bool> {
    let row = sqlx::query_scalar!(
        r#"
        WITH moved AS (
            UPDATE rearm_watch SET examined_until = $2 /* until */ WHERE examined_until = $1 /* from */
            RETURNING only_one
        ), stored AS (
            INSERT INTO awaited_rearms (instance_id, job_id, schedule_id, delivered_at, recurrence, expected_at, check_at,
                                        closes_after)
            SELECT g.instance_id, g.job_id, g.schedule_id, g.delivered_at, g.recurrence::recurrence_kind, g.expected_at,
                   g.check_at, make_interval(secs => g.closes_after)
            FROM unnest($3::text[] /* instance_id */, $4::text[] /* job_id */, $5::uuid[] /* schedule_id */,
                        $6::timestamptz[] /* delivered_at */, $7::text[] /* recurrence */, $8::timestamptz[] /* expected_at */,
                        $9::timestamptz[] /* check_at */, $10::float8[] /* closes_after */)
                     AS g(instance_id, job_id, schedule_id, delivered_at, recurrence, expected_at, check_at, closes_after)
            WHERE EXISTS (SELECT FROM moved)
            ORDER BY g.instance_id, g.job_id
            ON CONFLICT (instance_id, job_id) DO UPDATE
            SET schedule_id = excluded.schedule_id, delivered_at = excluded.delivered_at, recurrence = excluded.recurrence,
                expected_at = excluded.expected_at, check_at = excluded.check_at, closes_after = excluded.closes_after,
                dormant_since = NULL, reported = false
            -- Not if the same delivery is examined again.
            WHERE awaited_rearms.delivered_at < excluded.delivered_at
        )
        SELECT EXISTS (SELECT FROM moved) AS "moved!"
        "#,
        examined.from,
        examined.until,
        &column(awaited, |one| one.of.instance_id.as_str()) as &[&str],
        &column(awaited, |one| one.of.job_id.as_str()) as &[&str],
        &column(awaited, |one| one.of.schedule_id.0),
        &column(awaited, |one| one.of.delivered_at),
        &column(awaited, |one| one.expectation.recurrence.as_str()) as &[&str],
        &column(awaited, |one| one.expectation.expected_at),
        &column(awaited, |one| one.expectation.check_at),
        &column(awaited, |one| one.expectation.closes_after.as_seconds_f64()),
    )
    .fetch_one(db)
    .await?;
    Ok(row)
}

/// Returns a parameter of a statement: one value for each re-arm.
fn column<'a, T>(awaited: &[AwaitedRearm<'a>], value: impl Fn(&AwaitedRearm<'a>) -> T) -> Vec<T> {
    awaited.iter().map(value).collect()
}

/// The change of a job, as the statements return it.
struct Changed {
    change: Option<DormancyChange>,
    instance_id: String,
    job_id: String,
    schedule_id: Uuid,
    delivered_at: DateTime<Utc>,
    recurrence: RecurrenceKind,
    expected_at: DateTime<Utc>,
}

impl Changed {
    fn report(self) -> Option<Dormancy> {
        Some(Dormancy {
            change: self.change?,
            instance_id: InstanceId::stored(self.instance_id),
            job_id: JobId::stored(self.job_id),
            schedule_id: ScheduleId(self.schedule_id),
            delivered_at: self.delivered_at,
            recurrence: self.recurrence,
            expected_at: self.expected_at,
        })
    }
}

/// Maximum number of awaited re-arms in one statement. It is also in the statement: the planner has to know it.
pub const CHECKED: usize = 1_000;

/// Checks at most [`CHECKED`] awaited re-arms that are due: a job that is still silent becomes dormant, the others are
/// forgotten. Returns the number of checked ones, and the jobs to report.
pub async fn check_awaited(db: &Db) -> DbResult<(usize, Vec<Dormancy>)> {
    let rows = sqlx::query_as!(
        Changed,
        r#"
        WITH due AS MATERIALIZED (
            SELECT * FROM awaited_rearms
            WHERE dormant_since IS NULL AND check_at <= now()
            ORDER BY check_at
            LIMIT 1000
            FOR UPDATE SKIP LOCKED
        ), judged AS MATERIALIZED (
            SELECT d.*, s.reason
            FROM due d LEFT JOIN LATERAL (
                SELECT reason FROM silent_jobs WHERE instance_id = d.instance_id AND job_id = d.job_id LIMIT 1
            ) s ON true
        ), forgotten AS (
            DELETE FROM awaited_rearms a USING judged j
            WHERE a.instance_id = j.instance_id AND a.job_id = j.job_id AND j.reason IS NULL
        ), dormant AS (
            UPDATE awaited_rearms a SET dormant_since = now(), reported = j.reason = 'silent'
            FROM judged j
            WHERE a.instance_id = j.instance_id AND a.job_id = j.job_id AND j.reason IS NOT NULL
        ), noted AS (
            INSERT INTO event_facts (type, instance_id, job_id, data)
            SELECT 'job.became_dormant', instance_id, job_id, jsonb_build_object(
                'schedule_id', schedule_id, 'delivered_at', delivered_at, 'expected_at', expected_at, 'recurrence', recurrence)
            FROM judged WHERE reason = 'silent'
        )
        SELECT CASE WHEN reason = 'silent' THEN 'dormant' END AS "change: DormancyChange", instance_id, job_id, schedule_id,
               delivered_at, recurrence AS "recurrence: RecurrenceKind", expected_at
        FROM judged
        "#,
    )
    .fetch_all(db)
    .await?;
    Ok((rows.len(), rows.into_iter().filter_map(Changed::report).collect()))
}

/// The dormant job after which [`check_dormant`] continues.
pub type DormantCursor = (String, String);

/// Checks at most `limit` dormant jobs, in the order of the primary key after `after`. Forgets those that were armed again,
/// cancelled or ended, and those that count as finished. Reports one that was stopped on purpose once that is over, from which
/// time on it may count as finished. Returns the cursor of the next call, `None` at the end, and the changes to report.
pub async fn check_dormant(
    db: &Db,
    after: Option<&DormantCursor>,
    limit: i64,
) -> DbResult<(Option<DormantCursor>, Vec<Dormancy>)> {
    let (after_instance, after_job) = after.map_or(("", ""), |after| (after.0.as_str(), after.1.as_str()));
    let last = sqlx::query!(
        r#"
        SELECT instance_id, job_id FROM awaited_rearms
        WHERE dormant_since IS NOT NULL AND (instance_id, job_id) > ($1 /* after instance */, $2 /* after job */)
        ORDER BY instance_id, job_id
        OFFSET $3::int8 /* limit */ - 1 LIMIT 1
        "#,
        after_instance,
        after_job,
        limit,
    )
    .fetch_optional(db)
    .await?;
    let last = last.map(|row| (row.instance_id, row.job_id));
    let (last_instance, last_job) = last.as_ref().map(|last| (last.0.as_str(), last.1.as_str())).unzip();
    let rows = sqlx::query_as!(
        Changed,
        r#"
        WITH page AS MATERIALIZED (
            SELECT * FROM awaited_rearms
            WHERE dormant_since IS NOT NULL AND (instance_id, job_id) > ($1 /* after instance */, $2 /* after job */)
              AND ($3::text /* last instance */ IS NULL OR (instance_id, job_id) <= ($3, $4::text /* last job */))
        ), judged AS MATERIALIZED (
            SELECT p.instance_id, p.job_id, p.schedule_id, CASE
                -- Cancelled, or deleted with its instance, whose id may belong to another one now.
                WHEN o.schedule_id IS NULL OR o.registered_at > p.delivered_at THEN 'ended'
                WHEN o.schedule_id <> p.schedule_id THEN 'back'
                -- Fired again, and ended by the agent or without success: a dead letter is shown as such.
                WHEN o.last_outcome = 'gone' OR o.state IN ('dead', 'stuck') THEN 'ended'
                WHEN o.state <> 'delivered' THEN NULL
                -- One that was stopped on purpose has not finished. Once that is over, its time begins.
                WHEN NOT p.reported AND o.reason = 'silent' THEN 'dormant'
                WHEN p.reported AND p.dormant_since + p.closes_after <= now() THEN 'closed'
                END AS change
            FROM page p LEFT JOIN LATERAL (
                SELECT o.schedule_id, o.state, o.last_outcome, i.created_at AS registered_at,
                       dormant_reason_of(o.last_outcome, i.on_hold OR EXISTS (
                           SELECT FROM job_holds h WHERE h.instance_id = o.instance_id AND h.job_id = o.job_id)) AS reason
                FROM one_shots o JOIN instance_status i USING (instance_id)
                WHERE o.instance_id = p.instance_id AND o.job_id = p.job_id
                LIMIT 1
            ) o ON true
        ), changed AS MATERIALIZED (
            SELECT a.*, j.change
            FROM judged j JOIN awaited_rearms a USING (instance_id, job_id, schedule_id)
            WHERE j.change IS NOT NULL AND a.dormant_since IS NOT NULL
            ORDER BY a.instance_id, a.job_id
            FOR UPDATE OF a SKIP LOCKED
        ), forgotten AS (
            DELETE FROM awaited_rearms a USING changed c
            WHERE a.instance_id = c.instance_id AND a.job_id = c.job_id AND c.change <> 'dormant'
        ), reported AS (
            UPDATE awaited_rearms a SET reported = true, dormant_since = now() FROM changed c
            WHERE a.instance_id = c.instance_id AND a.job_id = c.job_id AND c.change = 'dormant'
        ), noted AS (
            INSERT INTO event_facts (type, instance_id, job_id, data)
            SELECT CASE change WHEN 'dormant' THEN 'job.became_dormant' ELSE 'job.became_active' END, instance_id, job_id,
                   jsonb_build_object('schedule_id', schedule_id, 'delivered_at', delivered_at, 'expected_at', expected_at,
                                      'recurrence', recurrence)
            FROM changed c WHERE c.change = 'dormant' OR c.change = 'back' AND c.reported
        )
        SELECT CASE WHEN change = 'dormant' OR change <> 'ended' AND c.reported THEN change END AS "change: DormancyChange",
               instance_id, job_id, schedule_id, delivered_at, recurrence AS "recurrence: RecurrenceKind", expected_at
        FROM changed c
        "#,
        after_instance,
        after_job,
        last_instance,
        last_job,
    )
    .fetch_all(db)
    .await?;
    Ok((last, rows.into_iter().filter_map(Changed::report).collect()))
}
