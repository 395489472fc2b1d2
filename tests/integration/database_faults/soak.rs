//! The short form of the soak: docs/reliability.md.

use std::time::Duration;

use nas_cron_testing::chaos::backend::Backend;
use nas_cron_testing::chaos::fault::Fault;
use nas_cron_testing::chaos::load::Load;
use nas_cron_testing::chaos::schedule;
use nas_cron_testing::chaos::soak::{Soak, run};
use nas_cron_testing::service::binary_path;

const SEED: u64 = 1;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn faults_of_qstash_and_key_rotations_lose_nothing_and_no_fire_has_an_invalid_token() {
    let soak = Soak::of(Backend::Qstash, binary_path(), Duration::from_secs(20), SEED);
    let report = run(Soak {
        load: Load::LOW,
        faults: vec![Fault::QstashGarbage, Fault::QstashTruncated, Fault::QstashTwice, Fault::Kill],
        fault_length: Some(Duration::from_secs(2)),
        settings: schedule::SHORT_LEASES.to_vec(),
        ..soak
    })
    .await;
    println!("{}", report.markdown());
    assert!(report.passed(), "{}", report.violations());
    assert!(report.delivered > 50, "{} one-shots were delivered", report.delivered);
}
