//! Moving house: after a switch, every one-shot is brought to the active backend.
//!
//! `nas-cron backend switch` changes one row and drives the moving; every replica does the same now and then, so that
//! a switch that was broken off is finished, and what was armed in the very moment of the switch follows.

use std::sync::Arc;
use std::time::Duration;

use nas_cron_protocol::BackendName;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::outbox::Outbox;
use crate::db::{Db, DbResult, hints, wake_ups};
use crate::heartbeat;
use crate::metrics;

/// How often, on average; jittered so that replicas spread.
const PERIOD: Duration = Duration::from_secs(15);
/// The same where no backend is configured: whoever has one does it sooner, and an idle service should be idle.
const PERIOD_ALONE: Duration = Duration::from_mins(1);
/// Rows in one statement.
const BATCH: i64 = 500;
/// Wake-ups of fires that were due this long ago are nobody's any more.
const FORGOTTEN_AFTER: Duration = Duration::from_hours(2);
/// Orphans are looked for every this many rounds: that goes through all there is.
const ORPHANS_EVERY: u32 = 20;

/// Runs until `stop`.
pub async fn run(db: Db, outboxes: Vec<Arc<Outbox>>, stop: CancellationToken) {
    let (db, mut round) = (db.patient(), 0_u32);
    let period = if outboxes.is_empty() { PERIOD_ALONE } else { PERIOD };
    loop {
        let pause = period.mul_f64(rand::random_range(0.75..1.25));
        if heartbeat::rest(stop.run_until_cancelled(tokio::time::sleep(pause))).await.is_none() {
            return;
        }
        round = round.wrapping_add(1);
        match once(&db, &outboxes, round.is_multiple_of(ORPHANS_EVERY), &stop).await {
            Ok(0) => {}
            Ok(moved) => info!(moved, "one-shots were moved to the active backend"),
            Err(error) => warn!(%error, "moving to the active backend failed; it is tried again"),
        }
    }
}

/// Moves one batch. Returns how many have moved: none when there is nothing left to move.
pub async fn batch(db: &Db) -> DbResult<u64> {
    let moved = wake_ups::move_to_active(db).await?;
    if moved.count > 0 && moved.to == BackendName::Postgres {
        // Some of it may be due before the replicas look by themselves.
        hints::announce(db).await?;
    }
    Ok(moved.count)
}

/// One round. Returns how many have moved.
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
            outbox.look();
        }
    }
    while orphans && wake_ups::find_orphans(db, BATCH).await? > 0 && !stop.is_cancelled() {}
    while wake_ups::prune(db, FORGOTTEN_AFTER, BATCH).await? > 0 && !stop.is_cancelled() {}
    if !outboxes.is_empty() {
        for one in wake_ups::counts(db).await? {
            metrics::set_wake_ups(
                one.backend,
                [("wanted", one.wanted), ("armed", one.armed), ("unwanted", one.unwanted)],
            );
        }
    }
    Ok(moved)
}
