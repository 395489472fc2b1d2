//! Changes of the identity: registering, rotating and forgetting its key.
//!
//! A new key is stored before it is sent, beside the key that it replaces. A process that is interrupted at any instant
//! leaves a store with the key that the server knows, and the next process continues from there.

use chrono::SubsecRound;
use nas_cron_protocol::error::ErrorWord;

use super::{BackgroundTask, IdentityError, in_time};
use crate::client::ClientError;
use crate::client::identity::AgentKey;
use crate::client::registration;
use crate::client::store::{LockedStore, Mode, ServerEntry, StoredIdentity};

impl BackgroundTask {
    /// Registers a new key in place of the old one, which the server revokes in the same transaction, with its tasks.
    /// Returns the ID of the new identity.
    pub async fn rotate(&self) -> Result<String, IdentityError> {
        let locked = self.store.lock().await?;
        let mut entry = locked.server(&self.server)?.ok_or_else(|| self.unknown_server())?;
        let before = entry.agent_identity.as_ref().map(|identity| identity.agent_runtime_id.clone());
        let identity = in_time(self.new_identity(&locked, &mut entry, before.as_deref())).await?;
        Ok(identity.agent_runtime_id)
    }

    /// Registers the pending key, or a new one, and stores it in place of the current one. The identity that it `replaces`
    /// is revoked in the same transaction.
    pub(super) async fn new_identity(
        &self,
        locked: &LockedStore<'_>,
        entry: &mut ServerEntry,
        replaces: Option<&str>,
    ) -> Result<StoredIdentity, IdentityError> {
        let registered = match self.register_pending(locked, entry, replaces).await {
            // The pending key was registered and has been revoked since.
            Err(IdentityError::Registration(error)) if error.word() == Some(ErrorWord::KeyRevoked) => {
                entry.pending_private_key = None;
                self.register_pending(locked, entry, replaces).await
            }
            registered => registered,
        };
        let identity = registered?;
        entry.agent_identity = Some(identity.clone());
        entry.pending_private_key = None;
        locked.put(&self.server, entry)?;
        Ok(identity)
    }

    async fn register_pending(
        &self,
        locked: &LockedStore<'_>,
        entry: &mut ServerEntry,
        replaces: Option<&str>,
    ) -> Result<StoredIdentity, IdentityError> {
        let bearer = self.authorization()?;
        let pending = entry.pending_private_key.take();
        let pending = pending.and_then(|text| AgentKey::parse(&text).ok().map(|key| (key, text)));
        let (key, private_key) = pending.unwrap_or_else(AgentKey::generate);
        entry.pending_private_key = Some(private_key.clone());
        locked.put(&self.server, entry)?;
        let register = async |replaces: Option<&str>| {
            registration::register(&self.transport, &bearer, &key, replaces).await
        };
        let registered = match register(replaces).await {
            // The server does not know the old identity as this agent's, so there is nothing to replace.
            Err(ClientError::Refused { status: 400 | 404, .. }) if replaces.is_some() => register(None).await,
            registered => registered,
        };
        let agent_runtime_id = registered.map_err(|error| self.not_registered(error))?;
        // The precision of times in the store.
        let registered_at = Some(self.clock.now().trunc_subsecs(6));
        Ok(StoredIdentity { private_key, agent_runtime_id, registered_at, background_task_id: None })
    }

    /// Revokes the identity at the server, removes it from the store, and sets the mode to off, even without an identity.
    /// Returns the ID of the removed identity. If revoking fails, nothing changes. `locally` skips the server.
    pub async fn forget(&self, locally: bool) -> Result<Option<String>, IdentityError> {
        let locked = self.store.lock().await?;
        let mut entry = locked.server(&self.server)?.ok_or_else(|| self.unknown_server())?;
        let agent_runtime_id = entry.agent_identity.take().map(|identity| identity.agent_runtime_id);
        if let (Some(agent_runtime_id), false) = (&agent_runtime_id, locally) {
            in_time(self.revoke(agent_runtime_id)).await?;
        }
        entry.pending_private_key = None;
        entry.use_agent_identity = Some(Mode::Off);
        locked.put(&self.server, &entry)?;
        Ok(agent_runtime_id)
    }

    async fn revoke(&self, agent_runtime_id: &str) -> Result<(), IdentityError> {
        let authorization = match self.authorization() {
            Ok(bearer) => bearer,
            // An identity may revoke itself.
            Err(no_token) => self.stored()?.ok_or(no_token)?.authorization,
        };
        match registration::revoke(&self.transport, &authorization, agent_runtime_id).await {
            Err(error) if !matches!(error.word(), Some(ErrorWord::NotFound | ErrorWord::UnknownAgent)) => {
                Err(IdentityError::NotRevoked(error))
            }
            _ => Ok(()),
        }
    }
}
