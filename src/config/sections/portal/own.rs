//! The built-in portal, for agents without another portal.

use std::time::Duration;

use secrecy::SecretBox;
use url::Url;

use super::super::keys::{AGENTS_JWKS_URL, KEY_ENCRYPTION_KEY, KeyEncryption, read_encryption};
use super::issuer::{PORTAL_JWKS_FILE, PORTAL_JWKS_URL, PORTAL_URL};
use crate::config::parse::KEY_ENCRYPTION_KEY_FIX;
use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, settings};
use crate::config::urls::BaseUrl;
use crate::config::values;

/// Settings for a command that creates logins at the built-in portal.
#[derive(Debug)]
pub struct OwnPortal {
    /// Issuer of access tokens and fire tokens, and base URL of the token endpoint.
    pub url: BaseUrl,
    /// URL from which agents fetch the public keys of fire tokens.
    pub agents_jwks_url: Url,
    /// Keys from which those of refresh tokens are derived.
    pub encryption: KeyEncryption,
}

settings! { Portal:
    OWN_PORTAL: Key<bool> = "own_portal", values::SWITCH,
        Preset::Value("false"),
        "Enable the built-in portal: nas-cron issues its agents' access tokens at {portal_url}/api/oauth/token, signed with its own keys, and accepts no other portal's. For self-hosters; see docs/self-hosting.md.";
    ACCESS_TOKEN_TTL: Key<Duration> = "access_token_ttl", values::duration(values::s(600), values::DAY),
        Preset::Value("1h"),
        "Lifetime of access tokens issued by the built-in portal. Agents refresh them two minutes before they expire.";
}

/// Reads the settings for a command that creates logins. Reports a problem if the built-in portal is disabled.
pub(in crate::config) fn read(reader: &mut Reader<'_>) -> OwnPortal {
    let own = reader.value(&OWN_PORTAL);
    let portal = OwnPortal {
        url: reader.value(&PORTAL_URL),
        agents_jwks_url: reader.value(&AGENTS_JWKS_URL),
        // A placeholder never leaves the reader.
        encryption: read_encryption(reader).unwrap_or_else(|| KeyEncryption {
            key: SecretBox::new(Box::new([0; 32])),
            fallbacks: Vec::new(),
        }),
    };
    check(own, reader);
    reader.rule(
        &[OWN_PORTAL.setting],
        own,
        "another portal issues the agents' tokens and logins",
        "set own_portal to true for this command and for `serve`, or register the agent with `nas-cron agents add`",
    );
    portal
}

/// Checks the rules between settings. `own`: true if the built-in portal is enabled.
pub(super) fn check(own: bool, reader: &mut Reader<'_>) {
    for setting in [PORTAL_JWKS_URL.setting, PORTAL_JWKS_FILE.setting] {
        reader.rule(
            &[OWN_PORTAL.setting, setting],
            !own || !reader.is_given(setting),
            "the built-in portal verifies access tokens with its own keys only",
            "remove it, or set own_portal to false if another portal issues the tokens",
        );
    }
    // An invalid key is reported separately, and counts as set here.
    reader.rule(
        &[OWN_PORTAL.setting],
        !own || reader.has(KEY_ENCRYPTION_KEY.setting),
        "the built-in portal derives refresh tokens from the key-encryption key, which is not set",
        KEY_ENCRYPTION_KEY_FIX,
    );
}
