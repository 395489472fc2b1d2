//! Statements about the tasks that identities call under.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_protocol::{AgentRuntimeId, OrgId, TaskId};
use uuid::Uuid;

use crate::db::{Db, DbResult};
use crate::domain::identity::{Scope, TaskRegistered};

/// Maximum tasks of one identity that are neither revoked nor expired.
pub const LIVE_TASKS: i64 = 64;
/// Minimum interval between two renewals of a task in use, in seconds. Each renewal also records the use.
pub(super) const TOUCH_SECONDS: f64 = 60.0;

/// Registers a task that expires after `lifetime` unless it is renewed. `signed_at`, in whole seconds, identifies the
/// registration: a repeated call returns the same task. If the identity has the maximum number of tasks, the least
/// recently used one is revoked. Does not wait for a lock on the identity: it fails with
/// [`Contended`](crate::db::DbError::Contended), and the caller retries.
pub async fn register(
    db: &Db,
    agent_runtime_id: AgentRuntimeId,
    signed_at: DateTime<Utc>,
    task_id: TaskId,
    lifetime: Duration,
) -> DbResult<TaskRegistered> {
    let mut transaction = db.begin().await?;
    // Serializes the registrations of an identity's tasks with each other and with its revocation.
    let stands = sqlx::query_scalar!(
        r#"
        SELECT true AS "stands!" FROM agent_identities a JOIN instances i USING (instance_id)
        WHERE a.agent_runtime_id = $1 AND a.revoked_at IS NULL AND a.org_id = i.org_id
        FOR NO KEY UPDATE OF a NOWAIT
        "#,
        agent_runtime_id.0,
    )
    .fetch_optional(&mut transaction)
    .await?;
    if stands.is_none() {
        return Ok(TaskRegistered::IdentityGone);
    }
    let row = sqlx::query!(
        r#"
        WITH present AS (
            SELECT task_id, revoked_at IS NOT NULL OR expires_at <= now() AS over
            FROM agent_tasks WHERE agent_runtime_id = $1 AND signed_at = $2
        ), displaced AS (
            UPDATE agent_tasks SET revoked_at = now()
            WHERE NOT EXISTS (SELECT FROM present) AND task_id IN (
                SELECT task_id FROM agent_tasks
                WHERE agent_runtime_id = $1 AND revoked_at IS NULL AND expires_at > now()
                ORDER BY COALESCE(last_used_at, created_at) DESC, task_id OFFSET $5::bigint - 1)
            RETURNING 1
        ), added AS (
            INSERT INTO agent_tasks (task_id, agent_runtime_id, signed_at, expires_at)
            SELECT $3, $1, $2, now() + make_interval(secs => $4) WHERE NOT EXISTS (SELECT FROM present)
            RETURNING task_id
        )
        SELECT COALESCE((SELECT task_id FROM present), (SELECT task_id FROM added)) AS "task_id!",
               COALESCE((SELECT over FROM present), false) AS "over!",
               (SELECT count(*) FROM displaced) AS "displaced!"
        "#,
        agent_runtime_id.0,
        signed_at,
        task_id.0,
        lifetime.as_secs_f64(),
        LIVE_TASKS,
    )
    .fetch_one(&mut transaction)
    .await?;
    transaction.commit().await?;
    Ok(if row.over { TaskRegistered::Over } else { TaskRegistered::Task(TaskId(row.task_id), row.displaced) })
}

/// Records the use of tasks and their identities, and renews the tasks for `lifetime` from now. Skips tasks that were
/// renewed within the last minute.
pub async fn touch(db: &Db, tasks: &[TaskId], lifetime: Duration) -> DbResult<u64> {
    let tasks: Vec<Uuid> = tasks.iter().map(|id| id.0).collect();
    let result = sqlx::query!(
        r#"
        WITH used AS (
            -- First, in the same order as registrations and revocations, so that there is no deadlock.
            SELECT agent_runtime_id FROM agent_identities
            WHERE agent_runtime_id IN (SELECT agent_runtime_id FROM agent_tasks WHERE task_id = ANY ($1))
            ORDER BY agent_runtime_id FOR NO KEY UPDATE
        ), renewed AS (
            UPDATE agent_tasks t
            SET last_used_at = now(), expires_at = greatest(t.expires_at, now() + make_interval(secs => $2))
            FROM used u
            WHERE t.agent_runtime_id = u.agent_runtime_id AND t.task_id = ANY ($1) AND t.revoked_at IS NULL
              AND COALESCE(t.last_used_at < now() - make_interval(secs => $3), true)
            RETURNING t.agent_runtime_id
        )
        UPDATE agent_identities SET last_used_at = now()
        WHERE agent_runtime_id IN (SELECT agent_runtime_id FROM renewed)
        "#,
        &tasks,
        lifetime.as_secs_f64(),
        TOUCH_SECONDS,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}

/// Revokes a task, of a given identity or of any in `scope`. Returns true if it was newly revoked; `None` for an
/// unknown task.
pub async fn revoke(
    db: &Db,
    scope: Scope<'_>,
    agent_runtime_id: Option<AgentRuntimeId>,
    task_id: TaskId,
) -> DbResult<Option<bool>> {
    Ok(sqlx::query_scalar!(
        r#"
        WITH found AS (
            SELECT t.task_id, t.revoked_at FROM agent_tasks t JOIN agent_identities a USING (agent_runtime_id)
            WHERE t.task_id = $4 AND a.instance_id = $1 AND ($2::text IS NULL OR a.org_id = $2)
              AND ($3::uuid IS NULL OR a.agent_runtime_id = $3)
            FOR NO KEY UPDATE OF t
        ), revoked AS (
            UPDATE agent_tasks t SET revoked_at = now()
            FROM found f WHERE t.task_id = f.task_id AND f.revoked_at IS NULL
        )
        SELECT revoked_at IS NULL AS "changed!" FROM found
        "#,
        scope.instance_id.as_str(),
        scope.org_id.map(OrgId::as_str),
        agent_runtime_id.map(|id| id.0),
        task_id.0,
    )
    .fetch_optional(db)
    .await?)
}

/// Deletes at most `limit` tasks that expired an hour ago, or that were revoked and whose `signed_at` is 15 minutes
/// ago. By then, the clock tolerance rejects a repeated registration, so a deleted task cannot return. This also bounds
/// the rows of an agent that registers a task every second. Returns the number of deleted tasks.
pub async fn prune(db: &Db, limit: i64) -> DbResult<u64> {
    let result = sqlx::query!(
        r#"
        WITH over AS (
            -- Each bounded by itself: what is both must be seen to be one, and not all of it may be read for that.
            (SELECT task_id FROM agent_tasks WHERE expires_at < now() - interval '1 hour' LIMIT $1)
            UNION
            (SELECT task_id FROM agent_tasks
             WHERE revoked_at IS NOT NULL AND signed_at < now() - interval '15 minutes' LIMIT $1)
            LIMIT $1
        ), ours AS (
            -- Replicas prune concurrently: rows that another one has locked are left to it.
            SELECT task_id FROM agent_tasks WHERE task_id IN (SELECT task_id FROM over)
            ORDER BY task_id FOR UPDATE SKIP LOCKED
        )
        DELETE FROM agent_tasks WHERE task_id IN (SELECT task_id FROM ours)
        "#,
        limit,
    )
    .execute(db)
    .await?;
    Ok(result.rows_affected())
}
