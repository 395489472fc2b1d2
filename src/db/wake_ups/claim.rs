//! Statements that process received wake-ups, and take over one-shots whose wake-up is missing.

use std::time::{Duration, Instant};

use nas_cron_protocol::{BackendName, DeadReason, FireOutcome, OneShotState};
use uuid::Uuid;

use crate::db::columns::{OptionalWord, Word};
use crate::db::seconds::duration;
use crate::db::{Db, DbResult};
use crate::domain::lease::Lease;
use crate::domain::stage::Stage;
use crate::domain::wake_up::{Found, Wake};

/// Processes wake-ups. Returns one result per wake-up, in order. One-shots that awaited their backend now belong to the
/// built-in loop, and at most `room` of those due within `horizon` are leased. Durable when it returns.
///
/// One-shots that are due, but on hold, waiting for a probe or for the end of a `Retry-After`, are parked or postponed as in
/// [`crate::db::leases::claim_due`].
#[expect(clippy::too_many_lines, reason = "one statement is best read in one piece")]
pub async fn take(
    db: &Db,
    wakes: &[Wake],
    horizon: Duration,
    grace: Duration,
    room: i64,
) -> DbResult<Vec<Found>> {
    let (instance_ids, job_ids, schedule_ids) = columns(wakes);
    let sent = Instant::now();
    let rows = sqlx::query!(
        r#"
        WITH given AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[])
                WITH ORDINALITY AS g(instance_id, job_id, schedule_id, line)
        ), awaited AS MATERIALIZED (
            SELECT o.instance_id, o.job_id, o.schedule_id, min(g.line) AS line
            FROM given g JOIN one_shots o USING (instance_id, job_id, schedule_id)
            WHERE o.awaits IS NOT NULL
            GROUP BY 1, 2, 3
        ), locked AS MATERIALIZED (
            SELECT a.line, o.instance_id, o.job_id, o.next_attempt_at,
                   o.next_attempt_at <= now() + make_interval(secs => $4) AS near
            FROM awaited a JOIN one_shots o USING (instance_id, job_id)
            -- Looked at again once it is locked: it may have been superseded in between.
            WHERE o.awaits IS NOT NULL AND o.schedule_id = a.schedule_id
            ORDER BY o.next_attempt_at
            FOR UPDATE OF o SKIP LOCKED
        ), judged AS (
            SELECT l.*,
                   CASE WHEN l.near THEN park_reason_of(l.job_id, i.on_hold OR h.job_id IS NOT NULL, i.probe_job_id) END
                   AS park,
                   CASE WHEN l.near THEN GREATEST(l.next_attempt_at, i.busy_until) ELSE l.next_attempt_at END AS due_at
            FROM locked l JOIN instance_status i USING (instance_id) LEFT JOIN job_holds h USING (instance_id, job_id)
        ), ready AS (
            SELECT j.*, park IS NULL AND due_at <= now() + make_interval(secs => $4) AS ready FROM judged j
        ), ranked AS (
            SELECT r.*, ready AND row_number() OVER (PARTITION BY ready ORDER BY line) <= $6 AS lease FROM ready r
        ), woken AS (
            UPDATE one_shots o
            SET awaits = NULL,
                state = CASE WHEN r.lease THEN 'leased' ELSE o.state END,
                parked = r.park,
                next_attempt_at = CASE WHEN r.park IS NULL THEN r.due_at ELSE o.next_attempt_at END,
                due_since = CASE WHEN r.park IS NULL AND r.due_at = o.next_attempt_at THEN o.due_since END,
                retrying_since = CASE WHEN r.park = 'unreachable' THEN COALESCE(o.retrying_since, now())
                                      ELSE o.retrying_since END,
                lease_token = CASE WHEN r.lease THEN gen_random_uuid() ELSE o.lease_token END,
                claim_expires_at = CASE WHEN r.lease
                    THEN GREATEST(r.due_at, clock_timestamp()) + make_interval(secs => $5) END
            FROM ranked r
            WHERE o.instance_id = r.instance_id AND o.job_id = r.job_id
            RETURNING r.line, o.state, o.parked, o.next_attempt_at, o.lease_token, o.claim_expires_at
        ), passed_over AS (
            -- Locked by another session, which may only have read it: still awaited as far as is known.
            SELECT a.line, a.schedule_id FROM awaited a
            WHERE NOT EXISTS (SELECT FROM woken w WHERE w.line = a.line)
        ), heard AS MATERIALIZED (
            SELECT u.schedule_id, u.generation FROM wake_ups u
            WHERE u.schedule_id = ANY ($3) AND u.schedule_id NOT IN (SELECT schedule_id FROM passed_over)
            -- In the common lock order, so that there is no deadlock.
            ORDER BY u.schedule_id, u.generation FOR UPDATE
        ), told AS (
            DELETE FROM wake_ups u USING heard h
            WHERE u.schedule_id = h.schedule_id AND u.generation = h.generation AND u.backend <> 'qstash_direct'
        ), called_off AS (
            -- What a relay of before a switch has woken, QStash would call the agent for as well.
            UPDATE wake_ups u SET state = 'unwanted', next_try_at = now()
            FROM heard h
            WHERE u.schedule_id = h.schedule_id AND u.generation = h.generation AND u.backend = 'qstash_direct'
        )
        SELECT w.lease_token, w.claim_expires_at, clock_timestamp() AS "now!",
               COALESCE(w.next_attempt_at, o.next_attempt_at) AS due_at,
               COALESCE(w.state, o.state) AS "state!: OptionalWord<OneShotState>",
               COALESCE(w.parked, o.parked) IS NOT NULL AS "parked!", o.last_outcome AS "outcome!: OptionalWord<FireOutcome>",
               dead_reason_of(o.state, o.expired) AS "dead_reason!: OptionalWord<DeadReason>",
               o.schedule_id = g.schedule_id AS current,
               EXISTS (SELECT FROM passed_over p WHERE p.schedule_id = g.schedule_id) AS "locked!",
               COALESCE(o.delivered_schedule_id = g.schedule_id, false) AS "delivered!"
        FROM given g
        LEFT JOIN one_shots o USING (instance_id, job_id)
        LEFT JOIN woken w USING (line)
        ORDER BY g.line
        "#,
        &instance_ids as &[&str],
        &job_ids as &[&str],
        &schedule_ids,
        horizon.as_secs_f64(),
        grace.as_secs_f64(),
        room,
    )
    .fetch_all(db)
    .await?;
    let claim = Stage::since(sent);
    let found = rows.into_iter().zip(wakes).map(|(row, wake)| {
        let leased = row.state.0 == Some(OneShotState::Leased);
        match (row.current, row.lease_token, row.claim_expires_at, row.due_at, row.state.0) {
            _ if row.locked => Found::Locked,
            (_, Some(lease_token), Some(expires), Some(due_at), _) if leased => {
                // Counted from before the statement was sent, so that it is never later than in the database.
                let ends = sent + (expires - row.now).to_std().unwrap_or_default();
                let (instance_id, job_id) = (wake.instance_id.clone(), wake.job_id.clone());
                // Only a first attempt awaits a wake-up, so it repeats none.
                let (woken_at, retries) = (None, None);
                Found::Leased(Lease {
                    instance_id,
                    job_id,
                    lease_token,
                    due_at,
                    ends,
                    claim,
                    woken_at,
                    retries,
                })
            }
            (Some(true), _, _, due_at, Some(state)) => Found::Standing {
                state,
                expired: row.dead_reason.0 == Some(DeadReason::Expired),
                outcome: row.outcome.0,
                parked: row.parked,
                due_in: due_at.map(|at| duration((at - row.now).as_seconds_f64())),
            },
            _ if row.delivered => Found::Delivered,
            (Some(_), ..) => Found::Superseded,
            (None, ..) => Found::Gone,
        }
    });
    Ok(found.collect())
}

/// Returns wake-ups as arguments of a statement.
fn columns(wakes: &[Wake]) -> (Vec<&str>, Vec<&str>, Vec<Uuid>) {
    let names =
        wakes.iter().map(|wake| (wake.instance_id.as_str(), wake.job_id.as_str(), wake.schedule_id.0));
    names.collect()
}

/// Takes over one-shots whose external backend did not send their wake-up within its grace period (the watchdog). They
/// now belong to the built-in loop. Takes at most `limit` per backend. Returns the number of misses by backend.
pub async fn take_over_missed(
    db: &Db,
    graces: &[(BackendName, Duration)],
    limit: i64,
) -> DbResult<Vec<(BackendName, u64)>> {
    let (backends, graces) = self::graces(graces);
    let rows = sqlx::query!(
        r#"
        WITH missed AS MATERIALIZED (
            SELECT m.*
            FROM unnest($1::text[], $2::float8[]) AS g(backend, grace)
            CROSS JOIN LATERAL (
                SELECT o.instance_id, o.job_id, o.schedule_id, o.awaits
                FROM one_shots o
                WHERE o.awaits = g.backend::scheduler_backend
                  AND o.next_attempt_at <= now() - make_interval(secs => g.grace)
                ORDER BY o.next_attempt_at
                LIMIT $3
                FOR UPDATE SKIP LOCKED
            ) m
        ), ours AS (
            UPDATE one_shots o SET awaits = NULL
            FROM missed m WHERE o.instance_id = m.instance_id AND o.job_id = m.job_id
        ), known AS (
            SELECT u.schedule_id, u.generation
            FROM missed m JOIN wake_ups u USING (schedule_id)
            ORDER BY 1, 2
            FOR UPDATE OF u
        ), untold AS (
            UPDATE wake_ups u
            SET state = 'unwanted',
                next_try_at = next_cancel_at(u.state, u.tries, u.next_try_at)
            FROM known k
            WHERE u.schedule_id = k.schedule_id AND u.generation = k.generation AND u.state <> 'unwanted'
        ), counted AS (
            INSERT INTO missed_wake_ups AS t (backend, missed, latest_at)
            SELECT m.awaits, count(*), now() FROM missed m GROUP BY m.awaits
            -- Replicas add at the same time, in the same order.
            ORDER BY m.awaits
            ON CONFLICT (backend) DO UPDATE
                SET missed = t.missed + excluded.missed, latest_at = GREATEST(t.latest_at, excluded.latest_at)
        ), noted AS (
            INSERT INTO event_facts (type, instance_id, job_id, data)
            SELECT 'wake_up.missed', m.instance_id, m.job_id, jsonb_build_object('backend', m.awaits, 'schedule_id', m.schedule_id)
            FROM missed m
        )
        SELECT awaits AS "backend!: Word<BackendName>", count(*) AS "count!" FROM missed GROUP BY awaits
        "#,
        &backends,
        &graces,
        limit,
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(|row| (row.backend.0, row.count.unsigned_abs())).collect())
}

/// Returns grace periods as arguments of a statement.
pub(in crate::db) fn graces(graces: &[(BackendName, Duration)]) -> (Vec<String>, Vec<f64>) {
    graces.iter().map(|(backend, grace)| (backend.as_str().to_owned(), grace.as_secs_f64())).unzip()
}
