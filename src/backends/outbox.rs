//! Tells one backend what it is to know: which wake-ups are wanted, and which are not any more.
//!
//! A provision is answered once its one-shot and the wake-up's row are durable; this carries out what the row says,
//! behind the answer. An unavailable backend is told later, with back-off, and meanwhile the watchdog covers. Every
//! replica does this for every backend it has configured; an order is taken by one of them, for a while.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::backend::{BackendError, SchedulerBackend, Unwanted, WakeUp};
use super::factory::Backend;
use crate::db::{Db, DbResult, wake_ups};
use crate::domain::lease_lengths;
use crate::domain::outbox::{self, Order, ToArm, ToTell, Told};
use crate::heartbeat;
use crate::metrics;

/// Orders in one round.
const BATCH: usize = 256;
/// Rounds under way at once: a slow answer of one must not hold up the next.
const ROUNDS: usize = 4;
/// Deadlines of one call that a batch of calls may take, by what the backends promise; and one more to be sure.
const CALLS: u32 = 4;
/// Between looks at least, so that orders which come one by one go together.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
/// Between looks at most: what other replicas left, and what has come near enough.
const MOST_PAUSE: Duration = Duration::from_secs(5);
/// The first wait after a failure; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// The longest.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// What a backend has done of what it was told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Wake-ups that it will bring.
    pub armed: usize,
    /// Wake-ups that it has taken back.
    pub taken_back: usize,
}

/// The orders for one backend.
#[derive(Debug)]
pub struct Outbox {
    db: Db,
    backend: Arc<Backend>,
    /// How long one batch of calls may take, however slow the backend. A round has two.
    calls: Duration,
    /// Something is to be told.
    news: Notify,
    /// The backend did not do what it was last asked for.
    failing: AtomicBool,
}

impl Outbox {
    /// For this backend, one call to which may take `call_timeout`.
    pub fn new(db: Db, backend: Arc<Backend>, call_timeout: Duration) -> Self {
        Self {
            db,
            backend,
            calls: call_timeout * CALLS,
            news: Notify::new(),
            failing: AtomicBool::new(false),
        }
    }

    /// Whom it tells.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// How long a round's orders are its own: others do what it has not recorded by then.
    pub fn lease(&self) -> Duration {
        lease_lengths::of_orders(self.calls)
    }

    /// There may be something to tell.
    pub fn look(&self) {
        self.news.notify_one();
    }

    /// Runs until `stop`; a round that is under way then is finished.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let rounds = Arc::new(Semaphore::new(ROUNDS));
        loop {
            let permit = heartbeat::rest(stop.run_until_cancelled(Arc::clone(&rounds).acquire_owned())).await;
            let Some(Ok(permit)) = permit else { break };
            let pause = match self.take().await {
                Ok((orders, pause)) => {
                    if !orders.is_empty() {
                        let outbox = Arc::clone(&self);
                        tokio::spawn(async move {
                            outbox.tell(orders).await;
                            drop(permit);
                            // What failed, or became unwanted meanwhile, has a time of its own now.
                            outbox.look();
                        });
                    }
                    pause
                }
                Err(error) => {
                    warn!(%error, backend = %self.backend.name(), "what is to be told cannot be read; it is tried again");
                    MOST_PAUSE
                }
            };
            let next = heartbeat::rest(async {
                tokio::select! {
                    () = stop.cancelled() => return false,
                    () = tokio::time::sleep(pause) => {}
                    () = self.news.notified() => tokio::time::sleep(LEAST_PAUSE).await,
                }
                true
            });
            if !next.await {
                break;
            }
        }
        let _ =
            tokio::time::timeout(self.lease(), rounds.acquire_many(u32::try_from(ROUNDS).unwrap_or(1))).await;
    }

    /// Tells one batch of what is due to be told. Any number of these may be under way at once, here and elsewhere.
    pub async fn tell_next(&self) -> DbResult<Done> {
        let (orders, _) = self.take().await?;
        Ok(self.tell(orders).await)
    }

    /// The next round's orders, and when to look again.
    async fn take(&self) -> DbResult<(Vec<ToTell>, Duration)> {
        let limit = i64::try_from(BATCH).unwrap_or(i64::MAX);
        let furthest = self.backend.limits().furthest;
        let taken =
            wake_ups::take_orders(&self.db, self.backend.name(), furthest, self.lease(), limit).await?;
        let pause = if taken.looked_at >= BATCH {
            Duration::ZERO
        } else {
            taken.next_in.map_or(MOST_PAUSE, |next_in| next_in.clamp(LEAST_PAUSE, MOST_PAUSE))
        };
        Ok((taken.to_tell, pause))
    }

    /// One round: what is wanted first, so that a superseded wake-up goes after its successor was told.
    async fn tell(&self, orders: Vec<ToTell>) -> Done {
        let mut done = Done::default();
        if orders.is_empty() {
            return done;
        }
        let limits = self.backend.limits();
        let (mut wanted, mut unwanted, mut told) = (Vec::new(), Vec::new(), Vec::new());
        for order in orders {
            let (schedule_id, generation, tries) = (order.schedule_id, order.generation, order.tries);
            match order.order {
                Order::Arm { one_shot } => {
                    let wake_up = wake_up(schedule_id, generation, *one_shot);
                    match limits.check(&wake_up) {
                        Ok(()) => wanted.push((tries, wake_up)),
                        // In vain: the watchdog will have it.
                        Err(error) => {
                            told.push(Told { schedule_id, generation, done: failed(tries, &error) });
                        }
                    }
                }
                Order::Cancel { message_id } => {
                    unwanted.push((tries, Unwanted { schedule_id, generation, message_id }));
                }
            }
        }
        if !wanted.is_empty() {
            let (tries, wake_ups): (Vec<_>, Vec<_>) = wanted.into_iter().unzip();
            let answers = in_time(self.calls, wake_ups.len(), self.backend.arm(&wake_ups)).await;
            self.count("arm", &answers);
            done.armed += answers.iter().filter(|answer| answer.is_ok()).count();
            for ((wake_up, tries), answer) in wake_ups.iter().zip(tries).zip(answers) {
                let done = answer.map_or_else(|error| failed(tries, &error), outbox::Done::Armed);
                told.push(Told { schedule_id: wake_up.schedule_id, generation: wake_up.generation, done });
            }
        }
        if !unwanted.is_empty() {
            let (tries, wake_ups): (Vec<_>, Vec<_>) = unwanted.into_iter().unzip();
            let answers = in_time(self.calls, wake_ups.len(), self.backend.cancel(&wake_ups)).await;
            self.count("cancel", &answers);
            done.taken_back += answers.iter().filter(|answer| answer.is_ok()).count();
            for ((wake_up, tries), answer) in wake_ups.iter().zip(tries).zip(answers) {
                let done = answer.map_or_else(|error| failed(tries, &error), |()| outbox::Done::Cancelled);
                told.push(Told { schedule_id: wake_up.schedule_id, generation: wake_up.generation, done });
            }
        }
        // Not recorded: told once more when the orders' lease is over, which is harmless.
        if let Err(error) = wake_ups::told(&self.db, &told).await {
            warn!(%error, backend = %self.backend.name(), count = told.len(), "what was told is not recorded");
        }
        done
    }

    /// Metrics, and a line when the backend begins to fail or is back.
    fn count<T>(&self, call: &'static str, answers: &[Result<T, BackendError>]) {
        let backend = self.backend.name();
        let mut failures = 0;
        for answer in answers {
            let result = answer.as_ref().map_or_else(BackendError::kind, |_| "ok");
            metrics::backend_called(backend, call, result, 1);
            failures += usize::from(answer.is_err());
        }
        let failing = failures > 0;
        if failing != self.failing.swap(failing, Ordering::Relaxed) {
            if let Some(error) = answers.iter().find_map(|answer| answer.as_ref().err()) {
                warn!(%backend, call, failures, %error, "the engine cannot be told: it is tried again, our own loop covers");
            } else {
                info!(%backend, "the engine can be told again");
            }
        }
    }
}

/// As the backend takes it.
fn wake_up(schedule_id: nas_cron_protocol::ScheduleId, generation: i32, one_shot: ToArm) -> WakeUp {
    WakeUp {
        instance_id: one_shot.instance_id,
        job_id: one_shot.job_id,
        schedule_id,
        generation,
        fire_at: one_shot.fire_at,
        due_at: one_shot.due_at,
        callback_url: one_shot.callback_url,
        auth: one_shot.auth.map(|found| found.auth),
        direct: None,
    }
}

/// Whatever a backend does: the round ends, and every order has an answer.
async fn in_time<T>(
    within: Duration,
    count: usize,
    answers: impl Future<Output = Vec<Result<T, BackendError>>>,
) -> Vec<Result<T, BackendError>> {
    let mut answers = tokio::time::timeout(within, answers).await.unwrap_or_default();
    answers.resize_with(count, || Err(BackendError::TimedOut));
    answers
}

fn failed(tries: u32, error: &BackendError) -> outbox::Done {
    let again_in = again_in(tries, error.retry_after(), rand::random());
    outbox::Done::Failed { again_in, error: error.to_string() }
}

/// When to try again after so many failures; `jitter` is drawn from `[0, 1)`.
fn again_in(tries: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    let step = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1))).min(LONGEST_WAIT);
    step.mul_f64(1.0 + jitter / 2.0).max(retry_after.unwrap_or_default().min(LONGEST_WAIT * 5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_up_to_a_minute_and_respect_what_the_engine_asks_for() {
        let ms = Duration::from_millis;
        assert_eq!(again_in(1, None, 0.0), ms(500));
        assert_eq!(again_in(2, None, 0.5), ms(1_250));
        assert_eq!(again_in(60, None, 0.0), ms(60_000));
        assert_eq!(again_in(1, Some(ms(7_000)), 0.9), ms(7_000));
        assert_eq!(again_in(1, Some(Duration::MAX), 0.0), ms(300_000));
    }
}
