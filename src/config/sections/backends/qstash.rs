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

/// Connection to QStash, and the limits of its plan.
#[derive(Clone, Debug)]
pub struct Qstash {
    /// Base URL of the API.
    pub url: BaseUrl,
    /// Token that publishes messages.
    pub token: SecretString,
    /// Key that currently signs QStash's calls.
    pub current_signing_key: SecretString,
    /// Key that will sign QStash's calls after a rotation.
    pub next_signing_key: Option<SecretString>,
    /// Number of retries of a rejected call.
    pub retries: u8,
    /// Maximum delay of a message.
    pub furthest: Duration,
}

settings! { Backends:
    QSTASH_TOKEN: OptionalKey<SecretString> = "qstash_token", values::SECRET,
        Preset::Unset { means: "QStash is not configured", example: "TOKEN" },
        "Token for publishing to QStash. Setting it enables the backends qstash and qstash_direct.";
    QSTASH_CURRENT_SIGNING_KEY: OptionalKey<SecretString> = "qstash_current_signing_key", values::SECRET,
        Preset::Unset { means: "required with qstash_token", example: "sig_CURRENT" },
        "Current signing key of QStash, to verify its calls.";
    QSTASH_NEXT_SIGNING_KEY: OptionalKey<SecretString> = "qstash_next_signing_key", values::SECRET,
        Preset::Unset { means: "none", example: "sig_NEXT" },
        "Next signing key of QStash, accepted too so that a rotation needs no downtime.";
    QSTASH_URL: Key<BaseUrl> = "qstash_url", values::BASE_URL,
        Preset::Value("https://qstash.upstash.io"),
        "Base URL of the QStash API; it depends on the region.";
    QSTASH_RETRIES: Key<u8> = "qstash_retries", values::count::<u8>(0, 100),
        Preset::Value("3"),
        "Number of times QStash repeats a relay call that was not accepted; limited by the plan. Retries to the agent are always made by nas-cron.";
    QSTASH_FURTHEST: Key<Duration> = "qstash_furthest", values::duration(values::s(60), values::YEAR),
        Preset::Value("7d"),
        "Maximum delay that the QStash plan allows. One-shots further ahead are handed to QStash later.";
    QSTASH_DIRECT_GRACE: Key<Duration> = "qstash_direct_grace", values::duration(values::s(60), values::HOUR),
        Preset::Value("15m"),
        "For qstash_direct: time after `fire_at` to wait for a result in QStash's log before nas-cron fires the one-shot itself.";
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
    // `check` reports one that is set without the other.
    let (token, current_signing_key) = token.zip(current_signing_key)?;
    Some(Qstash { url, token, current_signing_key, next_signing_key, retries, furthest })
}

/// Returns the watchdog graces; `usual` applies to a backend without its own.
pub(super) fn read_graces(usual: Duration, reader: &mut Reader<'_>) -> [(BackendName, Duration); 2] {
    [(BackendName::Qstash, usual), (BackendName::QstashDirect, reader.value(&QSTASH_DIRECT_GRACE))]
}

pub(super) fn check(qstash: Option<&Qstash>, reader: &mut Reader<'_>) {
    reader.rule(
        &[QSTASH_URL.setting],
        qstash.is_none_or(|qstash| keeps_secrets(qstash.url.url())),
        "the token would be sent unencrypted",
        "use an https URL (http is allowed for loopback only)",
    );
    let [token, key] =
        [QSTASH_TOKEN.setting, QSTASH_CURRENT_SIGNING_KEY.setting].map(|one| reader.is_given(one));
    reader.rule(
        &[QSTASH_TOKEN.setting],
        key || !token,
        "QStash's calls could not be authenticated",
        "set qstash_current_signing_key too",
    );
    reader.rule(
        &[QSTASH_TOKEN.setting],
        !token || reader.has(RELAY_URL.setting),
        "QStash needs a URL to call",
        "set relay_url, or public_url or portal_url, from which it is derived",
    );
}
