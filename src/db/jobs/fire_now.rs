//! The statement with which an operator fires a one-shot before its instant.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{InstanceId, JobId, OneShotState, OrgId, ParkReason, ScheduleId};

use crate::db::columns::{OptionalWord, Word};
use crate::db::{Db, DbResult};

/// A one-shot when an operator asked to fire it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FireNow {
    /// The one-shot.
    pub schedule_id: ScheduleId,
    /// Its state.
    pub state: OneShotState,
    /// The reason for which it is parked.
    pub parked: Option<ParkReason>,
    /// True if its fires are held.
    pub on_hold: bool,
    /// Start of its next attempt; `None` if this did not make it due.
    pub due_at: Option<DateTime<Utc>>,
}

/// Makes the one-shot `schedule_id` of a job due now: its instant becomes the present, and the built-in loop fires it,
/// whoever was to wake it. Does nothing unless it is armed, leased or waiting, and neither held nor parked. Returns `None`
/// for a job without a one-shot, or of another org than `org_id`.
pub async fn fire_now(
    db: &Db,
    instance_id: &InstanceId,
    job_id: &JobId,
    schedule_id: ScheduleId,
    org_id: Option<&OrgId>,
) -> DbResult<Option<FireNow>> {
    let row = sqlx::query!(
        r#"
        WITH found AS MATERIALIZED (
            SELECT o.instance_id, o.job_id, o.schedule_id, o.state, o.parked, o.next_attempt_at, i.on_hold
                       OR EXISTS (SELECT FROM job_holds h WHERE h.instance_id = o.instance_id AND h.job_id = o.job_id)
                   AS on_hold
            FROM one_shots o JOIN instance_status i USING (instance_id)
            WHERE o.instance_id = $1 AND o.job_id = $2 AND ($4::text IS NULL OR i.org_id = $4 /* org_id */)
            FOR NO KEY UPDATE OF o
        ), fired AS (
            UPDATE one_shots o
            SET fire_at = LEAST(o.fire_at, now()),
                -- The floor between two fires stays.
                next_attempt_at = LEAST(o.next_attempt_at, GREATEST(now(), o.last_started_at + interval '1 s')),
                -- It cannot be late.
                due_since = NULL,
                awaits = NULL, retry_after_until = NULL, updated_at = now()
            FROM found f
            WHERE o.instance_id = f.instance_id AND o.job_id = f.job_id AND f.schedule_id = $3 /* schedule_id */
              AND f.state IN ('armed', 'waiting') AND NOT f.on_hold AND f.parked IS NULL
            RETURNING o.schedule_id, o.next_attempt_at
        ), unwanted AS (
            UPDATE wake_ups w
            SET state = 'unwanted', next_try_at = next_cancel_at(w.state, w.tries, w.next_try_at)
            FROM fired f
            WHERE w.schedule_id = f.schedule_id AND w.state <> 'unwanted'
        )
        SELECT f.schedule_id, f.state AS "state: Word<OneShotState>", f.parked AS "parked!: OptionalWord<ParkReason>",
               f.on_hold AS "on_hold!",
               COALESCE(n.next_attempt_at, CASE WHEN f.state = 'leased' AND NOT f.on_hold THEN f.next_attempt_at END) AS due_at
        FROM found f LEFT JOIN fired n ON true
        "#,
        instance_id.as_str(),
        job_id.as_str(),
        schedule_id.0,
        org_id.map(OrgId::as_str),
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| FireNow {
        schedule_id: ScheduleId(row.schedule_id),
        state: row.state.0,
        parked: row.parked.0,
        on_hold: row.on_hold,
        due_at: row.due_at,
    }))
}
