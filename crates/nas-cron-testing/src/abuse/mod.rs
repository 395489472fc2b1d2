//! Healthy agents beside callers that abuse the service, in one run: what the healthy ones notice.
//!
//! A few agents arm one-shots at a steady rate, and measure how long a provision takes and how late a fire is: first alone
//! (calm), then beside each kind of abuse. The abuse runs on a thread of its own.
//!
//! | file | contents |
//! |---|---|
//! | `healthy` | the agents that are measured, and the endpoint of all fires |
//! | `hostile` | the kinds of abuse |
//! | `report` | the table |

mod healthy;
mod hostile;
pub mod report;

use std::path::PathBuf;
use std::time::Duration;

use nas_cron_dev::private_postgres::PrivatePostgres;
use sqlx::PgPool;
use tokio_util::sync::CancellationToken;

use self::healthy::Healthy;
pub use self::hostile::{Abuse, Scale};
use self::report::{Phase, Report};
use crate::database::server_options;
use crate::portal::Portal;
use crate::service::{Service, Settings};

/// The org of all agents.
const ORG: &str = "org-1";
/// The agent that abuses the service with valid tokens.
const HOSTILE: &str = "hostile";

/// The plan of a run.
pub struct Plan {
    /// The service's binary; `None` for that of the tests.
    pub binary: Option<PathBuf>,
    /// The kinds of abuse, in their order.
    pub kinds: Vec<Abuse>,
    /// The extent of each.
    pub scale: Scale,
    /// Length of the calm phase, and minimum length of the others.
    pub phase: Duration,
    /// Provisions per second of the healthy agents together.
    pub rate: u32,
    /// Receives the name of each phase as it begins.
    pub progress: fn(&str),
}

/// Everything that runs beside the service.
struct Stage {
    service: Service,
    portal: Portal,
    pool: PgPool,
    _postgres: PrivatePostgres,
}

/// Runs the plan.
pub async fn run(plan: Plan) -> Report {
    let postgres = tokio::task::spawn_blocking(|| PrivatePostgres::start(server_options()))
        .await
        .expect("no panic")
        .unwrap_or_else(|error| panic!("{error}"));
    let url = postgres.tcp_url("postgres").expect("TCP is enabled");
    let portal = Portal::start().await;
    let mut settings = Settings::new(&url, &portal);
    if let Some(binary) = plan.binary.clone() {
        settings = settings.of_binary(binary);
    }
    let service = Service::start(&settings).await;
    let pool = PgPool::connect(&url).await.expect("the database answers");
    let healthy = Healthy::start(&service, &portal, plan.rate).await;
    service.register(HOSTILE, ORG, None).await;
    let stage = Stage { service, portal, pool, _postgres: postgres };

    // Plans, caches and connections of the first seconds are not measured.
    healthy.measure(plan.phase / 4, async {}).await;
    (plan.progress)("calm");
    let mut phases = vec![measured(&stage, &healthy, "calm", plan.phase, async { String::new() }).await];
    for kind in plan.kinds {
        (plan.progress)(kind.name());
        kind.prepare(&stage, &healthy, plan.scale).await;
        let over = CancellationToken::new();
        let abuse = kind.start(&stage, &healthy, plan.scale, over.clone());
        let ending = async {
            // The others have a certain extent.
            if !kind.ends() {
                tokio::time::sleep(plan.phase).await;
                over.cancel();
            }
            abuse.await.expect("the abuse does not panic")
        };
        phases.push(measured(&stage, &healthy, kind.name(), plan.phase, ending).await);
    }
    let log = stage.service.log();
    let panics = log.lines().filter(|line| line.contains("panicked")).count();
    Report { phases, panics }
}

/// Measures for at least `phase`, and until `abuse` has ended.
async fn measured(
    stage: &Stage,
    healthy: &Healthy,
    name: &'static str,
    phase: Duration,
    abuse: impl Future<Output = String>,
) -> Phase {
    let mut answers = String::new();
    let during = async { answers = abuse.await };
    let measures = healthy.measure(phase, during).await;
    Phase { name, measures, answers, resident_mb: resident_mb(stage.service.pid()) }
}

/// Returns the resident memory of a process, in MB; 0 where it cannot be read.
fn resident_mb(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() / 1_024
}
