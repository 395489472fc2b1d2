//! Statements about agent identities (the keys that agents sign with). [`tasks`] has those about tasks.

pub mod listing;
pub mod tasks;

use nas_cron_protocol::{AgentRuntimeId, OrgId, TaskId};

use super::instances::Row;
use super::{Db, DbResult};
use crate::domain::PortalDenial;
use crate::domain::agent_instance::AgentInstance;
use crate::domain::identity::{NewIdentity, Presented, Registered, Scope, TaskInUse};

/// Maximum identities of one instance that are not revoked.
pub const LIVE_IDENTITIES: i64 = 16;
/// Maximum revoked keys of one instance that are kept, the most recent ones. It bounds the table when an agent rotates
/// endlessly.
const REMEMBERED_KEYS: i64 = 1_000;

/// Registers a key, and revokes the key that it replaces, in one transaction. A repeated call changes nothing. Does not
/// wait for a concurrent registration: it fails with [`Contended`](super::DbError::Contended), and the caller retries.
pub async fn register(db: &Db, new: &NewIdentity<'_>) -> DbResult<Registered> {
    let mut transaction = db.begin().await?;
    // Serializes the registrations of an instance: the next statement sees the result of the one before. NOWAIT,
    // because a waiting registration would occupy a connection.
    let stands = sqlx::query_scalar!(
        r#"
        SELECT true AS "stands!" FROM instances WHERE instance_id = $1 AND org_id = $2
        FOR NO KEY UPDATE NOWAIT
        "#,
        new.instance_id.as_str(),
        new.org_id.as_str(),
    )
    .fetch_optional(&mut transaction)
    .await?;
    if stands.is_none() {
        return Ok(Registered::InstanceGone);
    }
    if let Some(replaces) = new.replaces {
        // Excludes a concurrent registration of a task, which the next statement would miss.
        sqlx::query!(
            "SELECT FROM agent_identities WHERE agent_runtime_id = $1 AND instance_id = $2 FOR NO KEY UPDATE NOWAIT",
            replaces.0,
            new.instance_id.as_str(),
        )
        .execute(&mut transaction)
        .await?;
    }
    let verdict = sqlx::query!(
        r#"
        WITH verdict AS (
            SELECT (SELECT agent_runtime_id FROM agent_identities
                    WHERE instance_id = $1 AND org_id = $2 AND public_key = $3 AND revoked_at IS NULL) AS present,
                   EXISTS (SELECT FROM agent_identities
                           WHERE instance_id = $1 AND public_key = $3 AND revoked_at IS NOT NULL) AS key_revoked,
                   $5::uuid IS NULL OR EXISTS (
                       SELECT FROM agent_identities
                       WHERE agent_runtime_id = $5 AND instance_id = $1 AND org_id = $2) AS replaceable,
                   (SELECT count(*) FROM agent_identities
                    WHERE instance_id = $1 AND org_id = $2 AND revoked_at IS NULL
                      AND agent_runtime_id IS DISTINCT FROM $5) AS others
        ), good AS (
            SELECT * FROM verdict
            WHERE NOT key_revoked AND replaceable AND (present IS NULL OR present IS DISTINCT FROM $5)
              AND (present IS NOT NULL OR others < $6)
        ), replaced AS (
            UPDATE agent_identities a SET revoked_at = now()
            FROM good WHERE a.agent_runtime_id = $5 AND a.revoked_at IS NULL
            RETURNING a.agent_runtime_id
        ), ended AS (
            UPDATE agent_tasks t SET revoked_at = now()
            FROM replaced r WHERE t.agent_runtime_id = r.agent_runtime_id AND t.revoked_at IS NULL
        ), added AS (
            INSERT INTO agent_identities (agent_runtime_id, instance_id, org_id, public_key)
            SELECT $4, $1, $2, $3 FROM good WHERE present IS NULL
        ), forgotten AS (
            DELETE FROM agent_identities WHERE agent_runtime_id IN (
                SELECT a.agent_runtime_id FROM agent_identities a, good
                WHERE a.instance_id = $1 AND a.revoked_at IS NOT NULL
                ORDER BY a.revoked_at DESC OFFSET $7)
        )
        SELECT present, key_revoked AS "key_revoked!", replaceable AS "replaceable!", others AS "others!" FROM verdict
        "#,
        new.instance_id.as_str(),
        new.org_id.as_str(),
        new.public_key,
        new.agent_runtime_id.0,
        new.replaces.map(|id| id.0),
        LIVE_IDENTITIES,
        REMEMBERED_KEYS,
    )
    .fetch_one(&mut transaction)
    .await?;
    transaction.commit().await?;
    let present = verdict.present.map(AgentRuntimeId);
    Ok(if verdict.key_revoked {
        Registered::KeyRevoked
    } else if !verdict.replaceable {
        Registered::NothingToReplace
    } else if present.is_some() && present == new.replaces {
        Registered::ReplacesItself
    } else if let Some(present) = present {
        Registered::Identity(present)
    } else if verdict.others >= LIVE_IDENTITIES {
        Registered::TooMany
    } else {
        Registered::Identity(new.agent_runtime_id)
    })
}

/// Reads an identity with its instance and, if `task_id` is given, its task. One statement reads all of them, so a
/// revocation takes effect with its commit. `None` for an unknown identity.
#[tracing::instrument(name = "db.identities.presented", level = "debug", skip_all)]
pub async fn presented(
    db: &Db,
    agent_runtime_id: AgentRuntimeId,
    task_id: Option<TaskId>,
) -> DbResult<Option<Presented>> {
    let row = sqlx::query!(
        r#"
        SELECT a.public_key, a.revoked_at IS NOT NULL OR a.org_id <> i.org_id AS "ended!",
               i.instance_id, i.org_id, i.enabled AND i.denied_by_portal IS NULL AS "enabled!", i.callback_url,
               i.skew_guard_ms, i.skew_learned_at, i.unreachable_since, i.pulled_at,
               extract(epoch FROM clock_timestamp() - i.looked_up_at)::float8 AS looked_up_seconds,
               i.denied_by_portal AS "denied_by_portal: PortalDenial", i.xmin::text::bigint AS "version!", t.task_id AS "task_id?",
               COALESCE(t.last_used_at < now() - make_interval(secs => $3), true) AS "touch!"
        FROM agent_identities a
        JOIN instances i USING (instance_id)
        LEFT JOIN agent_tasks t ON t.task_id = $2 AND t.agent_runtime_id = a.agent_runtime_id
                               AND t.revoked_at IS NULL AND t.expires_at > now()
        WHERE a.agent_runtime_id = $1
        "#,
        agent_runtime_id.0,
        task_id.map(|id| id.0),
        tasks::TOUCH_SECONDS,
    )
    .fetch_optional(db)
    .await?;
    Ok(row.map(|row| Presented {
        public_key: row.public_key,
        ended: row.ended,
        task: row.task_id.map(|_| TaskInUse { touch: row.touch }),
        instance: AgentInstance::from(Row {
            instance_id: row.instance_id,
            org_id: row.org_id,
            enabled: row.enabled,
            callback_url: row.callback_url,
            skew_guard_ms: row.skew_guard_ms,
            skew_learned_at: row.skew_learned_at,
            unreachable_since: row.unreachable_since,
            pulled_at: row.pulled_at,
            looked_up_seconds: row.looked_up_seconds,
            denied_by_portal: row.denied_by_portal,
            version: row.version,
        }),
    }))
}

/// Revokes one identity, or all identities in `scope`, with their tasks. Returns the number of matching identities,
/// and how many of them were newly revoked.
pub async fn revoke(
    db: &Db,
    scope: Scope<'_>,
    agent_runtime_id: Option<AgentRuntimeId>,
) -> DbResult<(i64, i64)> {
    let mut transaction = db.begin().await?;
    // Lock the identities first, as the registration of a task does: the next statement then sees every task.
    let found = sqlx::query_scalar!(
        r#"
        SELECT agent_runtime_id FROM agent_identities
        WHERE instance_id = $1 AND ($2::text IS NULL OR org_id = $2)
          AND ($3::uuid IS NULL OR agent_runtime_id = $3)
        ORDER BY agent_runtime_id FOR NO KEY UPDATE
        "#,
        scope.instance_id.as_str(),
        scope.org_id.map(OrgId::as_str),
        agent_runtime_id.map(|id| id.0),
    )
    .fetch_all(&mut transaction)
    .await?;
    let revoked = sqlx::query_scalar!(
        r#"
        WITH revoked AS (
            UPDATE agent_identities SET revoked_at = now()
            WHERE agent_runtime_id = ANY ($1) AND revoked_at IS NULL
            RETURNING 1
        ), ended AS (
            UPDATE agent_tasks SET revoked_at = now() WHERE agent_runtime_id = ANY ($1) AND revoked_at IS NULL
        )
        SELECT count(*) AS "revoked!" FROM revoked
        "#,
        &found,
    )
    .fetch_one(&mut transaction)
    .await?;
    transaction.commit().await?;
    Ok((i64::try_from(found.len()).unwrap_or(i64::MAX), revoked))
}
