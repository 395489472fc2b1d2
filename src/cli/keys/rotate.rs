//! `nas-cron keys rotate`, with and without `--now`.

use anyhow::{Context as _, ensure};

use super::{BY_HAND, KeysContext, Told, publish, switch};
use crate::domain::KeyState;
use crate::domain::NewKey;
use crate::keys::custody;
use crate::keys::rotation::{self, Reason};
use crate::keys::sweep::records;

const CHANGED: &str =
    "somebody else changed the keys at the same moment: look again with `nas-cron keys list`";

/// Makes a key unless one waits already: before the lock is taken, as RSA takes longer than others should wait.
async fn generate(context: &KeysContext) -> anyhow::Result<Option<NewKey>> {
    let keys = context.db.signing_keys().await?;
    if keys.iter().any(|key| key.record.state == KeyState::Next) {
        return Ok(None);
    }
    let kek = context.kek.as_deref();
    custody::check(&keys, kek).await?;
    Ok(Some(custody::generate(context.alg, kek).await?))
}

/// Publishes a next key, or lets the one that waits sign where it may.
pub(super) async fn rotate(context: &KeysContext) -> anyhow::Result<Told> {
    let fresh = generate(context).await?;
    let mut locked = context.db.lock_signing_keys().await?;
    let keys = records(locked.keys());
    let by_hand = rotation::is_by_hand(&keys);
    if let Some(next) = keys.iter().find(|key| key.state == KeyState::Next) {
        ensure!(
            !by_hand,
            "`{kid}` waits to be activated already. {BY_HAND} {kid}`, or take it back with `nas-cron keys withdraw {kid}`",
            kid = next.kid
        );
        return match rotation::may_activate(locked.now(), next, &keys, &context.policy) {
            Ok(()) => {
                let kid = next.kid.clone();
                switch(locked, &kid).await?;
                Ok(Told::new(&kid, KeyState::Active, format!("`{kid}` signs from now on.")))
            }
            Err(reason) => {
                let text = format!("A rotation is under way: `{}` is published, {reason}.", next.kid);
                Ok(Told::new(&next.kid, KeyState::Next, text))
            }
        };
    }
    let fresh = fresh.context(CHANGED)?;
    let first = keys.is_empty();
    let at = locked.now() + context.policy.lead();
    publish(&mut locked, &fresh).await?;
    if first {
        switch(locked, &fresh.kid).await?;
        let text = format!("`{}` ({}) signs from now on: {}.", fresh.kid, fresh.alg, Reason::FirstKey);
        return Ok(Told::new(&fresh.kid, KeyState::Active, text));
    }
    locked.commit().await?;
    let follows = if by_hand {
        format!("{BY_HAND} {}`.", fresh.kid)
    } else {
        format!(
            "Caches know it from {} on; the running service then activates it.",
            at.format("%Y-%m-%d %H:%M:%S UTC")
        )
    };
    let text = format!("`{}` ({}) is published as the next key. {follows}", fresh.kid, fresh.alg);
    Ok(Told::new(&fresh.kid, KeyState::Next, text))
}

/// The emergency exit.
pub(super) async fn rotate_now(context: &KeysContext, yes: bool) -> anyhow::Result<Told> {
    ensure!(
        yes,
        "--now lets a key sign that agents cannot know yet. What breaks: agents that hold our key set refuse \
         the fires of up to 10 minutes with 401, unless they fetch the set again for an unknown kid (hermes-agent \
         does, but shared caches may answer it with the old set); these fires are tried again and come late. What \
         it does not do: agents accept tokens of the old key as long as it is published or cached, for up to \
         15 minutes. For a leaked key add --yes; otherwise leave --now away, and nothing breaks"
    );
    let fresh = generate(context).await?;
    let mut locked = context.db.lock_signing_keys().await?;
    let keys = records(locked.keys());
    ensure!(
        !rotation::is_by_hand(&keys),
        "--now is refused while an imported key is in use: agents look at the portal's JWKS, and a key that is not \
         there is never accepted. Import the portal's new key, and activate it when it shows there"
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
        "`{kid}` signs from now on. Fires may be refused with 401 for up to 10 minutes, and are tried again."
    );
    Ok(Told::new(kid, KeyState::Active, text))
}
