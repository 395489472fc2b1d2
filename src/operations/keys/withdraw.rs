//! Withdraws a next key that never signed.

use super::{ChangedKey, KeyOperations, conflict, find};
use crate::domain::KeyState;
use crate::keys::sweep::records;
use crate::operations::OperationResult;

impl KeyOperations {
    /// Removes a next key that never signed.
    pub async fn withdraw(&self, kid: &str) -> OperationResult<ChangedKey> {
        let mut locked = self.db.lock_signing_keys().await?;
        let keys = records(locked.keys());
        let key = find(&keys, kid)?;
        if key.state != KeyState::Next {
            return Err(conflict(format!(
                "key `{kid}` is {}: only a next key can be withdrawn; a retired key is removed automatically",
                key.state
            )));
        }
        locked.remove(kid).await?;
        locked.commit().await?;
        let text =
            format!("Key `{kid}` is withdrawn: it is no longer published, and its private half is erased.");
        Ok(ChangedKey::new(kid, KeyState::Gone, text))
    }
}
