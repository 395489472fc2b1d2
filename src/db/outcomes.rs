//! The statement that records the outcomes of attempts.

use nas_cron_protocol::OneShotState;
use uuid::Uuid;

use super::columns::OptionalWord;
use super::seconds::RuleColumns;
use super::{Db, DbResult};
use crate::domain::arm_rules::ArmRules;
use crate::domain::attempt::{Ended, Recorded};

/// Records outcomes in the history, the delivered keys, and the one-shot if the attempt still owns it. Durable when it
/// returns, and harmless to repeat. Attempts that are missing from the result were recorded before.
pub async fn finish_fires(db: &Db, ended: &[Ended], rules: &ArmRules) -> DbResult<Vec<Recorded>> {
    let rules = RuleColumns::from(rules);
    let ids: Vec<Uuid> = ended.iter().map(|e| e.attempt_id).collect();
    let outcomes: Vec<String> = ended.iter().map(|e| e.outcome.as_str().to_owned()).collect();
    let statuses: Vec<Option<i16>> =
        ended.iter().map(|e| e.http_status.and_then(|s| i16::try_from(s).ok())).collect();
    let errors: Vec<Option<String>> = ended.iter().map(|e| e.error.clone()).collect();
    let retry_ins: Vec<Option<f64>> = ended.iter().map(|e| e.retry_in.map(|d| d.as_secs_f64())).collect();
    let retry_afters: Vec<Option<f64>> =
        ended.iter().map(|e| e.retry_after.map(|d| d.as_secs_f64())).collect();
    let rows = sqlx::query!(
        r#"
        WITH ended AS (
            SELECT attempt_id, outcome::fire_outcome AS outcome, http_status, error,
                   make_interval(secs => retry_in) AS retry_in, make_interval(secs => retry_after) AS retry_after
            FROM unnest($1::uuid[], $2::text[], $3::int2[], $4::text[], $5::float8[], $6::float8[])
                AS e(attempt_id, outcome, http_status, error, retry_in, retry_after)
        ), recorded AS (
            -- The fence: an outcome counts once. 'lost' is what the end of a lease wrote; the truth replaces it.
            UPDATE fires f
            SET outcome = e.outcome, ended_at = clock_timestamp(), http_status = e.http_status, error = e.error
            FROM ended e
            WHERE f.attempt_id = e.attempt_id AND f.outcome IN ('started', 'lost')
            RETURNING f.*, e.retry_in, e.retry_after
        ), keys AS (
            INSERT INTO delivered_keys AS k (instance_id, job_id, dedup_key, schedule_id, delivered_at)
            SELECT DISTINCT ON (instance_id, job_id, dedup_key) instance_id, job_id, dedup_key, r.schedule_id,
                   -- The very instant of the history: a second fire is counted from it.
                   r.ended_at
            FROM recorded r
            -- A superseded arm's key counts too; a cancelled job is forgotten.
            WHERE r.outcome = 'delivered' AND EXISTS (
                SELECT FROM one_shots o WHERE o.instance_id = r.instance_id AND o.job_id = r.job_id)
            ON CONFLICT (instance_id, job_id, dedup_key) DO UPDATE
                SET delivered_at = excluded.delivered_at, second_fires = k.second_fires + 1
            RETURNING instance_id, job_id, dedup_key, second_fires
        ), forgotten AS (
            DELETE FROM delivered_keys k USING recorded r
            WHERE r.outcome = 'gone' AND k.instance_id = r.instance_id AND k.job_id = r.job_id
              AND k.dedup_key = r.dedup_key
        ), moved AS (
            UPDATE one_shots o
            SET state = CASE
                    WHEN r.outcome = 'failed' AND r.retry_in IS NULL THEN 'dead'
                    WHEN r.outcome = 'failed' THEN 'waiting'
                    WHEN NOT o.asked_again THEN 'delivered'
                    WHEN r.outcome = 'gone' THEN 'armed'
                    WHEN k.second_fires >= $9 THEN 'stuck'
                    ELSE 'waiting' END::one_shot_state,
                next_attempt_at = CASE
                    WHEN r.outcome = 'failed' THEN clock_timestamp() + r.retry_in
                    WHEN NOT o.asked_again THEN NULL
                    WHEN r.outcome = 'gone' THEN GREATEST(o.fire_at, o.last_started_at + make_interval(secs => $10))
                    WHEN k.second_fires >= $9 THEN NULL
                    WHEN k.second_fires > 0 THEN clock_timestamp() + make_interval(secs => $8)
                    ELSE clock_timestamp() + make_interval(secs => $7) END,
                attempts = CASE WHEN r.outcome = 'failed' OR NOT o.asked_again THEN o.attempts ELSE 0 END,
                retrying_since = CASE WHEN r.outcome = 'failed' THEN COALESCE(o.retrying_since, r.started_at) END,
                retry_after_until = CASE WHEN r.outcome = 'failed' THEN clock_timestamp() + r.retry_after END,
                last_status = r.http_status, last_error = r.error,
                due_since = NULL, lease_expires_at = NULL, parked = NULL, asked_again = false, updated_at = now()
            FROM recorded r LEFT JOIN keys k USING (instance_id, job_id, dedup_key)
            WHERE o.instance_id = r.instance_id AND o.job_id = r.job_id AND o.lease_token = r.attempt_id
              -- 'waiting': the lease had ended, but no other claim holds it.
              AND o.state IN ('firing', 'waiting')
            RETURNING o.lease_token, o.state
        )
        SELECT r.attempt_id, m.state AS "state!: OptionalWord<OneShotState>"
        FROM recorded r LEFT JOIN moved m ON m.lease_token = r.attempt_id
        "#,
        &ids,
        &outcomes,
        &statuses as &[Option<i16>],
        &errors as &[Option<String>],
        &retry_ins as &[Option<f64>],
        &retry_afters as &[Option<f64>],
        rules.second_fire_delay,
        rules.second_fire_interval,
        rules.second_fires_max,
        rules.fire_floor,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| Recorded { attempt_id: row.attempt_id, state: row.state.0 }).collect())
}
