//! Takes the rotation steps that [`rotation::sweep`] returns. Any replica may do this at any time: the keys are locked, and
//! the due steps are determined again under the lock.

use super::KeyError;
use super::custody;
use super::encryption::KeyEncryptionKeys;
use super::rotation::{self, RotationPolicy, Step};
use crate::db::Db;
use crate::domain::{KeyRecord, NewKey, SigningAlg, StoredKey};

/// Returns the public records of the keys.
pub fn records(keys: &[StoredKey]) -> Vec<KeyRecord> {
    keys.iter().map(|key| key.record.clone()).collect()
}

/// A step that was taken, and its key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Done {
    /// The step.
    pub step: Step,
    /// The key of the step, also if it is new.
    pub kid: String,
}

/// Takes all steps that are due by the database's clock, in one transaction. If none are due, it only reads the keys.
pub async fn sweep(
    db: &Db,
    policy: &RotationPolicy,
    alg: SigningAlg,
    kek: Option<&KeyEncryptionKeys>,
) -> Result<Vec<Done>, KeyError> {
    let (now, keys) = db.signing_keys_now().await?;
    let due = rotation::sweep(now, &records(&keys), policy);
    if due.is_empty() {
        return Ok(Vec::new());
    }
    // Generated before the lock is taken: an RSA key takes longer than others should wait.
    let mut fresh: Option<NewKey> = None;
    if due.iter().any(|step| matches!(step, Step::Generate { .. })) {
        fresh = Some(custody::generate(alg, kek).await?);
    }
    let mut locked = db.lock_signing_keys().await?;
    let mut done = Vec::new();
    for step in rotation::sweep(locked.now(), &records(locked.keys()), policy) {
        let kid = match &step {
            Step::Generate { activate, .. } => {
                // This step became due after the first check: the next sweep takes it.
                let Some(key) = fresh.take() else { continue };
                locked.insert_next(&key).await?;
                if *activate {
                    locked.activate(&key.kid).await?;
                }
                key.kid
            }
            Step::Activate { kid, .. } => {
                let next = locked.keys().iter().find(|key| key.record.kid == *kid);
                // An old key that signs is better than a new one that this replica cannot use.
                if let Some(next) = next
                    && let Err(error) = custody::open(next, kek).await
                {
                    tracing::error!(key.id = %kid, %error, "activating the next signing key failed");
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
        let event = match step {
            Step::Generate { activate: true, .. } => "signing key generated and activated",
            Step::Generate { activate: false, .. } => "next signing key generated and published",
            Step::Activate { .. } => "signing key activated",
            Step::Remove { .. } => "signing key removed",
        };
        tracing::info!(key.id = %kid, reason = %step.reason(), "{event}");
    }
    Ok(done)
}
