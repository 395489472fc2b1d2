//! Keys that sign fire tokens.

use std::time::Duration;

use secrecy::{ExposeSecret, SecretBox};
use url::Url;

use super::listening::PUBLIC_URL;
use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, ListKey, OptionalKey, settings};
use crate::config::values::{self, Choice};
use crate::domain::SigningAlg;

/// Keys that sign fire tokens.
#[derive(Debug)]
pub struct Keys {
    /// Algorithm of newly generated keys.
    pub signing_alg: SigningAlg,
    /// Time for which one key signs.
    pub rotation_period: Duration,
    /// Encryption of secrets at rest. Use [`Config::require_key_encryption`] where it is required.
    ///
    /// [`Config::require_key_encryption`]: crate::config::Config::require_key_encryption
    pub encryption: Option<KeyEncryption>,
    /// URL from which agents fetch the public keys of fire tokens.
    pub agents_jwks_url: Url,
    /// Lifetime of a fire token, 60 to 120 s (docs/contract.md#fire-token).
    pub fire_token_ttl: Duration,
}

/// Encryption of secrets at rest.
#[derive(Debug)]
pub struct KeyEncryption {
    /// Key that encrypts, and decrypts.
    pub key: SecretBox<[u8; 32]>,
    /// Keys that only decrypt.
    pub fallbacks: Vec<SecretBox<[u8; 32]>>,
}

impl Choice for SigningAlg {
    const WORDS: &'static [&'static str] = &[Self::Es256.as_str(), Self::Rs256.as_str()];
    const VALUES: &'static [Self] = &[Self::Es256, Self::Rs256];
}

settings! { Keys:
    SIGNING_ALG: Key<SigningAlg> = "signing_alg", values::choice::<SigningAlg>(),
        Preset::Value("ES256"),
        "Algorithm of newly generated signing keys. ES256 signs about 28 times faster than RS256.";
    KEY_ROTATION_PERIOD: Key<Duration> = "key_rotation_period", values::duration(values::HOUR, values::DECADE),
        Preset::Value("90d"),
        "Time after which the next signing key replaces the current one.";
    KEY_ENCRYPTION_KEY: OptionalKey<SecretBox<[u8; 32]>> = "key_encryption_key", values::KEY,
        Preset::Unset { means: "none; `serve` refuses to start if signing keys are stored in the database", example: "BASE64 OF 32 RANDOM BYTES" },
        "Key that encrypts the private signing keys and the secrets of webhooks at rest: 32 bytes in base64, the same on every replica. Generate one with `openssl rand -base64 32`.";
    KEY_ENCRYPTION_KEY_FALLBACKS: ListKey<SecretBox<[u8; 32]>> = "key_encryption_key_fallbacks", values::KEYS,
        Preset::Unset { means: "none", example: "BASE64 OF 32 BYTES" },
        "Further key-encryption keys, which only decrypt: the previous one until `nas-cron keys rewrap` is done, or the next one before the change. In a file: one on each line.";
    AGENTS_JWKS_URL: Key<Url> = "agents_jwks_url", values::URL,
        Preset::Derived { from: PUBLIC_URL.setting, suffix: "/api/agent-cron/jwks.json", unless: None },
        "URL from which agents fetch the public keys of fire tokens. An imported key is activated only after it is visible there.";
    FIRE_TOKEN_TTL: Key<Duration> = "fire_token_ttl", values::duration(values::s(60), values::s(120)),
        Preset::Value("90s"),
        "Lifetime of a fire token.";
}

pub(in crate::config) fn read(reader: &mut Reader<'_>) -> Keys {
    Keys {
        signing_alg: reader.value(&SIGNING_ALG),
        rotation_period: reader.value(&KEY_ROTATION_PERIOD),
        encryption: read_encryption(reader),
        agents_jwks_url: reader.value(&AGENTS_JWKS_URL),
        fire_token_ttl: reader.value(&FIRE_TOKEN_TTL),
    }
}

/// Reads the keys that encrypt secrets at rest; `None` without a key-encryption key.
pub(in crate::config) fn read_encryption(reader: &mut Reader<'_>) -> Option<KeyEncryption> {
    let key = reader.optional(&KEY_ENCRYPTION_KEY);
    let fallbacks = reader.list(&KEY_ENCRYPTION_KEY_FALLBACKS);
    let has_key = reader.has(KEY_ENCRYPTION_KEY.setting);
    reader.rule(
        &[KEY_ENCRYPTION_KEY_FALLBACKS.setting],
        has_key || fallbacks.is_empty(),
        "key_encryption_key is not set, and a fallback only decrypts",
        "set key_encryption_key to the key that encrypts",
    );
    let all: Vec<_> = key.iter().chain(&fallbacks).map(ExposeSecret::expose_secret).collect();
    let is_distinct = all.iter().enumerate().all(|(at, key)| !all[..at].contains(key));
    reader.rule(
        &[KEY_ENCRYPTION_KEY.setting, KEY_ENCRYPTION_KEY_FALLBACKS.setting],
        is_distinct,
        "one key is there twice",
        "list each other key once as a fallback, and not the key-encryption key itself",
    );
    Some(KeyEncryption { key: key?, fallbacks })
}
