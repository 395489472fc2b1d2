//! Keys that sign fire tokens.

use std::time::Duration;

use secrecy::SecretBox;
use url::Url;

use super::listening::PUBLIC_URL;
use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, OptionalKey, settings};
use crate::config::values::{self, Choice};
use crate::domain::SigningAlg;

/// Keys that sign fire tokens.
#[derive(Debug)]
pub struct Keys {
    /// Algorithm of newly generated keys.
    pub signing_alg: SigningAlg,
    /// Time for which one key signs.
    pub rotation_period: Duration,
    /// Encrypts private keys at rest. Use [`Config::require_key_encryption_key`] where it is required.
    ///
    /// [`Config::require_key_encryption_key`]: crate::config::Config::require_key_encryption_key
    pub key_encryption_key: Option<SecretBox<[u8; 32]>>,
    /// URL from which agents fetch the public keys of fire tokens.
    pub agents_jwks_url: Url,
    /// Lifetime of a fire token, 60 to 120 s (docs/contract.md#fire-token).
    pub fire_token_ttl: Duration,
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
        "Key that encrypts the private signing keys at rest: 32 bytes in base64, the same on every replica. Generate one with `openssl rand -base64 32`.";
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
        key_encryption_key: reader.optional(&KEY_ENCRYPTION_KEY),
        agents_jwks_url: reader.value(&AGENTS_JWKS_URL),
        fire_token_ttl: reader.value(&FIRE_TOKEN_TTL),
    }
}
