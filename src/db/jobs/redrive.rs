//! The statements about redrives.

use std::time::Duration;

use chrono::{DateTime, Utc};

use nas_cron_protocol::OrgId;

use super::select::columns;
use crate::db::{Db, DbResult};
use crate::domain::job::{JobKey, Redriven};

/// Redrives dead and stuck one-shots: the same `schedule_id`, a fresh retry budget. Those of one instance are due `pace`
/// after each other, from now on or after those of an earlier redrive, so that no agent gets all of them at once. The
/// delivered key of a stuck one is deleted, so that it may have second fires again. Redrives those of `keys` that belong
/// to `org_id`, if it is given, and ended before `ended_before`, so that one that fails again is not redriven in a loop.
pub async fn redrive(
    db: &Db,
    keys: &[JobKey],
    org_id: Option<&OrgId>,
    ended_before: DateTime<Utc>,
    pace: Duration,
) -> DbResult<Redriven> {
    let (instance_ids, job_ids) = columns(keys);
    Ok(sqlx::query_as!(
        Redriven,
        r#"
        WITH found AS MATERIALIZED (
            SELECT * FROM unnest($1::text[], $2::text[]) AS f(instance_id, job_id)
        ), agents AS MATERIALIZED (
            -- Locked before their one-shots, as by the end of an outage, so that there is no deadlock.
            SELECT i.instance_id, GREATEST(i.paced_until, now()) AS begins
            FROM instances i
            WHERE i.instance_id IN (SELECT instance_id FROM found) AND ($5::text IS NULL OR i.org_id = $5 /* org_id */)
            ORDER BY i.instance_id
            FOR NO KEY UPDATE
        ), ended AS MATERIALIZED (
            SELECT o.instance_id, o.job_id, o.state, a.begins
            FROM found f JOIN agents a USING (instance_id) JOIN one_shots o USING (instance_id, job_id)
            WHERE o.dead_since <= $3 /* ended_before */ AND (SELECT count(*) FROM agents) >= 0
            ORDER BY o.instance_id, o.job_id
            FOR NO KEY UPDATE OF o
        ), paced AS MATERIALIZED (
            SELECT e.*, begins + (row_number() OVER (PARTITION BY instance_id ORDER BY job_id) - 1)
                                 * make_interval(secs => $4 /* pace */) AS starts
            FROM ended e
        ), continued AS (
            UPDATE instances i SET paced_until = l.starts + make_interval(secs => $4)
            FROM (SELECT instance_id, max(starts) AS starts FROM paced GROUP BY instance_id) l
            WHERE i.instance_id = l.instance_id
        ), redriven AS (
            UPDATE one_shots o
            SET state = 'armed', dead_since = NULL, lease_token = NULL,
                delivered_key = CASE WHEN p.state <> 'stuck' THEN o.delivered_key END,
                delivered_schedule_id = CASE WHEN p.state <> 'stuck' THEN o.delivered_schedule_id END,
                delivered_at = CASE WHEN p.state <> 'stuck' THEN o.delivered_at END,
                second_fires = CASE WHEN p.state <> 'stuck' THEN o.second_fires END,
                -- A redrive is not urgent to the second, so the default floor between two fires is enough.
                next_attempt_at = GREATEST(p.starts, o.fire_at, o.last_started_at + interval '1 s'), due_since = NULL,
                attempts = 0, retrying_since = NULL, retry_after_until = NULL, last_outcome = NULL, last_status = NULL,
                last_error = NULL, refused = false, updated_at = now(),
                -- A redrive is a decision to fire, however late.
                not_after = NULL, expired = false
            FROM paced p
            WHERE o.instance_id = p.instance_id AND o.job_id = p.job_id
            RETURNING o.next_attempt_at
        )
        SELECT count(*) AS "count!", max(next_attempt_at) AS last_starts_at FROM redriven
        "#,
        &instance_ids as &[&str],
        &job_ids as &[&str],
        ended_before,
        pace.as_secs_f64(),
        org_id.map(OrgId::as_str),
    )
    .fetch_one(db)
    .await?)
}
