//! What the operator says about NATS, checked before anything is dialled.

use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::time::Duration;

use async_nats::{ConnectOptions, ServerAddr};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use secrecy::{ExposeSecret, SecretString};

use crate::config;

/// How long a wake-up may be in one replica's hands without a word before another gets it.
const ACK_WAIT: Duration = Duration::from_secs(30);

/// How NATS is reached, and what is ours there.
#[derive(Clone, Debug)]
pub struct NatsOptions {
    /// The servers, `nats://host:4222` or `tls://host:4222`. One is enough: a cluster tells of its others.
    pub urls: Vec<String>,
    /// A `.creds` file: the user's JWT and the seed of its key.
    pub credentials_file: Option<PathBuf>,
    /// A token, where the server asks for one.
    pub token: Option<SecretString>,
    /// A user name, with `password`.
    pub user: Option<String>,
    /// The password of `user`.
    pub password: Option<SecretString>,
    /// Who signed the servers' certificates (PEM). Without it: the system's authorities.
    pub tls_ca_file: Option<PathBuf>,
    /// Our own certificate (PEM), with `tls_key_file`, where the server asks for one.
    pub tls_cert_file: Option<PathBuf>,
    /// The key of `tls_cert_file` (PEM).
    pub tls_key_file: Option<PathBuf>,
    /// Never talk to a server without TLS. One `tls://` URL or one of the files above says the same.
    pub tls_required: bool,
    /// The stream's name.
    pub stream: String,
    /// Begins every subject of ours.
    pub subject_prefix: String,
    /// How many servers of a cluster hold each wake-up, at least.
    pub replicas: usize,
    /// The deadline of every call.
    pub timeout: Duration,
    /// How long a wake-up may be in one replica's hands without a word before another gets it.
    pub ack_wait: Duration,
}

impl NatsOptions {
    /// For these servers, without credentials; all else as in the documentation.
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

    /// As configured; `None` where NATS is not.
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

    /// The subject of one schedule; the job's other arms, and the same one after a move there and back, have others,
    /// so that nothing done to this one hits them.
    pub(super) fn schedule_subject(&self, schedule_id: impl fmt::Display, generation: i32) -> String {
        format!("{}.schedule.{schedule_id}-{generation}", self.subject_prefix)
    }

    /// The subjects of all schedules.
    pub(super) fn schedule_subjects(&self) -> String {
        format!("{}.schedule.*", self.subject_prefix)
    }

    /// The durable consumer that all replicas share; services with other subjects have another one.
    pub(super) fn consumer(&self) -> &str {
        &self.subject_prefix
    }

    /// Where schedules put their wake-ups. One for all: the server keeps an index entry per subject.
    pub(super) fn wake_subject(&self) -> String {
        format!("{}.wake", self.subject_prefix)
    }

    /// The servers, checked.
    pub(super) fn addresses(&self) -> Result<Vec<ServerAddr>, NatsOptionsError> {
        if self.urls.is_empty() {
            return Err(NatsOptionsError::NoUrl);
        }
        self.urls
            .iter()
            .map(|text| {
                let wrong = |why: &str| NatsOptionsError::Url(without_user(text), why.to_owned());
                if !text.starts_with("nats://") && !text.starts_with("tls://") {
                    return Err(wrong("it begins with neither nats:// nor tls://"));
                }
                let address = ServerAddr::from_str(text).map_err(|error| wrong(&error.to_string()))?;
                if address.host().is_empty() {
                    return Err(wrong("it names no host"));
                }
                if address.has_user_pass() || address.password().is_some() {
                    return Err(wrong(
                        "it carries credentials: write them into the file that nats_credentials_file names",
                    ));
                }
                Ok(address)
            })
            .collect()
    }

    /// The servers that a cluster tells of come without a scheme: what holds for one has to hold for all.
    fn requires_tls(&self) -> bool {
        let files = [&self.tls_ca_file, &self.tls_cert_file, &self.tls_key_file];
        self.tls_required
            || files.into_iter().any(Option::is_some)
            || self.urls.iter().any(|url| url.starts_with("tls://"))
    }

    /// What the client is told, without its callbacks. Reads every file, so that what is wrong shows at the start.
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
            // The reason could quote the file.
            options = options
                .credentials(text.expose_secret())
                .map_err(|_| NatsOptionsError::file(path, "it is no NATS credentials file"))?;
        } else if let Some(token) = &self.token {
            options = options.token(token.expose_secret().to_owned());
        } else if let (Some(user), Some(password)) = (&self.user, &self.password) {
            options = options.user_and_password(user.clone(), password.expose_secret().to_owned());
        }
        // The client reads them again at every connection, so that renewed certificates are taken up.
        if let Some(path) = &self.tls_ca_file {
            check_certificates(path)?;
            options = options.add_root_certificates(path.clone());
        }
        match (&self.tls_cert_file, &self.tls_key_file) {
            (Some(certificate), Some(key)) => {
                check_certificates(certificate)?;
                PrivateKeyDer::from_pem_file(key)
                    .map_err(|_| NatsOptionsError::file(key, "there is no private key (PEM) in it"))?;
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

/// Why the options are none.
#[derive(Debug, thiserror::Error)]
pub enum NatsOptionsError {
    /// No server.
    #[error("no NATS server is named")]
    NoUrl,
    /// A URL, and what is wrong with it.
    #[error("{0} is no URL of a NATS server: {1}")]
    Url(String, String),
    /// A name that would not stand in a subject.
    #[error("{0} {1:?} cannot be: use letters, digits, - and _")]
    Name(&'static str, String),
    /// Not 1 to 5.
    #[error("NATS keeps 1 to 5 replicas, not {0}")]
    Replicas(usize),
    /// More than one of credentials file, token and user.
    #[error("only one of credentials file, token and user can hold")]
    SeveralCredentials,
    /// One without the other.
    #[error("{0} and {1} go together")]
    Halves(&'static str, &'static str),
    /// A file that cannot be used.
    #[error("{0}: {1}")]
    File(PathBuf, String),
}

impl NatsOptionsError {
    fn file(path: &Path, why: impl fmt::Display) -> Self {
        Self::File(path.to_owned(), why.to_string())
    }
}

/// Tokens of letters, digits, `-` and `_`, with `.` between where `also` lets it.
fn check_name(field: &'static str, name: &str, also: impl Fn(char) -> bool) -> Result<(), NatsOptionsError> {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_".contains(c) || (c == '.' && also(c));
    if name.split('.').any(str::is_empty) || !name.chars().all(fits) {
        return Err(NatsOptionsError::Name(field, name.to_owned()));
    }
    Ok(())
}

fn check_certificates(path: &Path) -> Result<(), NatsOptionsError> {
    let none = || NatsOptionsError::file(path, "there is no certificate (PEM) in it");
    let certificates = CertificateDer::pem_file_iter(path).map_err(|_| none())?;
    match certificates.collect::<Result<Vec<_>, _>>() {
        Ok(certificates) if !certificates.is_empty() => Ok(()),
        _ => Err(none()),
    }
}

/// A URL as it may be shown.
fn without_user(text: &str) -> String {
    match (text.find("://"), text.rfind('@')) {
        (Some(scheme), Some(at)) if scheme < at => format!("{}***{}", &text[..scheme + 3], &text[at..]),
        _ => text.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn options(url: &str) -> NatsOptions {
        NatsOptions::new(vec![url.to_owned()])
    }

    #[test]
    fn urls_are_those_of_nats_and_carry_no_credentials() {
        for url in ["nats://nats.example", "nats://127.0.0.1:4222", "tls://[::1]:4222"] {
            assert!(options(url).addresses().is_ok(), "{url}");
        }
        for url in ["", "nats.example:4222", "http://nats.example", "ws://nats.example", "nats://"] {
            assert!(options(url).addresses().is_err(), "{url}");
        }
        assert!(NatsOptions::new(Vec::new()).addresses().is_err());
        let error = options("nats://someone:secret@nats.example").addresses().unwrap_err().to_string();
        assert!(!error.contains("secret") && error.contains("nats://***@nats.example"), "{error}");
    }

    #[test]
    fn names_stand_in_subjects() {
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
    fn one_word_of_tls_holds_for_all_servers() {
        assert!(!options("nats://n").requires_tls());
        let mixed = NatsOptions::new(vec!["nats://a".to_owned(), "tls://b".to_owned()]);
        let asked = NatsOptions { tls_required: true, ..options("nats://n") };
        let authority = NatsOptions { tls_ca_file: Some("/ca.pem".into()), ..options("nats://n") };
        for options in [mixed, asked, authority] {
            assert!(options.requires_tls(), "{options:?}");
        }
    }

    #[test]
    fn credentials_come_whole_and_only_one_way() {
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
    fn files_that_are_none_are_named() {
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
