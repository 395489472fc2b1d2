//! The place of an operator's command: the database, also while the service is down, or the admin API of a running
//! service. Both show the same results.

mod admin_client;
mod agents;
mod audit;
mod auth_profiles;
mod backends;
mod holds;
mod jobs;
mod keys;
mod logins;
mod orgs;
mod overview;
mod quotas;
mod server_args;
mod tokens;
mod webhooks;

use std::process::ExitCode;

use chrono::{DateTime, Utc};

pub use self::admin_client::AdminClient;
pub(super) use self::server_args::ServerArgs;
use super::audited::recorded;
use crate::audit::Act;
use crate::db::{Db, directory};
use crate::directory::DirectoryError;
use crate::domain::quota::DefaultQuotas;
use crate::operations::{OperationError, Operations};

/// The service that a command works on.
#[derive(Debug)]
pub enum Operator {
    /// By its database.
    Database(Db, Operations),
    /// By its admin API.
    Server(AdminClient),
}

impl Operator {
    /// Works on a database, whose instances and orgs have these quotas by default.
    pub fn on(db: Db, default_quotas: DefaultQuotas) -> Self {
        let operations = Operations::new(db.clone(), default_quotas);
        Self::Database(db, operations)
    }

    /// Returns the database. Fails for `reason` if the command works through the admin API.
    pub(super) fn database(&self, reason: &str) -> anyhow::Result<&Db> {
        match self {
            Self::Database(db, _) => Ok(db),
            Self::Server(_) => Err(database_only(reason)),
        }
    }

    /// Runs a command that prints its result, with its line in the audit log. The server writes that of its calls itself.
    pub(super) async fn recorded(
        &self,
        act: Option<Act>,
        command: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<ExitCode> {
        match self {
            Self::Database(db, _) => recorded(db, act, command).await,
            Self::Server(_) => command.await.map(|()| ExitCode::SUCCESS),
        }
    }

    /// Returns the time by the clock of the database, or of the server at its latest response.
    pub(super) async fn now(&self) -> anyhow::Result<DateTime<Utc>> {
        match self {
            Self::Database(db, _) => Ok(directory::now(db).await?),
            Self::Server(client) => client.time_of_latest_response(),
        }
    }
}

/// The place of a command whose operations need more than the database.
#[derive(Debug)]
pub enum Place<T> {
    /// The operations on a database.
    Database(T),
    /// The admin API of a service.
    Server(AdminClient),
}

impl<T> Place<T> {
    /// Returns the operations on the database. Fails for `reason` if the command works through the admin API.
    pub(super) fn database(&self, reason: &str) -> anyhow::Result<&T> {
        match self {
            Self::Database(on) => Ok(on),
            Self::Server(_) => Err(database_only(reason)),
        }
    }
}

/// Returns the error of a command that works on the database only, for `reason`.
pub(super) fn database_only(reason: &str) -> anyhow::Error {
    anyhow::anyhow!(
        "this command works on the database only, because {reason}: run it without --server, with database_url"
    )
}

/// A request without a body.
const NO_BODY: Option<&()> = None;

/// Returns the error as the admin API describes it.
pub(super) fn explained(error: OperationError) -> anyhow::Error {
    match error {
        // The database error itself: the command line explains it.
        OperationError::Db(error) | OperationError::Directory(DirectoryError::Db(error)) => error.into(),
        other => anyhow::anyhow!("{other}"),
    }
}
