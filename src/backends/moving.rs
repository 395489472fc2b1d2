//! Moves every one-shot to the active backend after a switch.
//!
//! `nas-cron backend switch` changes one row and runs the move. Every replica also runs it periodically: it finishes
//! interrupted switches, and moves one-shots that were armed during a switch. A switch by the admin API is left to the
//! replicas: the one that was called begins at once.

use std::sync::Arc;
use std::time::Duration;

use nas_cron_protocol::BackendName;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::outbox::Outbox;
use crate::db::{Db, DbResult, hints, wake_ups};
use crate::heartbeat;
use crate::metrics;

/// Average interval between rounds. Jitter spreads the replicas.
const PERIOD: Duration = Duration::from_secs(15);
/// Average interval where no external backend is configured. Replicas that have one run sooner, and an idle service
/// should stay idle.
const PERIOD_ALONE: Duration = Duration::from_mins(1);
/// Rows in one statement.
const BATCH: i64 = 500;
/// Age at which an outbox row is deleted, counted from its due time.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(2);
/// Number of rounds between two searches for orphans, which scan the whole outbox.
const ORPHANS_EVERY: u32 = 20;

/// Runs until `stop`. `wake` begins a round at once.
pub async fn run(db: Db, outboxes: Vec<Arc<Outbox>>, wake: Arc<Notify>, stop: CancellationToken) {
    let (db, mut round) = (db.patient(), 0_u32);
    let period = if outboxes.is_empty() { PERIOD_ALONE } else { PERIOD };
    loop {
        let pause = period.mul_f64(rand::random_range(0.75..1.25));
        // Elapsed or notified: a round is due.
        let due = async { drop(tokio::time::timeout(pause, wake.notified()).await) };
        if heartbeat::rest(stop.run_until_cancelled(due)).await.is_none() {
            return;
        }
        round = round.wrapping_add(1);
        match once(&db, &outboxes, round.is_multiple_of(ORPHANS_EVERY), &stop).await {
            Ok(0) => {}
            Ok(moved) => info!(moved, "one-shots moved to the active backend"),
            Err(error) => warn!(%error, "moving one-shots to the active backend failed; retrying"),
        }
    }
}

/// Moves one batch. Returns the number of one-shots moved: 0 when nothing is left to move.
pub async fn batch(db: &Db) -> DbResult<u64> {
    let moved = wake_ups::move_to_active(db).await?;
    if moved.count > 0 && moved.to == BackendName::Postgres {
        // Some one-shots may be due before the replicas' next query.
        hints::announce(db).await?;
    }
    Ok(moved.count)
}

/// Runs one round. Returns the number of one-shots moved.
async fn once(db: &Db, outboxes: &[Arc<Outbox>], orphans: bool, stop: &CancellationToken) -> DbResult<u64> {
    let mut moved = 0;
    if outboxes.is_empty() && !wake_ups::concerned(db).await? {
        return Ok(moved);
    }
    while !stop.is_cancelled() {
        let batch = batch(db).await?;
        moved += batch;
        if batch == 0 {
            break;
        }
        for outbox in outboxes {
            outbox.notify();
        }
    }
    while orphans && wake_ups::find_orphans(db, BATCH).await? > 0 && !stop.is_cancelled() {}
    while wake_ups::prune(db, FORGOTTEN_AFTER, BATCH).await? > 0 && !stop.is_cancelled() {}
    if !outboxes.is_empty() {
        for one in wake_ups::counts(db).await? {
            metrics::set_wake_ups(
                one.backend,
                [("wanted", one.wanted.count), ("armed", one.armed.count), ("unwanted", one.unwanted.count)],
            );
        }
    }
    Ok(moved)
}
