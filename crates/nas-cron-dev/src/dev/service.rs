//! The interface through which `dev` runs the service, and the settings that `dev` sets.

use std::net::SocketAddr;

use anyhow::anyhow;
use axum::Router;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use secrecy::{ExposeSecret, SecretBox, SecretString};
use tokio::task::JoinHandle;

use super::portal::JWKS_PATH;

/// A nas-cron service that can be run in this process.
///
/// The service depends on this crate (it has a `dev` command), so this crate cannot depend on the service.
pub trait Service {
    /// Migrates the database to this release's schema. Fails if another release has created the schema.
    fn migrate(&self, database_url: &SecretString) -> impl Future<Output = anyhow::Result<()>>;

    /// Creates a link that signs in at the operators' page once, as the admin token with this SHA-256. Returns the link's
    /// path and query.
    fn sign_in_link(
        &self,
        database_url: &SecretString,
        admin_token_sha256: [u8; 32],
    ) -> impl Future<Output = anyhow::Result<String>>;

    /// Starts the service with these `settings`, all other settings from the environment, and the routes of `beside` next
    /// to its own. The service fires when this returns, and logs to stderr.
    fn start(&self, settings: Vec<Setting>, beside: Router) -> impl Future<Output = anyhow::Result<Running>>;
}

/// A setting's key, such as `portal_url`, and its values.
pub type Setting = (String, Vec<String>);

/// A service that runs in this process.
pub struct Running {
    /// Starts the shutdown: no new claims, attempts in flight finished or released, listeners closed.
    pub stop: Box<dyn FnOnce() + Send>,
    /// Ends with the service.
    pub task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// Waits until the service ends by itself, which it does only after a failure.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        match (&mut self.task).await {
            Ok(Ok(())) => anyhow!("the service ended without an error"),
            Ok(Err(error)) => error,
            Err(panic) => panic.into(),
        }
    }

    /// Stops the service and waits for its end, without a drain delay.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        if self.task.is_finished() {
            // Reported by `ended`.
            return Ok(());
        }
        (self.stop)();
        self.task.await?
    }
}

/// The settings that `dev` sets, whatever the environment contains.
#[derive(Debug)]
pub(super) struct Decided {
    /// URL of the private Postgres.
    pub(super) database_url: SecretString,
    /// Address that the service listens on.
    pub(super) listen: SocketAddr,
    /// Address of the admin API and the operators' page.
    pub(super) admin_listen: SocketAddr,
    /// Address of its metrics.
    pub(super) metrics_listen: SocketAddr,
    /// Base URL of the service and the portal.
    pub(super) portal_url: String,
    /// SHA-256 of the admin token.
    pub(super) admin_token_sha256: [u8; 32],
    /// Key that encrypts the service's private keys.
    pub(super) key_encryption_key: SecretBox<[u8; 32]>,
}

impl Decided {
    /// Returns the settings by key.
    pub(super) fn settings(&self) -> Vec<Setting> {
        let one = |key: &str, value: String| (key.to_owned(), vec![value]);
        vec![
            one("database_url", self.database_url.expose_secret().to_owned()),
            one("listen", self.listen.to_string()),
            one("admin_listen", self.admin_listen.to_string()),
            one("metrics_listen", self.metrics_listen.to_string()),
            one("public_url", self.portal_url.clone()),
            one("portal_url", self.portal_url.clone()),
            one("portal_jwks_url", format!("{}{JWKS_PATH}", self.portal_url)),
            one("key_encryption_key", STANDARD.encode(self.key_encryption_key.expose_secret())),
            one("admin_token_sha256", hex::encode(self.admin_token_sha256)),
            ("callback_allow".to_owned(), vec!["127.0.0.0/8".to_owned(), "::1".to_owned()]),
            // There is no load balancer that has to notice the shutdown.
            one("drain_delay", "0s".to_owned()),
        ]
    }
}
