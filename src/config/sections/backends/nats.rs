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

/// Connection to NATS, and the stream of the wake-ups.
#[derive(Clone, Debug)]
pub struct Nats {
    /// Server URLs.
    pub urls: Vec<String>,
    /// Credentials file of the account.
    pub credentials_file: Option<PathBuf>,
    /// Certificate authorities of the servers.
    pub ca_file: Option<PathBuf>,
    /// Client certificate.
    pub certificate_file: Option<PathBuf>,
    /// Private key of the client certificate.
    pub key_file: Option<PathBuf>,
    /// Name of the stream.
    pub stream: String,
    /// Prefix of the stream's subjects.
    pub subject: String,
    /// Number of servers that store each wake-up.
    pub replicas: usize,
}

settings! { Backends:
    NATS_URLS: ListKey<String> = "nats_urls", values::NATS_SERVERS,
        Preset::Unset { means: "NATS is not configured", example: "tls://nats-1.internal:4222,tls://nats-2.internal:4222" },
        "URLs of the NATS servers (JetStream, 2.12 or later). Setting them enables the nats backend.";
    NATS_CREDENTIALS_FILE: OptionalKey<PathBuf> = "nats_credentials_file", values::PATH,
        Preset::Unset { means: "no authentication", example: "/etc/nas-cron/nats.creds" },
        "Credentials file (.creds) of the NATS account.";
    NATS_CA_FILE: OptionalKey<PathBuf> = "nats_ca_file", values::PATH,
        Preset::Unset { means: "the system's certificate authorities", example: "/etc/nas-cron/nats-ca.pem" },
        "Certificate authorities for the NATS servers' certificates, as PEM.";
    NATS_CERTIFICATE_FILE: OptionalKey<PathBuf> = "nats_certificate_file", values::PATH,
        Preset::Unset { means: "none", example: "/etc/nas-cron/nats-client.pem" },
        "Client certificate for the NATS servers, as PEM. Requires nats_key_file.";
    NATS_KEY_FILE: OptionalKey<PathBuf> = "nats_key_file", values::PATH,
        Preset::Unset { means: "none", example: "/etc/nas-cron/nats-client.key" },
        "Private key of the client certificate, as PEM.";
    NATS_STREAM: Key<String> = "nats_stream", values::text(|_, text| name(text)),
        Preset::Value("NAS_CRON"),
        "Name of the stream that holds the wake-ups. It is created if missing.";
    NATS_SUBJECT: Key<String> = "nats_subject", values::text(|_, text| name(text)),
        Preset::Value("nas-cron"),
        "Prefix of the stream's subjects, and name of its consumer. Each nas-cron service on the same NATS account needs its own subject and stream.";
    NATS_REPLICAS: Key<usize> = "nats_replicas", values::count::<usize>(1, 5),
        Preset::Value("1"),
        "Number of NATS servers that store each wake-up. Use 3 in a cluster.";
}

pub(super) const PRODUCT: Product = Product {
    name: "NATS",
    backends: &[BackendName::Nats],
    required: &[NATS_URLS.setting],
    enabled_by: &[NATS_URLS.setting],
};

/// Returns `None` if no server is configured.
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

/// Returns the watchdog grace of the backend.
pub(super) fn graces(usual: Duration) -> [(BackendName, Duration); 1] {
    [(BackendName::Nats, usual)]
}

pub(super) fn check(reader: &mut Reader<'_>) {
    let [certificate, key] =
        [NATS_CERTIFICATE_FILE.setting, NATS_KEY_FILE.setting].map(|one| reader.is_given(one));
    reader.rule(
        &[NATS_CERTIFICATE_FILE.setting],
        key || !certificate,
        "the certificate's private key is missing",
        "set nats_key_file too",
    );
    reader.rule(
        &[NATS_KEY_FILE.setting],
        certificate || !key,
        "the certificate of this key is missing",
        "set nats_certificate_file too",
    );
}

/// Parses the name of a stream or the prefix of subjects.
fn name(text: &str) -> Result<String, Wrong> {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    if !text.is_empty() && text.len() <= 64 && text.chars().all(fits) {
        Ok(text.to_owned())
    } else {
        Err(Wrong::new("is not a valid NATS name", "use 1 to 64 letters, digits, '-' and '_'"))
    }
}
