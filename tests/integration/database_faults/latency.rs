//! A slow network to the database. The load of a deployment is the chaos run's; here it is what one replica gets of it.

use std::collections::BTreeSet;
use std::time::Duration;

use nas_cron_testing::cluster::Cluster;
use nas_cron_testing::time::lateness_ms;

use super::fixture::{all_came, proxied, under_load};

/// About 57 provisions a second: a replica's half of 115. Each agent has a connection of its own.
const AGENTS: usize = 40;
const PAUSE: Duration = Duration::from_millis(250);
const LENGTH: Duration = Duration::from_secs(12);

/// The 99th percentile of the lateness of what has arrived since so many fires, in milliseconds.
fn p99(cluster: &Cluster, since: usize) -> f64 {
    let fires = cluster.agents.fires();
    let mut seen: BTreeSet<_> = fires[..since].iter().map(|fire| fire.job_id.clone()).collect();
    let first = fires[since..].iter().filter(|fire| seen.insert(fire.job_id.clone()));
    let mut late: Vec<_> = first.map(|fire| lateness_ms(&fire.fire_at, fire.arrived)).collect();
    late.sort_by(f64::total_cmp);
    late[late.len() * 99 / 100]
}

async fn slow(round_trip: Duration, reach_ms: f64) {
    let (cluster, proxy) = proxied(1).await;
    let work = async {
        // The control: what this machine takes without any delay.
        tokio::time::sleep(Duration::from_secs(4)).await;
        let before = cluster.agents.fires().len();
        let control = p99(&cluster, 0);
        proxy.delay(round_trip);
        tokio::time::sleep(LENGTH).await;
        (before, control)
    };
    let ((before, control), calls) = under_load(&cluster, AGENTS, PAUSE, work).await;
    all_came(&cluster, &calls).await;
    let p99 = p99(&cluster, before);
    println!(
        "{round_trip:?}: {} provisions, p99 {p99:.0} ms, without delay {control:.0} ms",
        calls.armed.len()
    );
    assert!(calls.failed.is_empty(), "{:#?}", calls.failed);
    assert!(p99 <= reach_ms + 3.0 * control, "p99 {p99:.0} ms, without delay {control:.0} ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_trip_of_100_ms_fails_no_provision_and_delays_fires_by_a_second_at_most() {
    slow(Duration::from_millis(100), 1_000.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_trip_of_200_ms_fails_no_provision_and_delays_fires_by_three_seconds_at_most() {
    slow(Duration::from_millis(200), 3_000.0).await;
}
