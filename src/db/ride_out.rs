//! Retries of statements through the database's short absences: a restart, a switch-over, a deadlock lost.

use std::time::Duration;

use backon::{BackoffBuilder, ConstantBuilder, ExponentialBuilder, Retryable};
use futures::FutureExt;
use tokio::time::{Instant, timeout_at};

use super::{Db, DbError, DbResult, pooler};

/// Pauses while the database is away. Jitter adds up to the pause itself, so that those who failed together do not come
/// back together: 25 to 50 ms at first, 125 to 250 ms in the end.
const AWAY: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(25))
    .with_max_delay(Duration::from_millis(125))
    .with_factor(2.0)
    .with_jitter()
    .without_max_times();
/// The longest pause after a statement that lost to another one.
const CONTENDED: Duration = Duration::from_millis(10);
/// Pauses of those whom nobody waits for.
const UNATTENDED: ConstantBuilder =
    ConstantBuilder::new().with_delay(Duration::from_millis(100)).without_max_times();

/// Runs `op` until it succeeds, fails for good, or `deadline` is there; then the last error is returned.
/// Real agents do not retry a failed provision, so we do (docs/contract.md#invariant-9-short-outages-fail-no-provision).
///
/// `op` may have happened although it failed (the connection broke after the commit): it must be safe to
/// run twice. It is dropped at the deadline, wherever it is.
pub async fn ride_out<T, F>(deadline: Instant, mut op: impl FnMut() -> F) -> DbResult<T>
where
    F: Future<Output = DbResult<T>>,
{
    // Not an async block: that would hold the statement's future twice.
    let attempt = || {
        timeout_at(deadline, op()).map(|done| {
            done.unwrap_or(Err(DbError::Unavailable("no answer within the request's time".into())))
        })
    };
    let mut away = AWAY.build();
    attempt
        .retry(ConstantBuilder::new().without_max_times())
        .when(DbError::is_transient)
        .adjust(|error, _| {
            // A race that was lost says nothing about how long the database stays away.
            let pause = if matches!(error, DbError::Contended(_)) {
                CONTENDED.mul_f64(rand::random())
            } else {
                away.next()?
            };
            (Instant::now() + pause < deadline).then_some(pause)
        })
        .notify(|error, _| tracing::debug!(%error, "the database is asked again"))
        .await
}

/// Makes sure at a start that the database is there and keeps sessions. A database that is starting is waited for, for
/// `within` at most, and the log says so at once.
pub async fn reach(db: &Db, within: Duration) -> DbResult<()> {
    let reaching = || pooler::require_sessions(db);
    match reaching().await {
        Err(error) if error.is_transient() => {
            tracing::warn!(%error, within_s = within.as_secs(), "the database is not available yet; retrying");
            ride_out(Instant::now() + within, reaching).await
        }
        reached => reached,
    }
}

/// Runs `op` until it succeeds or fails for good. After `within` it is not retried any more: then the last error is
/// returned. It is never dropped in the middle.
///
/// As with [`ride_out`], `op` must be safe to run twice.
pub(crate) async fn retry_for<T, F>(within: Duration, op: impl FnMut() -> F) -> DbResult<T>
where
    F: Future<Output = DbResult<T>>,
{
    let start = Instant::now();
    op.retry(UNATTENDED).when(|error| error.is_transient() && start.elapsed() < within).await
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use super::*;

    fn away() -> DbError {
        DbError::Unavailable("no connection in time".into())
    }

    #[tokio::test(start_paused = true)]
    async fn a_restart_of_five_seconds_is_ridden_out() {
        let start = Instant::now();
        let back = start + Duration::from_secs(5);
        let tries = Cell::new(0);
        let answer = ride_out(start + Duration::from_secs(12), || {
            tries.set(tries.get() + 1);
            async { if Instant::now() < back { Err(away()) } else { Ok(7) } }
        })
        .await;
        assert_eq!(answer.unwrap(), 7);
        assert!(back.elapsed() <= Duration::from_millis(250), "it came back at once");
        assert!((20..=60).contains(&tries.get()), "{} tries", tries.get());
    }

    #[tokio::test(start_paused = true)]
    async fn the_deadline_ends_it_also_in_the_middle_of_a_statement() {
        let deadline = Instant::now() + Duration::from_secs(2);
        let failed: DbResult<()> = ride_out(deadline, || async { Err(away()) }).await;
        assert!(matches!(failed, Err(DbError::Unavailable(_))));
        assert!(Instant::now() <= deadline);
        let hung: DbResult<()> = ride_out(deadline, std::future::pending).await;
        assert!(matches!(hung, Err(DbError::Unavailable(_))));
        assert_eq!(Instant::now(), deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn a_lost_race_is_retried_at_once_and_a_defect_never() {
        let start = Instant::now();
        let tries = Cell::new(0);
        let answer = ride_out(start + Duration::from_secs(1), || {
            tries.set(tries.get() + 1);
            let lost = tries.get() < 3;
            async move { if lost { Err(DbError::Contended("a deadlock".into())) } else { Ok(()) } }
        })
        .await;
        assert!(answer.is_ok());
        assert!(start.elapsed() <= Duration::from_millis(22));

        let tries = Cell::new(0);
        let answer: DbResult<()> = ride_out(start + Duration::from_secs(1), || {
            tries.set(tries.get() + 1);
            async { Err(DbError::Defect("no such column".into())) }
        })
        .await;
        assert!(matches!(answer, Err(DbError::Defect(_))));
        assert_eq!(tries.get(), 1);
    }
}
