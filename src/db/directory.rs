//! Statements that register, change and list instances: for the portal's backend (admin API) and for operators.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{CallbackUrl, Given, InstanceId, OrgId, SessionId};

use super::execute::Transaction;
use super::{Db, DbResult, agent_search};
use crate::domain::PortalDenial;
use crate::domain::agent_search::AgentSearch;
use crate::domain::registration::{Agent, AgentFilter, Deleted, Registration, Verdict};

/// Registers a batch in one statement. A refused instance does not affect the others.
/// Returns a verdict for each instance, in the order of the batch.
///
/// With `dry_run`, only the verdicts are determined; nothing changes.
/// `Conflict`: a concurrent statement has just taken one of the sessions. The verdicts of a retry name it.
pub async fn put(db: &Db, batch: &[Registration], move_org: bool, dry_run: bool) -> DbResult<Vec<Verdict>> {
    let mut transaction = db.begin().await?;
    let verdicts = put_in(&mut transaction, batch, move_org).await?;
    if dry_run {
        drop(transaction);
    } else {
        transaction.commit().await?;
    }
    Ok(verdicts)
}

/// Runs [`put`] as a part of a transaction.
pub(super) async fn put_in(
    transaction: &mut Transaction,
    batch: &[Registration],
    move_org: bool,
) -> DbResult<Vec<Verdict>> {
    let instance_ids: Vec<&str> = batch.iter().map(|one| one.instance_id.as_str()).collect();
    let org_ids: Vec<&str> = batch.iter().map(|one| one.org_id.as_str()).collect();
    let sessions: Vec<Option<&str>> =
        batch.iter().map(|one| one.bootstrap_session_id.value().map(SessionId::as_str)).collect();
    let keep_sessions: Vec<bool> = batch.iter().map(|one| one.bootstrap_session_id == Given::Keep).collect();
    let callbacks: Vec<Option<&str>> =
        batch.iter().map(|one| one.callback_url.as_ref().map(CallbackUrl::as_str)).collect();
    let enabled: Vec<Option<bool>> = batch.iter().map(|one| one.enabled).collect();
    let rows = sqlx::query_as!(
        PutRow,
        r#"
        WITH given AS (
            SELECT * FROM unnest($1::text[], $2::text[], $3::text[], $4::bool[], $5::text[], $6::bool[])
                WITH ORDINALITY AS g(instance_id, org_id, session_id, keep_session, callback_url, enabled, line)
        ), present AS MATERIALIZED (
            -- Locked in order, so that two batches do not deadlock; and what we compare with is the latest.
            SELECT * FROM instances WHERE instance_id = ANY ($1) ORDER BY instance_id FOR NO KEY UPDATE
        ), wanted AS (
            SELECT g.line, g.instance_id, g.org_id,
                   CASE WHEN g.keep_session THEN p.bootstrap_session_id ELSE g.session_id END AS session_id,
                   COALESCE(g.callback_url, p.callback_url) AS callback_url,
                   COALESCE(g.enabled, p.enabled, true) AS enabled,
                   g.enabled IS TRUE AND p.denied_by_portal IS NOT NULL AS lifts,
                   p.instance_id IS NOT NULL AS known, p.org_id AS old_org_id, p.enabled AS old_enabled,
                   p.bootstrap_session_id AS old_session_id, p.callback_url AS old_callback_url
            FROM given g LEFT JOIN present p USING (instance_id)
        ), checked AS (
            SELECT w.*,
                   row_number() OVER (PARTITION BY w.instance_id ORDER BY w.line) > 1 AS repeated,
                   w.known AND w.old_org_id <> w.org_id AND NOT $7 AS moves
            FROM wanted w
        ), compared AS (
            SELECT c.*,
                   COALESCE(
                       (SELECT t.instance_id FROM instances t
                        WHERE t.org_id = c.org_id AND t.bootstrap_session_id = c.session_id
                          AND t.instance_id <> c.instance_id),
                       -- Within the batch: whoever has it, else the first of those that are not refused anyway.
                       CASE WHEN c.session_id IS NOT NULL THEN NULLIF(first_value(c.instance_id) OVER (
                           PARTITION BY c.org_id, c.session_id
                           ORDER BY (c.old_org_id, c.old_session_id) IS DISTINCT FROM (c.org_id, c.session_id),
                                    c.moves OR c.repeated, c.line), c.instance_id) END
                   ) AS session_of
            FROM checked c
        ), good AS (
            SELECT * FROM compared WHERE NOT repeated AND NOT moves AND session_of IS NULL
        ), updated AS (
            UPDATE instances i
            SET org_id = g.org_id, bootstrap_session_id = g.session_id, callback_url = g.callback_url,
                enabled = g.enabled, denied_by_portal = CASE WHEN NOT g.lifts THEN i.denied_by_portal END,
                updated_at = now()
            FROM good g
            WHERE i.instance_id = g.instance_id AND g.known
              AND (g.lifts OR (g.old_org_id, g.old_session_id, g.old_callback_url, g.old_enabled)
                              IS DISTINCT FROM (g.org_id, g.session_id, g.callback_url, g.enabled))
            RETURNING i.instance_id
        ), moved AS (
            -- Were they left behind, its next provision would no longer know them by the previous callback.
            UPDATE one_shots o
            SET callback_url = l.new_callback_url, own_callback_url = NULL, follows_gone = false, updated_at = now()
            FROM (
                SELECT p.instance_id, p.job_id, g.callback_url AS new_callback_url
                FROM good g JOIN updated u USING (instance_id) JOIN one_shots p USING (instance_id)
                WHERE g.callback_url IS DISTINCT FROM g.old_callback_url AND p.state <> 'delivered'
                ORDER BY p.instance_id, p.job_id
                FOR NO KEY UPDATE OF p
            ) l
            WHERE o.instance_id = l.instance_id AND o.job_id = l.job_id AND o.state <> 'delivered'
              AND (o.callback_url <> l.new_callback_url OR o.own_callback_url IS NOT NULL)
        ), added AS (
            INSERT INTO instances (instance_id, org_id, bootstrap_session_id, callback_url, enabled)
            SELECT instance_id, org_id, session_id, callback_url, enabled FROM good WHERE NOT known
            ON CONFLICT (instance_id) DO NOTHING
            RETURNING instance_id
        )
        SELECT c.repeated AS "repeated!", c.known AS "known!", c.session_of,
               CASE WHEN c.moves THEN c.old_org_id END AS other_org,
               u.instance_id IS NOT NULL AS "updated!", a.instance_id IS NOT NULL AS "added!"
        FROM compared c LEFT JOIN updated u USING (instance_id) LEFT JOIN added a USING (instance_id)
        ORDER BY c.line
        "#,
        &instance_ids as &[&str],
        &org_ids as &[&str],
        &sessions as &[Option<&str>],
        &keep_sessions,
        &callbacks as &[Option<&str>],
        &enabled as &[Option<bool>],
        move_org,
    )
    .fetch_all(transaction)
    .await?;
    Ok(rows.into_iter().map(Verdict::from).collect())
}

#[expect(clippy::struct_excessive_bools, reason = "the columns of the statement's row")]
struct PutRow {
    repeated: bool,
    known: bool,
    session_of: Option<String>,
    other_org: Option<String>,
    updated: bool,
    added: bool,
}

impl From<PutRow> for Verdict {
    fn from(row: PutRow) -> Self {
        match (row.other_org, row.session_of) {
            _ if row.repeated => Self::Repeated,
            (Some(org), _) => Self::OtherOrg(org),
            (None, Some(instance)) => Self::SessionTaken(instance),
            (None, None) if row.added => Self::Added,
            (None, None) if row.updated => Self::Updated,
            (None, None) if row.known => Self::Unchanged,
            (None, None) => Self::Raced,
        }
    }
}

/// Returns at most `limit` instances in the order of their ids, starting after `after`.
pub async fn list(db: &Db, filter: &AgentFilter, after: Option<&str>, limit: i64) -> DbResult<Vec<Agent>> {
    let wide = filter.search.as_ref().filter(|_| agent_search::is_wide(filter));
    let found = match (&filter.instance_id, wide) {
        (Some(one), _) => Some(vec![one.to_string()]),
        (None, Some(search)) => Some(agent_search::matching(db, search, filter.enabled, after, limit).await?),
        (None, None) if filter.unreachable => Some(unreachable(db, filter, after, limit).await?),
        (None, None) => None,
    };
    let callbacks = filter.search.as_ref().map(AgentSearch::callbacks);
    let mut agents = sqlx::query_as!(
        Agent,
        r#"
        SELECT i.instance_id AS "instance_id!", i.org_id AS "org_id!", i.bootstrap_session_id, i.enabled AS "enabled!",
               i.on_hold AS "on_hold!", i.denied_by_portal AS "denied_by_portal: PortalDenial", i.looked_up_at,
               i.callback_url,
               CASE WHEN callback_alternates(m.callback_returns, m.callback_moved_at) THEN m.earlier_callbacks[1] END
               AS alternating_callback_url, i.unreachable_since,
               CASE WHEN i.busy_until > now() THEN i.busy_until END AS busy_until, c.armed AS "armed!",
               (SELECT q.armed_jobs::bigint FROM quotas q WHERE q.scope = 'instance' AND q.scope_id = i.instance_id) AS own_quota,
               c.parked AS "parked!", c.dead AS "dead!", c.last_contact_at,
               NULLIF(extract(epoch FROM skew_guard(m.skew_guard_ms, m.skew_learned_at)) * 1000, 0)::integer AS skew_guard_ms,
               c.next_attempt_at, i.created_at AS "created_at!", i.updated_at AS "updated_at!"
        FROM (
            -- A branch for each index: a plan for all conditions at once would read all instances.
            WITH candidates AS (
                SELECT instance_id FROM unnest($6::text[]) AS found(instance_id)
                UNION ALL
                (SELECT instance_id FROM instances
                 WHERE $6 IS NULL AND org_id = $1 AND instance_id > COALESCE($3, '') AND ($2::bool IS NULL OR enabled = $2)
                   AND ($7::text IS NULL OR starts_with(instance_id, $7) OR EXISTS (
                       SELECT FROM unnest($8::text[]) AS c(beginning) WHERE starts_with(callback_url, c.beginning)))
                 ORDER BY instance_id LIMIT $4)
                UNION ALL
                (SELECT instance_id FROM instances
                 WHERE $6 IS NULL AND $1::text IS NULL AND $2 IS NOT FALSE AND instance_id > COALESCE($3, '')
                   AND ($2 IS NULL OR enabled)
                 ORDER BY instance_id LIMIT $4)
                UNION ALL
                (SELECT instance_id FROM instances
                 WHERE $6 IS NULL AND $1 IS NULL AND $2 IS FALSE AND NOT enabled AND instance_id > COALESCE($3, '')
                   AND ($7 IS NULL OR starts_with(instance_id, $7) OR EXISTS (
                       SELECT FROM unnest($8::text[]) AS c(beginning) WHERE starts_with(callback_url, c.beginning)))
                 ORDER BY instance_id LIMIT $4)
            )
            SELECT s.* FROM candidates JOIN instance_status s USING (instance_id)
            WHERE ($1 IS NULL OR s.org_id = $1 /* org_id */) AND ($2 IS NULL OR s.enabled = $2 /* enabled */)
              AND ($5::text IS NULL OR s.org_id = $5 /* within */) AND s.instance_id > COALESCE($3, '') /* after */
            ORDER BY s.instance_id
            LIMIT $4
        ) i JOIN instances m USING (instance_id) CROSS JOIN LATERAL (
            SELECT count(*) FILTER (WHERE o.next_attempt_at IS NOT NULL) AS armed,
                   count(*) FILTER (WHERE o.parked IS NOT NULL) AS parked,
                   count(*) FILTER (WHERE o.state IN ('dead', 'stuck')) AS dead,
                   min(o.next_attempt_at) AS next_attempt_at,
                   GREATEST(max(o.created_at), max(o.last_started_at)) AS last_contact_at
            FROM one_shots o WHERE o.instance_id = i.instance_id
        ) c
        ORDER BY i.instance_id
        "#,
        filter.org_id.as_ref().or(filter.within.as_ref()).map(OrgId::as_str),
        filter.enabled,
        // Those that were found are after it already, in an order of their own.
        after.filter(|_| found.is_none()),
        limit,
        filter.within.as_ref().map(OrgId::as_str),
        found.as_deref(),
        filter.search.as_ref().map(AgentSearch::as_str),
        callbacks.as_deref(),
    )
    .fetch_all(db)
    .await?;
    if wide.is_some() {
        agents.sort_unstable_by(|one, other| one.instance_id.cmp(&other.instance_id));
    }
    Ok(agents)
}

/// Returns at most `limit` unreachable instances of a filter after `after`, in the order of their ids.
async fn unreachable(
    db: &Db,
    filter: &AgentFilter,
    after: Option<&str>,
    limit: i64,
) -> DbResult<Vec<String>> {
    let callbacks = filter.search.as_ref().map(AgentSearch::callbacks);
    Ok(sqlx::query_scalar!(
        r#"
        SELECT instance_id FROM instances
        WHERE unreachable_since IS NOT NULL AND instance_id > COALESCE($1, '') /* after */
          AND ($2::text IS NULL OR org_id = $2) AND ($3::text IS NULL OR org_id = $3 /* within */)
          AND ($4::bool IS NULL OR enabled = $4)
          AND ($5::text IS NULL OR starts_with(instance_id, $5) OR EXISTS (
              SELECT FROM unnest($6::text[]) AS c(beginning) WHERE starts_with(callback_url, c.beginning)))
        ORDER BY instance_id LIMIT $7
        "#,
        after,
        filter.org_id.as_ref().map(OrgId::as_str),
        filter.within.as_ref().map(OrgId::as_str),
        filter.enabled,
        filter.search.as_ref().map(AgentSearch::as_str),
        callbacks.as_deref(),
        limit,
    )
    .fetch_all(db)
    .await?)
}

/// Returns at most `limit` instances whose callback moves back and forth, in the order of their ids.
pub async fn alternating(db: &Db, limit: i64) -> DbResult<Vec<String>> {
    Ok(sqlx::query_scalar!(
        r#"
        SELECT instance_id FROM instances
        WHERE callback_alternates(callback_returns, callback_moved_at)
        ORDER BY instance_id LIMIT $1
        "#,
        limit,
    )
    .fetch_all(db)
    .await?)
}

/// Enables or disables an instance. Enabling it also clears the denial that the portal's lookup last reported, until
/// the lookup reports it again. Returns true if anything changed; `None` for an unknown instance.
pub async fn set_enabled(db: &Db, instance_id: &InstanceId, enabled: bool) -> DbResult<Option<bool>> {
    Ok(sqlx::query_scalar!(
        r#"
        WITH present AS (
            SELECT instance_id, enabled <> $2 OR ($2 AND denied_by_portal IS NOT NULL) AS changes
            FROM instances WHERE instance_id = $1 FOR NO KEY UPDATE
        ), changed AS (
            UPDATE instances i
            SET enabled = $2, denied_by_portal = CASE WHEN NOT $2 THEN i.denied_by_portal END, updated_at = now()
            FROM present p WHERE i.instance_id = p.instance_id AND p.changes
        )
        SELECT changes AS "changed!" FROM present
        "#,
        instance_id.as_str(),
        enabled,
    )
    .fetch_optional(db)
    .await?)
}

/// Sets the callback of an instance and of all its one-shots. Returns the number of one-shots that changed; `None` for
/// an unknown instance.
pub async fn set_callback(
    db: &Db,
    instance_id: &InstanceId,
    callback_url: &CallbackUrl,
) -> DbResult<Option<i64>> {
    Ok(sqlx::query_scalar!(
        r#"
        WITH known AS (
            UPDATE instances SET callback_url = $2, updated_at = now() WHERE instance_id = $1 RETURNING instance_id
        ), moved AS (
            -- The operator's callback becomes the job's own: the previous one may be abandoned, or not trusted any more.
            UPDATE one_shots o SET callback_url = $2, own_callback_url = NULL, follows_gone = false, updated_at = now()
            FROM (
                SELECT p.instance_id, p.job_id, p.callback_url
                FROM known k JOIN one_shots p USING (instance_id)
                WHERE p.state <> 'delivered' AND (p.callback_url <> $2 OR p.own_callback_url IS NOT NULL)
                ORDER BY p.instance_id, p.job_id
                FOR NO KEY UPDATE OF p
            ) before
            WHERE o.instance_id = before.instance_id AND o.job_id = before.job_id AND o.state <> 'delivered'
              AND (o.callback_url <> $2 OR o.own_callback_url IS NOT NULL)
            RETURNING before.callback_url <> $2 AS is_elsewhere
        )
        SELECT (SELECT count(*) FROM moved WHERE is_elsewhere) AS "moved!" FROM known
        "#,
        instance_id.as_str(),
        callback_url.as_str(),
    )
    .fetch_optional(db)
    .await?)
}

/// Deletes an instance with its one-shots; its history stays. Returns the number of deleted
/// one-shots that were not delivered; `None` for an unknown instance. With `within`, every instance of another org is
/// unknown.
pub async fn delete(db: &Db, instance_id: &InstanceId, within: Option<&OrgId>) -> DbResult<Option<i64>> {
    let deleted = delete_all(db, &[instance_id.to_string()], within).await?;
    Ok((deleted.instances > 0).then_some(deleted.undelivered))
}

/// Deletes instances with their one-shots; their history stays. With `within`, those of another org are left alone.
pub async fn delete_all(db: &Db, instance_ids: &[String], within: Option<&OrgId>) -> DbResult<Deleted> {
    Ok(sqlx::query_as!(
        Deleted,
        r#"
        WITH agents AS MATERIALIZED (
            SELECT instance_id FROM instances
            WHERE instance_id = ANY ($1) AND ($2::text IS NULL OR org_id = $2 /* within */)
            ORDER BY instance_id
            FOR UPDATE
        ), locked AS MATERIALIZED (
            -- In the order of other statements, so that there is no deadlock.
            SELECT o.state FROM agents JOIN one_shots o USING (instance_id)
            ORDER BY o.instance_id, o.job_id
            FOR UPDATE OF o
        ), guarded AS MATERIALIZED (
            -- The trigger takes them as well; here in the order of statements that store one-shots of several instances.
            SELECT pg_advisory_xact_lock(hashtext('nas_cron.instances'), key)
            FROM (
                SELECT DISTINCT instance_lock(instance_id) AS key FROM agents
                WHERE (SELECT count(*) FROM locked) >= 0
                ORDER BY 1
            ) keys
        ), gone AS (
            DELETE FROM instances i USING agents a
            WHERE i.instance_id = a.instance_id AND (SELECT count(*) FROM guarded) >= 0
            RETURNING i.instance_id
        ), unwanted AS (
            UPDATE wake_ups u
            SET state = 'unwanted',
                next_try_at = next_cancel_at(u.state, u.tries, u.next_try_at)
            FROM gone g WHERE u.instance_id = g.instance_id AND u.state <> 'unwanted'
        )
        SELECT (SELECT count(*) FROM gone) AS "instances!", count(*) AS "one_shots!",
               count(*) FILTER (WHERE state <> 'delivered') AS "undelivered!"
        FROM locked
        "#,
        instance_ids,
        within.map(OrgId::as_str),
    )
    .fetch_one(db)
    .await?)
}

/// Returns the time by the database's clock.
pub async fn now(db: &Db) -> DbResult<DateTime<Utc>> {
    Ok(sqlx::query_scalar!(r#"SELECT clock_timestamp() AS "now!""#).fetch_one(db).await?)
}
