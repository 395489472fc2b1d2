//! `nas-cron keys activate`.

use anyhow::{Context as _, anyhow, bail, ensure};

use super::{Done, KeysContext, agents_jwks, find, switch};
use crate::domain::{KeyRecord, KeyState};
use crate::keys::rotation::{self, NotYet};
use crate::keys::signer::same_public_key;
use crate::keys::sweep::records;

/// Activates the next key. Fails if agents may not know it yet.
pub(super) async fn activate(context: &KeysContext, kid: &str) -> anyhow::Result<Done> {
    let keys = records(&context.db.signing_keys().await?);
    let key = find(&keys, kid)?;
    ensure!(key.state == KeyState::Next, "key `{kid}`: {}", NotYet::WrongState(key.state));
    // Fetched before the lock is taken: replicas must not wait for a foreign server.
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
        return Ok(Done::new(
            kid,
            KeyState::Active,
            format!("Key `{kid}` is active: it signs fire tokens from now on."),
        ));
    };
    locked.commit().await?;
    match (&reason, &context.agents_jwks_url) {
        (NotYet::NotSeen, Some(url)) => {
            bail!(
                "key `{kid}` is not in the JWKS at {url}: publish it there first, or agents reject every fire"
            )
        }
        (NotYet::TooYoung { .. }, Some(url)) if seen.is_some() => {
            bail!("key `{kid}` is in the JWKS at {url}; {reason}: run this command again then")
        }
        _ => bail!("key `{kid}`: {reason}"),
    }
}

/// Returns true if the JWKS that agents fetch contains `key`.
async fn see(context: &KeysContext, key: &KeyRecord) -> anyhow::Result<bool> {
    let url = context.agents_jwks_url.as_ref().context(
        "the JWKS URL of the agents (their `cron.chronos.nas_jwks_url`) is not configured, so nas-cron could not check \
         whether they know this key; set NAS_CRON_AGENTS_JWKS_URL",
    )?;
    let found = agents_jwks::find(url, &key.kid).await;
    let found = found.map_err(|error| {
        let reason = agents_jwks::reason(error);
        anyhow!("fetching the agents' JWKS from {url} failed: {reason}; check NAS_CRON_AGENTS_JWKS_URL")
    });
    match found? {
        None => Ok(false),
        Some(jwk) => {
            ensure!(
                same_public_key(&jwk, &key.public_jwk),
                "{url} has a key with the kid `{}`, but it is another key: agents would reject every fire",
                key.kid
            );
            Ok(true)
        }
    }
}
