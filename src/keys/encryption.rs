//! Encryption of stored private keys: AES-256-GCM (ring) with one key-encryption key from the settings.
//!
//! The `kid` is authenticated with the ciphertext, so that a private half cannot be moved to another `kid`. Nonces are
//! random (96 bits): a service encrypts a few keys a year, far below the 2³² of NIST SP 800-38D.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::zeroize::Zeroizing;
use secrecy::{ExposeSecret, SecretSlice, SecretString};

/// Name of the setting that contains the key-encryption key, for errors.
pub const KEY_ENCRYPTION_KEY_SETTING: &str = "NAS_CRON_KEY_ENCRYPTION_KEY";

/// The key that encrypts and decrypts private keys. Its `Debug` shows nothing.
pub struct KeyEncryptionKey(LessSafeKey);

/// An encrypted private half.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// 12 random bytes.
    pub nonce: Vec<u8>,
    /// Ciphertext and tag.
    pub ciphertext: Vec<u8>,
}

/// Reasons for which encryption or decryption failed, or the key-encryption key is invalid.
#[derive(Debug, thiserror::Error)]
pub enum EncryptionError {
    /// The configured text is not base64.
    #[error(
        "{KEY_ENCRYPTION_KEY_SETTING} is not base64: set 32 bytes as `openssl rand -base64 32` prints them"
    )]
    NotBase64,
    /// The configured key is not 32 bytes long.
    #[error(
        "{KEY_ENCRYPTION_KEY_SETTING} has {0} bytes, but must have 32: set them as `openssl rand -base64 32` prints them"
    )]
    WrongLength(usize),
    /// The tag does not match.
    #[error(
        "decrypting signing key `{kid}` with {KEY_ENCRYPTION_KEY_SETTING} failed: it was encrypted with another key, or \
         altered; set the key that it was encrypted with"
    )]
    WrongKey {
        /// The signing key.
        kid: String,
    },
    /// The operating system returned no random bytes.
    #[error("the operating system returned no random bytes for a nonce")]
    NoRandomness,
}

impl KeyEncryptionKey {
    /// Parses 32 bytes in standard base64, with or without padding. Surrounding white space, such as a file's last line
    /// break, is ignored.
    pub fn from_base64(text: &SecretString) -> Result<Self, EncryptionError> {
        let text = text.expose_secret().trim();
        let bytes = Zeroizing::new(
            STANDARD
                .decode(text)
                .or_else(|_| STANDARD_NO_PAD.decode(text))
                .map_err(|_| EncryptionError::NotBase64)?,
        );
        Self::from_bytes(&bytes)
    }

    /// Returns the key for these 32 bytes.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, EncryptionError> {
        let key =
            UnboundKey::new(&AES_256_GCM, bytes).map_err(|_| EncryptionError::WrongLength(bytes.len()))?;
        Ok(Self(LessSafeKey::new(key)))
    }

    /// Encrypts `plaintext` for the signing key `kid`.
    pub fn seal(&self, kid: &str, plaintext: &SecretSlice<u8>) -> Result<Sealed, EncryptionError> {
        let mut nonce = [0_u8; NONCE_LEN];
        SystemRandom::new().fill(&mut nonce).map_err(|_| EncryptionError::NoRandomness)?;
        let mut ciphertext = Vec::with_capacity(plaintext.expose_secret().len() + AES_256_GCM.tag_len());
        ciphertext.extend_from_slice(plaintext.expose_secret());
        self.0
            .seal_in_place_append_tag(
                Nonce::assume_unique_for_key(nonce),
                Aad::from(kid.as_bytes()),
                &mut ciphertext,
            )
            .map_err(|_| EncryptionError::NoRandomness)?;
        Ok(Sealed { nonce: nonce.to_vec(), ciphertext })
    }

    /// Decrypts the output of [`Self::seal`] for the same `kid`.
    pub fn open(&self, kid: &str, sealed: &Sealed) -> Result<SecretSlice<u8>, EncryptionError> {
        let wrong = || EncryptionError::WrongKey { kid: kid.to_owned() };
        let nonce = Nonce::try_assume_unique_for_key(&sealed.nonce).map_err(|_| wrong())?;
        let mut buffer = Zeroizing::new(sealed.ciphertext.clone());
        let plaintext = self
            .0
            .open_in_place(nonce, Aad::from(kid.as_bytes()), buffer.as_mut_slice())
            .map_err(|_| wrong())?;
        Ok(SecretSlice::from(Box::<[u8]>::from(&*plaintext)))
    }
}

impl std::fmt::Debug for KeyEncryptionKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("KeyEncryptionKey(REDACTED)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(byte: u8) -> KeyEncryptionKey {
        KeyEncryptionKey::from_base64(&STANDARD.encode([byte; 32]).into()).unwrap()
    }

    fn secret() -> SecretSlice<u8> {
        SecretSlice::from(b"private".to_vec())
    }

    #[test]
    fn sealed_secret_opens_and_is_unreadable() {
        let sealed = key(1).seal("kid", &secret()).unwrap();
        assert_eq!(key(1).open("kid", &sealed).unwrap().expose_secret(), b"private");
        assert!(!sealed.ciphertext.windows(4).any(|part| part == b"priv"));
        assert_ne!(sealed, key(1).seal("kid", &secret()).unwrap(), "a fresh nonce each time");
    }

    #[test]
    fn opening_fails_with_another_key_another_kid_or_altered_bytes() {
        let sealed = key(1).seal("kid", &secret()).unwrap();
        let error = key(2).open("kid", &sealed).unwrap_err().to_string();
        assert!(error.contains("NAS_CRON_KEY_ENCRYPTION_KEY") && error.contains("`kid`"), "{error}");
        assert!(key(1).open("other", &sealed).is_err());
        let mut altered = sealed.clone();
        altered.ciphertext[0] ^= 1;
        assert!(key(1).open("kid", &altered).is_err());
        let short = Sealed { nonce: sealed.nonce[..11].to_vec(), ..sealed };
        assert!(key(1).open("kid", &short).is_err());
    }

    #[test]
    fn error_of_an_invalid_setting_names_the_fix() {
        for (text, part) in [("", "has 0 bytes"), ("AAAA", "has 3 bytes"), ("no base64!", "not base64")] {
            let error = KeyEncryptionKey::from_base64(&text.into()).unwrap_err().to_string();
            assert!(error.contains(part) && error.contains("openssl rand -base64 32"), "{text}: {error}");
        }
        let text = STANDARD.encode([7; 32]);
        for text in [format!("{text}\n"), text.trim_end_matches('=').to_owned()] {
            assert!(KeyEncryptionKey::from_base64(&text.into()).is_ok());
        }
        assert_eq!(format!("{:?}", key(7)), "KeyEncryptionKey(REDACTED)");
    }
}
