//! Wake-ups from external backends: a one-shot is due, or will be soon.
//!
//! Wake-ups are processed in batches: those that arrive during one statement go into the next, and each caller waits for
//! its statement. The statement leases the one-shots that are due within the horizon. From there they take the same way as
//! claimed ones: timer, dispatch, confirmation, attempt.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nas_cron_protocol::OneShotState;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};
use tracing::Span;
use uuid::Uuid;

use super::{Inner, Scheduler};
use crate::db::{DbError, DbResult, wake_ups};
use crate::domain::FireOutcome;
use crate::domain::attempt::Ended;
use crate::domain::lease::Lease;
use crate::domain::wake_up::{Found, Wake};
use crate::heartbeat;

/// Maximum number of wake-ups that wait for their statement. Further callers wait until there is room.
pub(super) const QUEUE: usize = 2_048;
/// Maximum number of wake-ups in one statement.
const BATCH: usize = 1_024;
/// Retry delay for a one-shot that is in flight: attempts are short.
const SOON: Duration = Duration::from_secs(1);
/// Retry delay for a parked one-shot.
const PARKED: Duration = Duration::from_mins(1);
/// Pause before a wake-up whose row is locked is repeated.
const LOCKED_PAUSE: Duration = Duration::from_millis(5);
/// Maximum time for which a wake-up waits for a locked row: statements are short.
const LOCKED_PATIENCE: Duration = Duration::from_secs(10);
/// Maximum retry delay. The one-shot does not depend on the backend's retry.
const LONGEST: Duration = Duration::from_hours(1);

/// The result of a wake-up.
#[derive(Debug)]
pub enum Woken {
    /// This replica has leased the one-shot, durably. The Postgres loop fires it at its instant. The caller may wait for
    /// the end of the attempt.
    Taken(Ending),
    /// The Postgres loop fires the one-shot: it waits for its instant, or its attempt is in flight. Contains the retry
    /// delay.
    UnderWay(Duration),
    /// The wake-up came more than the horizon ahead. The Postgres loop fires the one-shot. Contains the retry delay.
    Early(Duration),
    /// The agent has accepted the one-shot.
    Delivered,
    /// The agent dropped the fire, because its gateway is stopped.
    Dropped,
    /// The agent refused the fire as a duplicate.
    Duplicate,
    /// The one-shot was cancelled or given up, or the agent no longer has the job.
    Gone,
    /// A newer one-shot of the job has replaced it.
    Superseded,
    /// Its `not_after` has passed.
    Expired,
}

/// Reasons for which a wake-up failed. Nothing has changed, and the wake-up may be repeated.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WakeError {
    /// The statement failed.
    #[error(transparent)]
    Db(Arc<DbError>),
    /// Other statements kept the row locked for too long.
    #[error("the one-shot's row stayed locked")]
    Locked,
    /// This replica is shutting down; another one takes the wake-up.
    #[error("this replica is shutting down")]
    Ending,
}

/// The end of an attempt that a wake-up started.
#[derive(Debug)]
pub struct Ending(oneshot::Receiver<Settled>);

/// An attempt whose outcome is recorded.
#[derive(Debug)]
pub struct Settled {
    /// Its end.
    pub ended: Ended,
    /// True if its one-shot has expired: the next attempt would start after its `not_after`.
    pub expired: bool,
}

impl Woken {
    /// Returns the result of a wake-up whose one-shot has ended with this outcome.
    const fn ended(outcome: Option<FireOutcome>) -> Self {
        match outcome {
            Some(FireOutcome::Gone) => Self::Gone,
            Some(FireOutcome::Dropped) => Self::Dropped,
            Some(FireOutcome::Duplicate) => Self::Duplicate,
            Some(FireOutcome::Delivered | FireOutcome::Failed | FireOutcome::Lost) | None => Self::Delivered,
        }
    }

    /// Returns the label value for metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Taken(_) => "taken",
            Self::UnderWay(_) => "under_way",
            Self::Early(_) => "early",
            Self::Delivered => "delivered",
            Self::Dropped => "dropped",
            Self::Duplicate => "duplicate",
            Self::Gone => "gone",
            Self::Superseded => "superseded",
            Self::Expired => "expired",
        }
    }
}

impl Ending {
    /// Waits until the attempt's outcome is recorded, and returns it. Returns `None` if the attempt was not made here: the
    /// Postgres loop makes it later.
    pub async fn wait(self) -> Option<Settled> {
        self.0.await.ok()
    }
}

/// A wake-up that waits for its statement.
#[derive(Debug)]
pub(super) struct Waking {
    wake: Wake,
    since: Instant,
    /// The span of the request that brought it.
    cause: Span,
    answer: oneshot::Sender<Result<Woken, WakeError>>,
}

impl Scheduler {
    /// Processes a wake-up. After `Ok`, the one-shot does not depend on its external backend any more, even if this
    /// process ends. While this replica drains, the other replicas claim the one-shots that it processes.
    pub async fn wake(&self, wake: Wake) -> Result<Woken, WakeError> {
        let (answer, woken) = oneshot::channel();
        self.wakes
            .send(Waking { wake, since: Instant::now(), cause: Span::current(), answer })
            .await
            .map_err(|_| WakeError::Ending)?;
        woken.await.unwrap_or(Err(WakeError::Ending))
    }
}

/// Runs until the scheduler has stopped.
pub(super) async fn run(inner: Arc<Inner>, waking: Arc<AsyncMutex<mpsc::Receiver<Waking>>>) {
    let mut waking = waking.lock().await;
    let mut batch = Vec::with_capacity(BATCH);
    loop {
        if batch.is_empty() {
            if heartbeat::rest(waking.recv_many(&mut batch, BATCH)).await == 0 {
                return;
            }
        } else {
            // Repeat the wake-ups whose rows were locked, together with new ones.
            tokio::time::sleep(LOCKED_PAUSE).await;
            while batch.len() < BATCH
                && let Ok(one) = waking.try_recv()
            {
                batch.push(one);
            }
        }
        let found: Vec<Option<Result<Woken, WakeError>>> = match take(&inner, &batch).await {
            Ok(found) => found.into_iter().map(|found| found.map(Ok)).collect(),
            Err(error) => {
                let error = Arc::new(error);
                batch.iter().map(|_| Some(Err(WakeError::Db(Arc::clone(&error))))).collect()
            }
        };
        let taken = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
        for (one, found) in taken.into_iter().zip(found) {
            match found {
                // The receiver is gone if the caller's connection broke; the wake-up counts anyway.
                Some(answer) => drop(one.answer.send(answer)),
                None if one.since.elapsed() > LOCKED_PATIENCE => {
                    drop(one.answer.send(Err(WakeError::Locked)));
                }
                None => batch.push(one),
            }
        }
    }
}

/// Processes a batch in one statement and adds its leases to the timer. `None` stands for a locked row.
async fn take(inner: &Inner, batch: &[Waking]) -> DbResult<Vec<Option<Woken>>> {
    let rules = &inner.rules;
    let wakes: Vec<_> = batch.iter().map(|one| one.wake.clone()).collect();
    let room = if inner.stop.is_cancelled() { 0 } else { inner.room() };
    let found =
        wake_ups::take(&inner.db, &wakes, rules.horizon, rules.leases.claim_grace, room.into()).await?;
    let mut leases = Vec::new();
    let woken = found
        .into_iter()
        .zip(batch)
        .map(|(found, waking)| {
            Some(match found {
                Found::Leased(mut lease) => {
                    lease.woken_at = Some(waking.since);
                    let ending = inner.watched.watch(lease.lease_token, waking.cause.clone());
                    leases.push(lease);
                    Woken::Taken(ending)
                }
                Found::Standing { expired: true, .. } => Woken::Expired,
                Found::Standing { state, outcome, parked, due_in, .. } => {
                    standing(state, outcome, parked, due_in, rules.horizon)
                }
                Found::Delivered => Woken::Delivered,
                Found::Superseded => Woken::Superseded,
                Found::Gone => Woken::Gone,
                Found::Locked => return None,
            })
        })
        .collect();
    inner.hold(leases.len());
    inner.timer.add(leases.into_iter().map(|lease| (inner.db_clock.instant_of(lease.due_at), lease)));
    // One-shots that were not leased, for lack of capacity or because they are not due yet: the claiming loop must look.
    inner.claim.notify_one();
    if inner.stop.is_cancelled() {
        // This replica has stopped claiming, so the others must look.
        inner.announce.notify_one();
    }
    Ok(woken)
}

/// Returns the result of a wake-up whose one-shot was not leased.
fn standing(
    state: OneShotState,
    outcome: Option<FireOutcome>,
    parked: bool,
    due_in: Option<Duration>,
    horizon: Duration,
) -> Woken {
    let due_in = due_in.unwrap_or_default();
    match state {
        OneShotState::Delivered => Woken::ended(outcome),
        OneShotState::Dead | OneShotState::Stuck => Woken::Gone,
        _ if parked => Woken::UnderWay(PARKED),
        OneShotState::Armed if due_in > horizon => {
            Woken::Early(due_in.saturating_sub(horizon).clamp(SOON, LONGEST))
        }
        OneShotState::Armed | OneShotState::Waiting => Woken::UnderWay(due_in.clamp(SOON, LONGEST)),
        OneShotState::Leased | OneShotState::Firing => Woken::UnderWay(SOON),
    }
}

/// Callers that wait for the end of an attempt.
#[derive(Debug, Default)]
pub(super) struct Watched(Mutex<HashMap<Uuid, Watcher>>);

#[derive(Debug)]
struct Watcher {
    cause: Span,
    ended: oneshot::Sender<Settled>,
}

impl Watched {
    fn watch(&self, attempt_id: Uuid, cause: Span) -> Ending {
        let (ended, ending) = oneshot::channel();
        self.0.lock().insert(attempt_id, Watcher { cause, ended });
        Ending(ending)
    }

    /// Returns the span of the request that caused an attempt; a disabled one if no request did.
    pub(super) fn cause(&self, attempt_id: Uuid) -> Span {
        self.0.lock().get(&attempt_id).map_or_else(Span::none, |watcher| watcher.cause.clone())
    }

    /// Passes on the recorded end of an attempt.
    pub(super) fn ended(&self, attempt_id: Uuid, ended: &Ended, expired: bool) {
        if let Some(watcher) = self.0.lock().remove(&attempt_id) {
            let _ = watcher.ended.send(Settled { ended: ended.clone(), expired });
        }
    }

    /// Ends the waits for these leases: this replica will not make their attempts.
    pub(super) fn forget(&self, leases: &[Lease]) {
        let mut watched = self.0.lock();
        for lease in leases {
            watched.remove(&lease.lease_token);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn wake_up_of_an_unleased_one_shot_returns_the_retry_delay() {
        use OneShotState::{Armed, Dead, Delivered, Firing, Leased, Stuck, Waiting};
        let horizon = Duration::from_secs(2);
        let shown = |state, parked, due_in: Option<f64>| {
            format!("{:?}", standing(state, None, parked, due_in.map(Duration::from_secs_f64), horizon))
        };
        assert_eq!(shown(Armed, false, Some(0.0)), "UnderWay(1s)");
        assert_eq!(shown(Armed, false, Some(2.0)), "UnderWay(2s)");
        assert_eq!(shown(Armed, false, Some(2.5)), "Early(1s)", "never less than a second");
        assert_eq!(shown(Armed, false, Some(90_000.0)), "Early(3600s)", "never more than an hour");
        assert_eq!(shown(Armed, true, Some(0.0)), "UnderWay(60s)");
        assert_eq!(shown(Waiting, false, Some(30.0)), "UnderWay(30s)");
        assert_eq!(shown(Waiting, true, Some(30.0)), "UnderWay(60s)");
        assert_eq!(shown(Leased, false, Some(0.5)), "UnderWay(1s)");
        assert_eq!(shown(Firing, false, Some(0.0)), "UnderWay(1s)");
        assert_eq!(shown(Delivered, false, None), "Delivered");
        assert_eq!(shown(Dead, false, None), "Gone");
        assert_eq!(shown(Stuck, false, None), "Gone");
    }

    #[test]
    fn wake_up_of_an_ended_one_shot_returns_its_outcome() {
        for outcome in FireOutcome::ALL {
            let woken = standing(OneShotState::Delivered, Some(*outcome), false, None, Duration::ZERO);
            let is_failure = matches!(outcome, FireOutcome::Failed | FireOutcome::Lost);
            assert_eq!(woken.as_str(), if is_failure { "delivered" } else { outcome.as_str() });
        }
    }
}
