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

/// Holds and withheld instances are counted every this many rounds: they last, and an idle replica makes few statements.
const WITHHELD_EVERY: u32 = 2;

/// What upkeep needs to know.
#[derive(Clone, Copy, Debug)]
pub struct MaintenanceRules {
    /// How long a one-shot may wait for a probe.
    pub give_up_after: Duration,
    /// How long history and what ended are kept.
    pub history_retention: Duration,
}

/// Runs until `stop`. `pools` are those whose unused connections are closed; the statements go to `db`.
pub async fn run(db: Db, pools: [Db; 2], rules: MaintenanceRules, stop: CancellationToken) {
    let (db, mut round) = (db.patient(), 0_u32);
    loop {
        pools.iter().for_each(Db::close_unused);
        // Each by itself: what is slow or fails must not keep the others from being done.
        if round.is_multiple_of(PRUNE_EVERY) {
            report("throwing old rows away", throw_away(&db, &rules).await);
        }
        let counts = fires::counts(&db).await;
        if counts.as_ref().map_or(true, |counts| counts.unsettled) {
            report("putting parked one-shots right", settle(&db, &rules).await);
        }
        report("counting one-shots", counts.map(|counts| metrics::set_one_shots(&counts)));
        if round.is_multiple_of(WITHHELD_EVERY) {
            let withheld = outages::withheld(&db).await;
            report("counting holds", withheld.map(|withheld| metrics::set_withheld(&withheld)));
        }
        round = round.wrapping_add(1);
        let pause = PERIOD.mul_f64(rand::random_range(0.75..1.25));
        if heartbeat::rest(stop.run_until_cancelled(tokio::time::sleep(pause))).await.is_none() {
            return;
        }
    }
}

fn report(what: &str, result: DbResult<()>) {
    if let Err(error) = result {
        warn!(%error, "{what} failed; it is tried again");
    }
}

/// Releases and gives up what is parked for no reason any more.
async fn settle(db: &Db, rules: &MaintenanceRules) -> DbResult<()> {
    let tidied = outages::tidy_parked(db, rules.give_up_after, BATCH).await?;
    if tidied != Tidied::default() {
        info!(
            released = tidied.released,
            probes = tidied.probes,
            given_up = tidied.given_up,
            "parked one-shots were put right"
        );
    }
    Ok(())
}

/// Ends the history of attempts that nobody will end, and deletes what is older than its retention.
async fn throw_away(db: &Db, rules: &MaintenanceRules) -> DbResult<()> {
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
    Ok(())
}
