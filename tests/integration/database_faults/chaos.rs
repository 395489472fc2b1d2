//! The short form of the chaos run: docs/reliability.md.

use nas_cron_testing::chaos::load::Load;
use nas_cron_testing::chaos::{Plan, run, schedule};
use nas_cron_testing::service::binary_path;

const SEED: u64 = 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_series_of_faults_loses_nothing_and_every_replica_recovers() {
    let report = run(Plan {
        steps: schedule::short(SEED),
        settings: schedule::SHORT_LEASES.to_vec(),
        ..Plan::new(binary_path(), Load::LOW, SEED)
    })
    .await;
    println!("{}", report.markdown());
    assert!(report.passed(), "{}", report.violations());
}
