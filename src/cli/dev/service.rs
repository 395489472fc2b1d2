//! The service as `dev` runs it: its configuration, and the one place where it is started.

use std::ffi::OsString;
use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::anyhow;
use axum::Router;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretBox, SecretString};
use tokio::task::JoinHandle;

use super::portal::JWKS_PATH;
use crate::app::App;
use crate::clock::SystemClock;
use crate::config::{Config, ConfigError, SETTINGS, Settings, Sources};
use crate::metrics;
use crate::shutdown::Shutdown;

/// What `dev` decides about the service.
#[derive(Debug)]
pub(super) struct Decided {
    /// Of the private Postgres.
    pub(super) database_url: SecretString,
    /// Where it listens.
    pub(super) listen: SocketAddr,
    /// Where its metrics are.
    pub(super) metrics_listen: SocketAddr,
    /// Its own base URL, the portal's as well.
    pub(super) portal_url: String,
    /// Of the admin token.
    pub(super) admin_token_sha256: [u8; 32],
    /// Kept in the folder.
    pub(super) key_encryption_key: SecretBox<[u8; 32]>,
}

impl Decided {
    /// The configuration: what is decided here, then the environment, then the defaults.
    pub(super) fn config(&self, environment: Vec<(OsString, OsString)>) -> Result<Config, ConfigError> {
        let mut flags = self.flags();
        let decided = |key: &str| {
            // The two name one thing, and secrets may come from files.
            key == "portal_jwks_file" || flags.iter().any(|(flag, _)| flag == key)
        };
        let inherited: Vec<_> = environment
            .into_iter()
            .filter(|(name, _)| {
                let setting = SETTINGS.iter().find(|setting| *name == *setting.env());
                setting.is_some_and(|setting| !decided(setting.key))
            })
            .collect();
        if !inherited.iter().any(|(name, _)| name == "NAS_CRON_LOG_FILTER") {
            // A line per fire is printed by the demo itself.
            flags.push(("log_filter".to_owned(), vec!["warn".to_owned()]));
        }
        let read = |path: &std::path::Path| std::fs::read_to_string(path);
        Settings::gather(&Sources { flags, config: None, environment: inherited, read: &read }).config()
    }

    fn flags(&self) -> Vec<(String, Vec<String>)> {
        let one = |key: &str, value: String| (key.to_owned(), vec![value]);
        vec![
            one("database_url", self.database_url.expose_secret().to_owned()),
            one("listen", self.listen.to_string()),
            one("metrics_listen", self.metrics_listen.to_string()),
            one("public_url", self.portal_url.clone()),
            one("portal_url", self.portal_url.clone()),
            one("portal_jwks_url", format!("{}{JWKS_PATH}", self.portal_url)),
            one("key_encryption_key", STANDARD.encode(self.key_encryption_key.expose_secret())),
            one("admin_token_sha256", hex::encode(self.admin_token_sha256)),
            ("callback_allow".to_owned(), vec!["127.0.0.0/8".to_owned(), "::1".to_owned()]),
            // No load balancer has to learn of the end.
            one("drain_delay", "0s".to_owned()),
        ]
    }
}

/// A service that runs in this process.
#[derive(Debug)]
pub(super) struct RunningService {
    shutdown: Shutdown,
    running: JoinHandle<anyhow::Result<()>>,
}

impl RunningService {
    /// Starts it, with `beside` next to its own routes. Fires happen when this returns.
    pub(super) async fn start(config: &Config, beside: Router) -> anyhow::Result<Self> {
        let shutdown = Shutdown::new();
        let app =
            App::start(config, Arc::new(SystemClock), shutdown.clone(), metrics::install(), beside).await?;
        Ok(Self { shutdown, running: tokio::spawn(app.run()) })
    }

    /// Waits until it ends by itself, which it does only for a fault.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        match (&mut self.running).await {
            Ok(Ok(())) => anyhow!("it ended without a word"),
            Ok(Err(error)) => error,
            Err(panic) => panic.into(),
        }
    }

    /// Ends it in order: no claims, what is in flight finished or released, listeners closed. Nobody has to be
    /// drained: there is no load balancer.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        if self.running.is_finished() {
            // Told by `ended`.
            return Ok(());
        }
        self.shutdown.stop();
        self.running.await?
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{PortalJwks, SigningAlg};

    fn config(environment: &[(&str, &str)]) -> Config {
        let decided = Decided {
            database_url: "postgres://postgres@localhost:5432/nas_cron?host=/tmp/x".into(),
            listen: "127.0.0.1:8090".parse().unwrap(),
            metrics_listen: "127.0.0.1:8091".parse().unwrap(),
            portal_url: "http://127.0.0.1:8090".to_owned(),
            admin_token_sha256: [7; 32],
            key_encryption_key: SecretBox::new(Box::new([1; 32])),
        };
        decided.config(environment.iter().map(|(name, value)| (name.into(), value.into())).collect()).unwrap()
    }

    #[test]
    fn it_is_decided_here_whatever_the_environment_says() {
        let config = config(&[
            ("NAS_CRON_PORTAL_URL", "https://portal.example"),
            ("NAS_CRON_PORTAL_JWKS_FILE", "/nowhere"),
            ("NAS_CRON_DATABASE_URL_FILE", "/nowhere"),
            ("NAS_CRON_CONFIG", "/nowhere"),
            ("NAS_CRON_TEST_DATABASE_URL", "x"),
        ]);
        assert_eq!(config.portal.url.as_str(), "http://127.0.0.1:8090");
        let jwks = "http://127.0.0.1:8090/dev/portal/jwks.json".parse().unwrap();
        assert_eq!(config.portal.jwks, PortalJwks::Url(jwks));
        assert_eq!(config.keys.agents_jwks_url.as_str(), "http://127.0.0.1:8090/api/agent-cron/jwks.json");
        assert_eq!(config.admin_token_sha256, [[7; 32]]);
        assert_eq!(config.require_key_encryption_key().unwrap().expose_secret(), &[1; 32]);
        let allowed: Vec<_> = config.fire.callback_allow.iter().map(ToString::to_string).collect();
        assert_eq!(allowed, ["127.0.0.0/8", "::1/128"]);
        assert!(config.stop.drain_delay.is_zero());
        assert_eq!(config.log.filter, "warn");
    }

    #[test]
    fn other_settings_can_be_tried_by_the_environment() {
        let config = config(&[("NAS_CRON_SIGNING_ALG", "RS256"), ("NAS_CRON_LOG_FILTER", "info")]);
        assert_eq!(config.keys.signing_alg, SigningAlg::Rs256);
        assert_eq!(config.log.filter, "info");
    }
}
