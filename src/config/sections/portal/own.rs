//! Being the agents' portal, where there is no other.

use std::time::Duration;

use secrecy::SecretBox;
use url::Url;

use super::super::keys::{AGENTS_JWKS_URL, KEY_ENCRYPTION_KEY};
use super::issuer::{PORTAL_JWKS_FILE, PORTAL_JWKS_URL, PORTAL_URL};
use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, settings};
use crate::config::urls::BaseUrl;
use crate::config::values;

/// What a command needs that makes logins at our own portal, but is not the service.
#[derive(Debug)]
pub struct OwnPortal {
    /// Issuer of access tokens and of fire tokens, and where agents refresh theirs.
    pub url: BaseUrl,
    /// Where agents fetch the keys of fire tokens.
    pub agents_jwks_url: Url,
    /// The refresh tokens' key is derived from this one.
    pub key_encryption_key: SecretBox<[u8; 32]>,
}

settings! { Portal:
    OWN_PORTAL: Key<bool> = "own_portal", values::SWITCH,
        Preset::Value("false"),
        "This service is its agents' portal: it issues their access tokens at {portal_url}/api/oauth/token, signed with its own keys, and takes no others. For self-hosters; see docs/self-hosting.md.";
    ACCESS_TOKEN_TTL: Key<Duration> = "access_token_ttl", values::duration(values::s(600), values::DAY),
        Preset::Value("1h"),
        "How long an access token lives that own_portal issues. Agents refresh theirs two minutes before its end.";
}

/// For a command that makes logins. A problem where another service is the portal.
pub(in crate::config) fn read(reader: &mut Reader<'_>) -> OwnPortal {
    let own = reader.value(&OWN_PORTAL);
    let portal = OwnPortal {
        url: reader.value(&PORTAL_URL),
        agents_jwks_url: reader.value(&AGENTS_JWKS_URL),
        key_encryption_key: reader
            .optional(&KEY_ENCRYPTION_KEY)
            .unwrap_or_else(|| SecretBox::new(Box::new([0; 32]))),
    };
    check(own, reader);
    reader.rule(
        &[OWN_PORTAL.setting],
        own,
        "the agents' tokens come from another portal, and so do their logins",
        "set own_portal to true for this command and for `serve`, or register the agent with `nas-cron agents add`",
    );
    portal
}

/// `own`: whether this service is the portal.
pub(super) fn check(own: bool, reader: &mut Reader<'_>) {
    for setting in [PORTAL_JWKS_URL.setting, PORTAL_JWKS_FILE.setting] {
        reader.rule(
            &[OWN_PORTAL.setting, setting],
            !own || !reader.is_given(setting),
            "access tokens are verified with our own keys, and no others",
            "leave it out, or set own_portal to false if another portal issues the tokens",
        );
    }
    // A key that cannot be read is reported by itself, and has a value.
    reader.rule(
        &[OWN_PORTAL.setting],
        !own || reader.has(KEY_ENCRYPTION_KEY.setting),
        "the agents' refresh tokens are made of the key-encryption key, and it is not set",
        "set NAS_CRON_KEY_ENCRYPTION_KEY, or NAS_CRON_KEY_ENCRYPTION_KEY_FILE, everywhere to the same key; make one \
         with: openssl rand -base64 32",
    );
}
