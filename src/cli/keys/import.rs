//! `nas-cron keys import`.

use std::path::PathBuf;

use anyhow::{Context as _, bail, ensure};
use nas_cron_protocol::check_identifier;

use crate::cli::operator::explained;
use crate::domain::{KeyState, NewKey};
use crate::keys::custody;
use crate::keys::signer::{PrivateKey, same_public_key};
use crate::operations::keys::{BY_HAND, ChangedKey, KeyOperations, publish};

/// Publishes a private key from a PEM file as the next key.
pub(super) async fn import(
    on: &KeyOperations,
    pem: PathBuf,
    kid: Option<String>,
    in_place: bool,
) -> anyhow::Result<ChangedKey> {
    if let Some(kid) = &kid {
        check_identifier("--kid", kid, 255).with_context(|| format!("invalid key ID {kid:?}"))?;
    }
    let private = custody::read_pem_file(&pem).await?;
    let key = if in_place {
        // Absolute, because the service runs in another folder. Links are kept: secrets are often mounted as links.
        let path = std::path::absolute(&pem)
            .with_context(|| format!("resolving the path {} failed", pem.display()))?;
        ensure!(path.to_str().is_some(), "invalid path {}: it must be valid UTF-8", path.display());
        custody::refer(&private, kid, path)?
    } else {
        custody::check(&on.db.signing_keys().await?, on.kek.as_deref()).await?;
        seal(on, &private, kid)?
    };
    let mut locked = on.db.lock_signing_keys().await?;
    let known = locked.keys().iter().find(|one| {
        let published = one.record.is_published();
        one.record.kid == key.kid || published && same_public_key(&one.record.public_jwk, &key.public_jwk)
    });
    if let Some(one) = known {
        bail!("this key is already known: `{}` ({})", one.record.kid, one.record.state);
    }
    publish(&mut locked, &key).await.map_err(explained)?;
    locked.commit().await?;
    let place = if in_place { "stays in the file" } else { "is stored encrypted in the database" };
    let message = format!(
        "Key `{kid}` ({alg}) is published as the next key; its private half {place}. {BY_HAND} {kid}`.",
        kid = key.kid,
        alg = key.alg
    );
    Ok(ChangedKey { kid: key.kid, state: KeyState::Next, message })
}

fn seal(on: &KeyOperations, private: &PrivateKey, kid: Option<String>) -> anyhow::Result<NewKey> {
    custody::seal(private, kid, true, on.kek.as_deref())
        .context("encrypting the private key failed; --in-place keeps it outside the database instead")
}
