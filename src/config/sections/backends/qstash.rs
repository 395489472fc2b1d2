//! Settings of QStash, for the backends `qstash` and `qstash_direct`.

use std::time::Duration;

use nas_cron_protocol::BackendName;
use secrecy::SecretString;

use super::general::{Product, RELAY_URL};
use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, OptionalKey, settings};
use crate::config::urls::{BaseUrl, keeps_secrets};
use crate::config::values::{self, Choice};
use crate::domain::qstash_region::QstashRegion;

/// QStash: the accounts, and the limits of their plan.
#[derive(Clone, Debug)]
pub struct Qstash {
    /// The accounts, at most one in each region. The first one publishes.
    pub accounts: Vec<QstashAccount>,
    /// Number of retries of a rejected call.
    pub retries: u8,
    /// Maximum delay of a message.
    pub furthest: Duration,
}

/// An account, in one region.
#[derive(Clone, Debug)]
pub struct QstashAccount {
    /// Its region; `None` for the account of the settings without a region.
    pub region: Option<QstashRegion>,
    /// Base URL of the API.
    pub url: BaseUrl,
    /// Token that publishes messages.
    pub token: SecretString,
    /// Key that currently signs QStash's calls.
    pub current_signing_key: SecretString,
    /// Key that will sign QStash's calls after a rotation.
    pub next_signing_key: Option<SecretString>,
}

impl Choice for QstashRegion {
    const WORDS: &'static [&'static str] = Self::WORDS;
    const VALUES: &'static [Self] = Self::ALL;
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
    QSTASH_REGION: OptionalKey<QstashRegion> = "qstash_region", values::choice::<QstashRegion>(),
        Preset::Unset { means: "the account of qstash_token, or else that of the only configured region", example: "us-east-1" },
        "Region of QStash to publish to. Calls from every configured region are accepted.";
    EU_TOKEN: OptionalKey<SecretString> = "eu_central_1_qstash_token", values::SECRET,
        Preset::Unset { means: "no account in this region", example: "TOKEN" },
        "Token of the account in the region eu-central-1.";
    EU_CURRENT_SIGNING_KEY: OptionalKey<SecretString> = "eu_central_1_qstash_current_signing_key", values::SECRET,
        Preset::Unset { means: "required with eu_central_1_qstash_token", example: "sig_CURRENT" },
        "Current signing key of the account in the region eu-central-1.";
    EU_NEXT_SIGNING_KEY: OptionalKey<SecretString> = "eu_central_1_qstash_next_signing_key", values::SECRET,
        Preset::Unset { means: "none", example: "sig_NEXT" },
        "Next signing key of the account in the region eu-central-1.";
    EU_URL: Key<BaseUrl> = "eu_central_1_qstash_url", values::BASE_URL,
        Preset::Value("https://qstash-eu-central-1.upstash.io"),
        "Base URL of the QStash API in the region eu-central-1.";
    US_TOKEN: OptionalKey<SecretString> = "us_east_1_qstash_token", values::SECRET,
        Preset::Unset { means: "no account in this region", example: "TOKEN" },
        "Token of the account in the region us-east-1.";
    US_CURRENT_SIGNING_KEY: OptionalKey<SecretString> = "us_east_1_qstash_current_signing_key", values::SECRET,
        Preset::Unset { means: "required with us_east_1_qstash_token", example: "sig_CURRENT" },
        "Current signing key of the account in the region us-east-1.";
    US_NEXT_SIGNING_KEY: OptionalKey<SecretString> = "us_east_1_qstash_next_signing_key", values::SECRET,
        Preset::Unset { means: "none", example: "sig_NEXT" },
        "Next signing key of the account in the region us-east-1.";
    US_URL: Key<BaseUrl> = "us_east_1_qstash_url", values::BASE_URL,
        Preset::Value("https://qstash-us-east-1.upstash.io"),
        "Base URL of the QStash API in the region us-east-1.";
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

/// The settings of one account.
struct AccountKeys {
    region: Option<QstashRegion>,
    url: Key<BaseUrl>,
    token: OptionalKey<SecretString>,
    current_signing_key: OptionalKey<SecretString>,
    next_signing_key: OptionalKey<SecretString>,
}

/// The accounts that can be configured.
const ACCOUNTS: [AccountKeys; 3] = [
    AccountKeys {
        region: None,
        url: QSTASH_URL,
        token: QSTASH_TOKEN,
        current_signing_key: QSTASH_CURRENT_SIGNING_KEY,
        next_signing_key: QSTASH_NEXT_SIGNING_KEY,
    },
    AccountKeys {
        region: Some(QstashRegion::EuCentral1),
        url: EU_URL,
        token: EU_TOKEN,
        current_signing_key: EU_CURRENT_SIGNING_KEY,
        next_signing_key: EU_NEXT_SIGNING_KEY,
    },
    AccountKeys {
        region: Some(QstashRegion::UsEast1),
        url: US_URL,
        token: US_TOKEN,
        current_signing_key: US_CURRENT_SIGNING_KEY,
        next_signing_key: US_NEXT_SIGNING_KEY,
    },
];

pub(super) const PRODUCT: Product = Product {
    name: "QStash",
    backends: &[BackendName::Qstash, BackendName::QstashDirect],
    required: &[QSTASH_TOKEN.setting, QSTASH_CURRENT_SIGNING_KEY.setting],
    enabled_by: &[QSTASH_TOKEN.setting, EU_TOKEN.setting, US_TOKEN.setting],
};

pub(super) fn read(reader: &mut Reader<'_>) -> Option<Qstash> {
    let (retries, furthest) = (reader.value(&QSTASH_RETRIES), reader.value(&QSTASH_FURTHEST));
    let region = reader.optional(&QSTASH_REGION);
    let mut accounts: Vec<_> = ACCOUNTS.iter().filter_map(|keys| read_account(keys, reader)).collect();
    // Otherwise the first of `ACCOUNTS`; `check` reports if there is a choice without `qstash_region`.
    accounts.sort_by_key(|account| region.is_some() && account.region != region);
    (!accounts.is_empty()).then_some(Qstash { accounts, retries, furthest })
}

fn read_account(keys: &AccountKeys, reader: &mut Reader<'_>) -> Option<QstashAccount> {
    let url = reader.value(&keys.url);
    let token = reader.optional(&keys.token);
    let current_signing_key = reader.optional(&keys.current_signing_key);
    let next_signing_key = reader.optional(&keys.next_signing_key);
    // `check` reports one that is set without the other.
    let (token, current_signing_key) = token.zip(current_signing_key)?;
    Some(QstashAccount { region: keys.region, url, token, current_signing_key, next_signing_key })
}

/// Returns the watchdog graces; `usual` applies to a backend without its own.
pub(super) fn read_graces(usual: Duration, reader: &mut Reader<'_>) -> [(BackendName, Duration); 2] {
    [(BackendName::Qstash, usual), (BackendName::QstashDirect, reader.value(&QSTASH_DIRECT_GRACE))]
}

pub(super) fn check(qstash: Option<&Qstash>, reader: &mut Reader<'_>) {
    let accounts = qstash.map_or(&[][..], |qstash| &qstash.accounts);
    for keys in &ACCOUNTS {
        let account = accounts.iter().find(|account| account.region == keys.region);
        reader.rule(
            &[keys.url.setting],
            account.is_none_or(|account| keeps_secrets(account.url.url())),
            "the token would be sent unencrypted",
            "use an https URL (http is allowed for loopback only)",
        );
        let [token, key] =
            [keys.token.setting, keys.current_signing_key.setting].map(|one| reader.is_given(one));
        reader.rule(
            &[keys.token.setting],
            key || !token,
            "QStash's calls could not be authenticated",
            &format!("set {} too", keys.current_signing_key.setting.key),
        );
        reader.rule(
            &[keys.token.setting],
            !token || reader.has(RELAY_URL.setting),
            "QStash needs a URL to call",
            "set relay_url, or public_url or portal_url, from which it is derived",
        );
    }
    let region = reader.peek_optional(&QSTASH_REGION);
    let token_of = |region: QstashRegion| {
        ACCOUNTS.iter().find(|keys| keys.region == Some(region)).map(|keys| keys.token.setting)
    };
    let missing = region.and_then(token_of).filter(|token| !reader.is_given(token));
    reader.rule(
        &[QSTASH_REGION.setting],
        missing.is_none(),
        "there is no account in this region",
        &missing.map_or_else(String::new, |token| format!("set {}", token.key)),
    );
    let ambiguous = reader.is_given(EU_TOKEN.setting)
        && reader.is_given(US_TOKEN.setting)
        && !reader.is_given(QSTASH_TOKEN.setting)
        && !reader.is_given(QSTASH_REGION.setting);
    reader.rule(
        &[EU_TOKEN.setting, US_TOKEN.setting],
        !ambiguous,
        "both regions could be published to",
        "set qstash_region to one of them",
    );
}
