//! Two replicas under load, a seeded series of faults, and a ledger of what was promised and what came.
//!
//! Agents arm one-shots through a balancer and answer their fires. Every acknowledged provision and every fire that
//! arrives is written down by one clock, this process's, which is the database's, too. After the last fault the ledger
//! tells what was lost, early or fired by two at once; [`report::Report`] holds it against what the service promises.
//!
//! | file | contents |
//! |---|---|
//! | `fault` | the faults: names, lengths, what they are |
//! | `schedule` | which of them, in which order |
//! | `stage` | what a run starts: databases, proxy, replicas, agents |
//! | `databases`, `disk` | a primary and its standby, on disks that can be filled |
//! | `replica`, `balancer` | the service's processes, and what is in front of them |
//! | `load`, `agents` | calls to the service, and the endpoint of its fires |
//! | `ledger` | what was acknowledged and what arrived |
//! | `blow`, `recovery` | a fault from its begin to its end, and what comes after it |
//! | `report` | the table |

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

mod agents;
mod balancer;
mod blow;
mod databases;
mod disk;
pub mod fault;
mod ledger;
pub mod load;
mod recovery;
mod replica;
pub mod report;
pub mod schedule;
mod stage;

use ledger::Window;
use load::Load;
use report::Report;
use schedule::Step;
use stage::Stage;

/// How long what is armed may take to arrive after the last fault.
const SETTLING: Duration = Duration::from_mins(3);
/// Between a recovery and the next fault.
const CALM: Duration = Duration::from_secs(2);

/// What a run is made of.
pub struct Plan {
    /// The service's binary.
    pub binary: PathBuf,
    /// Faults in their order.
    pub steps: Vec<Step>,
    /// What the agents do.
    pub load: Load,
    /// Decides what each fault hits, and which fires are refused at first.
    pub seed: u64,
    /// Further settings of the replicas.
    pub settings: Vec<(&'static str, &'static str)>,
    /// Called with a line about what goes on, about once a second.
    pub progress: fn(&str),
}

/// Runs a plan from its start to its verdict.
pub async fn run(plan: Plan) -> Report {
    let mut stage = Stage::start(&plan).await;
    let load = load::start(Arc::clone(&stage.shared), plan.load);
    // Faults hit a deployment that works.
    tokio::time::sleep(CALM * 2).await;
    let mut windows = Vec::new();
    let (count, mut skipped) = (plan.steps.len(), Vec::new());
    for (index, step) in plan.steps.iter().enumerate() {
        if let Some(reason) = stage.cannot(step.fault) {
            if !skipped.contains(&(step.fault, reason)) {
                skipped.push((step.fault, reason));
            }
            continue;
        }
        let title = format!("{}/{count} {}", index + 1, step.fault.name());
        let ledger = Arc::clone(&stage.shared.ledger);
        let blow = async {
            blow::prepare(&mut stage, step.fault).await;
            let begin = ledger::now();
            let end = blow::strike(&mut stage, step).await;
            let recovery = recovery::wait(&mut stage, end).await;
            Window { fault: step.fault, begin, end, recovery }
        };
        windows.push(with_progress(blow, &title, &ledger, plan.progress).await);
        tokio::time::sleep(CALM).await;
    }
    load.stop().await;
    let ledger = Arc::clone(&stage.shared.ledger);
    with_progress(ledger.settled(SETTLING), "settling", &ledger, plan.progress).await;
    let report = Report::new(plan.seed, plan.load, &windows, &ledger, &skipped);
    stage.end(report.passed()).await;
    report
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
