//! The schema and its versions. Migrations are compiled in.
//!
//! A later release may have migrated the schema. The schema says in `schema_compatibility` which releases may still use it.

use std::time::Duration;

use sqlx::migrate::{Migrate, Migrator};
use sqlx::{AssertSqlSafe, Executor, PgConnection};

use super::{Db, DbError, DbResult};

/// Removes the timeouts that every session starts with.
const NO_DEADLINES: &str = "SET statement_timeout = 0; SET idle_in_transaction_session_timeout = 0";

/// `undefined_table` of Postgres.
const UNDEFINED_TABLE: &str = "42P01";

/// The advisory lock of a migration. The number is the ASCII code of `nasmigr`.
const MIGRATION_LOCK: i64 = 0x6e_61_73_6d_69_67_72;
/// Time between two tries to take it.
const LOCK_AGAIN: Duration = Duration::from_millis(200);

static MIGRATOR: Migrator = sqlx::migrate!();

/// One migration.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Step {
    /// The version: the number at the start of the file name.
    pub version: i64,
    /// The description: the rest of the file name.
    pub description: String,
}

/// Comparison of the database's schema with the one that this binary knows.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SchemaState {
    /// The schemas match.
    Current,
    /// The database's schema is older. These migrations are missing.
    Behind(Vec<Step>),
    /// The database's schema is newer: a later release has migrated it.
    Ahead {
        /// The newest version in the database.
        found: i64,
        /// The newest version that this binary knows.
        known: i64,
        /// True if this binary may use the schema.
        usable: bool,
    },
    /// A migration was applied with other contents, or was interrupted.
    Diverged {
        /// The version of the migration.
        version: i64,
    },
}

/// The consequence of a newer schema, for a warning.
pub const NEWER_SCHEMA: &str = "the database schema is newer than this release, which may use it for now; deploy the \
                                release that migrated it, or a later one";

impl SchemaState {
    /// Returns true if this binary may use the schema.
    pub fn is_usable(&self) -> bool {
        matches!(self, Self::Current | Self::Ahead { usable: true, .. })
    }

    /// Returns the version of the database's schema, or `None` if a migration was applied with other contents.
    pub fn version(&self) -> Option<i64> {
        match self {
            Self::Current => Some(known_version()),
            Self::Behind(missing) => Some(missing.first().map_or(0, |step| step.version - 1)),
            Self::Ahead { found, .. } => Some(*found),
            Self::Diverged { .. } => None,
        }
    }

    /// Returns the versions in the database and in this binary if a later release has migrated the schema.
    pub fn newer(&self) -> Option<(i64, i64)> {
        match self {
            Self::Ahead { found, known, .. } => Some((*found, *known)),
            _ => None,
        }
    }
}

fn steps() -> impl Iterator<Item = &'static sqlx::migrate::Migration> {
    MIGRATOR.iter().filter(|one| one.migration_type.is_up_migration())
}

/// Returns the newest version that this binary knows.
pub fn known_version() -> i64 {
    steps().map(|step| step.version).max().unwrap_or(0)
}

/// Compares the database's schema with the one that this binary knows. Changes nothing.
pub async fn schema_state(db: &Db) -> DbResult<SchemaState> {
    let applied: Vec<(i64, bool, Vec<u8>)> = if_table_exists(
        sqlx::query_as("SELECT version, success, checksum FROM _sqlx_migrations ORDER BY version")
            .fetch_all(db)
            .await,
    )?
    .unwrap_or_default();
    let mut missing = Vec::new();
    for step in steps() {
        match applied.iter().find(|row| row.0 == step.version) {
            None => missing.push(Step { version: step.version, description: step.description.to_string() }),
            Some((version, success, checksum)) => {
                if !success || checksum.as_slice() != step.checksum.as_ref() {
                    return Ok(SchemaState::Diverged { version: *version });
                }
            }
        }
    }
    let known = known_version();
    if let Some(found) = applied.iter().map(|row| row.0).max().filter(|found| *found > known) {
        let usable = missing.is_empty() && usable_from(db).await?.is_some_and(|from| from <= known);
        return Ok(SchemaState::Ahead { found, known, usable });
    }
    Ok(if missing.is_empty() { SchemaState::Current } else { SchemaState::Behind(missing) })
}

/// Returns the oldest version whose releases may use the schema.
async fn usable_from(db: &Db) -> DbResult<Option<i64>> {
    let read = sqlx::query_scalar("SELECT usable_from FROM schema_compatibility").fetch_optional(db).await;
    Ok(if_table_exists(read)?.flatten())
}

/// Returns what a statement has read, or `None` if its table does not exist. To look for the table before would be another
/// statement at every probe.
fn if_table_exists<T>(read: Result<T, sqlx::Error>) -> DbResult<Option<T>> {
    match read {
        Err(sqlx::Error::Database(error)) if error.code().as_deref() == Some(UNDEFINED_TABLE) => Ok(None),
        read => Ok(Some(read?)),
    }
}

/// Applies the missing migrations under a database-wide lock, and returns them. Concurrent calls are safe: one does the
/// work, and the others find nothing to do.
///
/// Migrations may take long, so they run on a connection of their own without timeouts.
pub async fn migrate(db: &Db) -> DbResult<Vec<Step>> {
    let (mut connection, _) = db.connector.connect().await?;
    connection.execute(sqlx::raw_sql(NO_DEADLINES)).await?;
    lock(&mut connection).await?;
    let result = match schema_state(db).await {
        Ok(SchemaState::Behind(missing)) => apply(&mut connection).await.map(|()| missing),
        Ok(_) => Ok(Vec::new()),
        Err(error) => Err(error),
    };
    // The lock above ends with the session.
    connection.unlock().await.map_err(unwrap_migrate_error)?;
    result
}

/// Takes the lock of this release, and the one of release 0.1.0. A session that waits for a lock within a statement would
/// block `CREATE INDEX CONCURRENTLY`, which waits for the end of all older statements.
async fn lock(connection: &mut PgConnection) -> DbResult<()> {
    let take = "SELECT pg_try_advisory_lock($1)";
    while !sqlx::query_scalar::<_, bool>(take).bind(MIGRATION_LOCK).fetch_one(&mut *connection).await? {
        tokio::time::sleep(LOCK_AGAIN).await;
    }
    connection.lock().await.map_err(unwrap_migrate_error)
}

async fn apply(connection: &mut PgConnection) -> DbResult<()> {
    // Left by an interrupted `CREATE INDEX CONCURRENTLY`; the migration would take such an index for a complete one.
    let invalid =
        "SELECT format('DROP INDEX %s', indexrelid::regclass) FROM pg_index JOIN pg_class ON oid = indexrelid
                   WHERE NOT indisvalid AND relkind = 'i' AND relnamespace = current_schema()::regnamespace";
    for drop in sqlx::query_scalar::<_, String>(invalid).fetch_all(&mut *connection).await? {
        connection.execute(sqlx::raw_sql(AssertSqlSafe(drop))).await?;
    }
    MIGRATOR.run_direct(None, connection, false).await.map_err(unwrap_migrate_error)
}

fn unwrap_migrate_error(error: sqlx::migrate::MigrateError) -> DbError {
    match error {
        sqlx::migrate::MigrateError::Execute(cause) => DbError::from(cause),
        other => DbError::from(sqlx::Error::from(other)),
    }
}
