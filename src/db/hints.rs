//! NOTIFY and LISTEN: replicas tell each other that something is due soon. Only a hint: whoever misses it finds
//! the row by its next query.

use std::time::Duration;

use sqlx::Executor;
use sqlx::postgres::PgListener;
use tokio::time::timeout;

use super::{Db, DbError, DbResult, SHORT};

const CHANNEL: &str = "nas_cron_due";
/// After this long without a hint the connection is tried: a broken one is as silent as a quiet one.
const QUIET: Duration = Duration::from_secs(20);

/// Tells every replica, this one included, that something inside the horizon is waiting to be claimed.
/// The payload is empty, so that hints of one transaction fold into one.
pub async fn announce(db: &Db) -> DbResult<()> {
    sqlx::query("NOTIFY nas_cron_due").execute(db).await?;
    Ok(())
}

/// A subscription to the hints. It holds one session of its own (so no transaction pooler in between).
#[derive(Debug)]
pub struct Hints(PgListener);

impl Hints {
    /// Subscribes.
    pub async fn listen(db: &Db) -> DbResult<Self> {
        in_time(async {
            let mut listener = db.connector.listener().await?;
            listener.listen(CHANNEL).await?;
            Ok(Self(listener))
        })
        .await
    }

    /// Waits for the next hint. A connection that was lost and is back counts as one: something may have been missed.
    /// Fails when the connection turns out to be broken.
    pub async fn next(&mut self) -> DbResult<()> {
        loop {
            if let Ok(received) = timeout(QUIET, self.0.try_recv()).await {
                received?;
                return Ok(());
            }
            in_time(async { Ok(self.0.execute(sqlx::raw_sql("SELECT 1")).await?) }).await?;
        }
    }
}

async fn in_time<T>(work: impl Future<Output = DbResult<T>>) -> DbResult<T> {
    let ended = timeout(SHORT, work).await;
    ended
        .unwrap_or_else(|_| Err(DbError::Unavailable("no answer on the connection for notifications".into())))
}
