//! The portal as the issuer of the agents' access tokens.

use std::path::PathBuf;

use url::Url;

use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, ListKey, OptionalKey, settings};
use crate::config::urls::BaseUrl;
use crate::config::values;

/// Source of the keys that verify the portal's tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum PortalJwks {
    /// Fetched and refreshed.
    Url(Url),
    /// Pinned: a JWKS or a PEM file.
    File(PathBuf),
    /// The service's own keys: the built-in portal.
    Own,
}

settings! { Portal:
    PORTAL_URL: Key<BaseUrl> = "portal_url", values::BASE_URL,
        Preset::Required { example: "https://portal.example" },
        "Base URL of the portal: issuer of the agents' access tokens and `iss` of fire tokens. Kept byte for byte, because agents compare it as a string.";
    PORTAL_JWKS_URL: Key<Url> = "portal_jwks_url", values::URL,
        Preset::Derived { from: PORTAL_URL.setting, suffix: "/.well-known/jwks.json", unless: Some(PORTAL_JWKS_FILE.setting) },
        "URL of the JWKS that verifies the portal's access tokens.";
    PORTAL_JWKS_FILE: OptionalKey<PathBuf> = "portal_jwks_file", values::PATH,
        Preset::Unset { means: "keys are fetched from portal_jwks_url", example: "/etc/nas-cron/portal.jwks.json" },
        "File with the portal's public keys (JWKS or PEM), instead of portal_jwks_url.";
    PORTAL_AUDIENCES: ListKey<String> = "portal_audiences", values::WORDS,
        Preset::Unset { means: "any audience", example: "hermes-cli-vps" },
        "Accepted audiences (`aud`) of access tokens. `agent:*` accepts the client `agent:<id>` of every agent.";
}

/// Reads the source of the portal's keys if another service is the portal.
pub(super) fn read_jwks(reader: &mut Reader<'_>) -> PortalJwks {
    if reader.is_given(PORTAL_JWKS_FILE.setting) {
        PortalJwks::File(reader.optional(&PORTAL_JWKS_FILE).unwrap_or_default())
    } else {
        PortalJwks::Url(reader.value(&PORTAL_JWKS_URL))
    }
}

pub(super) fn check(reader: &mut Reader<'_>) {
    let both = reader.is_given(PORTAL_JWKS_URL.setting) && reader.is_given(PORTAL_JWKS_FILE.setting);
    reader.rule(
        &[PORTAL_JWKS_URL.setting, PORTAL_JWKS_FILE.setting],
        !both,
        "only one of them can be set",
        "keep the URL for keys that refresh, or the file for pinned keys",
    );
}
