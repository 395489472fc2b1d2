//! Operations on scheduler backends.

use chrono::{DateTime, Utc};
use nas_cron_protocol::BackendName;
use reqwest::Method;
use serde_json::json;

use super::{Place, explained};
use crate::db::directory;
use crate::operations::backends::{BackendOperations, BackendStatus, BackendSwitch};

impl Place<BackendOperations> {
    /// Returns the time by the clock of the database, or of the server at its latest response.
    pub(in crate::cli) async fn now(&self) -> anyhow::Result<DateTime<Utc>> {
        match self {
            Self::Database(on) => Ok(directory::now(on.db()).await?),
            Self::Server(client) => client.time_of_latest_response(),
        }
    }

    /// Returns the state of the backends.
    pub(in crate::cli) async fn backends(&self) -> anyhow::Result<BackendStatus> {
        match self {
            Self::Database(on) => on.status().await.map_err(explained),
            Self::Server(client) => client.get(&["backends"], &[]).await,
        }
    }

    /// Describes a switch without changing anything.
    pub(in crate::cli) async fn plan_switch(&self, to: BackendName) -> anyhow::Result<BackendSwitch> {
        match self {
            Self::Database(on) => on.plan_switch(to).await.map_err(explained),
            Self::Server(client) => {
                let body = json!({ "backend": to, "dry_run": true });
                client.send(Method::PUT, &["backends", "active"], &[], Some(&body)).await
            }
        }
    }

    /// Activates another backend.
    pub(in crate::cli) async fn switch_backend(
        &self,
        to: BackendName,
        force: bool,
    ) -> anyhow::Result<BackendSwitch> {
        match self {
            Self::Database(on) => on.switch(to, force, None).await.map_err(explained),
            Self::Server(client) => {
                let body = json!({ "backend": to, "force": force });
                client.send(Method::PUT, &["backends", "active"], &[], Some(&body)).await
            }
        }
    }
}
