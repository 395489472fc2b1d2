//! The service as `dev` runs it: what it asks of a service, and the settings that it decides.

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
    /// Brings the database's schema to the version that this release knows. Fails where another release made it.
    fn migrate(&self, database_url: &SecretString) -> impl Future<Output = anyhow::Result<()>>;

    /// Starts the service with these `settings`, its other settings from the environment, and `beside` next to its own
    /// routes. Fires happen when this returns. Log lines go to stderr from here on.
    fn start(&self, settings: Vec<Setting>, beside: Router) -> impl Future<Output = anyhow::Result<Running>>;
}

/// A setting by its key, such as `portal_url`, with its values.
pub type Setting = (String, Vec<String>);

/// A service that runs in this process.
pub struct Running {
    /// Begins the end: no claims, what is in flight finished or released, listeners closed.
    pub stop: Box<dyn FnOnce() + Send>,
    /// Ends when the service has.
    pub task: JoinHandle<anyhow::Result<()>>,
}

impl Running {
    /// Waits until the service ends by itself, which it does only for a fault.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        match (&mut self.task).await {
            Ok(Ok(())) => anyhow!("the service ended without an error"),
            Ok(Err(error)) => error,
            Err(panic) => panic.into(),
        }
    }

    /// Stops the service and waits for its end. Nothing has to be drained: there is no load balancer.
    pub(super) async fn stop(self) -> anyhow::Result<()> {
        if self.task.is_finished() {
            // Reported by `ended`.
            return Ok(());
        }
        (self.stop)();
        self.task.await?
    }
}

/// The settings that `dev` decides, whatever the environment says.
#[derive(Debug)]
pub(super) struct Decided {
    /// Of the private Postgres.
    pub(super) database_url: SecretString,
    /// Where the service listens.
    pub(super) listen: SocketAddr,
    /// Where its metrics are.
    pub(super) metrics_listen: SocketAddr,
    /// The service's own base URL, which is also the portal's.
    pub(super) portal_url: String,
    /// Of the admin token.
    pub(super) admin_token_sha256: [u8; 32],
    /// Kept in the folder.
    pub(super) key_encryption_key: SecretBox<[u8; 32]>,
}

impl Decided {
    /// By key.
    pub(super) fn settings(&self) -> Vec<Setting> {
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
            // No load balancer has to notice the end.
            one("drain_delay", "0s".to_owned()),
        ]
    }
}
