//! Statements about the audit log.

use std::collections::BTreeMap;
use std::time::Duration;

use nas_cron_protocol::{InstanceId, OrgId};

use super::{Db, DbResult};
use crate::domain::actor::Actor;
use crate::domain::audit::{Act, AuditFilter, AuditId, AuditLine, AuditOutcome};

/// Writes the line of a call that begins. The commit is asynchronous: the change that follows commits later, and its
/// flush includes this line.
#[tracing::instrument(name = "db.audit.begin", level = "debug", skip_all)]
pub async fn begin(db: &Db, actor: &Actor, act: &Act) -> DbResult<AuditId> {
    let subject = entries(&act.subject);
    let id = sqlx::query_scalar!(
        r#"
        WITH relaxed AS MATERIALIZED (
            SELECT set_config('synchronous_commit', 'off', true)
        )
        INSERT INTO audit_log (actor, org_id, action, subject, origin)
        SELECT $1, COALESCE($2, $5 /* org */, (
                   -- Not for a caller with an org, to which no other org exists.
                   SELECT i.org_id FROM instances i WHERE $2::text IS NULL AND i.instance_id = $6 /* instance */
               )), $3, $4, $7
        FROM relaxed
        RETURNING audit_id
        "#,
        actor.name,
        actor.org_filter().map(OrgId::as_str),
        act.action,
        &subject,
        named(&subject, "org_id"),
        named(&subject, "instance_id"),
        actor.origin,
    )
    .fetch_one(db)
    .await?;
    Ok(AuditId(id))
}

/// Maximum length of an entry of a subject, in characters.
const MAX_ENTRY: usize = 600;

/// Returns the subject as it is stored. A value may be any text that a caller put into a path.
fn entries(subject: &[(String, String)]) -> Vec<String> {
    let entry = |(name, value): &(String, String)| {
        let value = value.chars().filter(|c| !c.is_control());
        format!("{name}={}", value.take(MAX_ENTRY).collect::<String>())
    };
    subject.iter().map(entry).collect()
}

/// Returns the value of an entry.
fn named<'a>(subject: &'a [String], name: &str) -> Option<&'a str> {
    subject.iter().find_map(|entry| entry.strip_prefix(name)?.strip_prefix('='))
}

/// Writes the outcome of a call, once, and adds `about` to its subject. `detail` is shortened.
#[tracing::instrument(name = "db.audit.end", level = "debug", skip_all)]
pub async fn end(
    db: &Db,
    id: AuditId,
    outcome: AuditOutcome,
    about: &[(String, String)],
    detail: Option<&str>,
) -> DbResult<()> {
    let about = entries(about);
    // Postgres stores no NUL.
    let detail = detail.map(|detail| detail.replace('\0', ""));
    sqlx::query!(
        r#"
        WITH relaxed AS MATERIALIZED (
            SELECT set_config('synchronous_commit', 'off', true)
        )
        UPDATE audit_log l
        SET outcome = $2, detail = left($3, 1000), ended_at = clock_timestamp(), subject = l.subject || $4 /* about */,
            -- Of an agent that this call has registered, too.
            org_id = COALESCE(l.org_id, $5 /* org */, (
                SELECT i.org_id FROM unnest(l.subject || $4) s JOIN instances i ON i.instance_id = substr(s, 13)
                WHERE starts_with(s, 'instance_id=')
                LIMIT 1
            ))
        FROM relaxed
        WHERE l.audit_id = $1 AND l.outcome = 'unknown'
        "#,
        id.0,
        outcome as AuditOutcome,
        detail,
        &about,
        named(&about, "org_id"),
    )
    .execute(db)
    .await?;
    Ok(())
}

/// Returns at most `limit` lines before the line `before`, latest first. A reader with an org does not learn from where
/// callers of no org or another one called.
pub async fn list(
    db: &Db,
    filter: &AuditFilter,
    before: Option<i64>,
    limit: i64,
) -> DbResult<Vec<AuditLine>> {
    let rows = sqlx::query!(
        r#"
        SELECT l.audit_id, l.at, l.actor, l.action, l.subject, l.outcome AS "outcome: AuditOutcome", l.ended_at, l.detail,
               CASE WHEN $6::text IS NULL
                         OR EXISTS (SELECT FROM admin_tokens t WHERE t.name = l.actor AND t.org_id = $6)
                    THEN l.origin END AS origin
        FROM audit_log l
        WHERE ($1::text IS NULL OR l.actor = $1) AND ($2::text IS NULL OR l.action = $2)
          AND ($3::text IS NULL OR l.subject @> ARRAY[$3::text])
          AND ($9::text IS NULL OR l.subject @> ARRAY['instance_id=' || $9::text])
          AND ($4::timestamptz IS NULL OR l.at >= $4) AND ($5::timestamptz IS NULL OR l.at < $5)
          AND ($6 IS NULL OR l.org_id = $6)
          AND ($7::bigint IS NULL OR l.audit_id < $7)
        ORDER BY l.audit_id DESC
        LIMIT $8
        "#,
        filter.actor,
        filter.action,
        filter.subject,
        filter.since,
        filter.until,
        filter.within.as_ref().map(OrgId::as_str),
        before,
        limit,
        filter.instance_id.as_ref().map(InstanceId::as_str),
    )
    .fetch_all(db)
    .await?;
    let lines = rows.into_iter().map(|row| AuditLine {
        id: row.audit_id,
        at: row.at,
        actor: row.actor,
        origin: row.origin,
        action: row.action,
        subject: subject_of(&row.subject),
        outcome: row.outcome,
        ended_at: row.ended_at,
        detail: row.detail,
    });
    Ok(lines.collect())
}

/// Returns the values of a subject by name. Several of one name are a list: the jobs of a redrive of selected ones.
fn subject_of(entries: &[String]) -> BTreeMap<String, String> {
    let mut subject = BTreeMap::<String, String>::new();
    for (name, value) in entries.iter().filter_map(|entry| entry.split_once('=')) {
        let values = subject.entry(name.to_owned()).or_default();
        *values = if values.is_empty() { value.to_owned() } else { format!("{values}, {value}") };
    }
    subject
}

/// Deletes at most `limit` lines that are older than `retention`. Returns the number deleted.
pub async fn prune(db: &Db, retention: Duration, limit: i64) -> DbResult<u64> {
    let gone = sqlx::query!(
        r#"
        DELETE FROM audit_log WHERE audit_id IN (
            SELECT audit_id FROM audit_log WHERE at < now() - make_interval(secs => $1) ORDER BY at LIMIT $2
        )
        "#,
        retention.as_secs_f64(),
        limit,
    )
    .execute(db)
    .await?;
    Ok(gone.rows_affected())
}
