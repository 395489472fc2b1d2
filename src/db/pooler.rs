//! Detects a connection pooler that keeps no sessions, such as `PgBouncer` with `pool_mode = transaction`.
//!
//! Behind one, prepared statements reach server sessions that do not know them, and LISTEN receives nothing. Most
//! statements work, so the failures are hard to trace: the service checks for a pooler at its start.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Executor, Row};
use tokio::time::timeout;

use super::{Db, DbError, DbResult};

/// Timeout of the whole check.
const EXAMINED_WITHIN: Duration = Duration::from_secs(8);

/// Fails with [`DbError::TransactionPooler`] if two connections swap their server sessions between transactions.
pub async fn require_sessions(db: &Db) -> DbResult<()> {
    let examined = timeout(EXAMINED_WITHIN, keeps_sessions(db)).await;
    match examined.unwrap_or_else(|_| Err(silent())) {
        Ok(true) => Ok(()),
        Ok(false) => Err(DbError::TransactionPooler),
        Err(error) => Err(error.into()),
    }
}

fn silent() -> sqlx::Error {
    let within = EXAMINED_WITHIN.as_secs();
    sqlx::Error::Io(std::io::Error::other(format!(
        "beginning two concurrent transactions timed out after {within} s; if the URL leads to a pooler, it has too few \
         connections, or is in transaction mode"
    )))
}

/// Holds two server sessions in two concurrent transactions, ends both, and checks that each connection still has its
/// session. A pooler in transaction mode reassigns them, whether it hands out the last or the first free one.
async fn keeps_sessions(db: &Db) -> Result<bool, sqlx::Error> {
    let ((mut one, _), (mut other, _)) = futures::try_join!(db.connector.connect(), db.connector.connect())?;
    let first = in_transaction(&mut one).await?;
    let second = in_transaction(&mut other).await?;
    one.execute(sqlx::raw_sql("COMMIT")).await?;
    other.execute(sqlx::raw_sql("COMMIT")).await?;
    Ok(session(&mut other).await? == second && session(&mut one).await? == first)
}

async fn in_transaction(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    connection.execute(sqlx::raw_sql("BEGIN")).await?;
    session(connection).await
}

/// Returns the process id of the server session behind a connection. Uses the simple protocol, which every pooler
/// supports.
async fn session(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    connection.fetch_one(sqlx::raw_sql("SELECT pg_backend_pid()")).await?.try_get_unchecked(0)
}
