//! `nas-cron keys withdraw`.

use anyhow::ensure;

use super::{Done, KeysContext, find};
use crate::domain::KeyState;
use crate::keys::sweep::records;

/// Removes a next key that never signed.
pub(super) async fn withdraw(context: &KeysContext, kid: &str) -> anyhow::Result<Done> {
    let mut locked = context.db.lock_signing_keys().await?;
    let keys = records(locked.keys());
    let key = find(&keys, kid)?;
    ensure!(
        key.state == KeyState::Next,
        "key `{kid}` is {}: only a next key can be withdrawn; a retired key is removed automatically",
        key.state
    );
    locked.remove(kid).await?;
    locked.commit().await?;
    let text =
        format!("Key `{kid}` is withdrawn: it is no longer published, and its private half is erased.");
    Ok(Done::new(kid, KeyState::Gone, text))
}
