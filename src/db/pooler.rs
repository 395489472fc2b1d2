//! Recognizes a connection pooler that keeps no sessions, such as `PgBouncer` with `pool_mode = transaction`.
//!
//! Behind one, prepared statements meet a server session that never heard of them, and LISTEN hears nothing. Most of
//! the time it works, which is worse than not at all: so it is looked for at the start.

use std::time::Duration;

use sqlx::postgres::PgConnection;
use sqlx::{Executor, Row};
use tokio::time::timeout;

use super::{Db, DbError, DbResult};

/// Time for the whole examination.
const EXAMINED_WITHIN: Duration = Duration::from_secs(8);

/// Fails with [`DbError::TransactionPooler`] where two connections of ours swap their server sessions between
/// transactions.
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
        "two transactions at once did not begin within {within} s; where the URL leads to a pooler, it has too few \
         connections or pools transactions"
    )))
}

/// Holds two server sessions at once by two transactions, gives both back, and asks which session each connection has
/// now. A pooler hands them out anew, whether it takes the one that was given back last or first.
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

/// The server process behind a connection. By the simple protocol, which every pooler passes on.
async fn session(connection: &mut PgConnection) -> Result<i32, sqlx::Error> {
    connection.fetch_one(sqlx::raw_sql("SELECT pg_backend_pid()")).await?.try_get_unchecked(0)
}
