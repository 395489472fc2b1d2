//! The claiming loop: leases one-shots that come due, and looks for other work that has become due.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use nas_cron_base::clock::Clock;
use tracing::warn;

use super::recovery::Recovery;
use super::{Inner, expiry, presence};
use crate::db::{DbResult, events, leases, wake_ups};
use crate::db_clock::Offset;
use crate::heartbeat;
use crate::metrics;

/// Maximum number of rows in one claim.
pub(super) const BATCH: u16 = 1_000;
/// Pause after a failed round: the database may be restarting.
const AFTER_A_FAULT: Duration = Duration::from_millis(100);
/// Pause of an idle loop, as a share of the horizon. Below 1, so that every one-shot is seen before it is due.
pub(super) const IDLE_SHARE: f64 = 0.95;
/// Minimum pause between rounds, however many hints arrive.
const LEAST_PAUSE: Duration = Duration::from_millis(1);

/// Runs until the scheduler stops claiming.
pub(super) async fn run(inner: Arc<Inner>) {
    let mut faults = 0_u32;
    let mut recovery = Recovery::default();
    loop {
        // Never cancelled: a claim whose result is lost leaves leases that no replica knows of.
        let pause = match round(&inner, &mut recovery).await {
            Ok(pause) => {
                faults = 0;
                *inner.next_look.lock() = Instant::now() + pause;
                pause
            }
            Err(error) => {
                faults += 1;
                // Logged once at the start of an outage, and then about every minute.
                if faults == 1 || faults.is_multiple_of(600) {
                    warn!(%error, faults, "claiming due one-shots failed; retrying");
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

/// Looks for due work once, and does it. Returns the time until the next look.
async fn round(inner: &Inner, recovery: &mut Recovery) -> DbResult<Duration> {
    let next = leases::next_look(&inner.db, &inner.rules.graces).await?;
    inner.db_clock.observe(next.clock);
    let offset = inner.db_clock.offset();
    metrics::set_db_clock_offset(offset.ahead.as_seconds_f64());
    note_offset(inner, &offset).await?;
    let horizon = inner.rules.horizon;
    // Other replicas may hold leases of what is due within the horizon.
    let leases = next.first_in.is_some_and(|due_in| due_in <= horizon) || next.superseded_ends_in.is_some();
    inner.activity.set(leases || inner.held.load(Ordering::SeqCst) > 0);
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
    if let Some(expires_in) = next.expires_in {
        if !expires_in.is_zero() {
            pause = pause.min(expires_in);
        } else if expiry::expire(&inner.db, BATCH).await? > 0 {
            // The next look knows the next limit.
            pause = Duration::ZERO;
        }
    }
    if [next.first_in, next.superseded_ends_in].into_iter().flatten().any(|at| at.is_zero()) {
        if recovery.search(inner).await? > 0 {
            // Recovered one-shots that had not started are due now.
            due_in = Some(Duration::ZERO);
        }
        pause = pause.min(recovery.next_in());
    }
    if let Some(due_in) = due_in {
        let beyond = due_in.saturating_sub(horizon);
        if beyond > Duration::ZERO {
            // A quarter of the horizon later than necessary, so that a steady stream is claimed in batches.
            pause = pause.min(beyond.saturating_add(horizon / 4));
        } else {
            claim(inner).await?;
        }
    }
    Ok(pause)
}

/// Logs a clock offset that has become large or tolerable, and notes it for an event.
async fn note_offset(inner: &Inner, offset: &Offset) -> DbResult<()> {
    let before = *inner.offset_log.lock();
    let noted = inner.offset_log.lock().note(offset);
    let Some(corrected) = noted else { return Ok(()) };
    let offset_s = offset.ahead.as_seconds_f64();
    let stored = events::note_clock(&inner.db, &presence::host_name(), offset_s, corrected).await;
    if stored.is_err() {
        // Noted again in the next round.
        *inner.offset_log.lock() = before;
    }
    stored
}

/// Takes over one-shots whose external wake-up is overdue; the claim that follows leases them. Returns their number. If it
/// is a whole batch, there may be more.
async fn watchdog(inner: &Inner) -> DbResult<u64> {
    let mut all = 0;
    for (backend, missed) in wake_ups::take_over_missed(&inner.db, &inner.rules.graces, BATCH.into()).await? {
        metrics::backend_missed(backend, missed);
        inner.minutes.missed(inner.db_clock.now(), missed);
        warn!(%backend, missed, "external backend missed wake-ups; the Postgres loop took them over");
        all += missed;
    }
    Ok(all)
}

/// Claims due one-shots until there are no more or the capacity is nearly used up. Claims nothing while this replica may not make
/// attempts.
async fn claim(inner: &Inner) -> DbResult<()> {
    let rules = &inner.rules;
    let room = || inner.room().min(BATCH);
    while !inner.stop.is_cancelled() && inner.membership().is_some() {
        let mut limit = room();
        if limit < rules.worthwhile_claim() {
            inner.starved.store(true, Ordering::SeqCst);
            // Checked again after `starved` is set: a lease released in between has not notified this loop.
            limit = room();
            if limit < rules.worthwhile_claim() {
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
        let found = claimed.leases.len() + claimed.postponed;
        inner.hold(claimed.leases.len());
        inner
            .timer
            .add(claimed.leases.into_iter().map(|lease| (inner.db_clock.instant_of(lease.due_at), lease)));
        if found < usize::from(limit) {
            return Ok(());
        }
    }
    Ok(())
}
