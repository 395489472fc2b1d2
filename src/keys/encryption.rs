//! Encryption of stored secrets: AES-256-GCM (ring) with the key-encryption key from the settings.
//!
//! The ID that a secret belongs to is authenticated with the ciphertext, so that it cannot be moved to another one. Nonces are
//! random (96 bits): a service encrypts a few secrets a year, far below the 2³² of NIST SP 800-38D.

use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretBox, SecretSlice};

use crate::domain::sealed::{Sealed, SecretKind};

/// Name of the setting that contains the key-encryption key, for errors.
pub const KEY_ENCRYPTION_KEY_SETTING: &str = "NAS_CRON_KEY_ENCRYPTION_KEY";

/// The key-encryption key, and the fallbacks that only decrypt: the key before it, or the one after it. `Debug` shows nothing.
pub struct KeyEncryptionKeys {
    current: LessSafeKey,
    fallbacks: Vec<LessSafeKey>,
}

/// Encryption or decryption failed.
#[derive(Debug, thiserror::Error)]
pub enum EncryptionError {
    /// No tag matches.
    #[error(
        "decrypting {secret} with {KEY_ENCRYPTION_KEY_SETTING} and its fallbacks failed: it was encrypted with another key, or \
         altered; set the key that it was encrypted with, also as a fallback"
    )]
    WrongKey {
        /// Name of the secret.
        secret: String,
    },
    /// The operating system returned no random bytes.
    #[error("the operating system returned no random bytes for a nonce")]
    NoRandomness,
}

impl KeyEncryptionKeys {
    /// Returns the keys for these bytes.
    pub fn new(current: &SecretBox<[u8; 32]>, fallbacks: &[SecretBox<[u8; 32]>]) -> Self {
        Self { current: key(current), fallbacks: fallbacks.iter().map(key).collect() }
    }

    /// True if there are fallbacks.
    pub fn has_fallbacks(&self) -> bool {
        !self.fallbacks.is_empty()
    }

    /// Encrypts a secret of `id` with the key-encryption key.
    pub fn seal(
        &self,
        kind: SecretKind,
        id: &str,
        plaintext: &SecretSlice<u8>,
    ) -> Result<Sealed, EncryptionError> {
        let mut nonce = [0_u8; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| EncryptionError::NoRandomness)?;
        let mut ciphertext = Vec::with_capacity(plaintext.expose_secret().len() + AES_256_GCM.tag_len());
        ciphertext.extend_from_slice(plaintext.expose_secret());
        let purpose = kind.purpose(id);
        self.current
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(purpose.as_bytes()),
                &mut ciphertext,
            )
            .map_err(|_| EncryptionError::NoRandomness)?;
        Ok(Sealed { nonce: nonce.to_vec(), ciphertext })
    }

    /// Decrypts the output of [`Self::seal`] for the same `id`, by any of the keys.
    pub fn open(
        &self,
        kind: SecretKind,
        id: &str,
        sealed: &Sealed,
    ) -> Result<SecretSlice<u8>, EncryptionError> {
        self.opened(kind, id, sealed).map(|(plaintext, _)| plaintext)
    }

    /// Encrypts a secret of a fallback again, with the key-encryption key. `None`: it is encrypted with that key already.
    pub fn rewrap(
        &self,
        kind: SecretKind,
        id: &str,
        sealed: &Sealed,
    ) -> Result<Option<Sealed>, EncryptionError> {
        let (plaintext, is_current) = self.opened(kind, id, sealed)?;
        if is_current { Ok(None) } else { self.seal(kind, id, &plaintext).map(Some) }
    }

    /// Returns the plaintext, and true if the key-encryption key has decrypted it.
    fn opened(
        &self,
        kind: SecretKind,
        id: &str,
        sealed: &Sealed,
    ) -> Result<(SecretSlice<u8>, bool), EncryptionError> {
        let purpose = kind.purpose(id);
        let with = |key| opened_with(key, &purpose, sealed);
        with(&self.current)
            .map(|plaintext| (plaintext, true))
            .or_else(|| self.fallbacks.iter().find_map(with).map(|plaintext| (plaintext, false)))
            .ok_or_else(|| EncryptionError::WrongKey { secret: kind.named(id) })
    }
}

fn key(bytes: &SecretBox<[u8; 32]>) -> LessSafeKey {
    let key = UnboundKey::new(&AES_256_GCM, bytes.expose_secret()).expect("32 bytes are AES-256's length");
    LessSafeKey::new(key)
}

fn opened_with(key: &LessSafeKey, purpose: &str, sealed: &Sealed) -> Option<SecretSlice<u8>> {
    let nonce = Nonce::try_assume_unique_for_key(&sealed.nonce).ok()?;
    let mut buffer = Zeroizing::new(sealed.ciphertext.clone());
    let plaintext = key.open_in_place(nonce, Aad::from(purpose.as_bytes()), buffer.as_mut_slice()).ok()?;
    Some(SecretSlice::from(Box::<[u8]>::from(&*plaintext)))
}

impl std::fmt::Debug for KeyEncryptionKeys {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyEncryptionKeys(REDACTED)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KIND: SecretKind = SecretKind::SigningKey;

    fn keys(current: u8, fallbacks: &[u8]) -> KeyEncryptionKeys {
        let bytes = |byte: u8| SecretBox::new(Box::new([byte; 32]));
        let fallbacks: Vec<_> = fallbacks.iter().map(|byte| bytes(*byte)).collect();
        KeyEncryptionKeys::new(&bytes(current), &fallbacks)
    }

    fn secret() -> SecretSlice<u8> {
        SecretSlice::from(b"private".to_vec())
    }

    #[test]
    fn sealed_secret_opens_and_is_unreadable() {
        let sealed = keys(1, &[]).seal(KIND, "kid", &secret()).unwrap();
        assert_eq!(keys(1, &[]).open(KIND, "kid", &sealed).unwrap().expose_secret(), b"private");
        assert!(!sealed.ciphertext.windows(4).any(|part| part == b"priv"));
        assert_ne!(sealed, keys(1, &[]).seal(KIND, "kid", &secret()).unwrap(), "a fresh nonce each time");
        assert_eq!(format!("{:?}", keys(7, &[8])), "KeyEncryptionKeys(REDACTED)");
    }

    #[test]
    fn opening_fails_with_other_keys_another_place_or_altered_bytes() {
        let sealed = keys(1, &[]).seal(KIND, "kid", &secret()).unwrap();
        let error = keys(2, &[3]).open(KIND, "kid", &sealed).unwrap_err().to_string();
        assert!(error.contains("NAS_CRON_KEY_ENCRYPTION_KEY") && error.contains("`kid`"), "{error}");
        assert!(keys(1, &[]).open(KIND, "other", &sealed).is_err());
        assert!(keys(1, &[]).open(SecretKind::WebhookSecret, "kid", &sealed).is_err());
        let mut altered = sealed.clone();
        altered.ciphertext[0] ^= 1;
        assert!(keys(1, &[]).open(KIND, "kid", &altered).is_err());
        let short = Sealed { nonce: sealed.nonce[..11].to_vec(), ..sealed };
        assert!(keys(1, &[]).open(KIND, "kid", &short).is_err());
    }

    #[test]
    fn fallbacks_decrypt_and_what_they_decrypt_is_wrapped_again() {
        let old = keys(1, &[]).seal(KIND, "kid", &secret()).unwrap();
        let rotating = keys(2, &[3, 1]);
        assert_eq!(rotating.open(KIND, "kid", &old).unwrap().expose_secret(), b"private");
        let new = rotating.rewrap(KIND, "kid", &old).unwrap().expect("it is of a fallback");
        assert_eq!(keys(2, &[]).open(KIND, "kid", &new).unwrap().expose_secret(), b"private");
        assert_eq!(rotating.rewrap(KIND, "kid", &new).unwrap(), None);
        assert!(keys(2, &[3]).rewrap(KIND, "kid", &old).is_err());
        // A fallback never encrypts.
        assert!(keys(1, &[]).open(KIND, "kid", &rotating.seal(KIND, "kid", &secret()).unwrap()).is_err());
    }
}
