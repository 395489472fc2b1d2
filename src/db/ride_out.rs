//! Retries of statements through short outages of the database (a restart, a failover) and after lost deadlocks.

use std::time::Duration;

use backon::{BackoffBuilder, ConstantBuilder, ExponentialBuilder, Retryable};
use futures::FutureExt;
use parking_lot::Mutex;
use tokio::time::{Instant, timeout_at};

use super::{Db, DbError, DbResult, pooler};

/// Back-off while the database is unavailable: 25 to 50 ms at first, 125 to 250 ms at most. Jitter of up to 100 % keeps
/// statements that failed together from being retried together.
const UNAVAILABLE: ExponentialBuilder = ExponentialBuilder::new()
    .with_min_delay(Duration::from_millis(25))
    .with_max_delay(Duration::from_millis(125))
    .with_factor(2.0)
    .with_jitter()
    .without_max_times();
/// Maximum pause after a conflict with a concurrent statement.
const CONTENDED: Duration = Duration::from_millis(10);
/// Interval between retries of background statements.
const UNATTENDED: ConstantBuilder =
    ConstantBuilder::new().with_delay(Duration::from_millis(100)).without_max_times();

/// What a failure is followed by.
enum Next {
    /// Another attempt at once: the statement conflicted with another one.
    AtOnce,
    /// Another attempt after a pause: the database is unavailable.
    Later,
    /// Nothing.
    Nothing,
}

/// Runs `op` until it succeeds, fails permanently, or `deadline` passes; returns the last error. If the deadline ends an
/// attempt, that is the error of the attempt before, which says more. The service retries, because real agents do not retry a
/// failed provision (docs/contract.md#invariant-9-short-outages-fail-no-provision).
///
/// `op` must be safe to run twice: it may have taken effect although it failed (the connection broke after the
/// commit). At the deadline, it is dropped even in the middle of a statement.
pub async fn ride_out<T, F>(deadline: Instant, mut op: impl FnMut() -> F) -> DbResult<T>
where
    F: Future<Output = DbResult<T>>,
{
    let last = Mutex::new(None);
    let failed = |error: DbError| {
        let next = match error {
            DbError::Contended(_) => Next::AtOnce,
            DbError::Unavailable(_) => Next::Later,
            _ => Next::Nothing,
        };
        *last.lock() = Some(error);
        next
    };
    let out_of_time = || {
        let no_answer = || DbError::Unavailable("no answer before the request's deadline".into());
        last.lock().get_or_insert_with(no_answer);
        Next::Nothing
    };
    // Not an async block, which would store the statement's future twice.
    let attempt = || timeout_at(deadline, op()).map(|done| done.map_err(|_| out_of_time())?.map_err(failed));
    let mut unavailable = UNAVAILABLE.build();
    attempt
        .retry(ConstantBuilder::new().without_max_times())
        .when(|next| !matches!(next, Next::Nothing))
        .adjust(|next, _| {
            // A conflict does not advance the back-off for outages.
            let pause = match next {
                Next::AtOnce => CONTENDED.mul_f64(rand::random()),
                Next::Later | Next::Nothing => unavailable.next()?,
            };
            (Instant::now() + pause < deadline).then_some(pause)
        })
        .notify(|_, _| {
            if let Some(error) = last.lock().as_ref() {
                tracing::debug!(%error, "database statement failed; retrying");
            }
        })
        .await
        .map_err(|_| last.lock().take().expect("each failure stores its error"))
}

/// Checks at the start of a process that the database is reachable and keeps sessions. Waits up to `within` for a
/// database that is unavailable, and logs that it waits.
pub async fn reach(db: &Db, within: Duration) -> DbResult<()> {
    let reaching = || pooler::require_sessions(db);
    match reaching().await {
        Err(error) if error.is_transient() => {
            tracing::warn!(%error, within_s = within.as_secs(), "database unavailable; retrying");
            ride_out(Instant::now() + within, reaching).await
        }
        reached => reached,
    }
}

/// Runs `op` until it succeeds or fails permanently. After `within`, it is not retried, and the last error is returned.
/// It is never dropped in the middle of a statement.
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

    fn unavailable() -> DbError {
        DbError::Unavailable("no connection in time".into())
    }

    #[tokio::test(start_paused = true)]
    async fn restart_of_five_seconds_is_ridden_out() {
        let start = Instant::now();
        let back = start + Duration::from_secs(5);
        let tries = Cell::new(0);
        let answer = ride_out(start + Duration::from_secs(12), || {
            tries.set(tries.get() + 1);
            async { if Instant::now() < back { Err(unavailable()) } else { Ok(7) } }
        })
        .await;
        assert_eq!(answer.unwrap(), 7);
        assert!(back.elapsed() <= Duration::from_millis(250), "retried soon after the restart");
        assert!((20..=60).contains(&tries.get()), "{} tries", tries.get());
    }

    #[tokio::test(start_paused = true)]
    async fn deadline_interrupts_a_statement() {
        let deadline = Instant::now() + Duration::from_secs(2);
        let failed: DbResult<()> = ride_out(deadline, || async { Err(unavailable()) }).await;
        assert!(matches!(failed, Err(DbError::Unavailable(_))));
        assert!(Instant::now() <= deadline);
        let hung: DbResult<()> = ride_out(deadline, std::future::pending).await;
        assert!(matches!(hung, Err(DbError::Unavailable(_))));
        assert_eq!(Instant::now(), deadline);
    }

    #[tokio::test(start_paused = true)]
    async fn cause_is_known_if_the_last_attempt_only_runs_out_of_time() {
        let tries = Cell::new(0);
        let failed: DbResult<()> = ride_out(Instant::now() + Duration::from_secs(2), || {
            tries.set(tries.get() + 1);
            let refused = tries.get() == 1;
            async move { if refused { Err(unavailable()) } else { std::future::pending().await } }
        })
        .await;
        assert!(failed.unwrap_err().to_string().contains("no connection in time"));
    }

    #[tokio::test(start_paused = true)]
    async fn conflict_is_retried_at_once_and_a_defect_never() {
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
