//! From an instant to a recorded outcome: slots, confirmation, fire, record.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use nas_cron_protocol::{InstanceId, OneShotState};
use tokio::sync::{Mutex as AsyncMutex, Semaphore, mpsc};
use tracing::{debug, error, info, warn};
use uuid::Uuid;

use super::Inner;
use super::recorder::{Reach, Report};
use crate::db::{leases, retry_for};
use crate::domain::attempt::{Attempt, Ended};
use crate::domain::lease::Lease;
use crate::domain::lease_lengths::CONFIRMATION_RESERVE;
use crate::domain::{FireOutcome, Deferral};
use crate::fire::{End, outcome};
use crate::heartbeat;
use crate::metrics::{self, InFlight, PanicPlace};

/// Rows in one confirmation.
const BATCH: usize = 256;
/// Confirmations under way at once: one would make everybody wait for its round trip.
const CONFIRMATIONS: usize = 4;
/// When to come back for what found no slot in time.
const LATER: Duration = Duration::from_secs(1);
/// When to come back for what was put off by a shortage of our own.
const AFTER_A_SHORTAGE: Duration = Duration::from_secs(2);
/// When to come back for a row that cannot be read: it takes a person to mend it.
const UNREADABLE: Duration = Duration::from_mins(1);
/// How long giving leases back is retried. A confirmation whose answer was lost may have committed: undoing it is worth
/// some patience, because the end of an attempt's lease is far away.
const GIVING_BACK: Duration = Duration::from_secs(30);
/// The database's clock said "not yet": ask again this much later than our estimate.
const A_LITTLE_LATER: Duration = Duration::from_micros(200);

/// A place in flight, for one attempt; freed when dropped, whatever happened.
#[derive(Debug)]
struct Slot {
    inner: Arc<Inner>,
    instance_id: InstanceId,
}

impl Drop for Slot {
    fn drop(&mut self) {
        let mut dispatch = self.inner.dispatch.lock();
        dispatch.ended(&self.instance_id, Instant::now());
        let relieved = dispatch.take_relieved();
        let queued = dispatch.queued();
        drop(dispatch);
        if queued > 0 {
            self.inner.start.notify_one();
        }
        if relieved {
            self.inner.claim.notify_one();
        }
    }
}

/// Runs as long as the timer: takes in what is due and starts what has a slot.
pub(super) async fn run(inner: Arc<Inner>, due: Arc<AsyncMutex<mpsc::UnboundedReceiver<Lease>>>) {
    let mut due = due.lock().await;
    let confirmations = Arc::new(Semaphore::new(CONFIRMATIONS));
    let mut arrived = Vec::with_capacity(BATCH);
    let mut next_look = Instant::now();
    loop {
        let waiting = inner.dispatch.lock().queued() > 0;
        let next = heartbeat::rest(async {
            tokio::select! {
                count = due.recv_many(&mut arrived, BATCH) => count > 0,
                () = inner.start.notified() => true,
                // What waits for a slot must be given back before its lease ends.
                () = tokio::time::sleep(CONFIRMATION_RESERVE / 2), if waiting => true,
            }
        });
        if !next.await {
            return;
        }
        let ending = {
            let mut dispatch = inner.dispatch.lock();
            let now = Instant::now();
            for lease in arrived.drain(..) {
                dispatch.offer(lease, now);
            }
            // It goes through all that waits, so not every time around.
            if waiting && now >= next_look {
                next_look = now + CONFIRMATION_RESERVE / 2;
                dispatch.take_ending(now + CONFIRMATION_RESERVE + CONFIRMATION_RESERVE / 2)
            } else {
                Vec::new()
            }
        };
        if !ending.is_empty() {
            inner.deferrals.note(Deferral::Slots, "no slot came free in time", ending.len());
            tokio::spawn(give_back(Arc::clone(&inner), ending, LATER));
        }
        while let Ok(permit) = Arc::clone(&confirmations).try_acquire_owned() {
            let (batch, relieved) = {
                let mut dispatch = inner.dispatch.lock();
                (dispatch.take(BATCH), dispatch.take_relieved())
            };
            if relieved {
                inner.claim.notify_one();
            }
            if batch.is_empty() {
                break;
            }
            let inner = Arc::clone(&inner);
            let tracker = inner.attempts.clone();
            tracker.spawn(async move {
                start(&inner, batch).await;
                drop(permit);
                inner.start.notify_one();
            });
        }
    }
}

/// Confirms a batch and starts what stands.
async fn start(inner: &Arc<Inner>, batch: Vec<Lease>) {
    let mut waiting: HashMap<Uuid, (Lease, Slot)> = batch
        .iter()
        .map(|lease| {
            let slot = Slot { inner: Arc::clone(inner), instance_id: lease.instance_id.clone() };
            (lease.lease_token, (lease.clone(), slot))
        })
        .collect();
    let confirmed = match leases::confirm(&inner.db, &batch, inner.rules.leases.attempt).await {
        Ok(confirmed) => confirmed,
        Err(error) => {
            inner.deferrals.note(Deferral::Database, &error.to_string(), batch.len());
            give_back(Arc::clone(inner), batch, Duration::ZERO).await;
            return;
        }
    };
    inner.db_clock.observe(confirmed.clock);
    let mut done = 0;
    for attempt in confirmed.attempts {
        let Some((lease, slot)) = waiting.remove(&attempt.attempt_id) else { continue };
        done += 1;
        let inner = Arc::clone(inner);
        let tracker = inner.attempts.clone();
        tracker.spawn(async move {
            make(&inner, lease, attempt).await;
            drop(slot);
        });
    }
    inner.released(done);
    let unreadable: Vec<_> =
        confirmed.unreadable.iter().filter_map(|id| waiting.remove(id)).map(|(lease, _)| lease).collect();
    if !unreadable.is_empty() {
        inner.deferrals.note(Deferral::Defect, "the callback URL of the row is unreadable", unreadable.len());
        give_back(Arc::clone(inner), unreadable, UNREADABLE).await;
    }
    let (early, refused): (Vec<_>, Vec<_>) = waiting
        .into_values()
        .map(|(lease, _)| lease)
        .partition(|lease| lease.due_at > confirmed.clock.database);
    if !early.is_empty() {
        inner.timer.add(
            early.into_iter().map(|lease| (inner.db_clock.instant_of(lease.due_at) + A_LITTLE_LATER, lease)),
        );
    }
    if !refused.is_empty() {
        // Cancelled, superseded, on hold, behind another's probe, or the lease has ended. Only what must be parked
        // is still ours to give back: the next claim does that.
        give_back(Arc::clone(inner), refused, Duration::ZERO).await;
    }
}

/// Makes one attempt and records its end.
async fn make(inner: &Inner, lease: Lease, attempt: Attempt) {
    let lateness = (attempt.started_at - attempt.due_at).as_seconds_f64();
    let in_flight = InFlight::begin();
    let started = Instant::now();
    let (ended, reach) = match AssertUnwindSafe(inner.firing.fire(&attempt)).catch_unwind().await {
        Ok(End::Made { ended, reach }) => (ended, reach),
        Ok(End::NotSent { reason, cause }) => {
            debug!(
                agent.id = %attempt.instance_id, job.id = %attempt.job_id, schedule.id = %attempt.schedule_id,
                %reason, cause, "an attempt was put off"
            );
            inner.deferrals.note(reason, &cause, 1);
            inner.watched.forget(std::slice::from_ref(&lease));
            let lease = std::slice::from_ref(&lease);
            let given =
                retry_for(GIVING_BACK, || leases::give_back(&inner.db, lease, AFTER_A_SHORTAGE)).await;
            if let Err(error) = given {
                warn!(%error, "a lease could not be given back: it ends by itself");
            }
            return;
        }
        Err(_panic) => {
            metrics::panicked(PanicPlace::Fire);
            error!(agent.id = %attempt.instance_id, job.id = %attempt.job_id, "an attempt panicked");
            (inner.firing.broken(&attempt), outcome::Reach::Unknown)
        }
    };
    drop(in_flight);
    // Not before: what was put off has not started.
    if let Some(since) = attempt.late_since {
        metrics::fire_started((attempt.started_at - since).to_std().unwrap_or_default());
    }
    metrics::fire_ended(ended.outcome, ended.http_status, started.elapsed());
    let reach = match reach {
        outcome::Reach::Unreachable => Reach::Lost,
        outcome::Reach::Reached if attempt.probes => Reach::Found,
        _ => Reach::Unchanged,
    };
    let report = Report {
        ended: ended.clone(),
        instance_id: attempt.instance_id.clone(),
        job_id: attempt.job_id.clone(),
        reach,
    };
    let state = inner.recorder.record(report).await.and_then(|one| one.state);
    inner.watched.ended(attempt.attempt_id, &ended);
    tell(&attempt, &ended, lateness, state);
    if reach == Reach::Found || comes_soon(state, ended.retry_in, inner.rules.horizon) {
        inner.claim.notify_one();
    }
}

/// Whether a retry or a second fire may be due before the claiming loop would look again by itself: how long it
/// sleeps, it decided when this was not yet due at all.
fn comes_soon(state: Option<OneShotState>, retry_in: Option<Duration>, horizon: Duration) -> bool {
    let comes_again = matches!(state, Some(OneShotState::Waiting | OneShotState::Armed));
    // What was accepted and comes again was asked for again: only the database knows when.
    comes_again && retry_in.is_none_or(|delay| delay <= horizon)
}

/// One line per outcome. The answer's text stays in the database: it is the agent's, and may say anything.
fn tell(attempt: &Attempt, ended: &Ended, lateness: f64, state: Option<OneShotState>) {
    let lateness_ms = (lateness * 1e6).round() / 1e3;
    let state = state.map_or("superseded or cancelled", OneShotState::as_str);
    match ended.outcome {
        FireOutcome::Failed => {
            if ended.retry_in.is_none() {
                error!(
                    agent.id = %attempt.instance_id, job.id = %attempt.job_id, schedule.id = %attempt.schedule_id,
                    fire.attempt = attempt.attempt, http.status = ended.http_status, lateness_ms, state,
                    "a fire was given up: see `nas-cron jobs list --state dead`"
                );
            } else {
                info!(
                    agent.id = %attempt.instance_id, job.id = %attempt.job_id, schedule.id = %attempt.schedule_id,
                    fire.attempt = attempt.attempt, http.status = ended.http_status, lateness_ms, state,
                    retry_in_s = ended.retry_in.map(|delay| delay.as_secs_f64()), "not accepted"
                );
            }
        }
        outcome => info!(
            agent.id = %attempt.instance_id, job.id = %attempt.job_id, schedule.id = %attempt.schedule_id,
            fire.attempt = attempt.attempt, http.status = ended.http_status, lateness_ms, state,
            "{outcome}"
        ),
    }
}

/// Gives back what was not sent, due again in `delay`.
async fn give_back(inner: Arc<Inner>, leases: Vec<Lease>, delay: Duration) {
    inner.released(leases.len());
    inner.watched.forget(&leases);
    match retry_for(GIVING_BACK, || leases::give_back(&inner.db, &leases, delay)).await {
        Ok(given) => {
            metrics::leases_lost(leases.len() as u64 - given);
            if given > 0 && delay.is_zero() {
                inner.claim.notify_one();
            }
        }
        Err(error) => {
            warn!(%error, count = leases.len(), "leases could not be given back: they end by themselves");
        }
    }
}
