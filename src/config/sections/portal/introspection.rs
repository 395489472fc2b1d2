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
    /// Where it is asked.
    pub url: Url,
    /// As which client.
    pub client_id: String,
    /// The client's secret.
    pub client_secret: SecretString,
}

settings! { Portal:
    INTROSPECTION_URL: OptionalKey<Url> = "introspection_url", values::URL,
        Preset::Unset { means: "opaque tokens are refused", example: "https://portal.example/oauth/introspect" },
        "Where the portal says what an access token that is no JWT stands for (RFC 7662).";
    INTROSPECTION_CLIENT_ID: OptionalKey<String> = "introspection_client_id", values::TEXT,
        Preset::Unset { means: "needed beside introspection_url", example: "nas-cron" },
        "The client as which we ask introspection_url, by HTTP Basic.";
    INTROSPECTION_CLIENT_SECRET: OptionalKey<SecretString> = "introspection_client_secret", values::SECRET,
        Preset::Unset { means: "needed beside introspection_url", example: "SECRET" },
        "That client's secret.";
    INTROSPECTION_TTL: Key<Duration> = "introspection_ttl", values::duration(values::s(1), values::HOUR),
        Preset::Value("60s"),
        "How long an answer about an active token is taken as it is, and so how long a revoked one may still open something.";
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Introspection> {
    let url = reader.optional(&INTROSPECTION_URL);
    let client_id = reader.optional(&INTROSPECTION_CLIENT_ID);
    let client_secret = reader.optional(&INTROSPECTION_CLIENT_SECRET);
    let ((url, client_id), client_secret) = url.zip(client_id).zip(client_secret)?;
    Some(Introspection { url, client_id, client_secret })
}

/// `own`: whether this service is the portal.
pub(super) fn check(introspection: Option<&Introspection>, own: bool, reader: &mut Reader<'_>) {
    let settings =
        [INTROSPECTION_URL.setting, INTROSPECTION_CLIENT_ID.setting, INTROSPECTION_CLIENT_SECRET.setting];
    let given = settings.map(|setting| reader.is_given(setting));
    for (setting, is_given) in settings.into_iter().zip(given) {
        reader.rule(
            &[setting],
            !is_given || given == [true; 3],
            "introspection takes a URL, a client and its secret",
            "set introspection_url, introspection_client_id and introspection_client_secret, or none of them",
        );
    }
    reader.rule(
        &[OWN_PORTAL.setting, INTROSPECTION_URL.setting],
        !own || !given[0],
        "this service issues the portal's tokens itself, and has nobody to ask about them",
        "take introspection_url away (further issuers have theirs in issuers_file), or set own_portal to false if \
         another portal issues the tokens",
    );
    if let Some(introspection) = introspection {
        reader.rule(
            &[INTROSPECTION_URL.setting],
            keeps_secrets(&introspection.url),
            "agents' tokens would be sent in the clear",
            "write an https URL (http is for loopback only)",
        );
    }
}
