//! From a row to a signer and back: opening and sealing private halves, and what can go wrong with them.

use std::path::{Path, PathBuf};

use secrecy::zeroize::Zeroizing;

use super::encryption::{EncryptionError, KEY_ENCRYPTION_KEY_SETTING, KeyEncryptionKey, Sealed};
use super::pem::PemError;
use super::signer::{PrivateKey, Signer, SignerError, same_public_key};
use crate::db::DbError;
use crate::domain::{KeyState, NewKey, PrivateHalf, SigningAlg, StoredKey};

/// Why the service's keys cannot be kept or used. Each says what to mend.
#[derive(Debug, thiserror::Error)]
pub enum KeyError {
    /// The database would not.
    #[error(transparent)]
    Db(#[from] DbError),
    /// A private half does not open, or the configured key is none.
    #[error(transparent)]
    Encryption(#[from] EncryptionError),
    /// A key does not parse or could not be made.
    #[error(transparent)]
    Signer(#[from] SignerError),
    /// A private half would have to be sealed or opened, and nothing is configured to do so.
    #[error(
        "{KEY_ENCRYPTION_KEY_SETTING} is not set, and {need}: set it to 32 random bytes in base64 \
         (`openssl rand -base64 32`), the same on every replica, and keep a copy of it"
    )]
    NoKeyEncryptionKey {
        /// What it is needed for.
        need: String,
    },
    /// A PEM file is missing or not readable.
    #[error("the private key file {}: {error}", path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// What the operating system says.
        #[source]
        error: std::io::Error,
    },
    /// A PEM file holds no usable key.
    #[error("the private key file {}: {error}", path.display())]
    Pem {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        #[source]
        error: PemError,
    },
    /// The private half belongs to another key than the public half that is published.
    #[error("the private half of signing key `{kid}`{place} does not belong to its published public half")]
    Mismatch {
        /// The key.
        kid: String,
        /// Where the private half came from.
        place: String,
    },
    /// A key without a private half.
    #[error("signing key `{0}` has no private half any more")]
    Erased(String),
    /// Making a key was interrupted by the end of the process.
    #[error("making a key was interrupted")]
    Interrupted,
}

/// Reads a private key from a PEM file; errors name the file.
pub async fn read_pem_file(path: &Path) -> Result<PrivateKey, KeyError> {
    let pem = tokio::fs::read(path)
        .await
        .map(Zeroizing::new)
        .map_err(|error| KeyError::File { path: path.to_owned(), error })?;
    PrivateKey::from_pem(&pem).map_err(|error| KeyError::Pem { path: path.to_owned(), error })
}

/// Opens the private half of a stored key and parses it. It must belong to the published public half.
pub async fn open(key: &StoredKey, kek: Option<&KeyEncryptionKey>) -> Result<Signer, KeyError> {
    let record = &key.record;
    let (private, place) = match &key.private {
        PrivateHalf::Sealed { nonce, ciphertext } => {
            let kek = kek.ok_or_else(|| KeyError::NoKeyEncryptionKey {
                need: format!("signing key `{}` is stored encrypted", record.kid),
            })?;
            let sealed = Sealed { nonce: nonce.clone(), ciphertext: ciphertext.clone() };
            let pkcs8 = kek.open(&record.kid, &sealed)?;
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

/// Checks that `kek` is the one that the keys in use were sealed with, before another key is sealed with it:
/// what only half of the replicas could open would stop all fires when it became active.
pub async fn check(keys: &[StoredKey], kek: Option<&KeyEncryptionKey>) -> Result<(), KeyError> {
    for key in keys {
        let in_use = matches!(key.record.state, KeyState::Next | KeyState::Active);
        if in_use && matches!(key.private, PrivateHalf::Sealed { .. }) {
            open(key, kek).await?;
        }
    }
    Ok(())
}

/// A row for `private`, sealed.
pub fn seal(
    private: &PrivateKey,
    kid: Option<String>,
    imported: bool,
    kek: Option<&KeyEncryptionKey>,
) -> Result<NewKey, KeyError> {
    let kek = kek.ok_or_else(|| KeyError::NoKeyEncryptionKey {
        need: "a private key would have to be stored encrypted".to_owned(),
    })?;
    let signer = Signer::new(private, kid)?;
    let Sealed { nonce, ciphertext } = kek.seal(signer.kid(), private.pkcs8())?;
    Ok(row(&signer, imported, PrivateHalf::Sealed { nonce, ciphertext }))
}

/// A row for a private key that stays in the file `path`.
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

/// Makes a key of our own, sealed. RSA takes its time; it is made on a thread where blocking is allowed.
pub async fn generate(alg: SigningAlg, kek: Option<&KeyEncryptionKey>) -> Result<NewKey, KeyError> {
    let private = tokio::task::spawn_blocking(move || PrivateKey::generate(alg))
        .await
        .map_err(|_| KeyError::Interrupted)??;
    seal(&private, None, false, kek)
}
