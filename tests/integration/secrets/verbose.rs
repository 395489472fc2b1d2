//! Services and commands that write as much as they can, and what they have written.

use std::fs;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nas_cron::domain::sealed::{SecretKind, StoredSecret};
use nas_cron_testing::database::connect;
use nas_cron_testing::service::{ADMIN_TOKEN, KEY_ENCRYPTION_KEY, Service, Settings, key_encryption_keys};
use secrecy::ExposeSecret;

use super::search::{Secret, Seen};

const PASSWORD: &str = "pass-of-the-database";
const FALLBACK: &str = "c29tZSBvdGhlciBrZXksIDMyIGJ5dGVzIGxvbmchISE=";

/// Adds the most verbose level, and secrets that the fixtures do not have.
pub(super) fn verbose(settings: Settings) -> Settings {
    let url =
        settings.get("NAS_CRON_DATABASE_URL").replacen("postgres@", &format!("postgres:{PASSWORD}@"), 1);
    assert!(url.contains(PASSWORD));
    settings
        .with("NAS_CRON_DATABASE_URL", url)
        .with("NAS_CRON_KEY_ENCRYPTION_KEY_FALLBACKS", FALLBACK)
        .with("NAS_CRON_LOG_FILTER", "trace")
        .with("RUST_LOG", "trace")
}

/// Returns the secrets of all services with [`verbose`] settings.
pub(super) fn always_used() -> Vec<Secret> {
    vec![
        Secret::new("database password", PASSWORD),
        Secret::new("admin token", ADMIN_TOKEN),
        Secret::new("key-encryption key", STANDARD.decode(KEY_ENCRYPTION_KEY).unwrap()),
        Secret::new("fallback", STANDARD.decode(FALLBACK).unwrap()),
    ]
}

/// Returns the private halves of the signing keys: the number that is secret, without the ASN.1 around it.
pub(super) async fn signing_keys(url: &str) -> Vec<Secret> {
    let keys = key_encryption_keys(KEY_ENCRYPTION_KEY);
    let stored = nas_cron::db::sealed::page(&connect(url), SecretKind::SigningKey, "", 10).await.unwrap();
    assert!(!stored.is_empty());
    let reveal = |StoredSecret { id, sealed }| {
        let pkcs8 = keys.open(SecretKind::SigningKey, &id, &sealed).unwrap();
        Secret::new("signing key", &pkcs8.expose_secret()[36..68])
    };
    stored.into_iter().map(reveal).collect()
}

/// Runs a command, and adds what it prints.
pub(super) async fn command(seen: &mut Seen, settings: &Settings, arguments: &[&str]) -> String {
    let (_, out, said) = settings.run(arguments).await;
    seen.add(format!("stdout of {arguments:?}"), &out);
    seen.add(format!("stderr of {arguments:?}"), said);
    out
}

/// Adds what a service has written, and its line in the list of processes.
pub(super) async fn service(seen: &mut Seen, name: &str, service: &Service) {
    let line = fs::read(format!("/proc/{}/cmdline", service.pid())).unwrap();
    seen.add(format!("the command line of {name}"), String::from_utf8(line).unwrap());
    let log = service.log();
    assert!(log.contains(r#""level":"TRACE""#), "the log of {name} has all levels");
    seen.add(format!("the log of {name}"), log);
    seen.add(format!("the metrics of {name}"), service.metrics().await);
}
