//! Periodic maintenance: parked one-shots, history, gauges. All replicas run it; concurrent rounds are harmless.

use std::time::Duration;

use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use crate::db::{
    Db, DbResult, admin_tokens, audit, cancelled_jobs, dormant_jobs, events, fires, identities, job_auth,
    logins, operator_sessions, outages, quotas,
};
use crate::domain::hold::Tidied;
use crate::domain::quota::DefaultQuotas;
use crate::heartbeat;
use crate::metrics;

/// Average time between rounds, with jitter so that replicas spread.
const PERIOD: Duration = Duration::from_secs(20);
/// Maximum number of rows in one statement.
const BATCH: i64 = 2_000;
/// Maximum number of consecutive statements that delete expired tasks. The next round continues.
const TASK_BATCHES: u32 = 100;
/// Maximum number of one-shots that one statement examines.
const EXAMINED: i64 = 8_000;
/// Maximum number of such statements in one round. Ten million one-shots take a day and a half.
const PRUNE_BATCHES: u32 = 6;
/// Pages of the history that are read in one statement: 8 MB.
const ERASE_PAGES: i32 = 1_000;
/// Maximum number of such statements in one round.
const ERASE_STEPS: u32 = 64;
/// Maximum number of idle jobs per instance whose auth profile is kept. An idle job has no one-shot.
const IDLE_AUTH: i64 = 10_000;
/// Number of rounds between two deletions of old history: about ten minutes.
const PRUNE_EVERY: u32 = 30;
/// Number of rounds between two counts of holds, withheld instances and dormant jobs. They change rarely, and an idle replica
/// should make few statements.
const WITHHELD_EVERY: u32 = 3;

/// Settings of the maintenance loop.
#[derive(Clone, Copy, Debug)]
pub struct MaintenanceRules {
    /// Maximum time that a one-shot waits for a probe.
    pub give_up_after: Duration,
    /// Retention of history and of ended one-shots.
    pub history_retention: Duration,
    /// Time for which texts of agents' errors are kept.
    pub error_text_retention: Duration,
    /// Retention of the audit log.
    pub audit_retention: Duration,
    /// Quotas of instances and orgs that have none of their own.
    pub default_quotas: DefaultQuotas,
}

/// Runs until `stop`. Statements use `db`; unused connections of `pools` are closed.
pub async fn run(db: Db, pools: [Db; 2], rules: MaintenanceRules, stop: CancellationToken) {
    let (db, mut round, mut cursor) = (db.patient(), 0_u32, None);
    loop {
        pools.iter().for_each(Db::close_unused);
        // Errors are reported one by one, so that a failed step does not prevent the others.
        if round.is_multiple_of(PRUNE_EVERY) {
            report("deleting old history", prune(&db, &rules, &mut cursor).await);
            report("erasing texts of errors", erase_error_texts(&db, &rules).await);
            report("deleting old lines of the audit log", prune_audit(&db, &rules).await);
        }
        let counts = fires::counts(&db).await;
        if counts.as_ref().map_or(true, |counts| counts.unsettled) {
            report("checking parked one-shots", settle(&db, &rules).await);
        }
        report("counting one-shots", counts.map(|counts| metrics::set_one_shots(&counts)));
        if round.is_multiple_of(WITHHELD_EVERY) {
            let withheld = outages::withheld(&db).await;
            report("counting holds", withheld.map(|withheld| metrics::set_withheld(&withheld)));
            let dormant = dormant_jobs::counts(&db).await;
            let nearly_used = quotas::recount(&db, rules.default_quotas).await;
            report(
                "counting nearly used quotas",
                nearly_used.map(|counts| metrics::set_nearly_used_quotas(&counts)),
            );
            report("counting dormant jobs", dormant.map(|dormant| metrics::set_dormant(&dormant)));
        }
        round = round.wrapping_add(1);
        let pause = PERIOD.mul_f64(rand::random_range(0.75..1.25));
        if heartbeat::rest(stop.run_until_cancelled(tokio::time::sleep(pause))).await.is_none() {
            return;
        }
    }
}

fn report(step: &str, result: DbResult<()>) {
    if let Err(error) = result {
        warn!(%error, "{step} failed; retrying in the next round");
    }
}

/// Releases parked one-shots without a hold, replaces missing probes, and gives up one-shots whose retry budget is spent. All of
/// them: whoever has ended a hold may have left before its end.
async fn settle(db: &Db, rules: &MaintenanceRules) -> DbResult<()> {
    loop {
        let tidied = outages::tidy_parked(db, rules.give_up_after, BATCH).await?;
        if tidied != Tidied::default() {
            info!(
                released = tidied.released,
                probes = tidied.probes,
                given_up = tidied.given_up,
                "parked one-shots updated"
            );
        }
        if tidied.released < BATCH && tidied.given_up < BATCH {
            return Ok(());
        }
    }
}

/// Drops and deletes what is older than its retention. `cursor` is the job after which one-shots are examined next.
async fn prune(db: &Db, rules: &MaintenanceRules, cursor: &mut Option<fires::PruneCursor>) -> DbResult<()> {
    let dropped = fires::maintain_history(db, rules.history_retention).await?;
    // Before one-shots: a job that was cancelled, armed again and deleted for its age is not a cancelled one.
    let mut pruned = prune_cancelled(db, rules.history_retention).await?;
    for _ in 0..PRUNE_BATCHES {
        let (retention, error_texts) = (rules.history_retention, rules.error_text_retention);
        let (next, gone) = fires::prune_ended(db, retention, error_texts, cursor.as_ref(), EXAMINED).await?;
        *cursor = next;
        pruned += gone;
        if cursor.is_none() {
            break;
        }
    }
    while job_auth::prune(db, rules.history_retention, IDLE_AUTH, BATCH).await? > 0 {}
    for _ in 0..TASK_BATCHES {
        if identities::tasks::prune(db, BATCH).await? < BATCH.unsigned_abs() {
            break;
        }
    }
    loop {
        let gone = events::prune(db, rules.history_retention, BATCH).await?;
        pruned += i64::try_from(gone).unwrap_or(i64::MAX);
        if gone < BATCH.unsigned_abs() {
            break;
        }
    }
    pruned += i64::try_from(logins::prune(db, rules.history_retention).await?).unwrap_or(i64::MAX);
    if dropped > 0 || pruned > 0 {
        info!(partitions = dropped, rows = pruned, "old history deleted");
    }
    Ok(())
}

/// Erases texts of errors from the history. If they are kept as long as the history, they are dropped with it.
async fn erase_error_texts(db: &Db, rules: &MaintenanceRules) -> DbResult<()> {
    if rules.error_text_retention >= rules.history_retention {
        return Ok(());
    }
    for _ in 0..ERASE_STEPS {
        if !fires::erase_error_texts(db, rules.error_text_retention, ERASE_PAGES).await? {
            break;
        }
    }
    Ok(())
}

/// Deletes old lines of the audit log, the tokens that only they mention, and sessions that have ended.
async fn prune_audit(db: &Db, rules: &MaintenanceRules) -> DbResult<()> {
    let mut gone = 0;
    loop {
        let batch = audit::prune(db, rules.audit_retention, BATCH).await?;
        gone += batch;
        if batch < BATCH.unsigned_abs() {
            break;
        }
    }
    gone += admin_tokens::prune(db, rules.audit_retention).await?;
    operator_sessions::prune(db, BATCH).await?;
    if gone > 0 {
        info!(rows = gone, "old lines of the audit log deleted");
    }
    Ok(())
}

async fn prune_cancelled(db: &Db, retention: Duration) -> DbResult<i64> {
    let mut pruned = 0;
    loop {
        let gone = cancelled_jobs::prune(db, retention, BATCH).await?;
        pruned += i64::try_from(gone).unwrap_or(i64::MAX);
        if gone < BATCH.unsigned_abs() {
            return Ok(pruned);
        }
    }
}
