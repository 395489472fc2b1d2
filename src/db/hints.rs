//! NOTIFY and LISTEN: replicas tell each other that something is due soon. Only a hint: whoever misses it finds
//! the row by its next query.

use sqlx::postgres::PgListener;

use super::{Db, DbResult};

const CHANNEL: &str = "nas_cron_due";

/// Tells every replica, this one included, that something inside the horizon is waiting to be claimed.
/// The payload is empty, so that hints of one transaction fold into one.
pub async fn announce(db: &Db) -> DbResult<()> {
    sqlx::query("NOTIFY nas_cron_due").execute(&db.pool).await?;
    Ok(())
}

/// A subscription to the hints. It holds one session of its own (so no transaction pooler in between).
#[derive(Debug)]
pub struct Hints(PgListener);

impl Hints {
    /// Subscribes.
    pub async fn listen(db: &Db) -> DbResult<Self> {
        let mut listener = PgListener::connect_with(&db.pool).await?;
        listener.listen(CHANNEL).await?;
        Ok(Self(listener))
    }

    /// Waits for the next hint. A connection that was lost and is back counts as one: something may have been missed.
    pub async fn next(&mut self) -> DbResult<()> {
        self.0.try_recv().await?;
        Ok(())
    }
}
