//! Encryption and decryption of stored private halves: from a row to a signer and back.

use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;

use super::encryption::{EncryptionError, KEY_ENCRYPTION_KEY_SETTING, KeyEncryptionKeys};
use super::pem::PemError;
use super::signer::{PrivateKey, Signer, SignerError, same_public_key};
use crate::db::DbError;
use crate::domain::sealed::SecretKind;
use crate::domain::{KeyState, NewKey, PrivateHalf, SigningAlg, StoredKey};

/// Reasons for which a signing key could not be stored or used. The texts name the fix.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
    /// Decryption failed, or the configured key-encryption key is invalid.
    #[error(transparent)]
    Encryption(#[from] EncryptionError),
    /// A key is invalid or could not be generated.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// A private half must be decrypted, and no key-encryption key is configured.
    #[error(
        "{KEY_ENCRYPTION_KEY_SETTING} is not set, and signing key `{kid}` is stored encrypted: set it to the key that \
         encrypted it (do not generate another one: it could not decrypt the stored keys)"
    )]
    Locked {
        /// The signing key.
        kid: String,
    },
    /// A private half must be encrypted, and no key-encryption key is configured.
    #[error(
        "{KEY_ENCRYPTION_KEY_SETTING} is not set, and a new private key must be stored encrypted: set it to 32 random bytes \
         in base64 (`openssl rand -base64 32`), the same on every replica, and keep a copy"
    )]
    NoKeyEncryptionKey,
    /// A PEM file is missing or not readable.
    #[error("reading the private key file {} failed: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// The operating system's error.
        #[source]
        error: std::io::Error,
    },
    /// A PEM file contains no usable key.
    #[error("invalid private key file {}: {error}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// The reason.
        #[source]
        error: PemError,
    },
    /// The private half does not belong to the published public half.
    #[error("the private half of signing key `{kid}`{place} does not belong to its published public half")]
    Mismatch {
        /// The key.
        kid: String,
        /// The source of the private half.
        place: String,
    },
    /// The private half was erased.
    #[error("the private half of signing key `{0}` was erased: the key can no longer sign")]
    Erased(String),
    /// Key generation was interrupted by the end of the process.
    #[error("key generation was interrupted; repeat it")]
    Interrupted,
}

/// Reads a private key from a PEM file. Errors name the file.
pub async fn read_pem_file(path: &Path) -> Result<PrivateKey, KeyError> {
    let pem = tokio::fs::read(path)
        .await
        .map(Zeroizing::new)
        .map_err(|error| KeyError::File { path: path.to_owned(), error })?;
    PrivateKey::from_pem(&pem).map_err(|error| KeyError::Pem { path: path.to_owned(), error })
}

/// Decrypts or reads the private half of a stored key, and returns its signer. Fails if it does not belong to the
/// published public half.
pub async fn open(key: &StoredKey, kek: Option<&KeyEncryptionKeys>) -> Result<Signer, KeyError> {
    let record = &key.record;
    let (private, place) = match &key.private {
        PrivateHalf::Sealed(sealed) => {
            let kek = kek.ok_or_else(|| KeyError::Locked { kid: record.kid.clone() })?;
            let pkcs8 = kek.open(SecretKind::SigningKey, &record.kid, sealed)?;
            (PrivateKey::from_pkcs8(record.alg, pkcs8), String::new())
        }
        PrivateHalf::File(path) => (read_pem_file(path).await?, format!(" in {}", path.display())),
        PrivateHalf::Erased => return Err(KeyError::Erased(record.kid.clone())),
    };
    let signer = Signer::new(&private, Some(record.kid.clone()))?;
    if !same_public_key(&signer.public_jwk(), &record.public_jwk) {
        return Err(KeyError::Mismatch { kid: record.kid.clone(), place });
    }
    Ok(signer)
}

/// Checks that `kek` decrypts the keys in use. To be called before another key is encrypted with `kek`: a key that only
/// some replicas can decrypt would stop the fires of the others when it becomes active.
pub async fn check(keys: &[StoredKey], kek: Option<&KeyEncryptionKeys>) -> Result<(), KeyError> {
    for key in keys {
        let in_use = matches!(key.record.state, KeyState::Next | KeyState::Active);
        if in_use && matches!(key.private, PrivateHalf::Sealed(_)) {
            open(key, kek).await?;
        }
    }
    Ok(())
}

/// Returns a row for `private` with an encrypted private half.
pub fn seal(
    private: &PrivateKey,
    kid: Option<String>,
    imported: bool,
    kek: Option<&KeyEncryptionKeys>,
) -> Result<NewKey, KeyError> {
    let kek = kek.ok_or(KeyError::NoKeyEncryptionKey)?;
    let signer = Signer::new(private, kid)?;
    let sealed = kek.seal(SecretKind::SigningKey, signer.kid(), private.pkcs8())?;
    Ok(row(&signer, imported, PrivateHalf::Sealed(sealed)))
}

/// Returns a row for a private key that stays in the file `path`.
pub fn refer(private: &PrivateKey, kid: Option<String>, path: PathBuf) -> Result<NewKey, KeyError> {
    Ok(row(&Signer::new(private, kid)?, true, PrivateHalf::File(path)))
}

fn row(signer: &Signer, imported: bool, private: PrivateHalf) -> NewKey {
    NewKey {
        kid: signer.kid().to_owned(),
        alg: signer.alg(),
        imported,
        public_jwk: signer.public_jwk(),
        private,
    }
}

/// Generates a key and encrypts it. Runs on a blocking thread, because RSA key generation takes up to seconds.
pub async fn generate(alg: SigningAlg, kek: Option<&KeyEncryptionKeys>) -> Result<NewKey, KeyError> {
    let private = tokio::task::spawn_blocking(move || PrivateKey::generate(alg))
        .await
        .map_err(|_| KeyError::Interrupted)??;
    seal(&private, None, false, kek)
}
