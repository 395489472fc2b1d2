//! Statements that provision: concurrent provisions share a statement and its commit.

use std::collections::VecDeque;

use chrono::{DateTime, Utc};
use futures::FutureExt;
use nas_cron_protocol::{BackendName, InstanceId, JobId, NotAfter, ScheduleId};

use super::batched::Batched;
use super::columns::OptionalWord;
use super::seconds::RuleColumns;
use super::{Db, DbError, DbResult, job_auth};
use crate::domain::arm_rules::ArmRules;
use crate::domain::one_shot::{Arm, Armed, Provisioned};

/// Maximum time to the instant, in seconds, at which the built-in loop fires a one-shot without its backend: an external
/// backend could not be armed in time. At least the lead plus the granularity of every backend.
pub(in crate::db) const BUILT_IN_LOOP_WITHIN: f64 = 3.0;
/// Maximum repetitions of statements because other replicas provisioned the same new jobs meanwhile.
const RACES_AT_MOST: u32 = 5;

/// A provision, the rules for it, and whether a new job may be armed.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    arm: Arm,
    rules: ArmRules,
    admits_new: bool,
}
type Job = (InstanceId, JobId);

/// Provisions that wait or are in flight. Those of one job follow each other in order of arrival.
pub(super) type Provisions = Batched<Asked, Provisioned, Job>;

pub(super) fn queue() -> Provisions {
    Batched::in_turns(|asked: &Asked| Some((asked.arm.instance_id.clone(), asked.arm.job_id.clone())))
}

/// Waits until no provision of this job is in flight, so that a later statement cannot be overtaken by one whose caller has
/// given up.
pub(super) async fn settled(db: &Db, instance_id: &InstanceId, job_id: &JobId) {
    db.provisions.settled(&(instance_id.clone(), job_id.clone())).await;
}

/// Provisions the job's one-shot: arms a new job, supersedes, or handles the same key again. The SQL functions `armed` and
/// `provisioned` have the rules. Durable when it returns. `None`: the instance does not exist, or has changed since it was
/// [seen](Arm::seen).
pub async fn provision(db: &Db, arm: &Arm, rules: &ArmRules) -> DbResult<Option<Armed>> {
    Ok(provision_within(db, arm, rules, true).await?.armed())
}

/// Like [`provision`]. A job that has no one-shot is armed only if `admits_new`.
pub async fn provision_within(
    db: &Db,
    arm: &Arm,
    rules: &ArmRules,
    admits_new: bool,
) -> DbResult<Provisioned> {
    let session = db.clone();
    let answer = move |asked| provision_all(session.clone(), asked).boxed();
    db.provisions.ask(Asked { arm: arm.clone(), rules: *rules, admits_new }, answer).await
}

/// Provisions different jobs. Each has its own result: if one of them is rejected, its neighbours are provisioned.
async fn provision_all(db: Db, asked: Vec<Asked>) -> Vec<DbResult<Provisioned>> {
    let mut results: Vec<_> = asked.iter().map(|_| Ok(Provisioned::InstanceChanged)).collect();
    let alike = asked.chunk_by(|one, next| one.rules == next.rules).map(<[Asked]>::len);
    let mut statements: VecDeque<Vec<usize>> = alike
        .scan(0, |end, count| {
            *end += count;
            Some((*end - count..*end).collect())
        })
        .collect();
    let mut races = 0;
    while let Some(places) = statements.pop_front() {
        let arms: Vec<&Asked> = places.iter().map(|place| &asked[*place]).collect();
        match provision_jobs(&db, &arms, &asked[places[0]].rules).await {
            Ok(provisioned) => {
                let mut left = Vec::new();
                for (line, provisioned) in provisioned {
                    match provisioned {
                        Some(provisioned) => results[places[line]] = Ok(provisioned),
                        None => left.push(places[line]),
                    }
                }
                if !left.is_empty() {
                    statements.push_front(left);
                }
            }
            // Another replica has just provisioned one of the new jobs: now there is a row to update.
            Err(error) if is_race(&error) && races < RACES_AT_MOST => {
                races += 1;
                statements.push_front(places);
            }
            Err(error) if places.len() == 1 || error.is_transient() || is_race(&error) => {
                let error = if is_race(&error) { DbError::Contended(error.into()) } else { error };
                for place in places {
                    results[place] = Err(error.again());
                }
            }
            // One of them is rejected.
            Err(_) => statements.extend(places.into_iter().map(|place| vec![place])),
        }
    }
    results
}

/// Executes the statement with nothing to provision.
pub(super) async fn provision_nothing(db: &Db, rules: &ArmRules) -> DbResult<()> {
    provision_jobs(db, &[], rules).await.map(drop)
}

/// A new job is not new any more.
fn is_race(error: &DbError) -> bool {
    matches!(error, DbError::Conflict { constraint } if constraint == "one_shots_pkey")
}

/// Provisions different jobs in one statement: those that have a one-shot, or else, if none has one, those that have none and
/// are admitted. Then no statement waits for another one's new row while it holds a lock, so that there is no deadlock. Returns
/// the line of each job whose instance exists as it was seen, and its result unless it is left for the next statement. Fails
/// with a conflict if a new job is not new any more: with `ON CONFLICT`, each row would be locked before it is updated or marked
/// as final after it is inserted, which is one more record in the write-ahead log.
#[expect(clippy::too_many_lines, reason = "one statement is best read in one piece")]
async fn provision_jobs(
    db: &Db,
    asked: &[&Asked],
    rules: &ArmRules,
) -> DbResult<Vec<(usize, Option<Provisioned>)>> {
    let rules = RuleColumns::from(rules);
    let rows = sqlx::query!(
        r#"
        WITH external AS (
            SELECT backend, generation FROM active_backend WHERE backend <> 'postgres' LIMIT 1
        ), given AS MATERIALIZED (
            SELECT g.line, g.limit_given, g.admits_new,
                   armed(i, g.job_id, g.schedule_id, g.dedup_key, g.fire_at_text, g.fire_at, g.not_after, g.callback_url,
                         (SELECT backend FROM external), make_interval(secs => $14 /* built_in_loop_within */), g.trace) AS one_shot
            -- As subqueries, so that the planner does not know the lengths: it would plan each statement anew for a short batch.
            FROM unnest((SELECT $1::text[] /* instance_id */), (SELECT $2::text[] /* job_id */),
                        (SELECT $3::uuid[] /* schedule_id */), (SELECT $4::text[] /* dedup_key */),
                        (SELECT $5::text[] /* fire_at_text */), (SELECT $6::timestamptz[] /* fire_at */),
                        (SELECT $7::text[] /* callback_url */), (SELECT $8::timestamptz[] /* not_after */),
                        (SELECT $9::bool[] /* limit_given */), (SELECT $15::bigint[] /* seen */),
                        (SELECT $16::bytea[] /* trace */), (SELECT $17::bool[] /* admits_new */))
                WITH ORDINALITY AS g(instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, not_after,
                                     limit_given, seen, trace, admits_new, line)
            JOIN instances i USING (instance_id)
            WHERE COALESCE(i.xmin::text::bigint = g.seen, true)
            ORDER BY g.instance_id, g.job_id
        ), known AS MATERIALIZED (
            SELECT k.*
            FROM (SELECT array_agg(one_shot) AS one_shots, array_agg(limit_given) AS limits_given FROM given) g,
                 provision_known(g.one_shots, g.limits_given, ROW(
                     make_interval(secs => $10 /* fire_floor */), make_interval(secs => $11 /* second_fire_delay */),
                     make_interval(secs => $12 /* second_fire_interval */), $13 /* second_fires_max */)::arm_rules) k
        ), new AS (
            INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, not_after, callback_url,
                                   state, next_attempt_at, due_since, awaits, provision_trace)
            SELECT (g.one_shot).instance_id, (g.one_shot).job_id, (g.one_shot).schedule_id, (g.one_shot).dedup_key,
                   (g.one_shot).fire_at_text, (g.one_shot).fire_at, (g.one_shot).not_after, (g.one_shot).callback_url,
                   (g.one_shot).state, (g.one_shot).next_attempt_at, (g.one_shot).due_since, (g.one_shot).awaits,
                   (g.one_shot).provision_trace
            FROM given g
            WHERE g.admits_new AND NOT EXISTS (SELECT FROM known)
            RETURNING instance_id, job_id, schedule_id, next_attempt_at, awaits, shows_skew, created_at
        ), provisioned AS (
            SELECT p.*, p.created_at = now() AS is_new
            FROM (SELECT * FROM known UNION ALL SELECT * FROM new) p
        ), wanted AS (
            INSERT INTO wake_ups (schedule_id, generation, backend, instance_id, job_id, due_at)
            SELECT p.schedule_id, e.generation, e.backend, p.instance_id, p.job_id, p.next_attempt_at
            FROM provisioned p JOIN external e ON e.backend = p.awaits
            WHERE p.is_new
            ORDER BY p.schedule_id
            ON CONFLICT (schedule_id, generation) DO UPDATE
                SET state = 'wanted', due_at = excluded.due_at, next_try_at = now(), tries = 0
        ), others AS MATERIALIZED (
            SELECT w.schedule_id, w.generation
            FROM provisioned p JOIN wake_ups w USING (instance_id, job_id)
            WHERE p.is_new AND w.schedule_id <> p.schedule_id AND w.state <> 'unwanted'
            ORDER BY 1, 2
            FOR UPDATE OF w
        ), unwanted AS (
            UPDATE wake_ups w
            SET state = 'unwanted', next_try_at = next_cancel_at(w.state, w.tries, w.next_try_at)
            FROM others o
            WHERE w.schedule_id = o.schedule_id AND w.generation = o.generation
        )
        SELECT g.line AS "line!", p.schedule_id AS "schedule_id?", p.next_attempt_at AS "next_attempt_at?",
               p.awaits AS "awaits!: OptionalWord<BackendName>",
               COALESCE(p.is_new AND p.shows_skew, false) AS "shows_skew!",
               a.unknown_auth, g.admits_new AS "admits_new!", NOT EXISTS (SELECT FROM known) AS "none_known!"
        FROM given g
        JOIN instances i ON i.instance_id = (g.one_shot).instance_id
        CROSS JOIN LATERAL auth_of_job(i.instance_id, i.org_id, (g.one_shot).job_id) a
        LEFT JOIN provisioned p ON p.instance_id = (g.one_shot).instance_id AND p.job_id = (g.one_shot).job_id
        "#,
        &column(asked, |arm| arm.instance_id.as_str()) as &[&str],
        &column(asked, |arm| arm.job_id.as_str()) as &[&str],
        &column(asked, |_| ScheduleId::fresh().0),
        &column(asked, |arm| arm.dedup_key.as_str()) as &[&str],
        &column(asked, |arm| arm.fire_at.as_str()) as &[&str],
        &column(asked, |arm| arm.fire_at.instant()),
        &column(asked, |arm| arm.callback_url.as_str()) as &[&str],
        &column(asked, |arm| arm.not_after.value().map(NotAfter::instant)) as &[Option<DateTime<Utc>>],
        &column(asked, |arm| !arm.not_after.is_keep()),
        rules.fire_floor,
        rules.second_fire_delay,
        rules.second_fire_interval,
        rules.second_fires_max,
        BUILT_IN_LOOP_WITHIN,
        &column(asked, |arm| arm.seen) as &[Option<i64>],
        &column(asked, |arm| arm.trace.map(|trace| trace.to_bytes().to_vec())) as &[Option<Vec<u8>>],
        &asked.iter().map(|one| one.admits_new).collect::<Vec<_>>(),
    )
    .fetch_all(db)
    .await?;
    let provisioned = rows.into_iter().map(|row| {
        let provisioned = match row.schedule_id {
            Some(schedule_id) => Some(Provisioned::Armed(Armed {
                schedule_id: ScheduleId(schedule_id),
                next_attempt_at: row.next_attempt_at,
                is_new_job: row.none_known,
                shows_skew: row.shows_skew,
                awaits: row.awaits.0,
                unknown_auth: job_auth::profiles(row.unknown_auth),
                followed: 0,
            })),
            None => (row.none_known && !row.admits_new).then_some(Provisioned::JobIsNew),
        };
        (usize::try_from(row.line - 1).unwrap_or_default(), provisioned)
    });
    Ok(provisioned.collect())
}

/// Returns a parameter of the statement: one value for each provision.
fn column<'a, T>(asked: &[&'a Asked], value: impl Fn(&'a Arm) -> T) -> Vec<T> {
    asked.iter().map(|one| value(&one.arm)).collect()
}
