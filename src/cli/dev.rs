//! The service inside `nas-cron dev` and `nas-cron bench`.

use std::ffi::OsString;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use axum::Router;
use nas_cron_base::clock::SystemClock;
use nas_cron_base::logging;
use nas_cron_dev::dev::{Running, Service, Setting};
use secrecy::SecretString;

use crate::app::App;
use crate::config::{Config, ConfigError, SETTINGS, Settings, Sources};
use crate::db::migrate::{migrate, schema_state};
use crate::db::{Db, DbOptions};
use crate::metrics;
use crate::operator_sessions::{SignedIn, create_link};
use crate::shutdown::Shutdown;

/// The service, run in this process.
#[derive(Clone, Copy, Debug)]
pub(super) struct InProcess;

impl Service for InProcess {
    async fn migrate(&self, database_url: &SecretString) -> anyhow::Result<()> {
        // `migrate` holds its lock on one connection and reads with the other.
        let db = database(database_url, 2)?;
        migrate(&db).await.context("migrating the database failed")?;
        let state = schema_state(&db).await.context("reading the schema version failed")?;
        db.close();
        if !state.is_usable() {
            bail!(
                "the database in this folder belongs to another release of nas-cron; run that release, or choose a new \
                 folder with --dir"
            );
        }
        Ok(())
    }

    async fn sign_in_link(
        &self,
        database_url: &SecretString,
        admin_token_sha256: [u8; 32],
    ) -> anyhow::Result<String> {
        let db = database(database_url, 1)?;
        let signed_in = SignedIn { token_hash: admin_token_sha256, of_config: true };
        let link = create_link(&db, &signed_in).await.context("creating a sign-in link failed")?;
        db.close();
        Ok(format!("/ops/sign-in?link={}", link.expose()))
    }

    async fn start(&self, settings: Vec<Setting>, beside: Router) -> anyhow::Result<Running> {
        let config = config(settings, std::env::vars_os().collect())?;
        logging::init(&config.log)?;
        let shutdown = Shutdown::new();
        let app = App::start(&config, Arc::new(SystemClock), shutdown.clone(), metrics::install(), beside);
        let app = app.await.context("starting the service failed")?;
        Ok(Running { stop: Box::new(move || shutdown.stop()), task: tokio::spawn(app.run()) })
    }
}

fn database(url: &SecretString, max_connections: u32) -> anyhow::Result<Db> {
    let acquire_timeout = Duration::from_secs(10);
    Ok(Db::new(&DbOptions { url: url.clone(), max_connections, acquire_timeout })?)
}

/// Builds the configuration from the settings that the command fixes, then the environment, then the defaults.
fn config(fixed: Vec<Setting>, environment: Vec<(OsString, OsString)>) -> Result<Config, ConfigError> {
    let mut flags = fixed;
    let is_fixed = |key: &str| {
        // An inherited portal_jwks_file would replace the fixed portal_jwks_url.
        key == "portal_jwks_file" || flags.iter().any(|(flag, _)| flag == key)
    };
    let inherited: Vec<_> = environment
        .into_iter()
        .filter(|(name, _)| {
            let setting = SETTINGS.iter().find(|setting| *name == *setting.env());
            setting.is_some_and(|setting| !is_fixed(setting.key))
        })
        .collect();
    if !inherited.iter().any(|(name, _)| name == "NAS_CRON_LOG_FILTER") {
        // The demo prints its own line per fire.
        flags.push(("log_filter".to_owned(), vec!["warn".to_owned()]));
    }
    let read = |path: &std::path::Path| std::fs::read_to_string(path);
    Settings::gather(&Sources { flags, config: None, environment: inherited, read: &read }).config()
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::STANDARD;
    use secrecy::ExposeSecret;

    use super::*;
    use crate::config::{PortalJwks, SigningAlg};

    fn with_environment(environment: &[(&str, &str)]) -> Config {
        let one = |key: &str, value: String| (key.to_owned(), vec![value]);
        let fixed = vec![
            one("database_url", "postgres://postgres@localhost:5432/nas_cron?host=/tmp/x".to_owned()),
            one("public_url", "http://127.0.0.1:8090".to_owned()),
            one("portal_url", "http://127.0.0.1:8090".to_owned()),
            one("portal_jwks_url", "http://127.0.0.1:8090/dev/portal/jwks.json".to_owned()),
            one("key_encryption_key", STANDARD.encode([1; 32])),
            one("admin_token_sha256", hex::encode([7; 32])),
            ("callback_allow".to_owned(), vec!["127.0.0.0/8".to_owned(), "::1".to_owned()]),
            one("drain_delay", "0s".to_owned()),
        ];
        config(fixed, environment.iter().map(|(name, value)| (name.into(), value.into())).collect()).unwrap()
    }

    #[test]
    fn fixed_settings_win_over_the_environment() {
        let config = with_environment(&[
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
        assert_eq!(config.require_key_encryption().unwrap().key.expose_secret(), &[1; 32]);
        let allowed: Vec<_> = config.fire.callback_allow.iter().map(ToString::to_string).collect();
        assert_eq!(allowed, ["127.0.0.0/8", "::1/128"]);
        assert!(config.stop.drain_delay.is_zero());
        assert_eq!(config.log.filter, "warn");
    }

    #[test]
    fn other_settings_come_from_the_environment() {
        let config = with_environment(&[("NAS_CRON_SIGNING_ALG", "RS256"), ("NAS_CRON_LOG_FILTER", "info")]);
        assert_eq!(config.keys.signing_alg, SigningAlg::Rs256);
        assert_eq!(config.log.filter, "info");
    }
}
