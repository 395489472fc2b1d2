//! Limits the database connections that unauthenticated and registering callers share. Anyone can invent an ID, which
//! must not keep connections from known callers.

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::IdentityError;
use crate::db::{self, Db, DbResult};

/// Maximum number of calls in the queue, running ones included. At one statement per millisecond, on the single
/// connection of the smallest pool, the last of them runs within a request's 13 s, so a herd is not rejected.
const MAX_QUEUED: usize = 8_192;
/// The share of the pool's connections: one in this many.
const POOL_SHARE: u32 = 4;

/// A share of the pool, and a limited queue for it.
#[derive(Debug)]
pub(super) struct AdmissionLimit {
    queue: Semaphore,
    connections: Semaphore,
}

impl AdmissionLimit {
    /// Limits to a quarter of the connections to `db`, but at least one.
    pub(super) fn new(db: &Db) -> Self {
        let connections = usize::try_from((db.max_connections() / POOL_SHARE).max(1)).unwrap_or(1);
        Self { queue: Semaphore::new(MAX_QUEUED), connections: Semaphore::new(connections) }
    }

    /// Like [`db::ride_out`], but each try waits for a connection of the share. Fails at once with
    /// [`IdentityError::Busy`] if the queue is full.
    pub(super) async fn ride_out<T, F>(
        &self,
        deadline: Instant,
        mut op: impl FnMut() -> F,
    ) -> Result<T, IdentityError>
    where
        F: Future<Output = DbResult<T>>,
    {
        let _place = self.queue.try_acquire().map_err(|_| IdentityError::Busy)?;
        let admitted = || {
            let statement = op();
            async move {
                // The semaphore is never closed.
                let _connection = self.connections.acquire().await;
                statement.await
            }
        };
        Ok(db::ride_out(deadline, admitted).await?)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use futures::future::join_all;
    use tokio::sync::Notify;

    use super::*;
    use crate::db::DbError;

    fn limit() -> AdmissionLimit {
        AdmissionLimit { queue: Semaphore::new(5), connections: Semaphore::new(2) }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(12)
    }

    #[tokio::test(start_paused = true)]
    async fn some_calls_run_some_wait_and_more_are_rejected_at_once() {
        let (limit, go, under_way) = (limit(), Notify::new(), Semaphore::new(0));
        let statement = || async {
            under_way.add_permits(1);
            go.notified().await;
            Ok(())
        };
        let calls = join_all((0..5).map(|_| limit.ride_out(soon(), statement)));
        let watch = async {
            tokio::time::sleep(Duration::from_secs(1)).await;
            assert_eq!(under_way.available_permits(), 2);
            let rejected = limit.ride_out(soon(), || async { Ok(()) }).await;
            assert!(matches!(rejected, Err(IdentityError::Busy)));
            for _ in 0..5 {
                go.notify_one();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let (answers, ()) = tokio::join!(calls, watch);
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert!(limit.ride_out(soon(), || async { Ok(()) }).await.is_ok(), "the queue has free places again");
    }

    /// A call that lost a conflict pauses without a connection, and a waiting call fails at the deadline.
    #[tokio::test(start_paused = true)]
    async fn connection_is_held_for_one_try_and_waiting_ends_at_the_deadline() {
        let limit = limit();
        let lost = || async { Err::<(), _>(DbError::Contended("a deadlock".into())) };
        let losing = join_all((0..4).map(|_| limit.ride_out(soon(), lost)));
        let fine = limit.ride_out(soon(), || async { Ok(()) });
        let (losers, fine) = tokio::join!(losing, fine);
        assert!(fine.is_ok() && losers.iter().all(Result::is_err));

        let begun = Instant::now();
        let hung = join_all((0..4).map(|_| limit.ride_out::<(), _>(soon(), std::future::pending)));
        assert!(
            hung.await.iter().all(|one| matches!(one, Err(IdentityError::Db(error)) if error.is_transient()))
        );
        assert_eq!(begun.elapsed(), Duration::from_secs(12));
    }
}
