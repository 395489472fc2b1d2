//! Doing what [`rotation::sweep`] finds due. Every replica may, at any time: the keys are locked, and what is
//! due is decided again under the lock.

use super::KeyError;
use super::custody;
use super::encryption::KeyEncryptionKey;
use super::rotation::{self, RotationPolicy, Step};
use crate::db::Db;
use crate::domain::{KeyRecord, NewKey, SigningAlg, StoredKey};

/// Only what everybody may see.
pub fn records(keys: &[StoredKey]) -> Vec<KeyRecord> {
    keys.iter().map(|key| key.record.clone()).collect()
}

/// A step that was taken, and the key that it concerned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The step.
    pub step: Step,
    /// Its key: for a new one, the name it got.
    pub kid: String,
}

/// Takes all steps that are due by the database's clock, in one transaction; most of the time there are none,
/// and it ends after a look.
pub async fn sweep(
    db: &Db,
    policy: &RotationPolicy,
    alg: SigningAlg,
    kek: Option<&KeyEncryptionKey>,
) -> Result<Vec<Done>, KeyError> {
    let (now, keys) = db.signing_keys_now().await?;
    let due = rotation::sweep(now, &records(&keys), policy);
    if due.is_empty() {
        return Ok(Vec::new());
    }
    // Made before the lock is taken: an RSA key takes longer than others should wait.
    let mut fresh: Option<NewKey> = None;
    if due.iter().any(|step| matches!(step, Step::Generate { .. })) {
        fresh = Some(custody::generate(alg, kek).await?);
    }
    let mut locked = db.lock_signing_keys().await?;
    let mut done = Vec::new();
    for step in rotation::sweep(locked.now(), &records(locked.keys()), policy) {
        let kid = match &step {
            Step::Generate { activate, .. } => {
                // Due only since a moment ago: the next sweep makes it.
                let Some(key) = fresh.take() else { continue };
                locked.insert_next(&key).await?;
                if *activate {
                    locked.activate(&key.kid).await?;
                }
                key.kid
            }
            Step::Activate { kid, .. } => {
                let next = locked.keys().iter().find(|key| key.record.kid == *kid);
                // Better an old key that signs than a new one that cannot be opened.
                if let Some(next) = next
                    && let Err(error) = custody::open(next, kek).await
                {
                    tracing::error!(key.id = %kid, %error, "the next signing key cannot be activated");
                    continue;
                }
                locked.activate(kid).await?;
                kid.clone()
            }
            Step::Remove { kid, .. } => {
                locked.remove(kid).await?;
                kid.clone()
            }
        };
        done.push(Done { step, kid });
    }
    locked.commit().await?;
    for Done { step, kid } in &done {
        tracing::info!(key.id = %kid, reason = %step.reason(), "signing keys: {step}");
    }
    Ok(done)
}
