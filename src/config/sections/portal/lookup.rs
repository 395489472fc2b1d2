//! The source of agent instances: our own table, or the portal's lookup API.

use std::time::Duration;

use secrecy::SecretString;
use url::Url;

use super::own::OWN_PORTAL;
use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, OptionalKey, settings};
use crate::config::urls::keeps_secrets;
use crate::config::values::{self, Choice};

/// The portal's lookup of instances.
#[derive(Clone, Debug)]
pub struct Lookup {
    /// Where it is asked.
    pub url: Url,
    /// The bearer token that opens it.
    pub token: SecretString,
    /// How long an answer is taken as it is.
    pub ttl: Duration,
    /// How long one that it does not know is not asked for again.
    pub negative_ttl: Duration,
    /// How old an answer may be that is used while the portal is away.
    pub stale: Duration,
}

/// The source of agent instances.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Directory {
    /// Our own table.
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
        "Where it is known which agent instances there are: in our own table, where they are registered, or at the portal, which is asked at lookup_url. See docs/portals.md.";
    LOOKUP_URL: OptionalKey<Url> = "lookup_url", values::URL,
        Preset::Unset { means: "needed with directory = lookup", example: "https://portal.example/api/agent-instances/lookup" },
        "Where the portal says which instance a client or a session is.";
    LOOKUP_TOKEN: OptionalKey<SecretString> = "lookup_token", values::BEARER_TOKEN,
        Preset::Unset { means: "needed with directory = lookup", example: "TOKEN" },
        "The bearer token that opens lookup_url.";
    LOOKUP_TTL: Key<Duration> = "lookup_ttl", values::duration(values::s(1), values::DAY),
        Preset::Value("60s"),
        "How long an answer of lookup_url is taken as it is; then it is asked again.";
    LOOKUP_NEGATIVE_TTL: Key<Duration> = "lookup_negative_ttl", values::duration(values::ms(100), values::HOUR),
        Preset::Value("10s"),
        "How long an instance that lookup_url does not know is not asked for again.";
    LOOKUP_STALE: Key<Duration> = "lookup_stale", values::duration(values::s(0), values::YEAR),
        Preset::Value("7d"),
        "How old an answer of lookup_url may be that is used while the portal is away.";
}

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Lookup> {
    let directory = reader.value(&DIRECTORY);
    let (ttl, negative_ttl) = (reader.value(&LOOKUP_TTL), reader.value(&LOOKUP_NEGATIVE_TTL));
    let stale = reader.value(&LOOKUP_STALE);
    let url = reader.optional(&LOOKUP_URL);
    let token = reader.optional(&LOOKUP_TOKEN);
    // What is missing is reported by the rules.
    let (url, token) = url.zip(token)?;
    (directory == Directory::Lookup).then_some(Lookup { url, token, ttl, negative_ttl, stale })
}

/// `own`: whether this service is the portal.
pub(super) fn check(lookup: Option<&Lookup>, own: bool, reader: &mut Reader<'_>) {
    let asked = reader.peek(&DIRECTORY) == Some(Directory::Lookup);
    for (setting, what) in [(LOOKUP_URL.setting, "where to ask"), (LOOKUP_TOKEN.setting, "as whom to ask")] {
        let key = setting.key;
        reader.rule(
            &[DIRECTORY.setting],
            !asked || reader.is_given(setting),
            &format!("the portal is to be asked, and {key} does not say {what}"),
            &format!("set {key} too, or leave directory at table"),
        );
    }
    reader.rule(
        &[LOOKUP_URL.setting],
        asked || !reader.is_given(LOOKUP_URL.setting),
        "nobody would ask there, as directory is table",
        "set directory to lookup, or take lookup_url away",
    );
    reader.rule(
        &[OWN_PORTAL.setting, DIRECTORY.setting],
        !asked || !own,
        "this service is the portal, and its own table knows its agents",
        "leave directory at table, or set own_portal to false if another portal has the agents",
    );
    if let Some(lookup) = lookup {
        check_answers(lookup, reader);
    }
}

fn check_answers(lookup: &Lookup, reader: &mut Reader<'_>) {
    reader.rule(
        &[LOOKUP_URL.setting],
        keeps_secrets(&lookup.url),
        "lookup_token would be sent in the clear",
        "write an https URL (http is for loopback only)",
    );
    reader.rule(
        &[LOOKUP_NEGATIVE_TTL.setting, LOOKUP_TTL.setting],
        lookup.negative_ttl <= lookup.ttl,
        "a no would be believed for longer than a yes, and an agent stops calling after one",
        "lower lookup_negative_ttl",
    );
    reader.rule(
        &[LOOKUP_TTL.setting, LOOKUP_STALE.setting],
        lookup.ttl <= lookup.stale,
        "an answer would be too old for an outage before it is too old for every day",
        "raise lookup_stale or lower lookup_ttl",
    );
}
