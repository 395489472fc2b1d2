//! Secrets of webhooks, and signatures by the
//! [Standard Webhooks](https://github.com/standard-webhooks/standard-webhooks/blob/main/spec/standard-webhooks.md)
//! specification.

use std::fmt::Write as _;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use ring::hmac;
use ring::rand::{SecureRandom, SystemRandom};
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use uuid::Uuid;

use crate::domain::sealed::{Sealed, SecretKind};
use crate::keys::KeyEncryptionKeys;
use crate::keys::encryption::EncryptionError;

/// Prefix of a secret as it is shown.
const PREFIX: &str = "whsec_";
/// Length of a secret in bytes.
const LENGTH: usize = 32;

/// The secret of a webhook. Its `Debug` shows nothing.
#[derive(Debug)]
pub struct Secret(SecretSlice<u8>);

impl Secret {
    /// Returns a random secret.
    pub fn generate() -> Result<Self, EncryptionError> {
        let mut bytes = vec![0; LENGTH];
        SystemRandom::new().fill(&mut bytes).map_err(|_| EncryptionError::NoRandomness)?;
        Ok(Self(bytes.into()))
    }

    /// Returns the secret as receivers configure it: `whsec_` and base64.
    pub fn shown(&self) -> SecretString {
        format!("{PREFIX}{}", STANDARD.encode(self.0.expose_secret())).into()
    }

    /// Encrypts the secret for its webhook.
    pub fn seal(&self, webhook_id: Uuid, keks: &KeyEncryptionKeys) -> Result<Sealed, EncryptionError> {
        keks.seal(SecretKind::WebhookSecret, &webhook_id.to_string(), &self.0)
    }

    /// Decrypts a stored secret of this webhook.
    pub fn open(
        webhook_id: Uuid,
        sealed: &Sealed,
        keks: &KeyEncryptionKeys,
    ) -> Result<Self, EncryptionError> {
        Ok(Self(keks.open(SecretKind::WebhookSecret, &webhook_id.to_string(), sealed)?))
    }

    fn sign(&self, message: &[u8]) -> String {
        let key = hmac::Key::new(hmac::HMAC_SHA256, self.0.expose_secret());
        format!("v1,{}", STANDARD.encode(hmac::sign(&key, message)))
    }
}

/// Returns the value of `webhook-signature`: a signature with each of the secrets, separated by spaces. `timestamp` is in
/// seconds.
pub fn signatures(secrets: &[Secret], event_id: Uuid, timestamp: i64, body: &[u8]) -> String {
    let mut message = format!("{event_id}.{timestamp}.").into_bytes();
    message.extend_from_slice(body);
    let mut value = String::new();
    for secret in secrets {
        let separator = if value.is_empty() { "" } else { " " };
        // Writing to a string cannot fail.
        let _ = write!(value, "{separator}{}", secret.sign(&message));
    }
    value
}

#[cfg(test)]
mod tests {
    use secrecy::SecretBox;

    use super::*;

    #[test]
    fn signature_is_that_of_the_specification() {
        // The example of the reference libraries.
        let secret = Secret(STANDARD.decode("MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw").unwrap().into());
        let message = b"msg_p5jXN8AQM9LWM0D4loKWxJek.1614265330.{\"test\": 2432232314}";
        assert_eq!(secret.sign(message), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
    }

    #[test]
    fn every_secret_signs_the_same_message() {
        let secrets = [Secret::generate().unwrap(), Secret::generate().unwrap()];
        let id = Uuid::from_u128(7);
        let both = signatures(&secrets, id, 1, b"{}");
        let each: Vec<_> = secrets.into_iter().map(|secret| signatures(&[secret], id, 1, b"{}")).collect();
        assert_eq!(both, each.join(" "));
        assert_ne!(each[0], each[1]);
    }

    #[test]
    fn encrypted_secret_opens_only_for_its_webhook() {
        let kek = KeyEncryptionKeys::new(&SecretBox::new(Box::new([7; 32])), &[]);
        let (id, other) = (Uuid::from_u128(1), Uuid::from_u128(2));
        let secret = Secret::generate().unwrap();
        let sealed = secret.seal(id, &kek).unwrap();
        let opened = Secret::open(id, &sealed, &kek).unwrap();
        assert_eq!(opened.shown().expose_secret(), secret.shown().expose_secret());
        assert!(opened.shown().expose_secret().starts_with("whsec_"));
        assert!(Secret::open(other, &sealed, &kek).is_err());
        assert!(!format!("{secret:?}").contains(secret.shown().expose_secret().trim_start_matches(PREFIX)));
    }
}
