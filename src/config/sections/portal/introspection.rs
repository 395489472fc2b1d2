//! Introspection of opaque access tokens (RFC 7662).

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::own::OWN_PORTAL;
use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, OptionalKey, settings};
use crate::config::urls::keeps_secrets;
use crate::config::values;

/// An introspection endpoint (RFC 7662).
#[derive(Clone, Debug)]
pub struct Introspection {
    /// URL of the endpoint.
    pub url: Url,
    /// Client id for HTTP Basic authentication.
    pub client_id: String,
    /// Secret of the client.
    pub client_secret: SecretString,
}

settings! { Portal:
    INTROSPECTION_URL: OptionalKey<Url> = "introspection_url", values::URL,
        Preset::Unset { means: "opaque tokens are refused", example: "https://portal.example/oauth/introspect" },
        "URL of the portal's token introspection endpoint (RFC 7662), for access tokens that are not JWTs.";
    INTROSPECTION_CLIENT_ID: OptionalKey<String> = "introspection_client_id", values::TEXT,
        Preset::Unset { means: "required with introspection_url", example: "nas-cron" },
        "Client id for introspection_url (HTTP Basic authentication).";
    INTROSPECTION_CLIENT_SECRET: OptionalKey<SecretString> = "introspection_client_secret", values::SECRET,
        Preset::Unset { means: "required with introspection_url", example: "SECRET" },
        "Client secret for introspection_url.";
    INTROSPECTION_TTL: Key<Duration> = "introspection_ttl", values::duration(values::s(1), values::HOUR),
        Preset::Value("60s"),
        "Cache TTL for active tokens, per replica. A revoked token may be accepted for this long.";
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Introspection> {
    let url = reader.optional(&INTROSPECTION_URL);
    let client_id = reader.optional(&INTROSPECTION_CLIENT_ID);
    let client_secret = reader.optional(&INTROSPECTION_CLIENT_SECRET);
    let ((url, client_id), client_secret) = url.zip(client_id).zip(client_secret)?;
    Some(Introspection { url, client_id, client_secret })
}

/// Checks the rules between settings. `own`: true if the built-in portal is enabled.
pub(super) fn check(introspection: Option<&Introspection>, own: bool, reader: &mut Reader<'_>) {
    let settings =
        [INTROSPECTION_URL.setting, INTROSPECTION_CLIENT_ID.setting, INTROSPECTION_CLIENT_SECRET.setting];
    let given = settings.map(|setting| reader.is_given(setting));
    for (setting, is_given) in settings.into_iter().zip(given) {
        reader.rule(
            &[setting],
            !is_given || given == [true; 3],
            "introspection needs a URL, a client id and a client secret",
            "set introspection_url, introspection_client_id and introspection_client_secret, or none of them",
        );
    }
    reader.rule(
        &[OWN_PORTAL.setting, INTROSPECTION_URL.setting],
        !own || !given[0],
        "the built-in portal issues its access tokens itself and does not introspect them",
        "remove introspection_url (further issuers have their own in issuers_file), or set own_portal to false if \
         another portal issues the tokens",
    );
    if let Some(introspection) = introspection {
        reader.rule(
            &[INTROSPECTION_URL.setting],
            keeps_secrets(&introspection.url),
            "agents' tokens would be sent unencrypted",
            "use an https URL (http is allowed for loopback only)",
        );
    }
}
