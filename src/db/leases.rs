//! Statements about leases: claims, confirmations, and recovery. Every statement takes a batch, and every write about
//! an attempt is fenced by its lease token.

use std::time::{Duration, Instant};

use chrono::DateTime;
use nas_cron_protocol::{BackendName, CallbackUrl, DedupKey, FireAt, InstanceId, JobId, ScheduleId};
use uuid::Uuid;

use super::seconds::duration;
use super::{Db, DbResult, job_auth, wake_ups};
use crate::domain::attempt::{Attempt, Confirmed};
use crate::domain::clock_sample::ClockSample;
use crate::domain::lease::{Claimed, Lease, NextLook, Recovered};
use crate::domain::stage::Stage;
use crate::domain::trace_context::TraceContext;

/// Maximum number of due one-shots that are searched for expired leases: about 50 ms.
const SEARCHED: i64 = 100_000;

/// Maximum number of one-shots that [`next_look`] reads to find one that is not claimed.
const LOOKED_AT: i64 = 100;

/// Returns when the next claim, backend miss, search for expired leases and limit of a one-shot are due. This is the only
/// query of an idle service.
pub async fn next_look(db: &Db, graces: &[(BackendName, Duration)]) -> DbResult<NextLook> {
    let (backends, graces) = wake_ups::graces(graces);
    let sent = Instant::now();
    let row = sqlx::query!(
        r#"
        WITH first AS MATERIALIZED (
            SELECT next_attempt_at, claim_expires_at FROM one_shots
            WHERE next_attempt_at IS NOT NULL AND parked IS NULL AND awaits IS NULL
            ORDER BY next_attempt_at
            LIMIT $3 /* looked_at */
        )
        SELECT clock_timestamp() AS "now!",
               -- If all of these are claimed, the next one is not due before them.
               extract(epoch FROM COALESCE(
                    (SELECT min(next_attempt_at) FROM first WHERE claim_expires_at IS NULL),
                    (SELECT max(next_attempt_at) FROM first HAVING count(*) = $3))
                - clock_timestamp())::float8 AS due_in,
               extract(epoch FROM (SELECT min(o.next_attempt_at + make_interval(secs => g.grace))
                FROM unnest($1::text[], $2::float8[]) AS g(backend, grace) CROSS JOIN LATERAL (
                    SELECT next_attempt_at FROM one_shots WHERE awaits = g.backend::scheduler_backend
                    ORDER BY next_attempt_at LIMIT 1
                ) o) - clock_timestamp())::float8 AS missed_in,
               extract(epoch FROM (SELECT min(next_attempt_at) FROM first) - clock_timestamp())::float8 AS first_in,
               extract(epoch FROM (SELECT min(expires_at) FROM superseded_attempts)
                - clock_timestamp())::float8 AS superseded_ends_in,
               extract(epoch FROM (SELECT not_after FROM one_shots
                WHERE not_after IS NOT NULL AND next_attempt_at IS NOT NULL
                  AND claim_expires_at IS NULL AND awaits IS DISTINCT FROM 'qstash_direct'
                ORDER BY not_after LIMIT 1) - clock_timestamp())::float8 AS expires_in
        "#,
        &backends,
        &graces,
        LOOKED_AT,
    )
    .fetch_one(db)
    .await?;
    let clock = ClockSample { sent, received: Instant::now(), database: row.now };
    Ok(NextLook {
        due_in: row.due_in.map(duration),
        missed_in: row.missed_in.map(duration),
        first_in: row.first_in.map(duration),
        superseded_ends_in: row.superseded_ends_in.map(duration),
        expires_in: row.expires_in.map(duration),
        clock,
    })
}

/// Leases at most `limit` one-shots that are due within `horizon`, soonest first, except those of instances in
/// `saturated`. A one-shot that is on hold, or waits for the probe of its instance, is parked instead. One whose agent has
/// asked to wait is due when that time is over. A lease ends `grace` after the due time. The commit is asynchronous: after
/// a lost claim, the row is simply due again.
pub async fn claim_due(
    db: &Db,
    horizon: Duration,
    grace: Duration,
    limit: i64,
    saturated: &[String],
) -> DbResult<Claimed> {
    let sent = Instant::now();
    let rows = sqlx::query!(
        r#"
        WITH relaxed AS MATERIALIZED (
            SELECT set_config('synchronous_commit', 'off', true)
        ), due AS MATERIALIZED (
            SELECT o.instance_id, o.job_id, o.next_attempt_at, CASE WHEN o.attempts > 0 THEN o.lease_token END AS retries
            FROM one_shots o
            WHERE o.next_attempt_at <= now() + make_interval(secs => $1 /* horizon */)
              AND o.claim_expires_at IS NULL AND o.parked IS NULL AND o.awaits IS NULL
              AND o.instance_id <> ALL ($4 /* saturated */)
            ORDER BY o.next_attempt_at
            LIMIT $3 /* limit */
            FOR UPDATE OF o SKIP LOCKED
        ), status AS MATERIALIZED (
            -- Once for each instance, and not for each of its one-shots.
            SELECT instance_id, on_hold, probe_job_id, busy_until FROM instance_status
            WHERE instance_id = ANY (ARRAY(SELECT DISTINCT instance_id FROM due))
        ), judged AS (
            SELECT due.instance_id, due.job_id, due.retries,
                   park_reason_of(due.job_id, i.on_hold OR h.job_id IS NOT NULL, i.probe_job_id) AS park,
                   GREATEST(due.next_attempt_at, i.busy_until) AS due_at
            FROM relaxed CROSS JOIN due JOIN status i USING (instance_id)
            LEFT JOIN job_holds h USING (instance_id, job_id)
        ), decided AS MATERIALIZED (
            SELECT j.*, park IS NULL AND due_at <= now() + make_interval(secs => $1) AS lease FROM judged j
        )
        UPDATE one_shots o
        SET state = CASE WHEN j.lease THEN 'leased' ELSE o.state END,
            parked = j.park,
            next_attempt_at = CASE WHEN j.park IS NULL THEN j.due_at ELSE o.next_attempt_at END,
            due_since = CASE WHEN j.park IS NULL AND j.due_at = o.next_attempt_at THEN o.due_since END,
            retrying_since = CASE WHEN j.park = 'unreachable' THEN COALESCE(o.retrying_since, now())
                                  ELSE o.retrying_since END,
            lease_token = CASE WHEN j.lease THEN gen_random_uuid() ELSE o.lease_token END,
            claim_expires_at = CASE WHEN j.lease
                THEN GREATEST(j.due_at, clock_timestamp()) + make_interval(secs => $2 /* grace */) END
        FROM decided j
        WHERE o.instance_id = j.instance_id AND o.job_id = j.job_id
        RETURNING o.instance_id, o.job_id, o.lease_token, o.next_attempt_at AS "due_at!", o.claim_expires_at,
                  j.retries, clock_timestamp() AS "now!"
        "#,
        horizon.as_secs_f64(),
        grace.as_secs_f64(),
        limit,
        saturated,
    )
    .fetch_all(db)
    .await?;
    let claim = Stage::since(sent);
    let mut claimed = Claimed::default();
    for row in rows {
        if let (Some(lease_token), Some(expires)) = (row.lease_token, row.claim_expires_at) {
            claimed.leases.push(Lease {
                instance_id: InstanceId::stored(row.instance_id),
                job_id: JobId::stored(row.job_id),
                lease_token,
                due_at: row.due_at,
                // Counted from before the statement was sent, so that it is never later than in the database.
                ends: sent + (expires - row.now).to_std().unwrap_or_default(),
                claim,
                woken_at: None,
                retries: row.retries,
            });
        } else {
            claimed.postponed += 1;
        }
    }
    Ok(claimed)
}

/// Starts the attempts whose leases are still valid: not cancelled, not superseded, not on hold, not waiting for a
/// probe or for the end of a `Retry-After`, due and not expired by the database's clock. They are attempts of
/// `replica_id`, each with a lease of `attempt_lease`. The commit is asynchronous: a confirmation that is lost in a
/// database crash only costs a repeated attempt.
pub async fn confirm(
    db: &Db,
    leases: &[Lease],
    attempt_lease: Duration,
    replica_id: i32,
) -> DbResult<Confirmed> {
    let (instance_ids, job_ids, tokens) = columns(leases);
    let sent = Instant::now();
    let rows = sqlx::query!(
        r#"
        WITH relaxed AS MATERIALIZED (
            SELECT set_config('synchronous_commit', 'off', true)
        ), confirmed AS (
            UPDATE one_shots o
            SET state = 'firing', attempts = o.attempts + 1, last_started_at = clock_timestamp(),
                attempt_expires_at = clock_timestamp() + make_interval(secs => $4 /* attempt_lease */),
                replica_id = $5
            FROM relaxed, (
                     -- Rows are locked in the order of other statements, so that there is hardly ever a deadlock. As subqueries,
                     -- arrays do not make Postgres plan anew for their lengths.
                     SELECT * FROM unnest((SELECT $1::text[]), (SELECT $2::text[]), (SELECT $3::uuid[]))
                         AS u(instance_id, job_id, lease_token)
                     ORDER BY instance_id, job_id
                 ) l, instance_status i
            WHERE o.instance_id = l.instance_id AND o.job_id = l.job_id AND o.lease_token = l.lease_token
              AND i.instance_id = o.instance_id AND NOT i.on_hold
              AND NOT EXISTS (SELECT FROM job_holds h WHERE h.instance_id = o.instance_id AND h.job_id = o.job_id)
              -- Claimed before its instance's outage was found out: it waits for the probe like the others.
              AND (i.probe_job_id IS NULL OR i.probe_job_id = o.job_id)
              AND o.state = 'leased' AND o.claim_expires_at > clock_timestamp()
              -- GREATEST passes over NULL.
              AND GREATEST(o.next_attempt_at, o.fire_at, i.busy_until) <= clock_timestamp()
              -- NULL: no limit.
              AND (o.not_after < clock_timestamp()) IS NOT TRUE
            RETURNING o.*, i.org_id, i.unreachable_since IS NOT NULL AS probes
        )
        SELECT clock_timestamp() AS "now!", c.instance_id AS "instance_id?", c.job_id AS "job_id?",
               c.schedule_id AS "schedule_id?", c.dedup_key AS "dedup_key?", c.lease_token AS "lease_token?", c.fire_at_text AS "fire_at_text?",
               c.fire_at AS "fire_at?", c.callback_url AS "callback_url?", c.attempts AS "attempts?",
               c.retrying_since AS "retrying_since?", c.next_attempt_at AS "due_at?",
               CASE WHEN c.attempts = 1 AND c.due_since IS NOT NULL THEN GREATEST(c.due_since, c.fire_at) END AS late_since,
               c.created_at AS "armed_at?", c.last_started_at AS "started_at?", c.probes AS "probes?",
               c.follows_gone AS "follows_gone?", c.provision_trace,
               a.job_auth, a.instance_auth, a.org_auth, a.service_auth
        FROM (SELECT 1) AS always LEFT JOIN confirmed c ON true
        CROSS JOIN LATERAL auth_of_job(c.instance_id, c.org_id, c.job_id) a
        "#,
        &instance_ids,
        &job_ids,
        &tokens,
        attempt_lease.as_secs_f64(),
        replica_id,
    )
    .fetch_all(db)
    .await?;
    let received = Instant::now();
    let database = rows.first().map_or(DateTime::UNIX_EPOCH, |row| row.now);
    let (mut attempts, mut unreadable) = (Vec::with_capacity(rows.len()), Vec::new());
    for row in rows {
        let Some(attempt_id) = row.lease_token else { continue };
        let attempt = || {
            let started_at = row.started_at?;
            Some(Attempt {
                instance_id: InstanceId::stored(row.instance_id?),
                job_id: JobId::stored(row.job_id?),
                schedule_id: ScheduleId(row.schedule_id?),
                dedup_key: DedupKey::stored(row.dedup_key?),
                attempt_id,
                fire_at: FireAt::stored(row.fire_at_text?, row.fire_at?),
                callback_url: CallbackUrl::stored(row.callback_url?)?,
                auth: job_auth::effective(row.job_auth, row.instance_auth, row.org_auth, row.service_auth),
                attempt: u32::try_from(row.attempts?).unwrap_or(u32::MAX),
                retrying_for: row
                    .retrying_since
                    .and_then(|since| (started_at - since).to_std().ok())
                    .unwrap_or_default(),
                due_at: row.due_at?,
                late_since: row.late_since,
                armed_at: row.armed_at?,
                started_at,
                probes: row.probes?,
                follows_gone: row.follows_gone?,
                provision_trace: row.provision_trace.as_deref().and_then(TraceContext::stored),
                lease_ends: sent + attempt_lease,
            })
        };
        match attempt() {
            Some(attempt) => attempts.push(attempt),
            None => unreadable.push(attempt_id),
        }
    }
    Ok(Confirmed { attempts, unreadable, clock: ClockSample { sent, received, database } })
}

/// Returns leases whose attempts were never sent: unconfirmed ones, those that a replica cannot start in time, and those
/// that it holds when it stops. The one-shots are due again after one to two times `delay`. A confirmed attempt that the
/// caller knows was never sent is undone. Fenced: leases of others do not change.
pub async fn give_back(db: &Db, leases: &[Lease], delay: Duration) -> DbResult<u64> {
    let (instance_ids, job_ids, tokens) = columns(leases);
    let result = sqlx::query!(
        r#"
        WITH given AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::uuid[]) AS l(instance_id, job_id, lease_token)
        ), never_sent AS (
            DELETE FROM superseded_attempts s USING given g WHERE s.attempt_id = g.lease_token
        ), locked AS MATERIALIZED (
            -- In the order of other statements, so that there is no deadlock.
            SELECT o.instance_id, o.job_id, g.lease_token FROM given g JOIN one_shots o USING (instance_id, job_id)
            WHERE o.lease_token = g.lease_token
            ORDER BY o.instance_id, o.job_id
            FOR NO KEY UPDATE OF o
        )
        UPDATE one_shots o
        SET state = CASE WHEN o.attempts - (o.state = 'firing')::int > 0 THEN 'waiting' ELSE 'armed' END::one_shot_state,
            attempts = o.attempts - (o.state = 'firing')::int,
            -- Not before `fire_at` either, or what cannot be confirmed before it would come back at once, for ever.
            -- Spread, because a shortage defers many at once.
            next_attempt_at = GREATEST(o.next_attempt_at, o.fire_at, now() + make_interval(secs => $4 * (1 + random()))),
            lease_token = NULL, claim_expires_at = NULL, attempt_expires_at = NULL
        FROM locked l
        WHERE o.instance_id = l.instance_id AND o.job_id = l.job_id AND o.lease_token = l.lease_token
          AND o.state IN ('leased', 'firing')
        "#,
        &instance_ids,
        &job_ids,
        &tokens,
        delay.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

fn columns(leases: &[Lease]) -> (Vec<String>, Vec<String>, Vec<Uuid>) {
    let mut columns = (Vec::new(), Vec::new(), Vec::new());
    for lease in leases {
        columns.0.push(lease.instance_id.as_str().to_owned());
        columns.1.push(lease.job_id.as_str().to_owned());
        columns.2.push(lease.lease_token);
    }
    columns
}

/// Returns true if a lease has expired. It locks nothing, because claims wait for it.
pub async fn any_expired(db: &Db) -> DbResult<bool> {
    let found = sqlx::query_scalar!(
        r#"
        SELECT EXISTS (
            SELECT
            FROM (
                SELECT claim_expires_at, attempt_expires_at FROM one_shots
                WHERE next_attempt_at <= now() AND parked IS NULL AND awaits IS NULL
                ORDER BY next_attempt_at
                LIMIT $1 /* searched */
            ) due
            WHERE claim_expires_at <= now() AND COALESCE(attempt_expires_at, claim_expires_at) <= now()
        ) OR EXISTS (
            SELECT FROM superseded_attempts WHERE expires_at <= now()
        ) AS "found!"
        "#,
        SEARCHED,
    )
    .fetch_one(db)
    .await?;
    Ok(found)
}

/// Recovers one-shots whose lease has expired. Without a started attempt, they are due again at once. A started attempt
/// counts as an ambiguous end, is recorded as lost, and its one-shot waits for `ambiguous_floor`. Attempts of superseded
/// and cancelled one-shots are recorded, too.
///
/// Leases have no index, because every claim and every outcome would have to write it. Claims take the one-shots that are
/// due for longest, so the leases are found among the first of those.
pub async fn recover_expired(db: &Db, ambiguous_floor: Duration, limit: i64) -> DbResult<Recovered> {
    let row = sqlx::query!(
        r#"
        WITH found AS MATERIALIZED (
            SELECT instance_id, job_id
            FROM (
                SELECT instance_id, job_id, claim_expires_at, attempt_expires_at FROM one_shots
                WHERE next_attempt_at <= now() AND parked IS NULL AND awaits IS NULL
                ORDER BY next_attempt_at
                LIMIT $3 /* searched */
            ) due
            WHERE claim_expires_at <= now() AND COALESCE(attempt_expires_at, claim_expires_at) <= now()
            LIMIT $2 /* limit */
        ), expired AS (
            SELECT o.*
            FROM found f JOIN one_shots o USING (instance_id, job_id)
            WHERE o.claim_expires_at <= now() AND COALESCE(o.attempt_expires_at, o.claim_expires_at) <= now()
            FOR UPDATE OF o SKIP LOCKED
        ), superseded AS (
            DELETE FROM superseded_attempts
            WHERE attempt_id IN (SELECT attempt_id FROM superseded_attempts WHERE expires_at <= now() LIMIT $2)
            RETURNING *
        ), lost AS (
            INSERT INTO fires (attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at,
                               ended_at, outcome, error)
            SELECT l.*, now(), 'lost', 'the lease ended before an outcome was recorded'
            FROM (
                SELECT lease_token, instance_id, job_id, schedule_id, dedup_key, fire_at, attempts, last_started_at
                FROM expired WHERE state = 'firing'
                UNION ALL
                SELECT attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at
                FROM superseded
            ) l
            ON CONFLICT DO NOTHING
            RETURNING 1
        ), recovered AS (
            UPDATE one_shots o
            SET state = CASE WHEN o.attempts > 0 THEN 'waiting' ELSE 'armed' END::one_shot_state,
                next_attempt_at = CASE WHEN o.state = 'firing' THEN now() + make_interval(secs => $1 /* ambiguous_floor */)
                                       ELSE o.next_attempt_at END,
                retrying_since = CASE WHEN o.state = 'firing' THEN COALESCE(o.retrying_since, o.last_started_at)
                                      ELSE o.retrying_since END,
                last_status = CASE WHEN o.state = 'firing' THEN NULL ELSE o.last_status END,
                last_error = CASE WHEN o.state = 'firing' THEN 'the lease ended before an outcome was recorded'
                                  ELSE o.last_error END,
                last_outcome = CASE WHEN o.state = 'firing' THEN 'lost' ELSE o.last_outcome END,
                claimed_at = CASE WHEN o.state = 'firing' THEN now() ELSE o.claimed_at END,
                claim_expires_at = NULL, attempt_expires_at = NULL, updated_at = now()
            FROM expired e
            WHERE o.instance_id = e.instance_id AND o.job_id = e.job_id
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM recovered) AS "one_shots!", (SELECT count(*) FROM lost) AS "attempts!"
        "#,
        ambiguous_floor.as_secs_f64(),
        limit,
        SEARCHED,
    )
    .fetch_one(db)
    .await?;
    Ok(Recovered { one_shots: row.one_shots.unsigned_abs(), attempts: row.attempts.unsigned_abs() })
}
