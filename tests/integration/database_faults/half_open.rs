//! Half-open connections to the database, which carry nothing and are not closed: docs/contract.md#invariants 9 and 10.

use std::time::Duration;

use nas_cron_testing::cluster::Cluster;
use nas_cron_testing::proxy::Proxy;

use super::fixture::{all_came, brief_outage, proxied, recovered, under_load};

const AGENTS: usize = 8;
const PAUSE: Duration = Duration::from_millis(150);

/// Runs a fault of this length under load (`None` for a brief outage). Checks that no provision failed, that no fire was lost, early or doubled, and
/// that both replicas recovered by themselves.
async fn outlived(name: &str, length: Option<Duration>, fault: fn(&Proxy)) {
    let (cluster, proxy) = proxied(2).await;
    let length = match length {
        Some(length) => length,
        None => brief_outage(&cluster).await,
    };
    let work = async {
        fault(&proxy);
        tokio::time::sleep(length).await;
        proxy.heal();
        recovered(&cluster, name).await;
        // More than one round of every loop.
        tokio::time::sleep(Duration::from_secs(3)).await;
    };
    let ((), calls) = under_load(&cluster, AGENTS, PAUSE, work).await;
    assert!(calls.failed.is_empty(), "{:#?}", calls.failed);
    all_came(&cluster, &calls).await;
    ready(&cluster).await;
}

async fn ready(cluster: &Cluster) {
    for replica in &cluster.replicas {
        replica.ready().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_recover_when_their_connections_are_black_holed() {
    outlived("existing", Some(Duration::ZERO), Proxy::black_hole_existing).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn replicas_recover_after_replies_were_dropped() {
    outlived("replies", Some(Duration::from_secs(8)), Proxy::drop_replies).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_hole_of_ten_seconds_fails_no_provision() {
    outlived("everything", None, Proxy::black_hole).await;
}
