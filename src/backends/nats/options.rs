//! The NATS settings, validated before the first connection.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret, SecretString};

use crate::config;

/// Default of [`NatsOptions::ack_wait`].
const ACK_WAIT: Duration = Duration::from_secs(30);

/// Connection to NATS, and the names of the stream and the subjects.
#[derive(Clone, Debug)]
pub struct NatsOptions {
    /// Server URLs, `nats://host:4222` or `tls://host:4222`. One is enough: a cluster announces its other servers.
    pub urls: Vec<String>,
    /// A `.creds` file: the user's JWT and the seed of its key.
    pub credentials_file: Option<PathBuf>,
    /// Token for servers that require one.
    pub token: Option<SecretString>,
    /// User name, with `password`.
    pub user: Option<String>,
    /// Password of `user`.
    pub password: Option<SecretString>,
    /// CA certificates of the servers (PEM). Default: the system's CA certificates.
    pub tls_ca_file: Option<PathBuf>,
    /// Client certificate (PEM) for servers that require one, with `tls_key_file`.
    pub tls_cert_file: Option<PathBuf>,
    /// Private key of `tls_cert_file` (PEM).
    pub tls_key_file: Option<PathBuf>,
    /// Require TLS for every server. One `tls://` URL or one of the TLS files above implies it.
    pub tls_required: bool,
    /// Name of the stream.
    pub stream: String,
    /// Prefix of all subjects.
    pub subject_prefix: String,
    /// Minimum number of servers of a cluster that hold each wake-up.
    pub replicas: usize,
    /// Timeout of every call.
    pub timeout: Duration,
    /// Time without progress from a replica after which the server redelivers its wake-up to another one.
    pub ack_wait: Duration,
}

impl NatsOptions {
    /// Creates options for these servers, without credentials, with the documented defaults.
    pub fn new(urls: Vec<String>) -> Self {
        Self {
            urls,
            credentials_file: None,
            token: None,
            user: None,
            password: None,
            tls_ca_file: None,
            tls_cert_file: None,
            tls_key_file: None,
            tls_required: false,
            stream: "NAS_CRON".to_owned(),
            subject_prefix: "nas-cron".to_owned(),
            replicas: 1,
            timeout: Duration::from_secs(5),
            ack_wait: ACK_WAIT,
        }
    }

    /// Creates options from the settings; `None` if NATS is not configured.
    pub fn from_config(config: &config::Backends) -> Option<Self> {
        config.nats.as_ref().map(|nats| Self {
            credentials_file: nats.credentials_file.clone(),
            tls_ca_file: nats.ca_file.clone(),
            tls_cert_file: nats.certificate_file.clone(),
            tls_key_file: nats.key_file.clone(),
            stream: nats.stream.clone(),
            subject_prefix: nats.subject.clone(),
            replicas: nats.replicas,
            timeout: config.call_timeout,
            ..Self::new(nats.urls.clone())
        })
    }

    /// Returns the subject of one schedule. Other arms of the job, and the same arm in another generation, have
    /// subjects of their own and are not affected by operations on this one.
    pub(super) fn schedule_subject(&self, schedule_id: impl fmt::Display, generation: i32) -> String {
        format!("{}.schedule.{schedule_id}-{generation}", self.subject_prefix)
    }

    /// Returns the pattern that matches the subjects of all schedules.
    pub(super) fn schedule_subjects(&self) -> String {
        format!("{}.schedule.*", self.subject_prefix)
    }

    /// Returns the name of the durable consumer that all replicas share. Services with another subject prefix have a
    /// consumer of their own.
    pub(super) fn consumer(&self) -> &str {
        &self.subject_prefix
    }

    /// Returns the subject that due wake-ups are published to. All share one: the server keeps an index entry per
    /// subject.
    pub(super) fn wake_subject(&self) -> String {
        format!("{}.wake", self.subject_prefix)
    }

    /// Validates and returns the server addresses.
    pub(super) fn addresses(&self) -> Result<Vec<ServerAddr>, NatsOptionsError> {
        if self.urls.is_empty() {
            return Err(NatsOptionsError::NoUrl);
        }
        self.urls
            .iter()
            .map(|text| {
                let wrong = |why: &str| NatsOptionsError::Url(without_user(text), why.to_owned());
                if !text.starts_with("nats://") && !text.starts_with("tls://") {
                    return Err(wrong("the scheme must be nats:// or tls://"));
                }
                let address = ServerAddr::from_str(text).map_err(|error| wrong(&error.to_string()))?;
                if address.host().is_empty() {
                    return Err(wrong("the host is missing"));
                }
                if address.has_user_pass() || address.password().is_some() {
                    return Err(wrong(
                        "it contains credentials: put them into the file that nats_credentials_file names",
                    ));
                }
                Ok(address)
            })
            .collect()
    }

    /// Returns true if every server must use TLS. Servers that a cluster announces come without a scheme, so one
    /// setting has to cover all servers.
    fn requires_tls(&self) -> bool {
        let files = [&self.tls_ca_file, &self.tls_cert_file, &self.tls_key_file];
        self.tls_required
            || files.into_iter().any(Option::is_some)
            || self.urls.iter().any(|url| url.starts_with("tls://"))
    }

    /// Returns the client's options, without its callbacks. Reads every file, so that invalid ones fail at the start.
    pub(super) fn connect_options(&self) -> Result<ConnectOptions, NatsOptionsError> {
        check_name("stream", &self.stream, |c| c != '.')?;
        check_name("subject_prefix", &self.subject_prefix, |_| true)?;
        if !(1..=5).contains(&self.replicas) {
            return Err(NatsOptionsError::Replicas(self.replicas));
        }
        let ways = [self.credentials_file.is_some(), self.token.is_some(), self.user.is_some()];
        if ways.into_iter().filter(|way| *way).count() > 1 {
            return Err(NatsOptionsError::SeveralCredentials);
        }
        if self.user.is_some() != self.password.is_some() {
            return Err(NatsOptionsError::Halves("user", "password"));
        }
        let mut options = ConnectOptions::new();
        if let Some(path) = &self.credentials_file {
            let text = SecretString::from(
                std::fs::read_to_string(path).map_err(|error| NatsOptionsError::file(path, error))?,
            );
            // The client's error is left out: it could quote the file.
            options = options
                .credentials(text.expose_secret())
                .map_err(|_| NatsOptionsError::file(path, "not a valid NATS credentials file"))?;
        } else if let Some(token) = &self.token {
            options = options.token(token.expose_secret().to_owned());
        } else if let (Some(user), Some(password)) = (&self.user, &self.password) {
            options = options.user_and_password(user.clone(), password.expose_secret().to_owned());
        }
        // The client reads these files again for every connection, and so picks up renewed certificates.
        if let Some(path) = &self.tls_ca_file {
            check_certificates(path)?;
            options = options.add_root_certificates(path.clone());
        }
        match (&self.tls_cert_file, &self.tls_key_file) {
            (Some(certificate), Some(key)) => {
                check_certificates(certificate)?;
                PrivateKeyDer::from_pem_file(key)
                    .map_err(|_| NatsOptionsError::file(key, "no valid private key (PEM) found"))?;
                options = options.add_client_certificate(certificate.clone(), key.clone());
            }
            (None, None) => {}
            _ => return Err(NatsOptionsError::Halves("tls_cert_file", "tls_key_file")),
        }
        Ok(options
            .name("nas-cron")
            .require_tls(self.requires_tls())
            .connection_timeout(self.timeout)
            .request_timeout(Some(self.timeout)))
    }
}

/// Invalid NATS options.
#[derive(Debug, thiserror::Error)]
pub enum NatsOptionsError {
    /// No server URL.
    #[error("no NATS server URL is set")]
    NoUrl,
    /// An invalid URL, and the reason.
    #[error("invalid NATS server URL {0}: {1}")]
    Url(String, String),
    /// A name that is not allowed in a subject.
    #[error(
        "invalid NATS {0} {1:?}: use letters, digits, '-' and '_'; in subject_prefix also '.' between parts"
    )]
    Name(&'static str, String),
    /// A number of replicas outside 1 to 5.
    #[error("invalid number of NATS replicas {0}: use 1 to 5")]
    Replicas(usize),
    /// More than one of credentials file, token and user.
    #[error("several kinds of NATS credentials are set: use only one of credentials file, token and user")]
    SeveralCredentials,
    /// One of two options without the other.
    #[error("set both {0} and {1}, or neither")]
    Halves(&'static str, &'static str),
    /// An invalid or unreadable file, and the reason.
    #[error("{0}: {1}")]
    File(PathBuf, String),
}

impl NatsOptionsError {
    fn file(path: &Path, why: impl fmt::Display) -> Self {
        Self::File(path.to_owned(), why.to_string())
    }
}

/// Checks that a name consists of tokens of letters, digits, `-` and `_`, separated by `.` where `also` allows it.
fn check_name(field: &'static str, name: &str, also: impl Fn(char) -> bool) -> Result<(), NatsOptionsError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c) || (c == '.' && also(c));
    if name.split('.').any(str::is_empty) || !name.chars().all(fits) {
        return Err(NatsOptionsError::Name(field, name.to_owned()));
    }
    Ok(())
}

fn check_certificates(path: &Path) -> Result<(), NatsOptionsError> {
    let none = || NatsOptionsError::file(path, "no valid certificate (PEM) found");
    let certificates = CertificateDer::pem_file_iter(path).map_err(|_| none())?;
    match certificates.collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(()),
        _ => Err(none()),
    }
}

/// Returns the URL without user name and password, also if its scheme is missing.
fn without_user(text: &str) -> String {
    let (scheme, rest) = text.split_at(text.find("://").map_or(0, |at| at + 3));
    rest.rfind('@').map_or_else(|| text.to_owned(), |at| format!("{scheme}***{}", &rest[at..]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> NatsOptions {
        NatsOptions::new(vec![url.to_owned()])
    }

    #[test]
    fn urls_need_a_nats_scheme_and_no_credentials() {
        for url in ["nats://nats.example", "nats://127.0.0.1:4222", "tls://[::1]:4222"] {
            assert!(options(url).addresses().is_ok(), "{url}");
        }
        for url in ["", "nats.example:4222", "http://nats.example", "ws://nats.example", "nats://"] {
            assert!(options(url).addresses().is_err(), "{url}");
        }
        assert!(NatsOptions::new(Vec::new()).addresses().is_err());
        let error = options("nats://someone:secret@nats.example").addresses().unwrap_err().to_string();
        assert!(!error.contains("secret") && error.contains("nats://***@nats.example"), "{error}");
        let error = options("someone:secret@nats.example").addresses().unwrap_err().to_string();
        assert!(!error.contains("secret") && error.contains("***@nats.example"), "{error}");
    }

    #[test]
    fn names_must_be_valid_in_subjects() {
        let with = |stream: &str, prefix: &str| {
            NatsOptions {
                stream: stream.to_owned(),
                subject_prefix: prefix.to_owned(),
                ..options("nats://n")
            }
            .connect_options()
            .map(drop)
        };
        assert!(with("NAS_CRON", "portal.nas-cron").is_ok());
        for (stream, prefix) in [
            ("A.B", "a"),
            ("", "a"),
            ("A", ""),
            ("A", "a."),
            ("A", "a..b"),
            ("A", "a.*"),
            ("A", "$JS"),
            ("A b", "a"),
        ] {
            assert!(with(stream, prefix).is_err(), "{stream:?} {prefix:?}");
        }
    }

    #[test]
    fn one_tls_option_applies_to_all_servers() {
        assert!(!options("nats://n").requires_tls());
        let mixed = NatsOptions::new(vec!["nats://a".to_owned(), "tls://b".to_owned()]);
        let asked = NatsOptions { tls_required: true, ..options("nats://n") };
        let authority = NatsOptions { tls_ca_file: Some("/ca.pem".into()), ..options("nats://n") };
        for options in [mixed, asked, authority] {
            assert!(options.requires_tls(), "{options:?}");
        }
    }

    #[test]
    fn credentials_must_be_complete_and_of_one_kind() {
        let both = NatsOptions {
            token: Some("t".into()),
            user: Some("u".to_owned()),
            password: Some("p".into()),
            ..options("nats://n")
        };
        assert!(matches!(both.connect_options(), Err(NatsOptionsError::SeveralCredentials)));
        let half = NatsOptions { user: Some("u".to_owned()), ..options("nats://n") };
        assert!(matches!(half.connect_options(), Err(NatsOptionsError::Halves(..))));
        let half = NatsOptions { tls_key_file: Some("/nowhere".into()), ..options("nats://n") };
        assert!(matches!(half.connect_options(), Err(NatsOptionsError::Halves(..))));
    }

    #[test]
    fn errors_name_missing_files() {
        let nowhere = PathBuf::from("/nowhere/at/all");
        for options in [
            NatsOptions { credentials_file: Some(nowhere.clone()), ..options("nats://n") },
            NatsOptions { tls_ca_file: Some(nowhere.clone()), ..options("nats://n") },
            NatsOptions {
                tls_cert_file: Some(nowhere.clone()),
                tls_key_file: Some(nowhere.clone()),
                ..options("nats://n")
            },
        ] {
            let error = options.connect_options().unwrap_err().to_string();
            assert!(error.starts_with("/nowhere/at/all: "), "{error}");
        }
    }
}
