//! `nas-cron keys withdraw`.

use anyhow::ensure;

use super::{KeysContext, Told, find};
use crate::domain::KeyState;
use crate::keys::sweep::records;

/// Takes a next key back.
pub(super) async fn withdraw(context: &KeysContext, kid: &str) -> anyhow::Result<Told> {
    let mut locked = context.db.lock_signing_keys().await?;
    let keys = records(locked.keys());
    let key = find(&keys, kid)?;
    ensure!(
        key.state == KeyState::Next,
        "`{kid}` is {}: only a next key can be taken back; a retired one leaves by itself",
        key.state
    );
    locked.remove(kid).await?;
    locked.commit().await?;
    Ok(Told::new(kid, KeyState::Gone, format!("`{kid}` is no longer published; its private half is erased.")))
}
