//! Settings of NATS, for the backend `nats`.

use std::path::PathBuf;
use std::time::Duration;

use nas_cron_protocol::BackendName;

use super::general::Product;
use crate::config::problem::Wrong;
use crate::config::reader::Reader;
use crate::config::setting::Preset;
use crate::config::typed_key::{Key, ListKey, OptionalKey, settings};
use crate::config::values;

/// How NATS is reached, and where the wake-ups are in it.
#[derive(Clone, Debug)]
pub struct Nats {
    /// The servers.
    pub urls: Vec<String>,
    /// The account's credentials.
    pub credentials_file: Option<PathBuf>,
    /// Who signs the servers' certificates.
    pub ca_file: Option<PathBuf>,
    /// Our certificate.
    pub certificate_file: Option<PathBuf>,
    /// Its private key.
    pub key_file: Option<PathBuf>,
    /// The stream.
    pub stream: String,
    /// What its subjects begin with.
    pub subject: String,
    /// How many servers keep each wake-up.
    pub replicas: usize,
}

settings! { Backends:
    NATS_URLS: ListKey<String> = "nats_urls", values::WORDS,
        Preset::Unset { means: "NATS is not configured", example: "tls://nats-1.internal:4222,tls://nats-2.internal:4222" },
        "The servers of a NATS JetStream, 2.12 or later. Their presence configures the backend nats.";
    NATS_CREDENTIALS_FILE: OptionalKey<PathBuf> = "nats_credentials_file", values::PATH,
        Preset::Unset { means: "no authentication", example: "/etc/nas-cron/nats.creds" },
        "The account's credentials: a .creds file.";
    NATS_CA_FILE: OptionalKey<PathBuf> = "nats_ca_file", values::PATH,
        Preset::Unset { means: "the system's authorities", example: "/etc/nas-cron/nats-ca.pem" },
        "Authorities that the servers' certificates may come from, as PEM.";
    NATS_CERTIFICATE_FILE: OptionalKey<PathBuf> = "nats_certificate_file", values::PATH,
        Preset::Unset { means: "none", example: "/etc/nas-cron/nats-client.pem" },
        "Our own certificate, where the servers ask for one, as PEM; with nats_key_file.";
    NATS_KEY_FILE: OptionalKey<PathBuf> = "nats_key_file", values::PATH,
        Preset::Unset { means: "none", example: "/etc/nas-cron/nats-client.key" },
        "Our certificate's private key, as PEM.";
    NATS_STREAM: Key<String> = "nats_stream", values::text(|_, text| name(text)),
        Preset::Value("NAS_CRON"),
        "The stream that holds the wake-ups; made where there is none.";
    NATS_SUBJECT: Key<String> = "nats_subject", values::text(|_, text| name(text)),
        Preset::Value("nas-cron"),
        "What the stream's subjects begin with, and the name of its consumer. Another one, and another stream, for every service on the same account.";
    NATS_REPLICAS: Key<usize> = "nats_replicas", values::count::<usize>(1, 5),
        Preset::Value("1"),
        "How many servers keep each wake-up; 3 in a cluster.";
}

pub(super) const PRODUCT: Product =
    Product { name: "NATS", backends: &[BackendName::Nats], required: &[NATS_URLS.setting] };

/// `None` without a server.
pub(super) fn read(reader: &mut Reader<'_>) -> Option<Nats> {
    let nats = Nats {
        urls: reader.list(&NATS_URLS),
        credentials_file: reader.optional(&NATS_CREDENTIALS_FILE),
        ca_file: reader.optional(&NATS_CA_FILE),
        certificate_file: reader.optional(&NATS_CERTIFICATE_FILE),
        key_file: reader.optional(&NATS_KEY_FILE),
        stream: reader.value(&NATS_STREAM),
        subject: reader.value(&NATS_SUBJECT),
        replicas: reader.value(&NATS_REPLICAS),
    };
    (!nats.urls.is_empty()).then_some(nats)
}

/// The watchdog's grace: the usual one.
pub(super) fn graces(usual: Duration) -> [(BackendName, Duration); 1] {
    [(BackendName::Nats, usual)]
}

pub(super) fn check(reader: &mut Reader<'_>) {
    let [certificate, key] =
        [NATS_CERTIFICATE_FILE.setting, NATS_KEY_FILE.setting].map(|one| reader.is_given(one));
    reader.rule(
        &[NATS_CERTIFICATE_FILE.setting],
        key || !certificate,
        "a certificate is no use without its key",
        "set nats_key_file too",
    );
    reader.rule(
        &[NATS_KEY_FILE.setting],
        certificate || !key,
        "a key is no use without its certificate",
        "set nats_certificate_file too",
    );
}

/// The name of a stream, or the beginning of subjects.
fn name(text: &str) -> Result<String, Wrong> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !text.is_empty() && text.len() <= 64 && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new("is no name in NATS", "write 1 to 64 letters, digits, dashes and underscores"))
    }
}
