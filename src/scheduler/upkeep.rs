//! What is done now and then, by every replica without harm: parked one-shots, history, gauges.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::db::{Db, DbResult, auth_profiles, fires, identities, logins, outages};
use crate::domain::hold::Tidied;
use crate::heartbeat;
use crate::metrics;

/// How often, on average; jittered so that replicas spread.
const PERIOD: Duration = Duration::from_secs(15);
/// Rows in one statement.
const BATCH: i64 = 2_000;
/// Statements in a row that throw away tasks: what is left after them goes the next time.
const TASK_BATCHES: u32 = 100;
/// Jobs of one instance that are without a one-shot, and whose auth profile is kept for when they come back.
const IDLE_AUTH: i64 = 10_000;
/// History is thrown away every this many rounds: about every five minutes.
const PRUNE_EVERY: u32 = 20;

/// What upkeep needs to know.
#[derive(Clone, Copy, Debug)]
pub struct UpkeepRules {
    /// How long a one-shot may wait for a probe.
    pub give_up_after: Duration,
    /// How long history and what ended are kept.
    pub history_retention: Duration,
}

/// Runs until `stop`.
pub async fn run(db: Db, rules: UpkeepRules, stop: CancellationToken) {
    let (db, mut round) = (db.patient(), 0_u32);
    loop {
        db.close_unused();
        if let Err(error) = once(&db, &rules, round.is_multiple_of(PRUNE_EVERY)).await {
            warn!(%error, "upkeep failed; it is tried again");
        }
        round = round.wrapping_add(1);
        let pause = PERIOD.mul_f64(rand::random_range(0.75..1.25));
        if heartbeat::rest(stop.run_until_cancelled(tokio::time::sleep(pause))).await.is_none() {
            return;
        }
    }
}

/// One round.
async fn once(db: &Db, rules: &UpkeepRules, prune: bool) -> DbResult<()> {
    let counts = fires::counts(db).await?;
    if counts.unsettled {
        let tidied = outages::tidy_parked(db, rules.give_up_after, BATCH).await?;
        if tidied != Tidied::default() {
            info!(
                released = tidied.released,
                probes = tidied.probes,
                given_up = tidied.given_up,
                "parked one-shots were put right"
            );
        }
    }
    metrics::set_one_shots(&counts);
    metrics::set_withheld(&outages::withheld(db).await?);
    if prune {
        let abandoned = fires::close_abandoned(db).await?;
        metrics::fires_lost(abandoned);
        let mut pruned = 0;
        loop {
            let gone = fires::prune(db, rules.history_retention, BATCH).await?;
            pruned += gone;
            if gone == 0 {
                break;
            }
        }
        while auth_profiles::prune(db, rules.history_retention, IDLE_AUTH, BATCH).await? > 0 {}
        for _ in 0..TASK_BATCHES {
            if identities::tasks::prune(db, BATCH).await? < BATCH.unsigned_abs() {
                break;
            }
        }
        pruned += i64::try_from(logins::prune(db, rules.history_retention).await?).unwrap_or(i64::MAX);
        if abandoned > 0 || pruned > 0 {
            info!(abandoned, pruned, "history was put in order");
        }
    }
    Ok(())
}
