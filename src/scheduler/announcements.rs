//! Hints between replicas: one that has armed something due soon lets the others look for work at once.

use std::sync::Arc;
use std::time::Duration;

use super::Inner;
use crate::db::hints;
use crate::heartbeat;

/// Receives the hints of all replicas.
pub(super) async fn listen(inner: Arc<Inner>) {
    const PAUSE: Duration = Duration::from_secs(1);
    let mut hints = None;
    loop {
        let heard = match &mut hints {
            None => hints::Hints::listen(&inner.db).await.map(|new| hints = Some(new)),
            Some(hints) => heartbeat::rest(hints.next()).await,
        };
        if let Ok(()) = heard {
            inner.claim.notify_one();
        } else {
            hints = None;
            heartbeat::rest(tokio::time::sleep(PAUSE)).await;
        }
    }
}

/// Notifies the other replicas, with one NOTIFY for all arms since the last one: NOTIFY takes a lock on the whole database
/// at its commit.
pub(super) async fn announce(inner: Arc<Inner>) {
    const PAUSE: Duration = Duration::from_millis(20);
    loop {
        heartbeat::rest(inner.announce.notified()).await;
        // After a failure the other replicas find the one-shots with their next query.
        let _ = hints::announce(&inner.db).await;
        tokio::time::sleep(PAUSE).await;
    }
}
