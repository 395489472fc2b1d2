//! Activates the next key by hand.

use super::{ChangedKey, KeyOperations, conflict, find, switch};
use crate::domain::{KeyRecord, KeyState};
use crate::keys::agents_jwks;
use crate::keys::rotation::{self, NotYet};
use crate::keys::signer::same_public_key;
use crate::keys::sweep::records;
use crate::operations::OperationResult;

impl KeyOperations {
    /// Activates the next key. Fails if agents may not know it yet.
    pub async fn activate(&self, kid: &str) -> OperationResult<ChangedKey> {
        let keys = records(&self.db.signing_keys().await?);
        let key = find(&keys, kid)?;
        if key.state != KeyState::Next {
            return Err(conflict(format!("key `{kid}`: {}", NotYet::WrongState(key.state))));
        }
        // Fetched before the lock is taken: replicas must not wait for a foreign server.
        let seen = if rotation::is_by_hand(&keys) { Some(self.see(key).await?) } else { None };
        let mut locked = self.db.lock_signing_keys().await?;
        if let Some(seen) = seen {
            locked.record_sighting(kid, seen).await?;
            locked.reread().await?;
        }
        let keys = records(locked.keys());
        let verdict = rotation::may_activate(locked.now(), find(&keys, kid)?, &keys, &self.policy);
        let Err(reason) = verdict else {
            switch(locked, kid).await?;
            let text = format!("Key `{kid}` is active: it signs fire tokens from now on.");
            return Ok(ChangedKey::new(kid, KeyState::Active, text));
        };
        locked.commit().await?;
        Err(conflict(match (&reason, &self.agents_jwks_url) {
            (NotYet::NotSeen, Some(url)) => format!(
                "key `{kid}` is not in the JWKS at {url}: publish it there first, or agents reject every fire"
            ),
            (NotYet::TooYoung { .. }, Some(url)) if seen.is_some() => {
                format!("key `{kid}` is in the JWKS at {url}; {reason}: run this command again then")
            }
            _ => format!("key `{kid}`: {reason}"),
        }))
    }

    /// Returns true if the JWKS that agents fetch contains `key`.
    async fn see(&self, key: &KeyRecord) -> OperationResult<bool> {
        let url = self.agents_jwks_url.as_ref().ok_or_else(|| {
            conflict(
                "the JWKS URL of the agents (their `cron.chronos.nas_jwks_url`) is not configured, so nas-cron could not \
                 check whether they know this key; set NAS_CRON_AGENTS_JWKS_URL",
            )
        })?;
        let found = agents_jwks::find(url, &key.kid).await.map_err(|error| {
            let reason = agents_jwks::reason(error);
            conflict(format!(
                "fetching the agents' JWKS from {url} failed: {reason}; check NAS_CRON_AGENTS_JWKS_URL"
            ))
        })?;
        match found {
            None => Ok(false),
            Some(jwk) if same_public_key(&jwk, &key.public_jwk) => Ok(true),
            Some(_) => Err(conflict(format!(
                "{url} has a key with the kid `{}`, but it is another key: agents would reject every fire",
                key.kid
            ))),
        }
    }
}
