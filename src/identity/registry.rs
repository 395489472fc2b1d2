//! Lists and revokes identities and tasks, for agents, the admin API and operators. Also works while agent identities
//! are off.

use chrono::{DateTime, Utc};

use super::public_key::PublicKey;
pub use crate::domain::identity::{Scope, TaskRecord};
use nas_cron_protocol::{AgentRuntimeId, InstanceId, TaskId};

use crate::db::identities::{self, listing, tasks};
use crate::db::{Db, DbResult};
use crate::store_error::StoreError;

/// A registered key in a list.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct IdentityRecord {
    /// ID of the identity.
    pub agent_runtime_id: AgentRuntimeId,
    /// The OpenSSH line, without a comment.
    #[schema(example = "ssh-ed25519 AAAAC3NzaC1lZDI1NTE5AAAAINdamAGCsQq31Uv+08lkBzoO4XLz2qYjJa8CGmj3B1Ea")]
    pub agent_public_key: String,
    /// Time of registration.
    pub created_at: DateTime<Utc>,
    /// Time of the last accepted call with the key, accurate to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Time of revocation.
    pub revoked_at: Option<DateTime<Utc>>,
    /// The org that the key was registered for, if the agent has left it. Such a key is no longer accepted.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub of_org: Option<String>,
    /// Tasks of the identity: active ones first, then revoked ones; newest first.
    pub tasks: Vec<TaskRecord>,
}

/// The identities of all agents, for the admin API.
#[derive(Clone, Debug)]
pub struct IdentityRegistry(Db);

impl IdentityRegistry {
    /// The identities in `db`.
    pub fn new(db: Db) -> Self {
        Self(db)
    }

    /// Lists identities: see [`list`].
    pub async fn list(&self, scope: Scope<'_>) -> Result<Vec<IdentityRecord>, StoreError> {
        Ok(list(&self.0, scope).await?)
    }

    /// Revokes an identity: see [`revoke`].
    pub async fn revoke(&self, scope: Scope<'_>, id: AgentRuntimeId) -> Result<Option<bool>, StoreError> {
        Ok(revoke(&self.0, scope, id).await?)
    }

    /// Revokes a task of an identity: see [`revoke_task`].
    pub async fn revoke_task(
        &self,
        scope: Scope<'_>,
        id: AgentRuntimeId,
        task_id: TaskId,
    ) -> Result<Option<bool>, StoreError> {
        Ok(revoke_task(&self.0, scope, Some(id), task_id).await?)
    }
}

/// The scope of an instance's identities in any org, for operators.
pub fn any_org(instance_id: &InstanceId) -> Scope<'_> {
    Scope { instance_id, org_id: None }
}

/// Lists the identities in `scope`: active ones first, then revoked ones; newest first; at most 100, with at most 100
/// tasks each.
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

/// Revokes an identity and its tasks, at once on every replica. Returns true if it was not revoked before, and `None`
/// if `scope` has no identity with this ID.
pub async fn revoke(db: &Db, scope: Scope<'_>, id: AgentRuntimeId) -> DbResult<Option<bool>> {
    let (found, revoked) = identities::revoke(db, scope, Some(id)).await?;
    Ok((found > 0).then_some(revoked > 0))
}

/// Revokes all identities in `scope`. Returns the number of those that were not revoked before.
pub async fn revoke_all(db: &Db, scope: Scope<'_>) -> DbResult<i64> {
    Ok(identities::revoke(db, scope, None).await?.1)
}

/// Revokes a task of this identity, or of any identity if it is `None`. Returns true if the task was not revoked
/// before, and `None` if `scope` has no task with this ID.
pub async fn revoke_task(
    db: &Db,
    scope: Scope<'_>,
    identity: Option<AgentRuntimeId>,
    task_id: TaskId,
) -> DbResult<Option<bool>> {
    tasks::revoke(db, scope, identity, task_id).await
}
