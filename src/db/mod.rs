//! The only place with SQL. One named function per statement; whatever touches many rows is one statement.
//!
//! `sqlx` stops here: the layers above see the types of [`crate::domain`] and [`DbError`].

pub mod advice;
pub mod auth_profiles;
mod batched;
mod columns;
mod connector;
pub mod directory;
mod execute;
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
mod pool;
pub mod pooler;
mod ride_out;
mod seconds;
pub mod wake_ups;

use std::sync::Arc;
use std::time::Duration;

use secrecy::ExposeSecret;

use self::connector::Connector;
use self::pool::{Health, Pool};
pub(crate) use ride_out::retry_for;
pub use ride_out::{reach, ride_out};

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

/// Deadline of a statement that somebody waits for, or that fires depend on.
const SHORT: Duration = Duration::from_secs(5);
/// Deadline of a statement that may go through a whole table.
const LONG: Duration = Duration::from_secs(30);

/// A handle to the database: cheap to clone, shared by all layers. Every statement has a deadline, so nothing that
/// awaits one waits for ever.
#[derive(Clone, Debug)]
pub struct Db {
    pool: Pool,
    connector: Arc<Connector>,
    health: Arc<Health>,
    patience: Duration,
    max_connections: u32,
    reads: Arc<instances::Reads>,
}

/// What went wrong with a statement.
#[derive(Debug, thiserror::Error)]
pub enum DbError {
    /// The database is unreachable, restarting, or too busy to give a connection: trying again is right.
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
    /// The URL leads to a pooler that keeps no sessions.
    #[error(
        "the database URL leads to a connection pooler in transaction mode (such as PgBouncer with pool_mode = \
         transaction), and nas-cron needs sessions: connect to Postgres directly, or through a pool with pool_mode = \
         session"
    )]
    TransactionPooler,
    /// Anything else: a defect, ours or the database's.
    #[error(transparent)]
    Defect(DbCause),
}

/// What the driver reported: for the log, and of no type that the layers above could branch on.
pub type DbCause = Box<dyn std::error::Error + Send + Sync>;

impl DbError {
    /// The same failure for another one who waited for the same statement.
    fn again(&self) -> Self {
        match self {
            Self::Unavailable(cause) => Self::Unavailable(cause.to_string().into()),
            Self::Contended(cause) => Self::Contended(cause.to_string().into()),
            Self::Conflict { constraint } => Self::Conflict { constraint: constraint.clone() },
            Self::TransactionPooler => Self::TransactionPooler,
            Self::Defect(cause) => Self::Defect(cause.to_string().into()),
        }
    }

    /// Whether the same statement may succeed when it is tried again.
    pub fn is_transient(&self) -> bool {
        matches!(self, Self::Unavailable(_) | Self::Contended(_))
    }
}

impl From<sqlx::Error> for DbError {
    fn from(error: sqlx::Error) -> Self {
        match &error {
            // Its own words say enough.
            sqlx::Error::Io(cause) => Self::Unavailable(cause.to_string().into()),
            sqlx::Error::Tls(_)
            | sqlx::Error::Protocol(_)
            | sqlx::Error::PoolTimedOut
            | sqlx::Error::PoolClosed
            | sqlx::Error::WorkerCrashed => Self::Unavailable(error.into()),
            sqlx::Error::Database(cause) => match cause.code().as_deref() {
                // serialization_failure, deadlock_detected, lock_not_available
                Some("40001" | "40P01" | "55P03") => Self::Contended(error.into()),
                // connection exceptions, insufficient resources, operator intervention (shutdown, starting up, statements
                // that took too long), a transaction that was left idle
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
        let connector = Arc::new(Connector::new(options.url.expose_secret())?);
        Self::over(connector, Arc::new(Health::new()), options.max_connections, options.acquire_timeout)
    }

    /// A second pool of `max_connections` to the same database: work on one of them never waits for a connection that
    /// is busy with work on the other.
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
        Ok(Self { pool, connector, health, patience: SHORT, max_connections, reads: Arc::default() })
    }

    /// The same pool, for statements that may take longer than those that somebody waits for.
    #[must_use]
    pub fn patient(&self) -> Self {
        Self { patience: LONG, ..self.clone() }
    }

    /// Upper bound on connections of this pool.
    pub fn max_connections(&self) -> u32 {
        self.max_connections
    }

    /// Whether it answers.
    pub async fn ping(&self) -> DbResult<()> {
        sqlx::query("SELECT 1").execute(self).await?;
        Ok(())
    }

    /// How long ago a statement of this process was last answered, whichever it was.
    pub fn silent_for(&self) -> Duration {
        self.health.silent_for()
    }

    /// Closes connections that nobody has used for a while. The next one that is needed is opened anew.
    pub fn close_unused(&self) {
        self.pool.close_unused();
    }

    /// Closes every connection as it becomes free; statements after it fail as `Unavailable`.
    pub fn close(&self) {
        self.pool.close();
    }
}
