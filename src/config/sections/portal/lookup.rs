//! Source of agent instances: the service's own table, or the portal's lookup API.

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::own::OWN_PORTAL;
use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, OptionalKey, settings};
use crate::config::urls::keeps_secrets;
use crate::config::values::{self, Choice};

/// The portal's lookup API.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// URL of the API.
    pub url: Url,
    /// Bearer token for the API.
    pub token: SecretString,
    /// Cache TTL of found instances.
    pub ttl: Duration,
    /// Cache TTL of unknown instances.
    pub negative_ttl: Duration,
    /// Maximum age of a cached instance that is used while the portal is unavailable.
    pub stale: Duration,
}

/// Source of agent instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directory {
    /// The service's own table.
    Table,
    /// The portal's lookup API.
    Lookup,
}

impl Choice for Directory {
    const WORDS: &'static [&'static str] = &["table", "lookup"];
    const VALUES: &'static [Self] = &[Self::Table, Self::Lookup];
}

settings! { Portal:
    DIRECTORY: Key<Directory> = "directory", values::choice::<Directory>(),
        Preset::Value("table"),
        "Source of agent instances: `table` for instances registered with nas-cron, or `lookup` for the portal's API at lookup_url. See docs/portals.md.";
    LOOKUP_URL: OptionalKey<Url> = "lookup_url", values::URL,
        Preset::Unset { means: "required with directory = lookup", example: "https://portal.example/api/agent-instances/lookup" },
        "URL of the portal's lookup API, which maps a client or session to an agent instance.";
    LOOKUP_TOKEN: OptionalKey<SecretString> = "lookup_token", values::BEARER_TOKEN,
        Preset::Unset { means: "required with directory = lookup", example: "TOKEN" },
        "Bearer token for lookup_url.";
    LOOKUP_TTL: Key<Duration> = "lookup_ttl", values::duration(values::s(1), values::DAY),
        Preset::Value("60s"),
        "Cache TTL for lookup responses.";
    LOOKUP_NEGATIVE_TTL: Key<Duration> = "lookup_negative_ttl", values::duration(values::ms(100), values::HOUR),
        Preset::Value("10s"),
        "Cache TTL for instances that the lookup does not know.";
    LOOKUP_STALE: Key<Duration> = "lookup_stale", values::duration(values::s(0), values::YEAR),
        Preset::Value("7d"),
        "Maximum age of a cached lookup response that may be used while the portal is unavailable.";
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Lookup> {
    let directory = reader.value(&DIRECTORY);
    let (ttl, negative_ttl) = (reader.value(&LOOKUP_TTL), reader.value(&LOOKUP_NEGATIVE_TTL));
    let stale = reader.value(&LOOKUP_STALE);
    let url = reader.optional(&LOOKUP_URL);
    let token = reader.optional(&LOOKUP_TOKEN);
    // `check` reports missing settings.
    let (url, token) = url.zip(token)?;
    (directory == Directory::Lookup).then_some(Lookup { url, token, ttl, negative_ttl, stale })
}

/// Checks the rules between settings. `own`: true if the built-in portal is enabled.
pub(super) fn check(lookup: Option<&Lookup>, own: bool, reader: &mut Reader<'_>) {
    let asked = reader.peek(&DIRECTORY) == Some(Directory::Lookup);
    for setting in [LOOKUP_URL.setting, LOOKUP_TOKEN.setting] {
        let key = setting.key;
        reader.rule(
            &[DIRECTORY.setting],
            !asked || reader.is_given(setting),
            &format!("directory = lookup requires {key}"),
            &format!("set {key}, or set directory to table"),
        );
    }
    reader.rule(
        &[LOOKUP_URL.setting],
        asked || !reader.is_given(LOOKUP_URL.setting),
        "is unused, because directory is table",
        "set directory to lookup, or remove lookup_url",
    );
    reader.rule(
        &[OWN_PORTAL.setting, DIRECTORY.setting],
        !asked || !own,
        "the built-in portal keeps its agents in the service's own table",
        "set directory to table, or set own_portal to false if another portal manages the agents",
    );
    if let Some(lookup) = lookup {
        check_answers(lookup, reader);
    }
}

fn check_answers(lookup: &Lookup, reader: &mut Reader<'_>) {
    reader.rule(
        &[LOOKUP_URL.setting],
        keeps_secrets(&lookup.url),
        "lookup_token would be sent unencrypted",
        "use an https URL (http is allowed for loopback only)",
    );
    reader.rule(
        &[LOOKUP_NEGATIVE_TTL.setting, LOOKUP_TTL.setting],
        lookup.negative_ttl <= lookup.ttl,
        "lookup_negative_ttl must not exceed lookup_ttl",
        "lower lookup_negative_ttl",
    );
    reader.rule(
        &[LOOKUP_TTL.setting, LOOKUP_STALE.setting],
        lookup.ttl <= lookup.stale,
        "lookup_stale must be at least lookup_ttl, or a fresh response could not be used during an outage",
        "raise lookup_stale or lower lookup_ttl",
    );
}
