//! A wake-up from outside: an engine says that a one-shot's instant has come, or is about to.
//!
//! Whoever hands one in waits for the statement that takes it in, and many go into one: whoever comes while one is
//! under way goes into the next. What is due within the horizon is leased by that statement, and goes the way of every
//! claim from there: timer, dispatch, confirmation, attempt.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use nas_cron_protocol::OneShotState;
use parking_lot::Mutex;
use tokio::sync::{Mutex as AsyncMutex, mpsc, oneshot};
use uuid::Uuid;

use super::{Inner, Scheduler};
use crate::db::{DbError, DbResult, wake_ups};
use crate::domain::attempt::Ended;
use crate::domain::lease::Lease;
use crate::domain::wake_up::{Found, Wake};
use crate::heartbeat;

/// Wake-ups that wait for their statement; who comes when they are as many waits outside.
pub(super) const QUEUE: usize = 2_048;
/// Most wake-ups in one statement.
const BATCH: usize = 1_024;
/// When to look again at what is under way: attempts are short.
const SOON: Duration = Duration::from_secs(1);
/// When to look again at what is on hold, or waits for another's probe.
const PARKED: Duration = Duration::from_mins(1);
/// Between looks at what somebody else is writing.
const LOCKED_PAUSE: Duration = Duration::from_millis(5);
/// How long that may go on: statements are short.
const LOCKED_PATIENCE: Duration = Duration::from_secs(10);
/// No answer names a longer wait: the engine's next try is only a second alarm.
const LONGEST: Duration = Duration::from_hours(1);

/// What a wake-up found.
#[derive(Debug)]
pub enum Woken {
    /// It is leased by this replica now, durably: our own loop does the rest, to the millisecond. How its attempt
    /// ends, whoever wants to know may wait for.
    Taken(Ending),
    /// It is our own loop's: it waits for its time, or its attempt is under way. Look again after this long.
    UnderWay(Duration),
    /// Woken too early to wait for it. It is our own loop's all the same; look again after this long.
    Early(Duration),
    /// The agent has accepted it.
    Delivered,
    /// There is no such one-shot any more: cancelled, or given up.
    Gone,
    /// The job has another one-shot now.
    Superseded,
}

/// Why a wake-up could not be taken in. Nothing has changed, and it may be tried again.
#[derive(Clone, Debug, thiserror::Error)]
pub enum WakeError {
    /// The database did not do it.
    #[error(transparent)]
    Db(Arc<DbError>),
    /// Somebody else kept its row locked all the time.
    #[error("its row is locked")]
    Locked,
    /// This replica has ended; others are there, or will be.
    #[error("this replica has ended")]
    Ending,
}

/// The end of an attempt that a wake-up began.
#[derive(Debug)]
pub struct Ending(oneshot::Receiver<Ended>);

impl Woken {
    /// For metrics.
    pub const fn as_str(&self) -> &'static str {
        match self {
            Self::Taken(_) => "taken",
            Self::UnderWay(_) => "under_way",
            Self::Early(_) => "early",
            Self::Delivered => "delivered",
            Self::Gone => "gone",
            Self::Superseded => "superseded",
        }
    }
}

impl Ending {
    /// How it ended, once that is recorded; `None` when it was not made here after all, and our own loop will see
    /// to it.
    pub async fn wait(self) -> Option<Ended> {
        self.0.await.ok()
    }
}

/// A wake-up on its way into the database.
#[derive(Debug)]
pub(super) struct Waking {
    wake: Wake,
    since: Instant,
    answer: oneshot::Sender<Result<Woken, WakeError>>,
}

impl Scheduler {
    /// Takes in a wake-up. Once it returns `Ok`, the one-shot does not need its engine any more, whatever happens
    /// to this process. While this replica drains, the others claim what it takes in.
    pub async fn wake(&self, wake: Wake) -> Result<Woken, WakeError> {
        let (answer, woken) = oneshot::channel();
        self.wakes
            .send(Waking { wake, since: Instant::now(), answer })
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
            // Whose rows were locked, together with who has come since.
            tokio::time::sleep(LOCKED_PAUSE).await;
            while batch.len() < BATCH
                && let Ok(one) = waking.try_recv()
            {
                batch.push(one);
            }
        }
        let wakes: Vec<_> = batch.iter().map(|one| one.wake.clone()).collect();
        let found: Vec<Option<Result<Woken, WakeError>>> = match take(&inner, &wakes).await {
            Ok(found) => found.into_iter().map(|found| found.map(Ok)).collect(),
            Err(error) => {
                let error = Arc::new(error);
                wakes.iter().map(|_| Some(Err(WakeError::Db(Arc::clone(&error))))).collect()
            }
        };
        let taken = std::mem::replace(&mut batch, Vec::with_capacity(BATCH));
        for (one, found) in taken.into_iter().zip(found) {
            match found {
                // Nobody waits any more where a connection broke; what was taken in is taken in all the same.
                Some(answer) => drop(one.answer.send(answer)),
                None if one.since.elapsed() > LOCKED_PATIENCE => {
                    drop(one.answer.send(Err(WakeError::Locked)));
                }
                None => batch.push(one),
            }
        }
    }
}

/// One statement, and the leases that it brought. `None`: its row is locked.
async fn take(inner: &Inner, wakes: &[Wake]) -> DbResult<Vec<Option<Woken>>> {
    let rules = &inner.rules;
    let room = if inner.stop.is_cancelled() { 0 } else { inner.room() };
    let found =
        wake_ups::take(&inner.db, wakes, rules.horizon, rules.leases.claim_grace, room.into()).await?;
    let mut leases = Vec::new();
    let woken = found
        .into_iter()
        .map(|found| {
            Some(match found {
                Found::Leased(lease) => {
                    let ending = inner.watched.watch(lease.lease_token);
                    leases.push(lease);
                    Woken::Taken(ending)
                }
                Found::Standing { state, parked, due_in } => standing(state, parked, due_in, rules.horizon),
                Found::Delivered => Woken::Delivered,
                Found::Superseded => Woken::Superseded,
                Found::Gone => Woken::Gone,
                Found::Locked => return None,
            })
        })
        .collect();
    inner.held.fetch_add(leases.len(), std::sync::atomic::Ordering::SeqCst);
    inner.timer.add(leases.into_iter().map(|lease| (inner.db_clock.instant_of(lease.due_at), lease)));
    // What there was no room for, or is nearly due: ours now, and the claiming loop did not know of it.
    inner.claim.notify_one();
    if inner.stop.is_cancelled() {
        // This replica claims nothing any more: the others do.
        inner.announce.notify_one();
    }
    Ok(woken)
}

/// What a wake-up means for a one-shot that it did not lease.
fn standing(state: OneShotState, parked: bool, due_in: Option<Duration>, horizon: Duration) -> Woken {
    let due_in = due_in.unwrap_or_default();
    match state {
        OneShotState::Delivered => Woken::Delivered,
        OneShotState::Dead | OneShotState::Stuck => Woken::Gone,
        _ if parked => Woken::UnderWay(PARKED),
        OneShotState::Armed if due_in > horizon => {
            Woken::Early(due_in.saturating_sub(horizon).clamp(SOON, LONGEST))
        }
        OneShotState::Armed | OneShotState::Waiting => Woken::UnderWay(due_in.clamp(SOON, LONGEST)),
        OneShotState::Leased | OneShotState::Firing => Woken::UnderWay(SOON),
    }
}

/// Who waits for how which attempt ends.
#[derive(Debug, Default)]
pub(super) struct Watched(Mutex<HashMap<Uuid, oneshot::Sender<Ended>>>);

impl Watched {
    fn watch(&self, attempt_id: Uuid) -> Ending {
        let (ended, ending) = oneshot::channel();
        self.0.lock().insert(attempt_id, ended);
        Ending(ending)
    }

    /// An attempt's end is recorded.
    pub(super) fn ended(&self, attempt_id: Uuid, ended: &Ended) {
        if let Some(watcher) = self.0.lock().remove(&attempt_id) {
            let _ = watcher.send(ended.clone());
        }
    }

    /// These leases are not held any more: no attempt of theirs will be made here.
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
    fn a_standing_one_shot_returns_the_next_look() {
        use OneShotState::{Armed, Dead, Delivered, Firing, Leased, Stuck, Waiting};
        let horizon = Duration::from_secs(2);
        let shown = |state, parked, due_in: Option<f64>| {
            format!("{:?}", standing(state, parked, due_in.map(Duration::from_secs_f64), horizon))
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
}
