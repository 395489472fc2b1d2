//! Settings of QStash, for the backends `qstash` and `qstash_direct`.

use std::time::Duration;

use nas_cron_protocol::BackendName;
use secrecy::SecretString;

use super::general::{Product, RELAY_URL};
use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, OptionalKey, settings};
use crate::config::urls::{BaseUrl, keeps_secrets};
use crate::config::values;

/// How QStash is reached, and what it may be asked for.
#[derive(Clone, Debug)]
pub struct Qstash {
    /// Its API.
    pub url: BaseUrl,
    /// What publishes.
    pub token: SecretString,
    /// What it signs with.
    pub current_signing_key: SecretString,
    /// What it will sign with.
    pub next_signing_key: Option<SecretString>,
    /// How often it calls again.
    pub retries: u8,
    /// How far ahead it takes a message.
    pub furthest: Duration,
}

settings! { Backends:
    QSTASH_TOKEN: OptionalKey<SecretString> = "qstash_token", values::SECRET,
        Preset::Unset { means: "QStash is not configured", example: "TOKEN" },
        "The token that publishes to QStash. Its presence configures the backends qstash and qstash_direct.";
    QSTASH_CURRENT_SIGNING_KEY: OptionalKey<SecretString> = "qstash_current_signing_key", values::SECRET,
        Preset::Unset { means: "needed beside qstash_token", example: "sig_CURRENT" },
        "The key that QStash signs its calls with.";
    QSTASH_NEXT_SIGNING_KEY: OptionalKey<SecretString> = "qstash_next_signing_key", values::SECRET,
        Preset::Unset { means: "none", example: "sig_NEXT" },
        "The key that QStash will sign with after a rotation: accepted too, so that rotating needs no downtime.";
    QSTASH_URL: Key<BaseUrl> = "qstash_url", values::BASE_URL,
        Preset::Value("https://qstash.upstash.io"),
        "QStash's API, by region.";
    QSTASH_RETRIES: Key<u8> = "qstash_retries", values::count::<u8>(0, 100),
        Preset::Value("3"),
        "How often QStash calls again what was not accepted, by its plan. Retries towards the agent are ours anyway.";
    QSTASH_FURTHEST: Key<Duration> = "qstash_furthest", values::duration(values::s(60), values::YEAR),
        Preset::Value("7d"),
        "How far ahead QStash takes a message, by its plan; what is later is handed over when it is near enough.";
    QSTASH_DIRECT_GRACE: Key<Duration> = "qstash_direct_grace", values::duration(values::s(60), values::HOUR),
        Preset::Value("15m"),
        "With qstash_direct: how long after its instant a fire of which QStash's log says nothing is made by our own loop.";
}

pub(super) const PRODUCT: Product = Product {
    name: "QStash",
    backends: &[BackendName::Qstash, BackendName::QstashDirect],
    required: &[QSTASH_TOKEN.setting, QSTASH_CURRENT_SIGNING_KEY.setting],
};

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Qstash> {
    let url = reader.value(&QSTASH_URL);
    let (retries, furthest) = (reader.value(&QSTASH_RETRIES), reader.value(&QSTASH_FURTHEST));
    let token = reader.optional(&QSTASH_TOKEN);
    let current_signing_key = reader.optional(&QSTASH_CURRENT_SIGNING_KEY);
    let next_signing_key = reader.optional(&QSTASH_NEXT_SIGNING_KEY);
    // One without the other is reported by the rules.
    let (token, current_signing_key) = token.zip(current_signing_key)?;
    Some(Qstash { url, token, current_signing_key, next_signing_key, retries, furthest })
}

/// The watchdog's graces; `usual` where a backend has none of its own.
pub(super) fn read_graces(usual: Duration, reader: &mut Reader<'_>) -> [(BackendName, Duration); 2] {
    [(BackendName::Qstash, usual), (BackendName::QstashDirect, reader.value(&QSTASH_DIRECT_GRACE))]
}

pub(super) fn check(qstash: Option<&Qstash>, reader: &mut Reader<'_>) {
    reader.rule(
        &[QSTASH_URL.setting],
        qstash.is_none_or(|qstash| keeps_secrets(qstash.url.url())),
        "the token would be sent in the clear",
        "write an https URL (http is for loopback only)",
    );
    let [token, key] =
        [QSTASH_TOKEN.setting, QSTASH_CURRENT_SIGNING_KEY.setting].map(|one| reader.is_given(one));
    reader.rule(
        &[QSTASH_TOKEN.setting],
        key || !token,
        "QStash's calls could not be told from a stranger's",
        "set qstash_current_signing_key too",
    );
    reader.rule(
        &[QSTASH_TOKEN.setting],
        !token || reader.has(RELAY_URL.setting),
        "QStash could not be told where to call us",
        "set relay_url, or public_url or portal_url that it is derived from",
    );
}
