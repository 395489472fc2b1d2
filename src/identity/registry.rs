//! Which identities and tasks there are, and their end: for agents, the admin API and operators alike, also where the
//! service takes no assertions.

use chrono::{DateTime, Utc};

use super::public_key::PublicKey;
pub use crate::domain::identity::{Scope, TaskRecord};
use nas_cron_protocol::{AgentRuntimeId, InstanceId, TaskId};

use crate::db::identities::{self, listing, tasks};
use crate::db::{Db, DbResult};
use crate::store_error::StoreError;

/// A registered key, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct IdentityRecord {
    /// Its name.
    #[schema(value_type = uuid::Uuid)]
    pub agent_runtime_id: AgentRuntimeId,
    /// The OpenSSH line, without a comment.
    #[schema(example = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea")]
    pub agent_public_key: String,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// When a call with it was last accepted, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// The org that it was registered for, where that does not have the agent any more: it opens nothing.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_org: Option<String>,
    /// Its tasks: those that stand before those that were revoked, the latest first.
    pub tasks: Vec<TaskRecord>,
}

/// Every agent's identities, as the admin API sees and ends them: whatever org they were registered for.
#[derive(Clone, Debug)]
pub struct IdentityRegistry(Db);

impl IdentityRegistry {
    /// Over the identities of `db`.
    pub fn new(db: Db) -> Self {
        Self(db)
    }

    /// The identities of an instance: see [`list`].
    pub async fn list(&self, instance_id: &InstanceId) -> Result<Vec<IdentityRecord>, StoreError> {
        Ok(list(&self.0, any_org(instance_id)).await?)
    }

    /// Ends an identity of an instance: see [`revoke`].
    pub async fn revoke(
        &self,
        instance_id: &InstanceId,
        id: AgentRuntimeId,
    ) -> Result<Option<bool>, StoreError> {
        Ok(revoke(&self.0, any_org(instance_id), id).await?)
    }

    /// Ends a task of an instance's identity: see [`revoke_task`].
    pub async fn revoke_task(
        &self,
        instance_id: &InstanceId,
        id: AgentRuntimeId,
        task_id: TaskId,
    ) -> Result<Option<bool>, StoreError> {
        Ok(revoke_task(&self.0, any_org(instance_id), Some(id), task_id).await?)
    }
}

/// An instance's identities, whichever org it belongs to: for operators.
pub fn any_org(instance_id: &InstanceId) -> Scope<'_> {
    Scope { instance_id, org_id: None }
}

/// The identities in `scope`: those that stand before those that were revoked, the latest first; a hundred at most,
/// with a hundred tasks each at most.
pub async fn list(db: &Db, scope: Scope<'_>) -> DbResult<Vec<IdentityRecord>> {
    let mut identities: Vec<IdentityRecord> = Vec::new();
    for row in listing::list(db, scope).await? {
        if identities.last().is_none_or(|last| last.agent_runtime_id != row.agent_runtime_id) {
            identities.push(IdentityRecord {
                agent_runtime_id: row.agent_runtime_id,
                agent_public_key: PublicKey::stored(&row.public_key).to_string(),
                created_at: row.created_at,
                last_used_at: row.last_used_at,
                revoked_at: row.revoked_at,
                of_org: row.of_org,
                tasks: Vec::new(),
            });
        }
        if let Some(last) = identities.last_mut() {
            last.tasks.extend(row.task);
        }
    }
    Ok(identities)
}

/// Ends an identity, and its tasks with it, at once on every replica. Returns whether that changed anything; `None`
/// where there is none of this name in `scope`.
pub async fn revoke(db: &Db, scope: Scope<'_>, id: AgentRuntimeId) -> DbResult<Option<bool>> {
    let (found, revoked) = identities::revoke(db, scope, Some(id)).await?;
    Ok((found > 0).then_some(revoked > 0))
}

/// Ends every identity in `scope`. Returns how many had not ended before.
pub async fn revoke_all(db: &Db, scope: Scope<'_>) -> DbResult<i64> {
    Ok(identities::revoke(db, scope, None).await?.1)
}

/// Ends a task, of this identity or of whichever it is. Returns whether that changed anything; `None` where there is
/// none of this name in `scope`.
pub async fn revoke_task(
    db: &Db,
    scope: Scope<'_>,
    identity: Option<AgentRuntimeId>,
    task_id: TaskId,
) -> DbResult<Option<bool>> {
    tasks::revoke(db, scope, identity, task_id).await
}
