//! `nas-cron keys rotate`, with and without `--now`.

use anyhow::{Context as _, ensure};
use nas_cron_base::terminal::span;

use super::{BY_HAND, Done, KeysContext, publish, switch};
use crate::domain::KeyState;
use crate::domain::NewKey;
use crate::keys::custody;
use crate::keys::rotation::{self, Reason};
use crate::keys::sweep::records;

const CHANGED: &str = "another process changed the keys at the same moment; see `nas-cron keys list`, then run this command again";

/// Generates a key, unless there is a next key. Done before the lock is taken, because generating an RSA key is slow.
async fn generate(context: &KeysContext) -> anyhow::Result<Option<NewKey>> {
    let keys = context.db.signing_keys().await?;
    if keys.iter().any(|key| key.record.state == KeyState::Next) {
        return Ok(None);
    }
    let kek = context.kek.as_deref();
    custody::check(&keys, kek).await?;
    Ok(Some(custody::generate(context.alg, kek).await?))
}

/// Begins a rotation: publishes a next key. If there is one that may sign, activates it.
pub(super) async fn rotate(context: &KeysContext) -> anyhow::Result<Done> {
    let fresh = generate(context).await?;
    let mut locked = context.db.lock_signing_keys().await?;
    let keys = records(locked.keys());
    let by_hand = rotation::is_by_hand(&keys);
    if let Some(next) = keys.iter().find(|key| key.state == KeyState::Next) {
        ensure!(
            !by_hand,
            "key `{kid}` is already published as the next key. {BY_HAND} {kid}`, or remove it with `nas-cron keys withdraw {kid}`",
            kid = next.kid
        );
        return match rotation::may_activate(locked.now(), next, &keys, &context.policy) {
            Ok(()) => {
                let kid = next.kid.clone();
                switch(locked, &kid).await?;
                let text = format!("Key `{kid}` is active: it signs fire tokens from now on.");
                Ok(Done::new(&kid, KeyState::Active, text))
            }
            Err(reason) => {
                let text = format!(
                    "A rotation has already begun: key `{}` is published as the next key; {reason}. {LEAKED}",
                    next.kid
                );
                Ok(Done::new(&next.kid, KeyState::Next, text))
            }
        };
    }
    let fresh = fresh.context(CHANGED)?;
    let first = keys.is_empty();
    let at = locked.now() + context.policy.lead();
    publish(&mut locked, &fresh).await?;
    if first {
        switch(locked, &fresh.kid).await?;
        let text = format!("Key `{}` ({}) is active: {}.", fresh.kid, fresh.alg, Reason::FirstKey);
        return Ok(Done::new(&fresh.kid, KeyState::Active, text));
    }
    locked.commit().await?;
    let follows = if by_hand {
        format!("{BY_HAND} {}`.", fresh.kid)
    } else {
        format!(
            "The service activates it at {} (in {}), when all caches of the JWKS contain it; until then the old key \
             signs. {LEAKED}",
            at.format("%Y-%m-%d %H:%M:%S UTC"),
            span(context.policy.lead())
        )
    };
    let text = format!(
        "Rotation begun: key `{}` ({}) is published as the next key. {follows}",
        fresh.kid, fresh.alg
    );
    Ok(Done::new(&fresh.kid, KeyState::Next, text))
}

/// Advice after the ordinary rotation.
const LEAKED: &str = "If the old key has leaked, run `nas-cron keys rotate --now`.";

/// Activates the next key at once, for a leaked key.
pub(super) async fn rotate_now(context: &KeysContext, yes: bool) -> anyhow::Result<Done> {
    ensure!(
        yes,
        "--now activates a key that agents do not know yet; use it for a leaked key only, with --yes. Effect on fires: \
         for up to 10 minutes, agents with a cached JWKS may reject fires with 401, unless they fetch the JWKS again for \
         an unknown kid (hermes-agent does, but shared caches may return the old JWKS); rejected fires are retried and \
         arrive late. Limit: agents still accept tokens signed with the old key while it is published or cached, for \
         up to 15 minutes. For an ordinary rotation, omit --now: no fire is rejected then"
    );
    let fresh = generate(context).await?;
    let mut locked = context.db.lock_signing_keys().await?;
    let keys = records(locked.keys());
    ensure!(
        !rotation::is_by_hand(&keys),
        "--now is refused while an imported key is in use: agents fetch the portal's JWKS and never accept a key that is \
         missing there. Import the portal's new key with `nas-cron keys import`, and activate it when it is in that JWKS"
    );
    let kid = if let Some(next) = keys.iter().find(|key| key.state == KeyState::Next) {
        next.kid.clone()
    } else {
        let fresh = fresh.context(CHANGED)?;
        publish(&mut locked, &fresh).await?;
        fresh.kid
    };
    switch(locked, &kid).await?;
    let text = format!(
        "Key `{kid}` is active: it signs fire tokens from now on. For up to 10 minutes, agents may reject fires with 401; \
         these fires are retried. Agents may accept tokens of the old key for up to 15 minutes."
    );
    Ok(Done::new(kid, KeyState::Active, text))
}
