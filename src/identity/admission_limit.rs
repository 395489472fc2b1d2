//! Limits the database connections that unauthenticated and registering callers share: an invented name costs nothing,
//! and must not keep connections from known callers.

use tokio::sync::Semaphore;
use tokio::time::Instant;

use super::IdentityError;
use crate::db::{self, Db, DbResult};

/// Calls that may be in the room at once. With a statement a millisecond, on one connection of the smallest pool, the
/// last of so many has its turn within a request's budget of 13 s: a herd is not sent away.
const ROOM: usize = 8_192;
/// The part of the pool's connections that they may have.
const PART: u32 = 4;

/// A share of the pool, and a bounded queue before it.
#[derive(Debug)]
pub(super) struct AdmissionLimit {
    room: Semaphore,
    turns: Semaphore,
}

impl AdmissionLimit {
    /// To a quarter of the connections to `db`, and to one at least.
    pub(super) fn new(db: &Db) -> Self {
        let turns = usize::try_from((db.max_connections() / PART).max(1)).unwrap_or(1);
        Self { room: Semaphore::new(ROOM), turns: Semaphore::new(turns) }
    }

    /// As [`db::ride_out`], each try in its turn; [`IdentityError::Busy`] at once where the room is full.
    pub(super) async fn ride_out<T, F>(
        &self,
        deadline: Instant,
        mut op: impl FnMut() -> F,
    ) -> Result<T, IdentityError>
    where
        F: Future<Output = DbResult<T>>,
    {
        let _place = self.room.try_acquire().map_err(|_| IdentityError::Busy)?;
        let in_turn = || {
            let statement = op();
            async move {
                // Nobody closes it.
                let _turn = self.turns.acquire().await;
                statement.await
            }
        };
        Ok(db::ride_out(deadline, in_turn).await?)
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
        AdmissionLimit { room: Semaphore::new(5), turns: Semaphore::new(2) }
    }

    fn soon() -> Instant {
        Instant::now() + Duration::from_secs(12)
    }

    #[tokio::test(start_paused = true)]
    async fn some_have_their_turn_some_wait_and_more_are_sent_away_at_once() {
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
            let sent_away = limit.ride_out(soon(), || async { Ok(()) }).await;
            assert!(matches!(sent_away, Err(IdentityError::Busy)));
            for _ in 0..5 {
                go.notify_one();
                tokio::time::sleep(Duration::from_secs(1)).await;
            }
        };
        let (answers, ()) = tokio::join!(calls, watch);
        assert!(answers.iter().all(Result::is_ok), "{answers:?}");
        assert!(limit.ride_out(soon(), || async { Ok(()) }).await.is_ok(), "there is room again");
    }

    /// Whoever loses to another pauses outside, and whoever waits is let go at the deadline.
    #[tokio::test(start_paused = true)]
    async fn a_turn_is_a_try_and_waiting_ends_with_the_budget() {
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
