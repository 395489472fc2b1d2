//! All SQL statements of the service: one named function per statement. An operation on many rows is one statement.
//!
//! Only this module uses `sqlx`: the layers above see the types of [`crate::domain`] and [`DbError`].

pub mod admin_tokens;
pub mod advice;
pub mod agent_contact;
pub mod agent_search;
pub mod audit;
pub mod auth_profiles;
mod batched;
pub mod cancelled_jobs;
pub mod circumstances;
mod columns;
mod connector;
pub mod directory;
pub mod dormant_jobs;
pub mod events;
mod execute;
pub mod expiry;
pub mod fire_minutes;
pub mod fires;
pub mod hints;
pub mod holds;
pub mod identities;
pub mod instances;
pub mod job_auth;
pub mod job_status;
pub mod jobs;
pub mod keys;
pub mod leases;
pub mod logins;
pub mod lookups;
pub mod migrate;
pub mod oneshots;
pub mod operator_sessions;
pub mod orgs;
pub mod outages;
pub mod outcomes;
pub mod overview;
mod pool;
pub mod pooler;
pub mod provisions;
pub mod quotas;
pub mod rearms;
pub mod replicas;
mod ride_out;
pub mod sealed;
mod seconds;
pub mod transfer;
pub mod wake_ups;
mod warm_up;
pub mod webhooks;

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;

use self::connector::Connector;
pub use self::connector::TooOld;
pub use self::pool::PoolUse;
use self::pool::{Health, Pool};
pub(crate) use ride_out::retry_for;
pub use ride_out::{reach, ride_out};
pub use warm_up::warm_up;

/// Options of the database connections.
#[derive(Clone, Debug)]
pub struct DbOptions {
    /// URL, `postgres://…`. Its password is never logged.
    pub url: secrecy::SecretString,
    /// Maximum connections of the pool.
    pub max_connections: u32,
    /// Maximum time that a statement waits for a free connection before it fails.
    pub acquire_timeout: Duration,
}

/// Timeout of a statement that a caller waits for, or that fires depend on.
const SHORT: Duration = Duration::from_secs(5);
/// Timeout of a statement that may scan a whole table.
const LONG: Duration = Duration::from_secs(30);

/// A handle to the database: cheap to clone, shared by all layers. Every statement has a timeout.
#[derive(Clone, Debug)]
pub struct Db {
    pool: Pool,
    connector: Arc<Connector>,
    health: Arc<Health>,
    patience: Duration,
    max_connections: u32,
    callers: Arc<instances::Callers>,
    provisions: Arc<provisions::Provisions>,
    quota_counts: quotas::Counts,
}

/// A failed statement.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The database is unreachable, restarting, or has no free connection. A retry may succeed.
    #[error("the database is unavailable: {0}")]
    Unavailable(#[source] DbCause),
    /// The statement conflicted with a concurrent one (deadlock, serialization failure, lock). Retry at once.
    #[error("the statement conflicted with a concurrent one: {0}")]
    Contended(#[source] DbCause),
    /// A unique constraint of the schema rejected the row, or it refers to a row that does not exist.
    #[error("the row violates the constraint {constraint}")]
    Conflict {
        /// Name of the violated constraint.
        constraint: String,
    },
    /// The URL leads to a connection pooler in transaction mode.
    #[error(
        "the database URL leads to a connection pooler in transaction mode (such as PgBouncer with pool_mode = \
         transaction), but nas-cron needs sessions: connect to Postgres directly, or through a pool with pool_mode = \
         session"
    )]
    TransactionPooler,
    /// The server is older than the oldest supported Postgres.
    #[error(transparent)]
    PostgresTooOld(TooOld),
    /// Any other failure: a defect of the service or the database.
    #[error(transparent)]
    Defect(DbCause),
}

/// The driver's error, for the log only: the type is erased, so that the layers above cannot branch on it.
pub type DbCause = Box<dyn std::error::Error + Send + Sync>;

impl DbError {
    /// Returns a copy of the error for another caller that waited for the same statement.
    #[must_use]
    pub fn again(&self) -> Self {
        match self {
            Self::Unavailable(cause) => Self::Unavailable(cause.to_string().into()),
            Self::Contended(cause) => Self::Contended(cause.to_string().into()),
            Self::Conflict { constraint } => Self::Conflict { constraint: constraint.clone() },
            Self::TransactionPooler => Self::TransactionPooler,
            Self::PostgresTooOld(too_old) => Self::PostgresTooOld(too_old.clone()),
            Self::Defect(cause) => Self::Defect(cause.to_string().into()),
        }
    }

    /// Returns true if the same statement may succeed when it is retried.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Contended(_))
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            // Drops the driver's prefix: the text of the cause is enough.
            sqlx::Error::Io(cause) => Self::Unavailable(cause.to_string().into()),
            sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error.into()),
            sqlx::Error::Configuration(cause) => match cause.downcast_ref::<TooOld>() {
                Some(too_old) => Self::PostgresTooOld(too_old.clone()),
                None => Self::Defect(error.into()),
            },
            sqlx::Error::Database(cause) => match cause.code().as_deref() {
                // serialization_failure, deadlock_detected, lock_not_available
                Some("40001" | "40P01" | "55P03") => Self::Contended(error.into()),
                // Connection exceptions, insufficient resources, operator intervention (shutdown, start-up, statement
                // timeout), idle transaction timeout.
                Some(code)
                    if code.starts_with("08")
                        || code.starts_with("53")
                        || code.starts_with("57")
                        || code == "25P03" =>
                {
                    Self::Unavailable(error.into())
                }
                // A server that was demoted, or made read-only.
                Some("25006") => Self::Unavailable(error.into()),
                // unique_violation, foreign_key_violation
                Some("23505" | "23503") => {
                    Self::Conflict { constraint: cause.constraint().unwrap_or_default().to_owned() }
                }
                _ => Self::Defect(error.into()),
            },
            _ => Self::Defect(error.into()),
        }
    }
}

/// The result of a statement.
pub type DbResult<T> = Result<T, DbError>;

impl Db {
    /// Creates a pool that connects when it is first used.
    pub fn new(options: &DbOptions) -> DbResult<Self> {
        let connector = Arc::new(Connector::new(options.url.expose_secret())?);
        Self::over(connector, Arc::new(Health::new()), options.max_connections, options.acquire_timeout)
    }

    /// Creates a second pool with up to `max_connections` to the same database. Work in one pool never waits for the
    /// connections of the other.
    pub fn apart(&self, max_connections: u32) -> DbResult<Self> {
        let (connector, health) = (Arc::clone(&self.connector), Arc::clone(&self.health));
        Self::over(connector, health, max_connections, self.pool.wait())
    }

    fn over(
        connector: Arc<Connector>,
        health: Arc<Health>,
        max_connections: u32,
        wait: Duration,
    ) -> DbResult<Self> {
        let pool = Pool::new(Arc::clone(&connector), Arc::clone(&health), max_connections, wait)?;
        Ok(Self {
            pool,
            connector,
            health,
            patience: SHORT,
            max_connections,
            callers: Arc::default(),
            provisions: Arc::new(provisions::queue()),
            quota_counts: Arc::default(),
        })
    }

    /// Returns a handle to the same pool with a longer statement timeout, for background work.
    #[must_use]
    pub fn patient(&self) -> Self {
        Self { patience: LONG, ..self.clone() }
    }

    /// Returns the maximum number of connections of this pool.
    pub fn max_connections(&self) -> u32 {
        self.max_connections
    }

    /// Checks that the database answers.
    pub async fn ping(&self) -> DbResult<()> {
        sqlx::query("SELECT 1").execute(self).await?;
        Ok(())
    }

    /// Returns the time since the database last answered any statement of this process.
    pub fn silent_for(&self) -> Duration {
        self.health.silent_for()
    }

    /// Returns the number of connections of this pool by use.
    pub fn pool_use(&self) -> PoolUse {
        self.pool.in_use()
    }

    /// Closes connections that were idle for a while. The next one is opened when it is needed.
    pub fn close_unused(&self) {
        self.pool.close_unused();
    }

    /// Closes every connection as it becomes free; statements after it fail as `Unavailable`.
    pub fn close(&self) {
        self.pool.close();
    }
}
