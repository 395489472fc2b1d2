//! NOTIFY and LISTEN: replicas notify each other that a one-shot is due soon. This is only a hint: a replica that
//! misses it finds the row with its next query.

use std::time::Duration;

use sqlx::Executor;
use sqlx::postgres::PgListener;
use tokio::time::timeout;

use super::{Db, DbError, DbResult, SHORT};

const CHANNEL: &str = "nas_cron_due";
/// Time without a hint after which the connection is tested: a broken one is as silent as an idle one.
const QUIET: Duration = Duration::from_secs(30);

/// Notifies every replica, including this one, that a one-shot within the horizon can be claimed.
/// The payload is empty, so that Postgres merges the notifications of one transaction.
pub async fn announce(db: &Db) -> DbResult<()> {
    sqlx::query("NOTIFY nas_cron_due").execute(db).await?;
    Ok(())
}

/// A subscription to the hints. It holds a session of its own, and does not work through a pooler in transaction mode.
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

    /// Waits for the next hint. Also returns after a reconnect, because a hint may have been missed. Fails if the
    /// connection is broken.
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
    ended.unwrap_or_else(|_| Err(DbError::Unavailable("the notification connection timed out".into())))
}
