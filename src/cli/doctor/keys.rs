//! Checks of keys: the keys that sign fire tokens, the JWKS that agents fetch, and the portal's keys.

use super::deployment::Deployment;
use crate::app;
use crate::config::PortalJwks;
use crate::db::DbResult;
use crate::diagnosis::{self, Finding, failed, never_answered};
use crate::domain::{KeyRecord, KeyState};
use crate::instance::{KeySet, count_keys_at};
use crate::keys::signer::same_public_key;
use crate::keys::{KeyError, agents_jwks, custody};

const SET_THE_KEY_THAT_ENCRYPTED: &str = "set NAS_CRON_KEY_ENCRYPTION_KEY to the key that encrypted it: the other replicas or your backup have it. \
     Another key cannot decrypt it; docs/keys.md says what to do if it is lost";

/// Checks that the active and the next signing key can be decrypted here.
pub(super) async fn signing_key(deployment: &Deployment) -> Finding {
    let keys = match deployment.db.signing_keys().await {
        Ok(keys) => keys,
        Err(error) => return failed(error),
    };
    let kek = app::key_encryption_keys(deployment.config.keys.encryption.as_ref());
    if keys.is_empty() {
        return match deployment.config.require_key_encryption() {
            Ok(_) => Finding::ok("none yet: `nas-cron serve` creates the first one at its start"),
            Err(error) => {
                Finding::wrong("none yet, and `nas-cron serve` could not create one", error.to_string())
            }
        };
    }
    for key in keys.iter().filter(|key| matches!(key.record.state, KeyState::Next | KeyState::Active)) {
        if let Err(error) = custody::open(key, kek.as_ref()).await {
            return unusable(&key.record, &error);
        }
    }
    diagnosis::active_key(keys.iter().map(|key| &key.record))
}

fn unusable(key: &KeyRecord, error: &KeyError) -> Finding {
    let fix = match error {
        KeyError::Locked { .. } | KeyError::Encryption(_) => SET_THE_KEY_THAT_ENCRYPTED,
        KeyError::File { .. } | KeyError::Pem { .. } => "put this file on every replica, under this path",
        _ => "`nas-cron keys list` shows the keys",
    };
    Finding::wrong(format!("{} ({}) is unusable here: {error}", key.kid, key.state), fix)
}

/// Checks which keys encrypt the stored secrets: whether a fallback is still needed.
pub(super) async fn stored_secrets(deployment: &Deployment) -> Finding {
    let Some(encryption) = &deployment.config.keys.encryption else {
        return Finding::skipped("not checked: NAS_CRON_KEY_ENCRYPTION_KEY is not set");
    };
    let used = match app::key_operations(&deployment.config, deployment.db.clone()) {
        Ok(operations) => operations.key_use().await.map_err(anyhow::Error::from),
        Err(error) => Err(error),
    };
    match used {
        Ok(used) => diagnosis::encryption(&used, !encryption.fallbacks.is_empty()),
        Err(error) => failed(error),
    }
}

async fn active_key(deployment: &Deployment) -> DbResult<Option<KeyRecord>> {
    let keys = deployment.db.signing_keys().await?;
    Ok(keys.into_iter().map(|key| key.record).find(|key| key.state == KeyState::Active))
}

/// Checks that the JWKS that agents fetch contains the active key. Agents reject fires signed with an unknown key.
pub(super) async fn agents_jwks(deployment: &Deployment) -> Finding {
    let active = match active_key(deployment).await {
        Ok(Some(active)) => active,
        Ok(None) => return Finding::skipped("not checked: no signing key is active"),
        Err(error) => return failed(error),
    };
    let url = &deployment.config.keys.agents_jwks_url;
    let kid = &active.kid;
    let fix = "route its path to the service, or set NAS_CRON_AGENTS_JWKS_URL to the URL that agents fetch";
    match agents_jwks::find(url, kid).await {
        Ok(Some(jwk)) if same_public_key(&jwk, &active.public_jwk) => {
            Finding::ok(format!("{url} contains {kid}"))
        }
        Ok(Some(_)) => Finding::wrong(
            format!("{url} contains another key with the kid {kid}: agents reject every fire"),
            fix,
        ),
        Ok(None) => Finding::wrong(format!("{url} does not contain {kid}: agents reject every fire"), fix),
        Err(error) if never_answered(&error) => Finding::warning(
            format!("{url} is unreachable from here: {}", agents_jwks::reason(error)),
            "agents may still reach it: test it from an agent's machine with `curl`",
        ),
        Err(error) => Finding::wrong(format!("{url} is not a JWKS: {}", agents_jwks::reason(error)), fix),
    }
}

/// Checks that the portal's keys are usable. Without them, every agent is rejected.
pub(super) async fn portal_keys(deployment: &Deployment) -> Finding {
    let jwks = &deployment.config.portal.jwks;
    let fix = match jwks {
        PortalJwks::Url(_) => {
            "set NAS_CRON_PORTAL_JWKS_URL to the URL of the portal's JWKS, and check that this machine can reach it"
        }
        // They are never fetched.
        PortalJwks::Own => "see \"signing key\"",
        PortalJwks::File(_) => {
            "set NAS_CRON_PORTAL_JWKS_FILE to a file with the portal's public keys, a JWKS or PEM"
        }
    };
    usable_keys(jwks).await.map_or_else(|error| Finding::wrong(error, fix), Finding::ok)
}

/// Returns the number of usable keys in words, or the error.
pub(super) async fn usable_keys(jwks: &PortalJwks) -> Result<String, String> {
    match jwks {
        PortalJwks::Url(url) => match count_keys_at(url.clone()).await {
            Ok(count) => Ok(format!("{count} usable at {url}")),
            Err(error) => Err(format!("{url}: {error}")),
        },
        PortalJwks::Own => Ok("built-in portal: the keys of this service".to_owned()),
        PortalJwks::File(path) => {
            let keys = match tokio::fs::read(path).await {
                Ok(bytes) => KeySet::from_pinned(&bytes).map_err(|error| error.to_string()),
                Err(error) => Err(error.to_string()),
            };
            match keys {
                Ok(keys) => Ok(format!("{} usable in {}", keys.len(), path.display())),
                Err(error) => Err(format!("{}: {error}", path.display())),
            }
        }
    }
}
