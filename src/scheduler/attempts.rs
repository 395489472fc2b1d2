//! Attempts, from the instant to the recorded outcome: slot, confirmation, fire, record.

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::FutureExt;
use nas_cron_protocol::{InstanceId, OneShotState};
use tokio::sync::{Mutex as AsyncMutex, Semaphore, mpsc};
use tracing::{Instrument, debug, error, info, warn};
use uuid::Uuid;

use super::Inner;
use super::recorder::{Reach, Report};
use crate::db::{leases, retry_for};
use crate::domain::attempt::{Attempt, Ended};
use crate::domain::lease::Lease;
use crate::domain::lease_lengths::CONFIRMATION_RESERVE;
use crate::domain::stage::Stage;
use crate::domain::trace_context::TraceContext;
use crate::domain::{Deferral, FireOutcome};
use crate::fire::{End, UNREGISTERED, outcome};
use crate::heartbeat;
use crate::membership::Membership;
use crate::metrics::{self, InFlight, PanicPlace};
use crate::traces::attempt::{self, AttemptTrace};

/// Maximum number of rows in one confirmation.
const BATCH: usize = 256;
/// Maximum number of concurrent confirmations. With only one, every attempt would wait for its round trip.
const CONFIRMATIONS: usize = 4;
/// Delay of an attempt that got no slot in time.
const LATER: Duration = Duration::from_secs(1);
/// Delay of an attempt that was deferred by a shortage of this process or its machine.
const AFTER_A_SHORTAGE: Duration = Duration::from_secs(2);
/// Delay of an attempt whose row is unreadable: an operator has to fix it.
const UNREADABLE: Duration = Duration::from_mins(1);
/// Time for which giving leases back is retried. A confirmation whose result was lost may have committed. Undoing it is
/// worth retries, because the lease of an attempt ends much later.
const GIVING_BACK: Duration = Duration::from_secs(30);
/// Extra delay of a lease that the database did not consider due yet, against the estimate of its clock.
const A_LITTLE_LATER: Duration = Duration::from_micros(200);

/// A slot in flight for one attempt. It is freed on drop.
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

/// Receives due leases from the timer, and starts their attempts as slots become free. Ends with the timer.
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
                // Leases that wait for a slot must be given back before they end.
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
            // `take_ending` visits all waiting leases, so it does not run in every round.
            if waiting && now >= next_look {
                next_look = now + CONFIRMATION_RESERVE / 2;
                dispatch.take_ending(now + CONFIRMATION_RESERVE + CONFIRMATION_RESERVE / 2)
            } else {
                Vec::new()
            }
        };
        if !ending.is_empty() {
            inner.deferrals.note(Deferral::Slots, "no slot became free in time", ending.len());
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

/// Confirms a batch of leases and starts the confirmed attempts.
async fn start(inner: &Arc<Inner>, batch: Vec<Lease>) {
    let mut waiting: HashMap<Uuid, (Lease, Slot)> = batch
        .iter()
        .map(|lease| {
            let slot = Slot { inner: Arc::clone(inner), instance_id: lease.instance_id.clone() };
            (lease.lease_token, (lease.clone(), slot))
        })
        .collect();
    let Some(membership) = inner.membership() else {
        inner.deferrals.note(Deferral::Database, UNREGISTERED, batch.len());
        give_back(Arc::clone(inner), batch, LATER).await;
        return;
    };
    let (lease, replica_id) = (inner.rules.leases.attempt, membership.replica_id());
    let began = Instant::now();
    let confirmed = match leases::confirm(&inner.db, &batch, lease, replica_id).await {
        Ok(confirmed) => confirmed,
        Err(error) => {
            inner.deferrals.note(Deferral::Database, &error.to_string(), batch.len());
            give_back(Arc::clone(inner), batch, Duration::ZERO).await;
            return;
        }
    };
    inner.db_clock.observe(confirmed.clock);
    let confirmation = Stage::since(began);
    let mut done = 0;
    for attempt in confirmed.attempts {
        let Some((lease, slot)) = waiting.remove(&attempt.attempt_id) else { continue };
        done += 1;
        let (inner, membership) = (Arc::clone(inner), membership.clone());
        let tracker = inner.attempts.clone();
        let cause = inner.watched.cause(attempt.attempt_id);
        let made = async move {
            make(&inner, lease, attempt, confirmation, &membership).await;
            drop(slot);
        };
        tracker.spawn(made.instrument(cause));
    }
    inner.released(done);
    let unreadable: Vec<_> =
        confirmed.unreadable.iter().filter_map(|id| waiting.remove(id)).map(|(lease, _)| lease).collect();
    if !unreadable.is_empty() {
        inner.deferrals.note(Deferral::Defect, "the stored callback URL is unreadable", unreadable.len());
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
        // Cancelled, superseded, on hold, waiting for a probe, or the lease has ended. Only leases of one-shots that must
        // be parked are still valid: the next claim parks them.
        give_back(Arc::clone(inner), refused, Duration::ZERO).await;
    }
}

/// Makes one attempt and records its outcome.
async fn make(inner: &Inner, lease: Lease, attempt: Attempt, confirmation: Stage, membership: &Membership) {
    let is_recorded = inner.traces.records_attempt(attempt.provision_trace);
    let record = |steps, end| {
        if is_recorded {
            inner.traces.attempt(&AttemptTrace {
                lease: &lease,
                attempt: &attempt,
                confirmation,
                steps,
                end,
            });
        }
    };
    let request = TraceContext::of_callback(attempt.attempt_id, is_recorded);
    let lateness = (attempt.started_at - attempt.due_at).as_seconds_f64();
    let in_flight = InFlight::begin();
    let started = Instant::now();
    let fired = AssertUnwindSafe(inner.firing.fire(&attempt, request, membership)).catch_unwind().await;
    let (ended, reach, steps) = match fired {
        Ok(End::Made { ended, reach, steps }) => (ended, reach, Some(steps)),
        Ok(End::NotSent { reason, cause }) => {
            debug!(
                agent.id = %attempt.instance_id, job.id = %attempt.job_id, schedule.id = %attempt.schedule_id,
                fire.attempt_id = %attempt.attempt_id, %reason, cause, "delivery attempt deferred"
            );
            inner.deferrals.note(reason, &cause, 1);
            record(None, attempt::End::Deferred(reason));
            inner.watched.forget(std::slice::from_ref(&lease));
            let lease = std::slice::from_ref(&lease);
            let given =
                retry_for(GIVING_BACK, || leases::give_back(&inner.db, lease, AFTER_A_SHORTAGE)).await;
            if let Err(error) = given {
                warn!(%error, "giving a lease back failed; it expires by itself");
            }
            return;
        }
        Err(_panic) => {
            metrics::panicked(PanicPlace::Fire);
            error!(
                agent.id = %attempt.instance_id, job.id = %attempt.job_id, fire.attempt_id = %attempt.attempt_id,
                "delivery attempt panicked"
            );
            (inner.firing.broken(&attempt), outcome::Reach::Unknown, None)
        }
    };
    drop(in_flight);
    // Only here, because a deferred attempt has not started.
    let late_by = attempt.late_since.map(|since| (attempt.started_at - since).to_std().unwrap_or_default());
    if let Some(late_by) = late_by {
        metrics::fire_started(late_by);
    }
    let took = started.elapsed();
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
    let began = Instant::now();
    let recorded = inner.recorder.record(report).await;
    let recording = Stage::since(began);
    // Only now, because the counter shows durable outcomes.
    metrics::fire_ended(ended.outcome, ended.http_status, took);
    inner.minutes.ended(attempt.started_at, ended.outcome, late_by);
    let (state, expired) = recorded.map_or((None, false), |one| (one.state, one.expired));
    metrics::expired(u64::from(expired));
    inner.watched.ended(attempt.attempt_id, &ended, expired);
    record(steps, attempt::End::Recorded { ended: &ended, recording, state });
    let trace_id = is_recorded.then(|| attempt.attempt_id.simple().to_string());
    log(&attempt, trace_id.as_deref(), &ended, lateness, state, expired);
    if reach == Reach::Found || comes_soon(state, ended.retry_in, inner.rules.horizon) {
        inner.claim.notify_one();
    }
}

/// Returns true if a retry or a second fire may be due before the claiming loop's next look: the loop chose the time of
/// its next look without knowing of them.
fn comes_soon(state: Option<OneShotState>, retry_in: Option<Duration>, horizon: Duration) -> bool {
    let comes_again = matches!(state, Some(OneShotState::Waiting | OneShotState::Armed));
    // Without `retry_in` it is a second fire, or the fire after a duplicate; only the database knows when it is due.
    comes_again && retry_in.is_none_or(|delay| delay <= horizon)
}

/// Logs one line per outcome. The response's text is only stored: it comes from the agent and may contain anything.
fn log(
    attempt: &Attempt,
    trace_id: Option<&str>,
    ended: &Ended,
    lateness: f64,
    state: Option<OneShotState>,
    expired: bool,
) {
    let lateness_ms = (lateness * 1e6).round() / 1e3;
    let state = state.map_or("superseded or cancelled", OneShotState::as_str);
    match ended.outcome {
        outcome if expired => warn!(
            agent.id = %attempt.instance_id, job.id = %attempt.job_id, schedule.id = %attempt.schedule_id,
            fire.attempt = attempt.attempt, fire.attempt_id = %attempt.attempt_id, outcome = outcome.as_str(),
            trace.id = trace_id, http.status = ended.http_status, lateness_ms, state,
            "one-shot expired, its next attempt would start after its not_after"
        ),
        FireOutcome::Failed => {
            if ended.retry_in.is_none() {
                error!(
                    agent.id = %attempt.instance_id, job.id = %attempt.job_id, schedule.id = %attempt.schedule_id,
                    fire.attempt = attempt.attempt, fire.attempt_id = %attempt.attempt_id, trace.id = trace_id, http.status = ended.http_status, lateness_ms, state,
                    "fire given up, retry budget spent; see `nas-cron jobs list --state dead`"
                );
            } else {
                info!(
                    agent.id = %attempt.instance_id, job.id = %attempt.job_id, schedule.id = %attempt.schedule_id,
                    fire.attempt = attempt.attempt, fire.attempt_id = %attempt.attempt_id, trace.id = trace_id, http.status = ended.http_status, lateness_ms, state,
                    retry_in_s = ended.retry_in.map(|delay| delay.as_secs_f64()), "delivery attempt failed"
                );
            }
        }
        outcome => {
            let event = match outcome {
                FireOutcome::Delivered => "fire delivered",
                FireOutcome::Gone if state == OneShotState::Waiting.as_str() => {
                    "job unknown at another callback than its own, its own is asked next"
                }
                FireOutcome::Gone if attempt.follows_gone && ended.error.is_some() => {
                    "fire ended, agent no longer has the job and its own callback could not be reached"
                }
                FireOutcome::Gone => "fire ended, agent no longer has the job",
                FireOutcome::Dropped => "fire dropped, agent's gateway is stopped",
                FireOutcome::Duplicate => "fire refused as a duplicate",
                other => other.as_str(),
            };
            info!(
                agent.id = %attempt.instance_id, job.id = %attempt.job_id, schedule.id = %attempt.schedule_id,
                fire.attempt = attempt.attempt, fire.attempt_id = %attempt.attempt_id, trace.id = trace_id, http.status = ended.http_status, lateness_ms, state, "{event}"
            );
        }
    }
}

/// Gives back leases whose fires were not sent. Their one-shots are due again in `delay`.
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
            warn!(%error, count = leases.len(), "giving leases back failed; they expire by themselves");
        }
    }
}
