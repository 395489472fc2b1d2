//! Statements about instances that cannot be reached, are on hold, or have just shown that they are awake.

use std::time::Duration;

use nas_cron_protocol::{InstanceId, JobId};

use super::{Db, DbResult};
use crate::domain::HoldScope;
use crate::domain::hold::{Hold, Tidied, Withheld};

/// These instances could not be reached; the job that found out becomes the probe, unless there is one.
pub async fn open_outages(db: &Db, found: &[(InstanceId, JobId)]) -> DbResult<u64> {
    let instance_ids: Vec<String> = found.iter().map(|(instance, _)| instance.as_str().to_owned()).collect();
    let job_ids: Vec<String> = found.iter().map(|(_, job)| job.as_str().to_owned()).collect();
    let result = sqlx::query!(
        r#"
        UPDATE instances i SET unreachable_since = now(), probe_job_id = f.job_id
        FROM (
            SELECT DISTINCT ON (instance_id) instance_id, job_id
            FROM unnest($1::text[], $2::text[]) AS f(instance_id, job_id)
            ORDER BY instance_id
        ) f
        WHERE i.instance_id = f.instance_id AND i.unreachable_since IS NULL
        "#,
        &instance_ids,
        &job_ids,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// These instances answered: their outages are over, what waited for the probe is released, and what waits
/// for a retry of its own comes within two seconds. Returns how many one-shots were released.
pub async fn close_outages(db: &Db, instances: &[InstanceId]) -> DbResult<u64> {
    let instance_ids: Vec<String> = instances.iter().map(|one| one.as_str().to_owned()).collect();
    let result = sqlx::query!(
        r#"
        WITH closed AS (
            UPDATE instances SET unreachable_since = NULL, probe_job_id = NULL
            WHERE instance_id = ANY ($1) AND unreachable_since IS NOT NULL
            RETURNING instance_id
        )
        UPDATE one_shots o
        SET parked = NULL, retrying_since = CASE WHEN o.attempts > 0 THEN o.retrying_since END,
            next_attempt_at = CASE WHEN o.attempts > 0
                THEN LEAST(o.next_attempt_at, GREATEST(now() + random() * interval '2 s', o.retry_after_until))
                ELSE o.next_attempt_at END,
            updated_at = now()
        FROM closed c
        WHERE o.instance_id = c.instance_id AND o.state IN ('armed', 'waiting')
          AND (o.parked = 'unreachable' OR (o.parked IS NULL AND o.attempts > 0))
        "#,
        &instance_ids,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// The instance has called us, so it is awake: its waiting retries come 1 to 3 s from now, at most once in
/// `interval` per instance, never before its unexpired Retry-After. Attempt counts are kept; what waits for a
/// probe goes on waiting for it. Returns how many were pulled.
pub async fn pull_retries(db: &Db, instance_id: &InstanceId, interval: Duration) -> DbResult<u64> {
    let result = sqlx::query!(
        r#"
        WITH awake AS (
            UPDATE instances SET pulled_at = now()
            WHERE instance_id = $1
              AND (pulled_at IS NULL OR pulled_at <= now() - make_interval(secs => $2))
            RETURNING instance_id
        )
        UPDATE one_shots o
        SET next_attempt_at = GREATEST(now() + make_interval(secs => 1 + 2 * random()), o.retry_after_until),
            updated_at = now()
        FROM awake a
        WHERE o.instance_id = a.instance_id AND o.state = 'waiting' AND o.parked IS NULL AND o.attempts > 0
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

/// Puts right what concurrent holds, releases and cancels can leave behind: parked one-shots whose hold is
/// over, unreachable instances without a live probe, and what has waited for a probe for `give_up_after`.
pub async fn tidy_parked(db: &Db, give_up_after: Duration, limit: i64) -> DbResult<Tidied> {
    let row = sqlx::query!(
        r#"
        WITH released AS (
            UPDATE one_shots o SET parked = NULL, updated_at = now()
            FROM (
                SELECT p.instance_id, p.job_id
                FROM one_shots p JOIN instance_status i USING (instance_id)
                WHERE p.parked = 'hold' AND NOT i.on_hold
                LIMIT $2
            ) p
            WHERE o.instance_id = p.instance_id AND o.job_id = p.job_id AND o.parked = 'hold'
            RETURNING 1
        ), given_up AS (
            UPDATE one_shots o
            SET state = 'dead', parked = NULL, next_attempt_at = NULL, lease_expires_at = NULL,
                last_error = 'gave up: the instance could not be reached', updated_at = now()
            FROM (
                SELECT p.instance_id, p.job_id FROM one_shots p
                WHERE p.parked = 'unreachable' AND p.retrying_since <= now() - make_interval(secs => $1)
                LIMIT $2
            ) p
            WHERE o.instance_id = p.instance_id AND o.job_id = p.job_id AND o.parked = 'unreachable'
            RETURNING 1
        ), orphaned AS (
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
        ), probes AS (
            UPDATE one_shots o SET parked = NULL, updated_at = now()
            FROM probing p
            WHERE o.instance_id = p.instance_id AND o.job_id = p.probe_job_id AND o.parked = 'unreachable'
            RETURNING 1
        ), stray AS (
            -- Parked just as its instance's outage ended.
            UPDATE one_shots o SET parked = NULL, updated_at = now()
            FROM (
                SELECT p.instance_id, p.job_id
                FROM one_shots p JOIN instances i USING (instance_id)
                WHERE p.parked = 'unreachable' AND i.unreachable_since IS NULL
                LIMIT $2
            ) p
            WHERE o.instance_id = p.instance_id AND o.job_id = p.job_id AND o.parked = 'unreachable'
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

/// Stops fires of a scope. No attempt starts once it has committed; what is under way ends by itself.
/// `false` if it stood already (a reason given now replaces the old one).
pub async fn hold(db: &Db, scope: HoldScope, scope_id: &str, reason: Option<&str>) -> DbResult<bool> {
    let inserted = sqlx::query_scalar!(
        r#"
        INSERT INTO holds (scope, scope_id, reason) VALUES ($1, $2, $3)
        ON CONFLICT (scope, scope_id) DO UPDATE SET reason = COALESCE(excluded.reason, holds.reason)
        RETURNING (xmax = 0) AS "inserted!"
        "#,
        scope as HoldScope,
        scope_id,
        reason,
    )
    .fetch_one(db)
    .await?;
    Ok(inserted)
}

/// Ends a hold. What was parked is released by the next tidying (see [`tidy_parked`]).
/// `false` if there was none.
pub async fn release(db: &Db, scope: HoldScope, scope_id: &str) -> DbResult<bool> {
    let result =
        sqlx::query!("DELETE FROM holds WHERE scope = $1 AND scope_id = $2", scope as HoldScope, scope_id,)
            .execute(db)
            .await?;
    Ok(result.rows_affected() > 0)
}

/// All holds, the widest first.
pub async fn holds(db: &Db) -> DbResult<Vec<Hold>> {
    Ok(sqlx::query_as!(
        Hold,
        r#"SELECT scope AS "scope: HoldScope", scope_id, reason, created_at FROM holds ORDER BY scope, scope_id"#,
    )
    .fetch_all(db)
    .await?)
}

/// What keeps fires from being sent, in numbers.
pub async fn withheld(db: &Db) -> DbResult<Withheld> {
    let row = sqlx::query!(
        r#"
        SELECT (SELECT count(*) FROM instances WHERE unreachable_since IS NOT NULL) AS "unreachable!",
               d.disabled AS "disabled!", d.denied AS "denied!",
               h.service AS "service!", h.orgs AS "orgs!", h.instances AS "instances!"
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
        ],
        unreachable: row.unreachable,
        disabled: row.disabled,
        denied: row.denied,
    })
}
