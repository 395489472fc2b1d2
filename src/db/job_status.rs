//! One job on behalf of the agent API: its current one-shot or its cancel, and its latest attempts.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{
    BackendName, DeadReason, DedupKey, FireAt, FireOutcome, InstanceId, JobId, OneShotState, ParkReason,
    ScheduleId,
};
use serde_json::Value;
use uuid::Uuid;

use super::columns::OptionalWord;
use super::{Db, DbResult, job_auth};
use crate::domain::job_status::JobStatus;
use crate::domain::one_shot::OneShot;
use nas_cron_protocol::admin_api::Attempt as AttemptRecord;

/// The current one-shot or the cancel, beside one of the attempts. Each may be absent.
struct Found {
    schedule_id: Option<Uuid>,
    dedup_key: Option<String>,
    fire_at_text: Option<String>,
    fire_at: Option<DateTime<Utc>>,
    callback_url: Option<String>,
    state: Option<OneShotState>,
    parked: Option<ParkReason>,
    awaits: Option<BackendName>,
    attempts: Option<i32>,
    next_attempt_at: Option<DateTime<Utc>>,
    not_after: Option<DateTime<Utc>>,
    dead_reason: Option<DeadReason>,
    last_outcome: Option<FireOutcome>,
    last_status: Option<i16>,
    last_error: Option<String>,
    updated_at: Option<DateTime<Utc>>,
    job_auth: Option<Value>,
    instance_auth: Option<Value>,
    org_auth: Option<Value>,
    service_auth: Option<Value>,
    unknown_auth: Option<Vec<String>>,
    attempt_id: Option<Uuid>,
    attempt_schedule_id: Option<Uuid>,
    attempt_dedup_key: Option<String>,
    attempt_fire_at: Option<DateTime<Utc>>,
    attempt: Option<i32>,
    started_at: Option<DateTime<Utc>>,
    ended_at: Option<DateTime<Utc>>,
    outcome: Option<FireOutcome>,
    http_status: Option<i16>,
    error: Option<String>,
    answer: Option<String>,
    cancelled_at: Option<DateTime<Utc>>,
}

impl Found {
    fn one_shot(&mut self, instance_id: &InstanceId, job_id: &JobId) -> Option<OneShot> {
        Some(OneShot {
            instance_id: instance_id.clone(),
            job_id: job_id.clone(),
            schedule_id: ScheduleId(self.schedule_id?),
            dedup_key: DedupKey::stored(self.dedup_key.take()?),
            fire_at: FireAt::stored(self.fire_at_text.take()?, self.fire_at?),
            callback_url: self.callback_url.take()?,
            state: self.state?,
            parked: self.parked,
            awaits: self.awaits,
            attempts: self.attempts?,
            next_attempt_at: self.next_attempt_at,
            not_after: self.not_after,
            dead_reason: self.dead_reason,
            last_outcome: self.last_outcome,
            last_status: self.last_status,
            last_error: self.last_error.take(),
            auth: job_auth::job_auth(
                self.job_auth.take(),
                self.instance_auth.take(),
                self.org_auth.take(),
                self.service_auth.take(),
                self.unknown_auth.take(),
            ),
            updated_at: self.updated_at?,
        })
    }

    fn attempt(self) -> Option<AttemptRecord> {
        Some(AttemptRecord {
            attempt_id: self.attempt_id?,
            schedule_id: ScheduleId(self.attempt_schedule_id?),
            dedup_key: self.attempt_dedup_key?,
            fire_at: self.attempt_fire_at?,
            attempt: self.attempt?,
            armed_at: None,
            started_at: self.started_at?,
            ended_at: self.ended_at?,
            outcome: self.outcome?,
            http_status: self.http_status,
            retry_after_s: None,
            error: self.error,
            answer: self.answer,
        })
    }
}

/// Returns a job's current one-shot, or its cancel without one, and its latest `attempts`; `None` if nothing is stored.
///
/// One statement, so that no outcome and no cancel lies between its parts. History from before the registration
/// belongs to a deleted instance of the same id, perhaps of another org.
pub async fn of(
    db: &Db,
    instance_id: &InstanceId,
    job_id: &JobId,
    attempts: u32,
) -> DbResult<Option<JobStatus>> {
    let mut found = sqlx::query_as!(
        Found,
        r#"
        SELECT p.schedule_id AS "schedule_id?", p.dedup_key AS "dedup_key?", p.fire_at_text AS "fire_at_text?",
               p.fire_at AS "fire_at?", p.callback_url AS "callback_url?",
               p.state AS "state!: OptionalWord<OneShotState>", p.parked AS "parked!: OptionalWord<ParkReason>",
               p.awaits AS "awaits!: OptionalWord<BackendName>", p.attempts AS "attempts?", p.next_attempt_at, p.not_after,
               dead_reason_of(p.state, p.expired) AS "dead_reason!: OptionalWord<DeadReason>",
               p.last_outcome AS "last_outcome!: OptionalWord<FireOutcome>", p.last_status, p.last_error,
               p.updated_at AS "updated_at?",
               a.job_auth, a.instance_auth, a.org_auth, a.service_auth, a.unknown_auth,
               f.attempt_id AS "attempt_id?", f.schedule_id AS "attempt_schedule_id?", f.dedup_key AS "attempt_dedup_key?",
               f.fire_at AS "attempt_fire_at?", f.attempt AS "attempt?", f.started_at AS "started_at?",
               f.ended_at AS "ended_at?", f.outcome AS "outcome!: OptionalWord<FireOutcome>", f.http_status, f.error, f.answer,
               c.cancelled_at AS "cancelled_at?"
        FROM instances i
        CROSS JOIN LATERAL auth_of_job(i.instance_id, i.org_id, $2 /* job_id */) a
        LEFT JOIN one_shots p ON p.instance_id = i.instance_id AND p.job_id = $2
        -- A job that was armed again is as any other.
        LEFT JOIN cancelled_jobs c ON c.instance_id = i.instance_id AND c.job_id = $2 AND p.job_id IS NULL
        LEFT JOIN LATERAL (
            SELECT * FROM fires
            WHERE instance_id = $1 AND job_id = $2 AND started_at >= i.created_at
            ORDER BY started_at DESC
            LIMIT $3 /* attempts */
        ) f ON true
        WHERE i.instance_id = $1 /* instance_id */
        ORDER BY f.started_at DESC
        "#,
        instance_id.as_str(),
        job_id.as_str(),
        i64::from(attempts),
    )
    .fetch_all(db)
    .await?;
    let Some(first) = found.first_mut() else { return Ok(None) };
    let cancelled_at = first.cancelled_at;
    let one_shot = first.one_shot(instance_id, job_id);
    let attempts: Vec<_> = found.into_iter().filter_map(Found::attempt).collect();
    let known = one_shot.is_some() || cancelled_at.is_some() || !attempts.is_empty();
    Ok(known.then_some(JobStatus { one_shot, cancelled_at, attempts }))
}
