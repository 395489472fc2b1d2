//! The statement that records the outcomes of attempts.

use std::collections::HashSet;
use std::time::Duration;

use nas_cron_protocol::OneShotState;

use super::columns::OptionalWord;
use super::seconds::RuleColumns;
use super::{Db, DbError, DbResult};
use crate::domain::arm_rules::ArmRules;
use crate::domain::attempt::{Ended, Recorded};

/// Records outcomes in the history and on their one-shots. Durable when it returns, and harmless to repeat. Attempts that
/// are missing from the result were recorded before.
pub async fn finish_fires(db: &Db, ended: &[Ended], rules: &ArmRules) -> DbResult<Vec<Recorded>> {
    let mut recorded = Vec::with_capacity(ended.len());
    let mut rest: Vec<&Ended> = ended.iter().collect();
    // A statement changes a row once, so two attempts of one job go into two statements.
    while !rest.is_empty() {
        let mut jobs = HashSet::with_capacity(rest.len());
        let (batch, later): (Vec<_>, _) =
            rest.into_iter().partition(|one| jobs.insert((&one.attempt.instance_id, &one.attempt.job_id)));
        recorded.extend(finish_jobs(db, &batch, rules).await?);
        rest = later;
    }
    Ok(recorded)
}

/// Records outcomes of different jobs. The SQL function `attempt_ended` has the rules for the one-shot.
async fn finish_jobs(db: &Db, ended: &[&Ended], rules: &ArmRules) -> DbResult<Vec<Recorded>> {
    match finish_new(db, ended, rules).await {
        // One of them is in the history: it was recorded before, or as lost.
        Err(DbError::Conflict { .. }) => finish_known(db, ended, rules).await,
        result => result,
    }
}

/// Defines the statement, with this clause about attempts that are in the history.
macro_rules! statement {
    ($(#[$doc:meta])* $name:ident, $if_recorded:literal, $unless_recorded:literal) => {
        $(#[$doc])*
        #[expect(clippy::too_many_lines, reason = "one statement is best read in one piece")]
        async fn $name(db: &Db, ended: &[&Ended], rules: &ArmRules) -> DbResult<Vec<Recorded>> {
            let rules = RuleColumns::from(rules);
            Ok(sqlx::query_as!(
                Recorded,
                r#"
                WITH ended AS (
                    SELECT attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at,
                           outcome::fire_outcome AS outcome, http_status, error, make_interval(secs => retry_in) AS retry_in,
                           make_interval(secs => retry_after) AS retry_after, retry_after_s, ambiguous, answer, callback_url,
                           armed_at
                    -- As subqueries, arrays do not make Postgres plan anew for their lengths.
                    FROM unnest((SELECT $1::uuid[] /* attempt_id */), (SELECT $2::text[] /* instance_id */),
                                (SELECT $3::text[] /* job_id */), (SELECT $4::uuid[] /* schedule_id */),
                                (SELECT $5::text[] /* dedup_key */), (SELECT $6::timestamptz[] /* fire_at */),
                                (SELECT $7::int4[] /* attempt */), (SELECT $8::timestamptz[] /* started_at */),
                                (SELECT $9::text[] /* outcome */), (SELECT $10::int2[] /* http_status */),
                                (SELECT $11::text[] /* error */), (SELECT $12::float8[] /* retry_in */),
                                (SELECT $13::float8[] /* retry_after */), (SELECT $14::bool[] /* ambiguous */),
                                (SELECT $15::text[] /* answer */), (SELECT $16::text[] /* callback_url */),
                                (SELECT $23::timestamptz[] /* armed_at */), (SELECT $24::int4[] /* retry_after_s */))
                        AS e(attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at, outcome,
                             http_status, error, retry_in, retry_after, ambiguous, answer, callback_url, armed_at, retry_after_s)
                ), locked AS MATERIALIZED (
                    -- The one-shots before the history, in the order of recovery and of other batches, so that there is no deadlock.
                    SELECT FROM one_shots JOIN ended USING (instance_id, job_id)
                    ORDER BY instance_id, job_id
                    FOR NO KEY UPDATE OF one_shots
                ), timed AS MATERIALIZED (
                    -- `ended_at` is read behind the locks: an attempt that was confirmed while this statement waited started before.
                    -- Second fires are counted from that very instant.
                    SELECT *, clock_timestamp() AS ended_at FROM ended WHERE (SELECT count(*) FROM locked) >= 0
                ), history AS (
                    -- The fence: an outcome counts once.
                    INSERT INTO fires AS f (attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at,
                                            ended_at, outcome, http_status, error, answer, armed_at, retry_after_s)
                    SELECT attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at, ended_at,
                           outcome, http_status, error, answer, armed_at, retry_after_s
                    FROM timed
                    "# + $if_recorded + r#"
                    RETURNING attempt_id
                ), recorded AS (
                    SELECT instance_id, job_id,
                           ROW(attempt_id, schedule_id, dedup_key, started_at, ended_at, outcome, http_status, error, ambiguous,
                               retry_in, retry_after, callback_url)::ended_attempt AS attempt
                    FROM timed
                    "# + $unless_recorded + r#"
                ), known AS (
                    DELETE FROM superseded_attempts s USING ended e WHERE s.attempt_id = e.attempt_id
                ), changed AS (
                    UPDATE one_shots job
                    SET (state, next_attempt_at, due_since, parked, awaits, lease_token, claim_expires_at, attempt_expires_at, attempts,
                         retrying_since, retry_after_until, last_status, last_error, delivered_key, delivered_schedule_id, delivered_at,
                         second_fires, dead_since, expired, callback_url, own_callback_url, follows_gone, updated_at, last_outcome,
                         claimed_at, refused) = (
                        SELECT (n).state, (n).next_attempt_at, (n).due_since, (n).parked, (n).awaits, (n).lease_token, (n).claim_expires_at,
                               (n).attempt_expires_at, (n).attempts, (n).retrying_since, (n).retry_after_until, (n).last_status,
                               (n).last_error, (n).delivered_key, (n).delivered_schedule_id, (n).delivered_at, (n).second_fires,
                               (n).dead_since, (n).expired, (n).callback_url, (n).own_callback_url, (n).follows_gone, (n).updated_at,
                               (n).last_outcome, (n).claimed_at, (n).refused
                        FROM (SELECT attempt_ended(job, r.attempt,
                                  ROW(make_interval(secs => $17 /* fire_floor */), make_interval(secs => $18 /* second_fire_delay */),
                                      make_interval(secs => $19 /* second_fire_interval */), $20 /* second_fires_max */)::arm_rules,
                                  ROW(make_interval(secs => $21 /* claim_lifetime */),
                                      make_interval(secs => $22 /* duplicate_delay */))::claim_rules) AS n OFFSET 0) once)
                    FROM recorded r
                    WHERE job.instance_id = r.instance_id AND job.job_id = r.job_id
                    RETURNING (r.attempt).attempt_id, job.state, job.expired, job.lease_token
                )
                SELECT h.attempt_id AS "attempt_id!",
                       -- Another token: the one-shot was superseded in the meantime, or another claim holds it.
                       CASE WHEN c.lease_token = c.attempt_id THEN c.state END AS "state!: OptionalWord<OneShotState>",
                       COALESCE(c.lease_token = c.attempt_id AND c.expired, false) AS "expired!"
                FROM history h LEFT JOIN changed c USING (attempt_id)
                "#,
                &column(ended, |one| one.attempt.attempt_id),
                &column(ended, |one| one.attempt.instance_id.as_str()) as &[&str],
                &column(ended, |one| one.attempt.job_id.as_str()) as &[&str],
                &column(ended, |one| one.attempt.schedule_id.0),
                &column(ended, |one| one.attempt.dedup_key.as_str()) as &[&str],
                &column(ended, |one| one.attempt.fire_at),
                &column(ended, |one| i32::try_from(one.attempt.attempt).unwrap_or(i32::MAX)),
                &column(ended, |one| one.attempt.started_at),
                &column(ended, |one| one.outcome.as_str()) as &[&str],
                &column(ended, |one| one.http_status.and_then(|status| i16::try_from(status).ok())) as &[Option<i16>],
                &column(ended, |one| one.error.as_deref()) as &[Option<&str>],
                &column(ended, |one| one.retry_in.map(|delay| delay.as_secs_f64())) as &[Option<f64>],
                &column(ended, |one| one.respected_retry_after().map(|delay| delay.as_secs_f64())) as &[Option<f64>],
                &column(ended, |one| one.ambiguous),
                &column(ended, |one| one.answer.as_deref()) as &[Option<&str>],
                &column(ended, |one| one.attempt.callback_url.as_str()) as &[&str],
                rules.fire_floor,
                rules.second_fire_delay,
                rules.second_fire_interval,
                rules.second_fires_max,
                rules.claim_lifetime,
                rules.duplicate_delay,
                &column(ended, |one| one.attempt.armed_at),
                &column(ended, |one| one.retry_after.map(whole_seconds)) as &[Option<i32>],
            )
            .fetch_all(db)
            .await?)
        }
    };
}

statement!(
    /// Fails if an attempt is in the history. Nearly none is, and without `ON CONFLICT` a row is written in one step.
    finish_new,
    "",
    ""
);
statement!(
    /// Recovery may have recorded an attempt as lost: the truth replaces that.
    finish_known,
    "ON CONFLICT (instance_id, job_id, started_at, attempt_id) DO UPDATE
         SET ended_at = excluded.ended_at, outcome = excluded.outcome, http_status = excluded.http_status,
             error = excluded.error, answer = excluded.answer, armed_at = excluded.armed_at,
             retry_after_s = excluded.retry_after_s
         WHERE f.outcome = 'lost'",
    "JOIN history USING (attempt_id)"
);

/// Returns a time in seconds, rounded up.
fn whole_seconds(time: Duration) -> i32 {
    i32::try_from(time.as_millis().div_ceil(1000)).unwrap_or(i32::MAX)
}

/// Returns a parameter of the statement: one value for each attempt.
fn column<'a, T>(ended: &[&'a Ended], value: impl Fn(&'a Ended) -> T) -> Vec<T> {
    ended.iter().map(|one| value(one)).collect()
}
