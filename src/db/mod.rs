//! The only place with SQL. One named function per statement; whatever touches many rows is one statement.
//!
//! `sqlx` stops here: the layers above see the types of [`crate::domain`] and [`DbError`].

pub mod auth_profiles;
mod columns;
pub mod directory;
pub mod fires;
pub mod hints;
pub mod identities;
pub mod instances;
pub mod jobs;
pub mod keys;
pub mod leases;
pub mod logins;
pub mod lookups;
pub mod migrate;
pub mod oneshots;
pub mod outages;
pub mod outcomes;
mod ride_out;
mod seconds;
pub mod wake_ups;

use std::time::Duration;

use sqlx::postgres::{PgConnectOptions, PgPoolOptions};
use sqlx::{ConnectOptions, PgPool};

pub(crate) use ride_out::retry_for;
pub use ride_out::ride_out;

/// How the database is reached.
#[derive(Clone, Debug)]
pub struct DbOptions {
    /// `postgres://…`; a password in it never reaches a log.
    pub url: secrecy::SecretString,
    /// Upper bound on connections of this process's pool.
    pub max_connections: u32,
    /// How long a statement waits for a free connection before it counts as a fault.
    pub acquire_timeout: Duration,
}

/// A handle to the database: cheap to clone, shared by all layers.
#[derive(Clone, Debug)]
pub struct Db {
    pub(crate) pool: PgPool,
}

/// What went wrong with a statement.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The database is away, restarting, or too busy to give a connection: trying again is right.
    #[error("the database is unavailable: {0}")]
    Unavailable(#[source] DbCause),
    /// Two statements were in each other's way (deadlock, serialisation): trying again at once is right.
    #[error("the statement lost to a concurrent one: {0}")]
    Contended(#[source] DbCause),
    /// A uniqueness rule of the schema refused the row; the name of the constraint says which.
    #[error("the row would break {constraint}")]
    Conflict {
        /// The violated constraint.
        constraint: String,
    },
    /// Anything else: a defect, ours or the database's.
    #[error(transparent)]
    Defect(DbCause),
}

/// What the driver reported: for the log, and of no type that the layers above could branch on.
pub type DbCause = Box<dyn std::error::Error + Send + Sync>;

impl DbError {
    /// Whether the same statement may succeed when it is tried again.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Contended(_))
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            sqlx::Error::Io(_)
            | sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error.into()),
            sqlx::Error::Database(cause) => match cause.code().as_deref() {
                // serialization_failure, deadlock_detected, lock_not_available
                Some("40001" | "40P01" | "55P03") => Self::Contended(error.into()),
                // connection exceptions, insufficient resources, operator intervention (shutdown, starting up)
                Some(code) if code.starts_with("08") || code.starts_with("53") || code.starts_with("57P") => {
                    Self::Unavailable(error.into())
                }
                // A statement that reached a standby in the middle of a switch-over.
                Some("25006") => Self::Unavailable(error.into()),
                Some("23505") => {
                    Self::Conflict { constraint: cause.constraint().unwrap_or_default().to_owned() }
                }
                _ => Self::Defect(error.into()),
            },
            _ => Self::Defect(error.into()),
        }
    }
}

/// What a statement answers.
pub type DbResult<T> = Result<T, DbError>;

impl Db {
    /// A pool that connects when it is first used.
    pub fn new(options: &DbOptions) -> DbResult<Self> {
        use secrecy::ExposeSecret;
        let connect = options
            .url
            .expose_secret()
            .parse::<PgConnectOptions>()?
            .application_name("nas-cron")
            // Statements are traced by the functions that name them.
            .log_statements(tracing::log::LevelFilter::Off)
            .log_slow_statements(tracing::log::LevelFilter::Off, Duration::ZERO);
        let pool = PgPoolOptions::new()
            .max_connections(options.max_connections)
            .acquire_timeout(options.acquire_timeout)
            // A dead connection shows at its first statement, which is tried again; a ping per use would
            // double the round trips of every request.
            .test_before_acquire(false)
            .connect_lazy_with(connect);
        Ok(Self { pool })
    }

    /// Upper bound on connections of this process's pool.
    pub fn max_connections(&self) -> u32 {
        self.pool.options().get_max_connections()
    }

    /// Whether it answers.
    pub async fn ping(&self) -> DbResult<()> {
        sqlx::query("SELECT 1").execute(&self.pool).await?;
        Ok(())
    }

    /// Closes every connection; statements after it fail as `Unavailable`.
    pub async fn close(&self) {
        self.pool.close().await;
    }
}
