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
    /// They are our own: this service is the portal.
    Own,
}

settings! { Portal:
    PORTAL_URL: Key<BaseUrl> = "portal_url", values::BASE_URL,
        Preset::Required { example: "https://portal.example" },
        "The portal's base URL: issuer of the agents' access tokens and `iss` of our fire tokens. Kept byte for byte: agents compare it as a string.";
    PORTAL_JWKS_URL: Key<Url> = "portal_jwks_url", values::URL,
        Preset::Derived { from: PORTAL_URL.setting, suffix: "/.well-known/jwks.json", unless: Some(PORTAL_JWKS_FILE.setting) },
        "Where the keys of the portal's tokens are fetched.";
    PORTAL_JWKS_FILE: OptionalKey<PathBuf> = "portal_jwks_file", values::PATH,
        Preset::Unset { means: "fetched by URL", example: "/etc/nas-cron/portal.jwks.json" },
        "The keys of the portal's tokens, pinned: a JWKS or a PEM file. Instead of portal_jwks_url.";
    PORTAL_AUDIENCES: ListKey<String> = "portal_audiences", values::WORDS,
        Preset::Unset { means: "not judged", example: "hermes-cli-vps" },
        "Audiences (`aud`) that access tokens may have.";
}

/// The keys, where another service is the portal.
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
        "both are set, and the portal's keys come from one place",
        "keep the URL to have them refreshed, or the file to pin them",
    );
}
