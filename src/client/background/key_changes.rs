//! Changes of the identity that somebody asks for: another key, or none.

use super::{BackgroundTask, Unavailable, told};
use crate::client::ClientError;
use crate::client::identity::AgentKey;
use crate::client::registration;
use crate::client::store::{Mode, StoredIdentity};

impl BackgroundTask {
    /// Registers a fresh key in the place of the old one, which is revoked in the same moment, with its tasks. Returns
    /// what the server calls it.
    pub async fn rotate(&self) -> Result<String, Unavailable> {
        let locked = self.store.lock().await?;
        let mut entry = locked.server(&self.server)?.ok_or_else(|| self.unknown_server())?;
        let bearer = self.authorization()?;
        let before = entry.agent_identity.take().and_then(|identity| identity.agent_runtime_id);
        let (key, private_key) = AgentKey::generate();
        let register = async |replaces: Option<&str>| {
            registration::register(&self.transport, &bearer, &key, replaces).await
        };
        let registered = match register(before.as_deref()).await {
            // What was to be replaced is not known there as this agent's: it is as good as gone.
            Err(ClientError::Refused { status: 400 | 404, .. }) if before.is_some() => register(None).await,
            registered => registered,
        };
        let agent_runtime_id = registered.map_err(|error| self.not_registered(error))?;
        entry.agent_identity = Some(StoredIdentity {
            agent_runtime_id: Some(agent_runtime_id.clone()),
            registered_at: Some(self.clock.now()),
            ..StoredIdentity::new(private_key)
        });
        locked.put(&self.server, &entry)?;
        Ok(agent_runtime_id)
    }

    /// Revokes the identity at the server, takes it out of the store, and sets the mode to off. Returns what it was called; `None`: there was
    /// none. Where the server does not do its part, nothing is taken out, unless only `here` is asked for.
    pub async fn forget(&self, here: bool) -> Result<Option<String>, Unavailable> {
        let locked = self.store.lock().await?;
        let mut entry = locked.server(&self.server)?.ok_or_else(|| self.unknown_server())?;
        let Some(identity) = entry.agent_identity.take() else { return Ok(None) };
        if let (Some(agent_runtime_id), false) = (&identity.agent_runtime_id, here) {
            let authorization = match self.authorization() {
                Ok(bearer) => bearer,
                // It may also revoke itself.
                Err(no_token) => self.kept()?.ok_or(no_token)?.authorization,
            };
            match registration::revoke(&self.transport, &authorization, agent_runtime_id).await {
                Err(error) if !matches!(told(&error), Some("not_found" | "unknown_agent")) => {
                    return Err(Unavailable::NotRevoked(error));
                }
                _ => {}
            }
        }
        entry.use_agent_identity = Some(Mode::Off);
        locked.put(&self.server, &entry)?;
        Ok(Some(identity.agent_runtime_id.unwrap_or_default()))
    }
}
