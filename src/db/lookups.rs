//! Statements that store the portal's lookup responses in `instances`.

use std::time::Duration;

use nas_cron_protocol::{InstanceId, OrgId, SessionId};
use sqlx::PgExecutor;

use super::directory::put_in;
use super::instances::Row;
use super::{Db, DbResult};
use crate::domain::PortalDenial;
use crate::domain::agent_instance::AgentInstance;
use crate::domain::registration::{Registration, Verdict};

/// A stored instance, and true if an earlier denial ended. `None`: the table has no matching instance.
pub type Known = Option<(AgentInstance, bool)>;

/// Records a lookup response for an instance that is stored as the portal reports it: the time, and the denial if there
/// is one. Returns the instance, and true if an earlier denial ended. `None` if the table lacks the instance, or has it
/// in another org or with another session: it must be registered first.
#[tracing::instrument(name = "db.lookups.answered", level = "debug", skip_all)]
pub async fn answered(db: &Db, reported: &Registration, denied: Option<PortalDenial>) -> DbResult<Known> {
    answered_in(db, reported, denied).await
}

/// Registers an instance as the portal reports it, also in another org than before, and records the lookup like
/// [`answered`]. One transaction does both, so that the denial of a new instance applies from the start.
#[tracing::instrument(name = "db.lookups.registered", level = "debug", skip_all)]
pub async fn registered(
    db: &Db,
    reported: &Registration,
    denied: Option<PortalDenial>,
) -> DbResult<(Option<Verdict>, Known)> {
    let mut transaction = db.begin().await?;
    let verdict = put_in(&mut transaction, std::slice::from_ref(reported), true).await?.into_iter().next();
    let known = answered_in(&mut transaction, reported, denied).await?;
    transaction.commit().await?;
    Ok((verdict, known))
}

async fn answered_in(
    executor: impl PgExecutor<'_>,
    reported: &Registration,
    denied: Option<PortalDenial>,
) -> DbResult<Known> {
    let session = &reported.bootstrap_session_id;
    let row = sqlx::query!(
        r#"
        WITH present AS (
            SELECT instance_id, denied_by_portal IS NOT NULL AS was_denied FROM instances
            WHERE instance_id = $1 AND org_id = $2 AND ($3 OR bootstrap_session_id IS NOT DISTINCT FROM $4)
            FOR NO KEY UPDATE
        )
        UPDATE instances i
        SET looked_up_at = clock_timestamp(), denied_by_portal = $5,
            updated_at = CASE WHEN i.denied_by_portal IS DISTINCT FROM $5 THEN now() ELSE i.updated_at END
        FROM present p
        WHERE i.instance_id = p.instance_id
        RETURNING i.instance_id, i.org_id, i.enabled AND i.denied_by_portal IS NULL AS "enabled!", i.callback_url,
                  i.skew_guard_ms, i.skew_learned_at, i.unreachable_since, i.pulled_at, p.was_denied AS "was_denied!",
                  i.xmin::text::bigint AS "version!"
        "#,
        reported.instance_id.as_str(),
        reported.org_id.as_str(),
        session.is_keep(),
        session.value().map(SessionId::as_str),
        denied as Option<PortalDenial>,
    )
    .fetch_optional(executor)
    .await?;
    Ok(row.map(|row| {
        let instance = Row {
            instance_id: row.instance_id,
            org_id: row.org_id,
            enabled: row.enabled,
            callback_url: row.callback_url,
            skew_guard_ms: row.skew_guard_ms,
            skew_learned_at: row.skew_learned_at,
            unreachable_since: row.unreachable_since,
            pulled_at: row.pulled_at,
            looked_up_seconds: Some(0.0),
            denied_by_portal: denied,
            version: row.version,
        };
        (AgentInstance::from(instance), row.was_denied && denied.is_none())
    }))
}

/// Records that the portal knows this instance in no org. Returns true if that is new.
#[tracing::instrument(name = "db.lookups.denied", level = "debug", skip_all)]
pub async fn denied(db: &Db, instance_id: &InstanceId) -> DbResult<bool> {
    let is_news = sqlx::query_scalar!(
        r#"
        WITH present AS (
            SELECT instance_id, denied_by_portal IS DISTINCT FROM 'unknown' AS is_news FROM instances
            WHERE instance_id = $1
            FOR NO KEY UPDATE
        )
        UPDATE instances i
        SET looked_up_at = clock_timestamp(), denied_by_portal = 'unknown',
            updated_at = CASE WHEN p.is_news THEN now() ELSE i.updated_at END
        FROM present p
        WHERE i.instance_id = p.instance_id
        RETURNING p.is_news AS "is_news!"
        "#,
        instance_id.as_str(),
    )
    .fetch_optional(db)
    .await?;
    Ok(is_news == Some(true))
}

/// Removes a session from other instances of the org, because the portal reports that it belongs to `now_of`.
#[tracing::instrument(name = "db.lookups.give_up_session", level = "debug", skip_all)]
pub async fn give_up_session(
    db: &Db,
    org_id: &OrgId,
    session: &SessionId,
    now_of: &InstanceId,
) -> DbResult<()> {
    sqlx::query!(
        "UPDATE instances SET bootstrap_session_id = NULL, updated_at = now() \
         WHERE org_id = $1 AND bootstrap_session_id = $2 AND instance_id <> $3",
        org_id.as_str(),
        session.as_str(),
        now_of.as_str(),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Releases the parked one-shots of an instance after the end of a denial or a move to another org, unless a hold still
/// applies. Returns the number released.
#[tracing::instrument(name = "db.lookups.release", level = "debug", skip_all)]
pub async fn release(db: &Db, instance_id: &InstanceId) -> DbResult<u64> {
    let done = sqlx::query!(
        r#"
        WITH locked AS MATERIALIZED (
            SELECT instance_id, job_id FROM one_shots WHERE instance_id = $1 AND parked = 'hold'
            ORDER BY instance_id, job_id
            FOR NO KEY UPDATE
        )
        UPDATE one_shots o SET parked = NULL, updated_at = now()
        FROM locked l JOIN instance_status i USING (instance_id)
        WHERE o.instance_id = l.instance_id AND o.job_id = l.job_id
          -- Written so that only the primary key fits.
          AND o.parked IS NOT DISTINCT FROM 'hold' AND NOT i.on_hold
          AND NOT EXISTS (SELECT FROM job_holds h WHERE h.instance_id = o.instance_id AND h.job_id = o.job_id)
        "#,
        instance_id.as_str(),
    )
    .execute(db)
    .await?;
    Ok(done.rows_affected())
}

/// Returns at most `limit` denied instances with armed one-shots whose last lookup is older than `age`. They may never
/// call again, so the service looks them up by itself. Marks the returned instances, so that replicas share the work;
/// the stored response keeps its age until there is a new one.
#[tracing::instrument(name = "db.lookups.to_ask_again", level = "debug", skip_all)]
pub async fn to_ask_again(db: &Db, age: Duration, limit: usize) -> DbResult<Vec<InstanceId>> {
    let rows = sqlx::query_scalar!(
        r#"
        UPDATE instances i SET asked_again_at = clock_timestamp()
        FROM (
            SELECT d.instance_id FROM instances d
            WHERE d.denied_by_portal IS NOT NULL AND GREATEST(d.looked_up_at, d.asked_again_at) < now() - make_interval(secs => $1)
              AND EXISTS (SELECT FROM one_shots o
                          WHERE o.instance_id = d.instance_id AND o.next_attempt_at IS NOT NULL)
            ORDER BY GREATEST(d.looked_up_at, d.asked_again_at)
            LIMIT $2
            FOR NO KEY UPDATE SKIP LOCKED
        ) d
        WHERE i.instance_id = d.instance_id
        RETURNING i.instance_id
        "#,
        age.as_secs_f64(),
        i64::try_from(limit).unwrap_or(i64::MAX),
    )
    .fetch_all(db)
    .await?;
    Ok(rows.into_iter().map(InstanceId::stored).collect())
}
