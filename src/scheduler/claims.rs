//! Leases what comes due, and takes back what leases left behind.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use tracing::warn;

use super::Inner;
use crate::db::{DbResult, leases, wake_ups};
use crate::heartbeat;
use crate::metrics;

/// Rows in one claim.
const BATCH: u16 = 1_000;
/// After a failed round: the database may be restarting.
const AFTER_A_FAULT: Duration = Duration::from_millis(100);
/// With nothing in sight, the next look comes after this share of the horizon.
pub(super) const IDLE_SHARE: f64 = 0.9;
/// Between rounds, at least: hints may come in faster.
const LEAST_PAUSE: Duration = Duration::from_millis(1);

/// Runs until the scheduler stops claiming.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut faults = 0_u32;
    loop {
        // Never cut off: a claim whose answer is lost leaves leases behind that nobody knows of.
        let pause = match round(&inner).await {
            Ok(pause) => {
                faults = 0;
                *inner.next_look.lock() = Instant::now() + pause;
                pause
            }
            Err(error) => {
                faults += 1;
                // Once per outage, and then every minute or so.
                if faults == 1 || faults.is_multiple_of(600) {
                    warn!(%error, faults, "claiming failed; it is tried again");
                }
                AFTER_A_FAULT
            }
        };
        let next = heartbeat::rest(async {
            tokio::select! {
                () = inner.stop.cancelled() => return false,
                () = inner.claim.notified() => tokio::time::sleep(LEAST_PAUSE).await,
                () = tokio::time::sleep(pause) => {}
            }
            true
        });
        if !next.await {
            return;
        }
    }
}

/// One look at what is due. Returns when to look again.
async fn round(inner: &Inner) -> DbResult<Duration> {
    let next = leases::next_look(&inner.db, &inner.rules.graces).await?;
    inner.db_clock.observe(next.clock);
    let offset = inner.db_clock.offset();
    metrics::set_db_clock_offset(offset.ahead.as_seconds_f64());
    inner.offset_log.lock().note(&offset);
    let horizon = inner.rules.horizon;
    // Under the horizon, so that nothing comes due between two looks unseen.
    let mut pause = horizon.mul_f64(IDLE_SHARE);

    let mut due_in = next.due_in;
    if let Some(missed_in) = next.missed_in {
        if missed_in.is_zero() {
            if watchdog(inner).await? >= u64::from(BATCH) {
                pause = Duration::ZERO;
            }
            due_in = Some(Duration::ZERO);
        } else {
            pause = pause.min(missed_in);
        }
    }
    if let Some(ends_in) = next.lease_ends_in {
        if ends_in.is_zero() {
            let floor = inner.firing.retry.ambiguous_floor;
            let recovered = leases::recover_expired(&inner.db, floor, i64::from(BATCH)).await?;
            if recovered.one_shots >= u64::from(BATCH) {
                pause = Duration::ZERO;
            }
            if recovered.one_shots > 0 {
                metrics::recovered(recovered.one_shots);
                metrics::fires_lost(recovered.attempts);
                warn!(
                    recovered = recovered.one_shots,
                    lost = recovered.attempts,
                    "leases of a replica that died or stalled were taken back"
                );
            }
            // What had not started is due this moment.
            due_in = Some(Duration::ZERO);
        } else {
            pause = pause.min(ends_in);
        }
    }
    if let Some(due_in) = due_in {
        let beyond = due_in.saturating_sub(horizon);
        if beyond > Duration::ZERO {
            // Not at once when it comes into the horizon, but when others have come with it: a steady stream is
            // claimed in batches, not one by one.
            pause = pause.min(beyond.saturating_add(horizon / 4));
        } else {
            claim(inner).await?;
        }
    }
    Ok(pause)
}

/// What hosted engines should have woken by now is woken by this loop, in the claim that follows.
/// Returns how many these were: a whole batch, and there may be more.
async fn watchdog(inner: &Inner) -> DbResult<u64> {
    let mut all = 0;
    for (backend, missed) in wake_ups::take_over_missed(&inner.db, &inner.rules.graces, BATCH.into()).await? {
        metrics::backend_missed(backend, missed);
        warn!(%backend, missed, "an engine brought no wake-up in time: our own loop does");
        all += missed;
    }
    Ok(all)
}

/// Claims all there is, as far as there is room.
async fn claim(inner: &Inner) -> DbResult<()> {
    let rules = &inner.rules;
    let room = || inner.room().min(BATCH);
    while !inner.stop.is_cancelled() {
        let mut limit = room();
        if limit == 0 {
            inner.starved.store(true, Ordering::SeqCst);
            // Looked at again, because the last lease may have gone in between, without a word.
            limit = room();
            if limit == 0 {
                return Ok(());
            }
        }
        let saturated = inner.dispatch.lock().saturated(Instant::now());
        let claimed = leases::claim_due(
            &inner.db,
            rules.horizon,
            rules.leases.claim_grace,
            i64::from(limit),
            &saturated,
        )
        .await?;
        let found = claimed.leases.len() + claimed.parked;
        inner.held.fetch_add(claimed.leases.len(), Ordering::SeqCst);
        inner
            .timer
            .add(claimed.leases.into_iter().map(|lease| (inner.db_clock.instant_of(lease.due_at), lease)));
        if found < usize::from(limit) {
            return Ok(());
        }
    }
    Ok(())
}
