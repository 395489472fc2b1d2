//! Checks of keys: those that sign fire tokens here, as agents see them, and the portal's.

use super::deployment::Deployment;
use crate::app;
use crate::cli::keys::agents_jwks;
use crate::config::PortalJwks;
use crate::db::DbResult;
use crate::diagnosis::{Finding, failed, never_answered};
use crate::domain::{KeyRecord, KeyState};
use crate::instance::{KeySet, count_keys_at};
use crate::keys::signer::same_public_key;
use crate::keys::{KeyError, custody};

/// The key that signs now can be opened here, and the one after it.
pub(super) async fn signing_key(deployment: &Deployment) -> Finding {
    let keys = match deployment.db.signing_keys().await {
        Ok(keys) => keys,
        Err(error) => return failed(error),
    };
    let kek = match app::key_encryption_key(&deployment.config) {
        Ok(kek) => kek,
        Err(error) => return Finding::wrong(error.to_string(), "make one with: openssl rand -base64 32"),
    };
    if keys.is_empty() {
        return match deployment.config.require_key_encryption_key() {
            Ok(_) => Finding::ok("none yet: `nas-cron serve` makes the first one when it starts"),
            Err(error) => Finding::wrong("none yet, and none can be made", error.to_string()),
        };
    }
    for key in keys.iter().filter(|key| matches!(key.record.state, KeyState::Next | KeyState::Active)) {
        if let Err(error) = custody::open(key, kek.as_ref()).await {
            return unusable(&key.record, &error);
        }
    }
    match keys.iter().find(|key| key.record.state == KeyState::Active) {
        Some(active) => {
            let KeyRecord { kid, alg, .. } = &active.record;
            Finding::ok(format!("{kid} ({alg}) signs, and opens here"))
        }
        None => Finding::wrong(
            "none is active: no fire can be signed",
            "`nas-cron keys list` shows why; `nas-cron keys activate KID` lets one sign",
        ),
    }
}

fn unusable(key: &KeyRecord, error: &KeyError) -> Finding {
    let mend = match error {
        KeyError::NoKeyEncryptionKey { .. } | KeyError::Encryption(_) => {
            "set NAS_CRON_KEY_ENCRYPTION_KEY to the key that it was sealed with, the same on every replica"
        }
        KeyError::File { .. } | KeyError::Pem { .. } => "every replica must have that file, under that path",
        _ => "`nas-cron keys list` shows the keys",
    };
    Finding::wrong(format!("{} ({}) cannot be used here: {error}", key.kid, key.state), mend)
}

async fn active_key(deployment: &Deployment) -> DbResult<Option<KeyRecord>> {
    let keys = deployment.db.signing_keys().await?;
    Ok(keys.into_iter().map(|key| key.record).find(|key| key.state == KeyState::Active))
}

/// Agents refuse every fire whose key they do not find.
pub(super) async fn agents_jwks(deployment: &Deployment) -> Finding {
    let active = match active_key(deployment).await {
        Ok(Some(active)) => active,
        Ok(None) => return Finding::skipped("not looked at: no signing key is active"),
        Err(error) => return failed(error),
    };
    let url = &deployment.config.keys.agents_jwks_url;
    let kid = &active.kid;
    let mend =
        "lead its path to the service, or set NAS_CRON_AGENTS_JWKS_URL to where agents fetch their keys";
    match agents_jwks::find(url, kid).await {
        Ok(Some(jwk)) if same_public_key(&jwk, &active.public_jwk) => {
            Finding::ok(format!("{kid} is at {url}"))
        }
        Ok(Some(_)) => {
            Finding::wrong(format!("{url} has another key called {kid}: agents refuse every fire"), mend)
        }
        Ok(None) => Finding::wrong(format!("{kid} is not at {url}: agents refuse every fire"), mend),
        Err(error) if never_answered(&error) => Finding::warning(
            format!("{url} cannot be reached from here: {error:#}"),
            "agents may see more than this machine: look from where they are, with `curl`",
        ),
        Err(error) => Finding::wrong(format!("{url} is no key set: {error:#}"), mend),
    }
}

/// Without the portal's keys no agent is let in.
pub(super) async fn portal_keys(deployment: &Deployment) -> Finding {
    let jwks = &deployment.config.portal.jwks;
    let mend = match jwks {
        PortalJwks::Url(_) => {
            "set NAS_CRON_PORTAL_JWKS_URL to where the portal publishes its keys, and let this machine reach it"
        }
        // Those are not looked for anywhere.
        PortalJwks::Own => "see \"signing key\"",
        PortalJwks::File(_) => {
            "set NAS_CRON_PORTAL_JWKS_FILE to a file with the portal's public keys, a JWKS or PEM"
        }
    };
    usable_keys(jwks).await.map_or_else(|error| Finding::wrong(error, mend), Finding::ok)
}

/// How many keys are usable there, or why none is.
pub(super) async fn usable_keys(jwks: &PortalJwks) -> Result<String, String> {
    match jwks {
        PortalJwks::Url(url) => match count_keys_at(url.clone()).await {
            Ok(count) => Ok(format!("{count} usable at {url}")),
            Err(error) => Err(format!("{url}: {error}")),
        },
        PortalJwks::Own => Ok("our own: this service is the portal".to_owned()),
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
