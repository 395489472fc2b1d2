//! Lists and revokes the calling instance's own identities and tasks, in its current org only.

use nas_cron_protocol::{AgentRuntimeId, TaskId};
use tokio::time::Instant;

use super::Identities;
use super::registry::{self, IdentityRecord, Scope};
use crate::db;
use crate::domain::agent_instance::AgentInstance;
use crate::store_error::StoreError;

/// Each method waits for an unavailable database until `deadline`.
impl Identities {
    /// Lists the caller's identities: see [`registry::list`].
    pub async fn list(
        &self,
        caller: &AgentInstance,
        deadline: Instant,
    ) -> Result<Vec<IdentityRecord>, StoreError> {
        Ok(db::ride_out(deadline, || registry::list(&self.db, own(caller))).await?)
    }

    /// Revokes an identity: see [`registry::revoke`]. Returns `None` if it is not the caller's.
    pub async fn revoke(
        &self,
        caller: &AgentInstance,
        id: AgentRuntimeId,
        deadline: Instant,
    ) -> Result<Option<bool>, StoreError> {
        Ok(db::ride_out(deadline, || registry::revoke(&self.db, own(caller), id)).await?)
    }

    /// Revokes a task of an identity: see [`registry::revoke_task`]. Returns `None` if it is not the caller's.
    pub async fn revoke_task(
        &self,
        caller: &AgentInstance,
        id: AgentRuntimeId,
        task_id: TaskId,
        deadline: Instant,
    ) -> Result<Option<bool>, StoreError> {
        let revoking =
            db::ride_out(deadline, || registry::revoke_task(&self.db, own(caller), Some(id), task_id));
        Ok(revoking.await?)
    }
}

fn own(caller: &AgentInstance) -> Scope<'_> {
    Scope { instance_id: &caller.instance_id, org_id: Some(&caller.org_id) }
}
