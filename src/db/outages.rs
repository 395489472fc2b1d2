//! Statements about instances that are unreachable, busy, on hold, or have just shown that they are awake.

use std::time::Duration;

use nas_cron_protocol::{InstanceId, JobId};

use super::{Db, DbResult};
use crate::domain::HoldScope;
use crate::domain::hold::{Tidied, Withheld};

/// Marks instances as unreachable: of each failed attempt the instance, the job and the callback. The job becomes the probe,
/// unless the instance has one. A callback that the agent has left says nothing about it.
pub async fn open_outages(db: &Db, found: &[(&InstanceId, &JobId, &str)]) -> DbResult<u64> {
    let instance_ids: Vec<&str> = found.iter().map(|(instance, ..)| instance.as_str()).collect();
    let job_ids: Vec<&str> = found.iter().map(|(_, job, _)| job.as_str()).collect();
    let callbacks: Vec<&str> = found.iter().map(|(.., callback)| *callback).collect();
    let opened = sqlx::query_scalar!(
        r#"
        WITH opened AS (
            UPDATE instances i SET unreachable_since = now(), probe_job_id = f.job_id
            FROM (
                SELECT DISTINCT ON (instance_id, callback_url) instance_id, job_id, callback_url
                FROM unnest($1::text[] /* instance_id */, $2::text[] /* job_id */, $3::text[] /* callback_url */)
                    AS f(instance_id, job_id, callback_url)
                ORDER BY instance_id, callback_url
            ) f
            WHERE i.instance_id = f.instance_id AND i.unreachable_since IS NULL
              AND COALESCE(i.callback_url, f.callback_url) = f.callback_url
            RETURNING i.instance_id, f.job_id
        ), noted AS (
            INSERT INTO event_facts (type, instance_id, job_id)
            SELECT 'instance.became_unreachable', instance_id, job_id FROM opened
        )
        SELECT count(*) AS "opened!" FROM opened
        "#,
        &instance_ids as &[&str],
        &job_ids as &[&str],
        &callbacks as &[&str],
    )
    .fetch_one(db)
    .await?;
    Ok(opened.unsigned_abs())
}

/// Ends the outages of instances that answered. One-shots that waited for the probe are released; those that wait for a
/// retry of their own are due within two seconds. Returns the number of changed one-shots.
pub async fn close_outages(db: &Db, instances: &[InstanceId]) -> DbResult<u64> {
    let instance_ids: Vec<String> = instances.iter().map(|one| one.as_str().to_owned()).collect();
    let result = sqlx::query!(
        r#"
        WITH closed AS (
            UPDATE instances i SET unreachable_since = NULL, probe_job_id = NULL
            -- The row before, for its `unreachable_since`.
            FROM instances before
            WHERE i.instance_id = ANY ($1) AND i.unreachable_since IS NOT NULL AND before.instance_id = i.instance_id
            RETURNING i.instance_id, before.unreachable_since
        ), noted AS (
            INSERT INTO event_facts (type, instance_id, data)
            SELECT 'instance.became_reachable', instance_id, jsonb_build_object('unreachable_since', unreachable_since)
            FROM closed
        ), locked AS MATERIALIZED (
            SELECT o.instance_id, o.job_id FROM one_shots o JOIN closed c USING (instance_id)
            WHERE o.state IN ('armed', 'waiting') AND (o.parked = 'unreachable' OR (o.parked IS NULL AND o.attempts > 0))
            ORDER BY o.instance_id, o.job_id
            FOR NO KEY UPDATE OF o
        )
        UPDATE one_shots o
        SET parked = NULL, retrying_since = CASE WHEN o.attempts > 0 THEN o.retrying_since END,
            next_attempt_at = CASE WHEN o.attempts > 0
                THEN LEAST(o.next_attempt_at, GREATEST(now() + random() * interval '2 s', o.retry_after_until))
                ELSE o.next_attempt_at END,
            updated_at = now()
        FROM locked l
        WHERE o.instance_id = l.instance_id AND o.job_id = l.job_id AND o.state IN ('armed', 'waiting')
          AND (o.parked = 'unreachable' OR (o.parked IS NULL AND o.attempts > 0))
        "#,
        &instance_ids,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Notes the `Retry-After` of instances: none of their one-shots is due before it is over. Claims and confirmations apply
/// it. A longer one that is still running stays.
pub async fn set_busy(db: &Db, busy: &[(InstanceId, Duration)]) -> DbResult<()> {
    let instance_ids: Vec<&str> = busy.iter().map(|(instance, _)| instance.as_str()).collect();
    let seconds: Vec<f64> = busy.iter().map(|(_, retry_after)| retry_after.as_secs_f64()).collect();
    sqlx::query!(
        r#"
        WITH busy AS MATERIALIZED (
            SELECT instance_id, clock_timestamp() + make_interval(secs => max(seconds)) AS until
            FROM unnest($1::text[] /* instance_id */, $2::float8[] /* retry_after */) AS b(instance_id, seconds)
            GROUP BY instance_id
        ), locked AS MATERIALIZED (
            SELECT i.instance_id, b.until FROM instances i JOIN busy b USING (instance_id)
            ORDER BY i.instance_id
            FOR NO KEY UPDATE OF i
        )
        UPDATE instances i SET busy_until = GREATEST(i.busy_until, l.until)
        FROM locked l
        WHERE i.instance_id = l.instance_id
        "#,
        &instance_ids as &[&str],
        &seconds,
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Pulls forward the waiting retries of an instance that has called the service, and so is awake: to 1 to 3 s from now,
/// at most once per `interval` and instance, never before an unexpired `Retry-After`. Attempt counts stay, and one-shots
/// that wait for a probe keep waiting. Returns the number of retries pulled forward.
pub async fn pull_retries(db: &Db, instance_id: &InstanceId, interval: Duration) -> DbResult<u64> {
    let result = sqlx::query!(
        r#"
        WITH awake AS (
            UPDATE instances SET pulled_at = now()
            WHERE instance_id = $1
              AND (pulled_at IS NULL OR pulled_at <= now() - make_interval(secs => $2))
            RETURNING instance_id
        ), locked AS MATERIALIZED (
            SELECT o.instance_id, o.job_id FROM one_shots o JOIN awake a USING (instance_id)
            WHERE o.state = 'waiting' AND o.parked IS NULL AND o.attempts > 0
            ORDER BY o.instance_id, o.job_id
            FOR NO KEY UPDATE OF o
        )
        UPDATE one_shots o
        SET next_attempt_at = GREATEST(now() + make_interval(secs => 1 + 2 * random()), o.retry_after_until),
            updated_at = now()
        FROM locked l
        WHERE o.instance_id = l.instance_id AND o.job_id = l.job_id AND o.state = 'waiting' AND o.parked IS NULL AND o.attempts > 0
          AND o.next_attempt_at > now() + interval '3 s'
          AND o.next_attempt_at > COALESCE(o.retry_after_until, '-infinity')
        "#,
        instance_id.as_str(),
        interval.as_secs_f64(),
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Cleans up after concurrent holds, releases and cancels: releases parked one-shots whose hold has ended, chooses new
/// probes for unreachable instances without one, and gives up one-shots that waited for a probe for `give_up_after`.
///
/// The updates compare `parked` by `IS NOT DISTINCT FROM`, so that only the primary key fits: while the statistics know of no
/// parked one-shot, reading all of them for each row looks cheap.
pub async fn tidy_parked(db: &Db, give_up_after: Duration, limit: i64) -> DbResult<Tidied> {
    let row = sqlx::query!(
        r#"
        WITH orphaned AS (
            -- An outage whose probe is not retrying: it was cancelled, superseded, delivered or given up.
            SELECT i.instance_id, (
                SELECT p.job_id FROM one_shots p
                WHERE p.instance_id = i.instance_id AND p.parked = 'unreachable'
                  AND p.retrying_since > now() - make_interval(secs => $1)
                ORDER BY p.next_attempt_at LIMIT 1
            ) AS job_id
            FROM instances i
            WHERE i.unreachable_since IS NOT NULL AND NOT EXISTS (
                SELECT FROM one_shots p
                WHERE p.instance_id = i.instance_id AND p.job_id = i.probe_job_id
                  AND (p.state IN ('leased', 'firing', 'waiting') OR p.next_attempt_at <= now()))
        ), probing AS (
            UPDATE instances i
            SET probe_job_id = n.job_id,
                unreachable_since = CASE WHEN n.job_id IS NOT NULL THEN i.unreachable_since END
            FROM orphaned n
            WHERE i.instance_id = n.instance_id
            RETURNING i.instance_id, i.probe_job_id
        ), chosen AS MATERIALIZED (
            -- First, because it waits for locks: all others skip what is locked.
            SELECT o.instance_id, o.job_id
            FROM probing p JOIN one_shots o ON o.instance_id = p.instance_id AND o.job_id = p.probe_job_id
            WHERE o.parked = 'unreachable'
            ORDER BY o.instance_id, o.job_id
            FOR NO KEY UPDATE OF o
        ), probes AS (
            UPDATE one_shots o SET parked = NULL, updated_at = now()
            FROM chosen c
            WHERE o.instance_id = c.instance_id AND o.job_id = c.job_id AND o.parked IS NOT DISTINCT FROM 'unreachable'
            RETURNING 1
        ), released AS (
            UPDATE one_shots o SET parked = NULL, updated_at = now()
            FROM (
                SELECT p.instance_id, p.job_id
                FROM one_shots p JOIN instance_status i USING (instance_id)
                WHERE p.parked = 'hold' AND NOT i.on_hold AND (SELECT count(*) FROM chosen) >= 0
                  AND NOT EXISTS (SELECT FROM job_holds h WHERE h.instance_id = p.instance_id AND h.job_id = p.job_id)
                LIMIT $2
                FOR NO KEY UPDATE OF p SKIP LOCKED
            ) p
            WHERE o.instance_id = p.instance_id AND o.job_id = p.job_id AND o.parked IS NOT DISTINCT FROM 'hold'
            RETURNING 1
        ), given_up AS (
            UPDATE one_shots o
            SET state = 'dead', dead_since = now(), parked = NULL, next_attempt_at = NULL,
                last_error = 'gave up: the instance could not be reached', updated_at = now()
            FROM (
                SELECT p.instance_id, p.job_id FROM one_shots p
                WHERE p.parked = 'unreachable' AND p.retrying_since <= now() - make_interval(secs => $1)
                  AND (SELECT count(*) FROM chosen) >= 0
                LIMIT $2
                FOR NO KEY UPDATE SKIP LOCKED
            ) p
            WHERE o.instance_id = p.instance_id AND o.job_id = p.job_id AND o.parked IS NOT DISTINCT FROM 'unreachable'
            RETURNING 1
        ), stray AS (
            -- Parked just as its instance's outage ended.
            UPDATE one_shots o SET parked = NULL, updated_at = now()
            FROM (
                SELECT p.instance_id, p.job_id
                FROM one_shots p JOIN instances i USING (instance_id)
                WHERE p.parked = 'unreachable' AND i.unreachable_since IS NULL AND (SELECT count(*) FROM chosen) >= 0
                LIMIT $2
                FOR NO KEY UPDATE OF p SKIP LOCKED
            ) p
            WHERE o.instance_id = p.instance_id AND o.job_id = p.job_id AND o.parked IS NOT DISTINCT FROM 'unreachable'
            RETURNING 1
        )
        SELECT (SELECT count(*) FROM released) + (SELECT count(*) FROM stray) AS "released!",
               (SELECT count(*) FROM probes) AS "probes!", (SELECT count(*) FROM given_up) AS "given_up!"
        "#,
        give_up_after.as_secs_f64(),
        limit,
    )
    .fetch_one(db)
    .await?;
    Ok(Tidied { released: row.released, probes: row.probes, given_up: row.given_up })
}

/// Counts what stops fires: holds, and instances that are unreachable, disabled or denied.
pub async fn withheld(db: &Db) -> DbResult<Withheld> {
    let row = sqlx::query!(
        r#"
        SELECT (SELECT count(*) FROM instances WHERE unreachable_since IS NOT NULL) AS "unreachable!",
               d.disabled AS "disabled!", d.denied AS "denied!",
               h.service AS "service!", h.orgs AS "orgs!", h.instances AS "instances!",
               (SELECT count(*) FROM job_holds) AS "jobs!"
        FROM (
            SELECT count(*) FILTER (WHERE NOT enabled) AS disabled,
                   count(*) FILTER (WHERE denied_by_portal IS NOT NULL) AS denied
            FROM instances WHERE NOT enabled OR denied_by_portal IS NOT NULL
        ) d, (
            SELECT count(*) FILTER (WHERE scope = 'all') AS service, count(*) FILTER (WHERE scope = 'org') AS orgs,
                   count(*) FILTER (WHERE scope = 'instance') AS instances
            FROM holds
        ) h
        "#,
    )
    .fetch_one(db)
    .await?;
    Ok(Withheld {
        holds: vec![
            (HoldScope::All, row.service),
            (HoldScope::Org, row.orgs),
            (HoldScope::Instance, row.instances),
            (HoldScope::Job, row.jobs),
        ],
        unreachable: row.unreachable,
        disabled: row.disabled,
        denied: row.denied,
    })
}
