//! Encrypts the stored secrets again after the key-encryption key has changed.

use nas_cron_base::terminal::counted;

use super::{KeyOperations, conflict};
use crate::db::{logins, sealed};
use crate::domain::sealed::{KeyUse, SecretKind};
use crate::keys::KeyEncryptionKeys;
use crate::keys::encryption::{EncryptionError, KEY_ENCRYPTION_KEY_SETTING};
use crate::operations::{OperationError, OperationResult};

/// Secrets of one statement.
const BATCH: i64 = 50;

/// The result of encrypting the stored secrets again.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct Rewrapped {
    /// True if nothing was changed.
    pub dry_run: bool,
    /// Number of secrets that were encrypted again; in a dry run, that would be.
    pub rewrapped: u64,
    /// Numbers of secrets by their key, now.
    pub keys: KeyUse,
    /// The result and the next step, for people.
    #[schema(example = "3 secrets were encrypted again. No fallback is needed any more.")]
    pub message: String,
}

impl KeyOperations {
    /// Encrypts the secrets of fallbacks again, with the key-encryption key, in batches that are durable one by one. With
    /// `dry_run`, it only counts. Calls `progress` with the number of secrets that are done, and that of all. Repeating it
    /// after an interruption does the rest.
    pub async fn rewrap(
        &self,
        dry_run: bool,
        progress: &mut (dyn FnMut(u64, u64) + Send),
    ) -> OperationResult<Rewrapped> {
        let keks = self.keks()?;
        let before = self.key_use().await?;
        if dry_run {
            let rewrapped = before.fallback;
            let message = message(keks, &before, true, rewrapped);
            return Ok(Rewrapped { dry_run, rewrapped, keys: before, message });
        }
        sealed::erase_expired(&self.db).await?;
        let mut rewrapped = 0;
        progress(0, before.fallback);
        for kind in SecretKind::ALL {
            let mut after = Some(String::new());
            while let Some(from) = after {
                let batch = self.batch(keks, kind, &from).await?;
                if !batch.rewrapped.is_empty() {
                    rewrapped += sealed::replace(&self.db, kind, &batch.rewrapped).await?;
                    progress(rewrapped, before.fallback);
                }
                after = batch.next;
            }
        }
        // Others may have changed a secret meanwhile, so the result is read.
        let after = self.key_use().await?;
        let message = message(keks, &after, false, rewrapped);
        Ok(Rewrapped { dry_run, rewrapped, keys: after, message })
    }

    /// Returns the numbers of secrets by their key.
    pub async fn key_use(&self) -> OperationResult<KeyUse> {
        let keks = self.keks()?;
        let mut used = KeyUse::default();
        for kind in SecretKind::ALL {
            let mut after = Some(String::new());
            while let Some(from) = after {
                let batch = self.batch(keks, kind, &from).await?;
                used.current += batch.current;
                used.fallback += batch.rewrapped.len() as u64;
                used.unreadable.extend(batch.unreadable);
                after = batch.next;
            }
        }
        for (key_id, count) in logins::by_key(&self.db).await? {
            match &self.refresh_keys {
                Some(refresh) if refresh.current_id() == key_id.as_slice() => used.logins_current += count,
                Some(refresh) if refresh.have(&key_id) => used.logins_fallback += count,
                _ => used.logins_unreadable += count,
            }
        }
        Ok(used)
    }

    fn keks(&self) -> OperationResult<&KeyEncryptionKeys> {
        self.kek.as_deref().ok_or_else(|| {
            conflict(format!(
                "{KEY_ENCRYPTION_KEY_SETTING} is not set: set it to the key that encrypts, and \
                 {KEY_ENCRYPTION_KEY_SETTING}_FALLBACKS to the one before"
            ))
        })
    }

    /// Reads the next secrets of a kind, and encrypts those of fallbacks again.
    async fn batch(&self, keks: &KeyEncryptionKeys, kind: SecretKind, after: &str) -> OperationResult<Batch> {
        let page = sealed::page(&self.db, kind, after, BATCH).await?;
        let is_full = i64::try_from(page.len()).is_ok_and(|count| count >= BATCH);
        let mut batch =
            Batch { next: page.last().filter(|_| is_full).map(|last| last.id.clone()), ..Batch::default() };
        for before in page {
            match keks.rewrap(kind, &before.id, &before.sealed) {
                Ok(None) => batch.current += 1,
                Ok(Some(after)) => batch.rewrapped.push(sealed::Rewrapped { before, after }),
                Err(EncryptionError::WrongKey { secret }) => batch.unreadable.push(secret),
                Err(error @ EncryptionError::NoRandomness) => {
                    return Err(OperationError::Conflict(error.to_string()));
                }
            }
        }
        Ok(batch)
    }
}

/// Secrets of one kind that were read together.
#[derive(Default)]
struct Batch {
    current: u64,
    rewrapped: Vec<sealed::Rewrapped>,
    unreadable: Vec<String>,
    /// ID of the last one, if there may be more.
    next: Option<String>,
}

fn message(keks: &KeyEncryptionKeys, used: &KeyUse, dry_run: bool, rewrapped: u64) -> String {
    let many = |count: u64, one: &str| counted(i64::try_from(count).unwrap_or(i64::MAX), one);
    let mut sentences = vec![match (dry_run, rewrapped) {
        (true, _) => format!("{} would be encrypted again.", many(rewrapped, "secret")),
        (false, 0) => "Nothing had to be encrypted again.".to_owned(),
        (false, _) => format!("{} encrypted again.", many(rewrapped, "secret")),
    }];
    sentences.push(format!("{} of the key-encryption key.", many(used.current, "secret")));
    if used.logins_fallback > 0 {
        sentences.push(format!(
            "{} of a fallback: the agents get tokens of the key-encryption key at their next refresh. Keep the fallback until \
             then.",
            many(used.logins_fallback, "login")
        ));
    }
    if !used.unreadable.is_empty() {
        sentences.push(format!("None of the keys decrypts: {}.", used.unreadable.join(", ")));
    }
    if used.logins_unreadable > 0 {
        sentences.push(format!("{} of none of the used.", many(used.logins_unreadable, "login")));
    }
    if keks.has_fallbacks() && !dry_run && used.is_current() && used.is_readable() {
        sentences.push("No fallback is needed any more.".to_owned());
    }
    sentences.join(" ")
}
