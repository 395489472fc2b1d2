//! Arms and cancels wake-ups at one backend, as the rows of the outbox (table `wake_ups`) ask.
//!
//! A provision is answered once its one-shot and its outbox row are durable; the outbox calls the backend afterwards.
//! An outbox row that is due is an *order* to arm or to cancel a wake-up. Failed orders are retried with back-off;
//! meanwhile, the watchdog fires one-shots whose wake-up is missing. Every replica runs an outbox for every backend
//! that it has configured. One replica at a time leases an order.

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

/// Maximum orders in one round.
const BATCH: usize = 256;
/// Maximum rounds in flight, so that one slow response does not delay the next round.
const ROUNDS: usize = 4;
/// Duration of a batch of calls, in timeouts of one call: the maximum that the backends promise, plus one in reserve.
const CALLS: u32 = 4;
/// Minimum pause between queries, so that orders which arrive one by one share a round.
const LEAST_PAUSE: Duration = Duration::from_millis(10);
/// Maximum pause between queries: they also find orders of dead replicas, and one-shots that have come near enough.
const MOST_PAUSE: Duration = Duration::from_secs(5);
/// First back-off after a failure; it doubles.
const FIRST_WAIT: Duration = Duration::from_millis(500);
/// Maximum back-off.
const LONGEST_WAIT: Duration = Duration::from_mins(1);

/// The number of orders that a backend has carried out.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Done {
    /// Wake-ups armed.
    pub armed: usize,
    /// Wake-ups cancelled.
    pub taken_back: usize,
}

/// The outbox of one backend.
#[derive(Debug)]
pub struct Outbox {
    db: Db,
    backend: Arc<Backend>,
    /// Timeout of one batch of calls. A round has two batches.
    calls: Duration,
    /// Signals that there may be orders.
    news: Notify,
    /// True if the last batch had a failure.
    failing: AtomicBool,
}

impl Outbox {
    /// Creates the outbox of `backend`. `call_timeout` is the timeout of one call to it.
    pub fn new(db: Db, backend: Arc<Backend>, call_timeout: Duration) -> Self {
        Self {
            db,
            backend,
            calls: call_timeout * CALLS,
            news: Notify::new(),
            failing: AtomicBool::new(false),
        }
    }

    /// Returns the backend.
    pub fn backend(&self) -> &Backend {
        &self.backend
    }

    /// Returns how long a round leases its orders. Afterwards another round takes those that are not recorded.
    pub fn lease(&self) -> Duration {
        lease_lengths::of_orders(self.calls)
    }

    /// Signals that there may be orders.
    pub fn notify(&self) {
        self.news.notify_one();
    }

    /// Runs until `stop`, and finishes the rounds in flight.
    pub async fn run(self: Arc<Self>, stop: CancellationToken) {
        let rounds = Arc::new(Semaphore::new(ROUNDS));
        loop {
            let permit = heartbeat::rest(stop.run_until_cancelled(Arc::clone(&rounds).acquire_owned())).await;
            let Some(Ok(permit)) = permit else { break };
            let pause = match self.take_orders().await {
                Ok((orders, pause)) => {
                    if !orders.is_empty() {
                        let outbox = Arc::clone(&self);
                        tokio::spawn(async move {
                            outbox.carry_out(orders).await;
                            drop(permit);
                            // Orders that failed or became unwanted meanwhile have a new due time.
                            outbox.notify();
                        });
                    }
                    pause
                }
                Err(error) => {
                    warn!(%error, backend = %self.backend.name(), "reading the outbox failed; retrying");
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

    /// Runs one round. Rounds may run concurrently, also on other replicas.
    pub async fn run_round(&self) -> DbResult<Done> {
        let (orders, _) = self.take_orders().await?;
        Ok(self.carry_out(orders).await)
    }

    /// Leases the orders of the next round. Also returns the pause until the next query.
    async fn take_orders(&self) -> DbResult<(Vec<ToTell>, Duration)> {
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

    /// Carries out the orders of one round. Arms come first, so that a superseded wake-up is cancelled after its
    /// successor is armed.
    async fn carry_out(&self, orders: Vec<ToTell>) -> Done {
        let mut done = Done::default();
        if orders.is_empty() {
            return done;
        }
        let limits = self.backend.limits();
        let (mut wanted, mut unwanted, mut results) = (Vec::new(), Vec::new(), Vec::new());
        for order in orders {
            let (schedule_id, generation, tries) = (order.schedule_id, order.generation, order.tries);
            match order.order {
                Order::Arm { one_shot } => {
                    let wake_up = wake_up(schedule_id, generation, *one_shot);
                    match limits.check(&wake_up) {
                        Ok(()) => wanted.push((tries, wake_up)),
                        // Every retry fails as well; the watchdog fires the one-shot.
                        Err(error) => {
                            results.push(Told { schedule_id, generation, done: failed(tries, &error) });
                        }
                    }
                }
                Order::Cancel { message_id, unconfirmed } => {
                    unwanted.push((tries, Unwanted { schedule_id, generation, message_id, unconfirmed }));
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
                results.push(Told { schedule_id: wake_up.schedule_id, generation: wake_up.generation, done });
            }
        }
        if !unwanted.is_empty() {
            let (tries, wake_ups): (Vec<_>, Vec<_>) = unwanted.into_iter().unzip();
            let answers = in_time(self.calls, wake_ups.len(), self.backend.cancel(&wake_ups)).await;
            self.count("cancel", &answers);
            done.taken_back += answers.iter().filter(|answer| answer.is_ok()).count();
            for ((wake_up, tries), answer) in wake_ups.iter().zip(tries).zip(answers) {
                let done = answer.map_or_else(|error| failed(tries, &error), |()| outbox::Done::Cancelled);
                results.push(Told { schedule_id: wake_up.schedule_id, generation: wake_up.generation, done });
            }
        }
        // If this fails, the orders are repeated after their lease, which is harmless.
        if let Err(error) = wake_ups::record_results(&self.db, &results).await {
            warn!(
                %error, backend = %self.backend.name(), count = results.len(),
                "recording the results of outbox orders failed"
            );
        }
        done
    }

    /// Counts the results. Logs when calls begin to fail and when they succeed again.
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
                warn!(
                    %backend, call, failures, %error,
                    "calls to the external backend failed; retrying, fires may be late"
                );
            } else {
                info!(%backend, "calls to the external backend succeed again");
            }
        }
    }
}

/// Returns the wake-up as the backend takes it.
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

/// Limits a batch of calls to `within`, and fills up missing results: every order gets one, whatever the backend does.
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

/// Returns the back-off after this many failures; `jitter` is drawn from `[0, 1)`.
fn again_in(tries: u32, retry_after: Option<Duration>, jitter: f64) -> Duration {
    let step = FIRST_WAIT.saturating_mul(2_u32.saturating_pow(tries.saturating_sub(1))).min(LONGEST_WAIT);
    step.mul_f64(1.0 + jitter / 2.0).max(retry_after.unwrap_or_default().min(LONGEST_WAIT * 5))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn back_off_doubles_up_to_a_minute_and_respects_the_backends_retry_after() {
        let ms = Duration::from_millis;
        assert_eq!(again_in(1, None, 0.0), ms(500));
        assert_eq!(again_in(2, None, 0.5), ms(1_250));
        assert_eq!(again_in(60, None, 0.0), ms(60_000));
        assert_eq!(again_in(1, Some(ms(7_000)), 0.9), ms(7_000));
        assert_eq!(again_in(1, Some(Duration::MAX), 0.0), ms(300_000));
    }
}
