//! Changes of the identity: a key that is registered, in the place of another one or not, and none any more.
//!
//! A fresh key is in the store before the server hears of it, beside the one that it is to replace. Whoever is cut off, at
//! any instant, leaves a store that has the key that the server knows, and the next one goes on from there.

use nas_cron_protocol::error::ErrorWord;

use super::{BackgroundTask, Unavailable, in_time};
use crate::client::ClientError;
use crate::client::identity::AgentKey;
use crate::client::registration;
use crate::client::store::{LockedStore, Mode, ServerEntry, StoredIdentity};

impl BackgroundTask {
    /// Registers a fresh key in the place of the old one, which is revoked in the same moment, with its tasks. Returns
    /// what the server calls it.
    pub async fn rotate(&self) -> Result<String, Unavailable> {
        let locked = self.store.lock().await?;
        let mut entry = locked.server(&self.server)?.ok_or_else(|| self.unknown_server())?;
        let before = entry.agent_identity.as_ref().map(|identity| identity.agent_runtime_id.clone());
        let identity = in_time(self.new_identity(&locked, &mut entry, before.as_deref())).await?;
        Ok(identity.agent_runtime_id)
    }

    /// Registers the key that is pending, or a fresh one, and puts it into the place of the one in the store. What it
    /// `replaces` is revoked in the same moment.
    pub(super) async fn new_identity(
        &self,
        locked: &LockedStore<'_>,
        entry: &mut ServerEntry,
        replaces: Option<&str>,
    ) -> Result<StoredIdentity, Unavailable> {
        let registered = match self.register_pending(locked, entry, replaces).await {
            // It was known once, and somebody has revoked it since.
            Err(Unavailable::Registration(error)) if error.word() == Some(ErrorWord::KeyRevoked) => {
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
    ) -> Result<StoredIdentity, Unavailable> {
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
            // What was to be replaced is not known there as this agent's: it is as good as gone.
            Err(ClientError::Refused { status: 400 | 404, .. }) if replaces.is_some() => register(None).await,
            registered => registered,
        };
        let agent_runtime_id = registered.map_err(|error| self.not_registered(error))?;
        let registered_at = Some(self.clock.now());
        Ok(StoredIdentity { private_key, agent_runtime_id, registered_at, background_task_id: None })
    }

    /// Revokes the identity at the server, takes it out of the store, and sets the mode to off, also where there is none.
    /// Returns what it was called. Where the server does not do its part, nothing is changed, unless only `here` is
    /// asked for.
    pub async fn forget(&self, here: bool) -> Result<Option<String>, Unavailable> {
        let locked = self.store.lock().await?;
        let mut entry = locked.server(&self.server)?.ok_or_else(|| self.unknown_server())?;
        let agent_runtime_id = entry.agent_identity.take().map(|identity| identity.agent_runtime_id);
        if let (Some(agent_runtime_id), false) = (&agent_runtime_id, here) {
            in_time(self.revoke(agent_runtime_id)).await?;
        }
        entry.pending_private_key = None;
        entry.use_agent_identity = Some(Mode::Off);
        locked.put(&self.server, &entry)?;
        Ok(agent_runtime_id)
    }

    async fn revoke(&self, agent_runtime_id: &str) -> Result<(), Unavailable> {
        let authorization = match self.authorization() {
            Ok(bearer) => bearer,
            // It may also revoke itself.
            Err(no_token) => self.kept()?.ok_or(no_token)?.authorization,
        };
        match registration::revoke(&self.transport, &authorization, agent_runtime_id).await {
            Err(error) if !matches!(error.word(), Some(ErrorWord::NotFound | ErrorWord::UnknownAgent)) => {
                Err(Unavailable::NotRevoked(error))
            }
            _ => Ok(()),
        }
    }
}
