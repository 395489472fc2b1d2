//! Rotates the keys: in time, or at once after a leak.

use nas_cron_base::terminal::span;

use super::{BY_HAND, ChangedKey, KeyOperations, conflict, publish, switch};
use crate::domain::{KeyRecord, KeyState, NewKey};
use crate::keys::custody;
use crate::keys::rotation::{self, Reason};
use crate::keys::sweep::records;
use crate::operations::OperationResult;

const CHANGED: &str =
    "another process changed the keys at the same moment; see `nas-cron keys list`, then repeat this";

/// Advice after the ordinary rotation.
const LEAKED: &str = "If the old key has leaked, run `nas-cron keys rotate --now`.";

impl KeyOperations {
    /// Begins a rotation: publishes a next key. If there is one that may sign, activates it. With `seen`, fails unless this key
    /// is active, so that a page that is out of date changes nothing.
    pub async fn rotate(&self, seen: Option<&str>) -> OperationResult<ChangedKey> {
        let fresh = self.generate().await?;
        let mut locked = self.db.lock_signing_keys().await?;
        let keys = records(locked.keys());
        check_seen(&keys, seen)?;
        let by_hand = rotation::is_by_hand(&keys);
        if let Some(next) = keys.iter().find(|key| key.state == KeyState::Next) {
            if by_hand {
                return Err(conflict(format!(
                    "key `{kid}` is already published as the next key. {BY_HAND} {kid}`, or remove it with `nas-cron keys \
                     withdraw {kid}`",
                    kid = next.kid
                )));
            }
            return match rotation::may_activate(locked.now(), next, &keys, &self.policy) {
                Ok(()) => {
                    let kid = next.kid.clone();
                    switch(locked, &kid).await?;
                    let text = format!("Key `{kid}` is active: it signs fire tokens from now on.");
                    Ok(ChangedKey::new(kid, KeyState::Active, text))
                }
                Err(reason) => {
                    let text = format!(
                        "A rotation has already begun: key `{}` is published as the next key; {reason}. {LEAKED}",
                        next.kid
                    );
                    Ok(ChangedKey::new(&next.kid, KeyState::Next, text))
                }
            };
        }
        let fresh = fresh.ok_or_else(|| conflict(CHANGED))?;
        let first = keys.is_empty();
        let at = locked.now() + self.policy.lead();
        publish(&mut locked, &fresh).await?;
        if first {
            switch(locked, &fresh.kid).await?;
            let text = format!("Key `{}` ({}) is active: {}.", fresh.kid, fresh.alg, Reason::FirstKey);
            return Ok(ChangedKey::new(&fresh.kid, KeyState::Active, text));
        }
        locked.commit().await?;
        let follows = if by_hand {
            format!("{BY_HAND} {}`.", fresh.kid)
        } else {
            format!(
                "The service activates it at {} (in {}), when all caches of the JWKS contain it; until then the old key \
                 signs. {LEAKED}",
                at.format("%Y-%m-%d %H:%M:%S UTC"),
                span(self.policy.lead())
            )
        };
        let text = format!(
            "Rotation begun: key `{}` ({}) is published as the next key. {follows}",
            fresh.kid, fresh.alg
        );
        Ok(ChangedKey::new(&fresh.kid, KeyState::Next, text))
    }

    /// Activates the next key at once, for a leaked key. For some minutes, agents may reject fires, which are retried. `seen` is
    /// as in [`Self::rotate`].
    pub async fn rotate_now(&self, seen: Option<&str>) -> OperationResult<ChangedKey> {
        let fresh = self.generate().await?;
        let mut locked = self.db.lock_signing_keys().await?;
        let keys = records(locked.keys());
        check_seen(&keys, seen)?;
        if rotation::is_by_hand(&keys) {
            return Err(conflict(
                "--now is refused while an imported key is in use: agents fetch the portal's JWKS and never accept a key \
                 that is missing there. Import the portal's new key with `nas-cron keys import`, and activate it when it is \
                 in that JWKS",
            ));
        }
        let kid = if let Some(next) = keys.iter().find(|key| key.state == KeyState::Next) {
            next.kid.clone()
        } else {
            let fresh = fresh.ok_or_else(|| conflict(CHANGED))?;
            publish(&mut locked, &fresh).await?;
            fresh.kid
        };
        switch(locked, &kid).await?;
        let text = format!(
            "Key `{kid}` is active: it signs fire tokens from now on. For up to 10 minutes, agents may reject fires with \
             401; these fires are retried. Agents may accept tokens of the old key for up to 15 minutes."
        );
        Ok(ChangedKey::new(kid, KeyState::Active, text))
    }

    /// Generates a key, unless there is a next key. Done before the lock is taken, because generating an RSA key is slow.
    async fn generate(&self) -> OperationResult<Option<NewKey>> {
        let keys = self.db.signing_keys().await?;
        if keys.iter().any(|key| key.record.state == KeyState::Next) {
            return Ok(None);
        }
        let kek = self.kek.as_deref();
        custody::check(&keys, kek).await?;
        Ok(Some(custody::generate(self.alg, kek).await?))
    }
}

/// Fails if another key than the one that the caller has seen is active.
fn check_seen(keys: &[KeyRecord], seen: Option<&str>) -> OperationResult<()> {
    let Some(seen) = seen else { return Ok(()) };
    let active = keys.iter().find(|key| key.state == KeyState::Active).map(|key| key.kid.as_str());
    if active == Some(seen) {
        return Ok(());
    }
    Err(conflict(format!(
        "the keys were changed meanwhile: {} is active now, and not `{seen}`",
        active.map_or_else(|| "none".to_owned(), |kid| format!("`{kid}`"))
    )))
}
