//! Statements that list identities and tasks.

use nas_cron_protocol::{AgentRuntimeId, OrgId, TaskId};

use crate::db::{Db, DbResult};
use crate::domain::identity::{ListedRow, Scope, TaskRecord};

/// Maximum identities, and maximum tasks of each identity, in one listing.
const LISTED: i64 = 100;

/// Returns an instance's identities with their tasks, at most 100 of each. Valid ones come before revoked ones; within
/// both groups, the latest come first.
pub async fn list(db: &Db, scope: Scope<'_>) -> DbResult<Vec<ListedRow>> {
    let rows = sqlx::query!(
        r#"
        SELECT a.agent_runtime_id, a.public_key, a.created_at, a.last_used_at, a.revoked_at, a.of_org,
               t.task_id AS "task_id?", t.created_at AS "task_created_at?", t.expires_at AS "expires_at?",
               t.last_used_at AS task_last_used_at, t.revoked_at AS task_revoked_at
        FROM (
            SELECT a.*, CASE WHEN a.org_id <> i.org_id THEN a.org_id END AS of_org
            FROM agent_identities a JOIN instances i USING (instance_id)
            WHERE a.instance_id = $1 AND ($2::text IS NULL OR a.org_id = $2)
            ORDER BY a.revoked_at DESC NULLS FIRST, a.created_at DESC, a.agent_runtime_id
            LIMIT $3
        ) a LEFT JOIN LATERAL (
            SELECT * FROM agent_tasks t WHERE t.agent_runtime_id = a.agent_runtime_id
            ORDER BY t.revoked_at DESC NULLS FIRST, t.created_at DESC, t.task_id
            LIMIT $3
        ) t ON true
        ORDER BY a.revoked_at DESC NULLS FIRST, a.created_at DESC, a.agent_runtime_id,
                 t.revoked_at DESC NULLS FIRST, t.created_at DESC, t.task_id
        "#,
        scope.instance_id.as_str(),
        scope.org_id.map(OrgId::as_str),
        LISTED,
    )
    .fetch_all(db)
    .await?;
    let listed = rows.into_iter().map(|row| ListedRow {
        agent_runtime_id: AgentRuntimeId(row.agent_runtime_id),
        public_key: row.public_key,
        created_at: row.created_at,
        last_used_at: row.last_used_at,
        revoked_at: row.revoked_at,
        of_org: row.of_org,
        task: row.task_id.zip(row.task_created_at).zip(row.expires_at).map(
            |((task_id, created_at), expires_at)| TaskRecord {
                task_id: TaskId(task_id),
                created_at,
                expires_at,
                last_used_at: row.task_last_used_at,
                revoked_at: row.task_revoked_at,
            },
        ),
    });
    Ok(listed.collect())
}
