//! The statement that reads jobs.

use nas_cron_protocol::admin_api::DormantReason;
use nas_cron_protocol::{BackendName, DeadReason, FireOutcome, OneShotState, OrgId, ParkReason};

use super::select::columns;
use crate::db::columns::{OptionalWord, Word};
use crate::db::{Db, DbResult};
use crate::domain::job::{Job, JobKey};

/// Returns the given jobs, in their order. Those without a current one-shot are left out; with `org_id`, also those of other orgs,
/// for which nothing more is read than for unknown ones.
pub async fn by_keys(db: &Db, keys: &[JobKey], org_id: Option<&OrgId>) -> DbResult<Vec<Job>> {
    let (instance_ids, job_ids) = columns(keys);
    Ok(sqlx::query_as!(
        Job,
        r#"
        SELECT o.instance_id, i.org_id, o.job_id, o.schedule_id, o.dedup_key,
               o.fire_at_text AS fire_at, o.fire_at AS fire_at_instant, o.callback_url,
               o.own_callback_url, o.state AS "state: Word<OneShotState>", o.parked AS "parked!: OptionalWord<ParkReason>",
               o.awaits AS "awaits!: OptionalWord<BackendName>", o.next_attempt_at,
               o.not_after,
               dead_reason_of(o.state, o.expired) AS "dead_reason!: OptionalWord<DeadReason>",
               COALESCE(o.attempt_expires_at, o.claim_expires_at) AS lease_expires_at, o.attempts, o.retrying_since, o.retry_after_until, o.last_started_at,
               o.last_outcome AS "last_outcome!: OptionalWord<FireOutcome>", o.last_status, o.last_error,
               COALESCE(o.state = 'firing' AND o.asked_again_at > o.last_started_at, false) AS "asked_again!",
               o.created_at, o.updated_at,
               s.dormant_since AS "dormant_since?",
               CASE WHEN s.dormant_since IS NOT NULL THEN s.reason END AS "dormant_reason!: OptionalWord<DormantReason>",
               s.expected_at AS "expected_at?", s.delivered_at AS "delivered_at?",
               o.superseded_fire_at, o.superseded_untried
        FROM unnest($1::text[], $2::text[]) WITH ORDINALITY AS g(instance_id, job_id, line)
        JOIN instances i ON i.instance_id = g.instance_id AND ($3::text IS NULL OR i.org_id = $3 /* org_id */)
        JOIN one_shots o ON o.instance_id = i.instance_id AND o.job_id = g.job_id
        LEFT JOIN LATERAL (
            SELECT * FROM silent_jobs WHERE instance_id = o.instance_id AND job_id = o.job_id
            -- One row by the primary key.
            LIMIT 1
        ) s ON true
        ORDER BY g.line
        "#,
        &instance_ids as &[&str],
        &job_ids as &[&str],
        org_id.map(OrgId::as_str),
    )
    .fetch_all(db)
    .await?)
}
