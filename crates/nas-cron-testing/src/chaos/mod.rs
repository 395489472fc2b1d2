//! Two replicas under load, a seeded series of faults, and a ledger of acknowledged provisions and fires.
//!
//! Agents arm one-shots through a balancer and respond to their fires. The ledger records every acknowledged provision
//! and every fire by the clock of this machine, which is also the database's. After the last fault it shows the one-shots
//! that were lost, early or overlapping, and [`report::Report`] compares that with the guarantees of the service.
//!
//! | file | contents |
//! |---|---|
//! | `fault` | the faults: names, lengths, descriptions |
//! | `schedule` | the number and order of the faults |
//! | `stage` | everything that a run starts: databases, proxy, replicas, agents |
//! | `databases`, `disk` | a primary and its standby, on disks that can be filled |
//! | `replica`, `balancer` | the service's processes and their load balancer |
//! | `load`, `agents` | calls to the service, and the endpoint of its fires |
//! | `ledger` | acknowledged provisions and fires |
//! | `injection`, `recovery` | a fault from its begin to its end, and the recovery from it |
//! | `report` | the table |
//! | `backend` | the scheduler backend, and its faults |
//! | `verifier` | fire tokens, as an agent verifies them |
//! | `rotations`, `samples` | key rotations, and the memory and descriptors of a replica |
//! | `soak` | a long run with both |
//! | `upgrade` | a rolling upgrade and rollback instead of faults |

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

mod agents;
pub mod backend;
mod balancer;
mod databases;
mod descriptors;
mod disk;
pub mod fault;
mod injection;
mod ledger;
pub mod load;
pub mod progress;
mod recovery;
mod replica;
pub mod report;
pub mod rotations;
pub mod samples;
pub mod schedule;
pub mod soak;
mod stage;
pub mod upgrade;
mod verifier;

use backend::Backend;
use ledger::Window;
use load::Load;
use report::Report;
use schedule::Step;
use stage::Stage;

/// Maximum time after the last fault until all one-shots are delivered.
const SETTLING: Duration = Duration::from_mins(3);
/// Time between a recovery and the next fault.
const CALM: Duration = Duration::from_secs(2);

/// The plan of a run.
pub struct Plan {
    /// The service's binary.
    pub binary: PathBuf,
    /// Faults in their order.
    pub steps: Vec<Step>,
    /// The load.
    pub load: Load,
    /// Determines the targets of faults, and the fires that agents reject at first.
    pub seed: u64,
    /// Further settings of the replicas.
    pub settings: Vec<(&'static str, &'static str)>,
    /// The scheduler backend.
    pub backend: Backend,
    /// True for a third replica whose process no fault hits.
    pub spared: bool,
    /// Called with a progress line about once a second.
    pub progress: fn(&str),
}

impl Plan {
    /// Returns a plan without faults: two replicas with default settings, and the backend `postgres`.
    pub fn new(binary: PathBuf, load: Load, seed: u64) -> Self {
        Self {
            binary,
            steps: Vec::new(),
            load,
            seed,
            settings: Vec::new(),
            backend: Backend::Postgres,
            spared: false,
            progress: |_| {},
        }
    }
}

/// Runs a plan and returns the report.
pub async fn run(plan: Plan) -> Report {
    let mut stage = Stage::start(&plan).await;
    let load = load::start(Arc::clone(&stage.shared), plan.load);
    // The deployment runs without faults at first.
    tokio::time::sleep(CALM * 2).await;
    let mut windows = Vec::new();
    let (count, mut skipped) = (plan.steps.len(), Vec::new());
    for (index, step) in plan.steps.iter().enumerate() {
        if let Some(reason) = stage.skip_reason(step.fault) {
            if !skipped.contains(&(step.fault, reason)) {
                skipped.push((step.fault, reason));
            }
            continue;
        }
        let title = format!("{}/{count} {}", index + 1, step.fault.name());
        windows.push(break_and_recover(&mut stage, step, &title, plan.progress).await);
        tokio::time::sleep(CALM).await;
    }
    load.stop().await;
    let ledger = Arc::clone(&stage.shared.ledger);
    with_progress(ledger.settled(SETTLING), "settling", &ledger, plan.progress).await;
    let report = Report::new(plan.seed, plan.load, &windows, &ledger, &skipped);
    stage.end(report.passed()).await;
    report
}

/// Injects a fault and waits for the recovery from it.
async fn break_and_recover(stage: &mut Stage, step: &Step, title: &str, progress: fn(&str)) -> Window {
    let ledger = Arc::clone(&stage.shared.ledger);
    let window = async {
        injection::prepare(stage, step.fault).await;
        let begin = ledger::now();
        let end = injection::inject(stage, step).await;
        let recovery = recovery::wait(stage, end).await;
        Window { fault: step.fault, begin, end, recovery }
    };
    with_progress(window, title, &ledger, progress).await
}

async fn with_progress<T>(
    work: impl Future<Output = T>,
    title: &str,
    ledger: &ledger::Ledger,
    progress: fn(&str),
) -> T {
    tokio::pin!(work);
    loop {
        tokio::select! {
            done = &mut work => return done,
            () = tokio::time::sleep(Duration::from_secs(1)) => progress(&format!("{title}: {}", ledger.line())),
        }
    }
}
