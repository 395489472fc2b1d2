//! `nas-cron keys activate`.

use anyhow::{Context as _, bail, ensure};

use super::{KeysContext, Told, agents_jwks, find, switch};
use crate::domain::{KeyRecord, KeyState};
use crate::keys::rotation::{self, NotYet};
use crate::keys::signer::same_public_key;
use crate::keys::sweep::records;

/// Lets a next key sign, once agents can know it.
pub(super) async fn activate(context: &KeysContext, kid: &str) -> anyhow::Result<Told> {
    let keys = records(&context.db.signing_keys().await?);
    let key = find(&keys, kid)?;
    ensure!(key.state == KeyState::Next, "`{kid}` {}", NotYet::WrongState(key.state));
    // Looked up before the lock is taken: nobody waits for somebody else's server.
    let seen = if rotation::is_by_hand(&keys) { Some(see(context, key).await?) } else { None };
    let mut locked = context.db.lock_signing_keys().await?;
    if let Some(seen) = seen {
        locked.record_sighting(kid, seen).await?;
        locked.reread().await?;
    }
    let keys = records(locked.keys());
    let verdict = rotation::may_activate(locked.now(), find(&keys, kid)?, &keys, &context.policy);
    let Err(reason) = verdict else {
        switch(locked, kid).await?;
        return Ok(Told::new(kid, KeyState::Active, format!("`{kid}` signs from now on.")));
    };
    locked.commit().await?;
    match (&reason, &context.agents_jwks_url) {
        (NotYet::NotSeen, Some(url)) => {
            bail!("`{kid}` is not in the JWKS at {url}: publish it there first, or agents refuse every fire")
        }
        (NotYet::TooYoung { .. }, Some(url)) if seen.is_some() => {
            bail!("`{kid}` shows at {url}; {reason}: run this again then")
        }
        _ => bail!("`{kid}`: {reason}"),
    }
}

/// Whether `key` shows where agents look.
async fn see(context: &KeysContext, key: &KeyRecord) -> anyhow::Result<bool> {
    let url = context.agents_jwks_url.as_ref().context(
        "it is not known where agents fetch their JWKS (their `cron.chronos.nas_jwks_url`), so nobody can tell \
         whether they would accept this key",
    )?;
    match agents_jwks::find(url, &key.kid).await.with_context(|| format!("looking at {url}"))? {
        None => Ok(false),
        Some(jwk) => {
            ensure!(
                same_public_key(&jwk, &key.public_jwk),
                "{url} has a key with the kid `{}`, but it is another key: agents would refuse every fire",
                key.kid
            );
            Ok(true)
        }
    }
}
