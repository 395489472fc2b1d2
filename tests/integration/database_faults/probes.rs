//! `/healthz` and `/readyz` in an outage, and an outage as long as a provision may wait.

use std::time::{Duration, Instant};

use futures::future::join_all;
use nas_cron_testing::time::{PATIENCE, fire_at};
use tokio::sync::watch;

use super::fixture::{brief_outage, proxied};

/// A short restart of the database does not take the replica out of the load balancer, and a real outage restarts no
/// replica.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_black_holed_replica_stays_healthy_and_is_unready_only_after_a_while() {
    let (cluster, proxy) = proxied(1).await;
    let replica = &cluster.replicas[0];
    proxy.black_hole();
    let begun = Instant::now();
    let mut unready = None;
    // Much longer than the 15 s after which it is unready.
    while begun.elapsed() < Duration::from_secs(25) || unready.is_none() {
        assert!(begun.elapsed() < PATIENCE, "ready without a database");
        assert_eq!(replica.get("/healthz").await.0, 200, "after {:?}", begun.elapsed());
        if replica.get("/readyz").await.0 != 200 {
            unready.get_or_insert_with(|| begun.elapsed());
        }
        tokio::time::sleep(Duration::from_millis(250)).await;
    }
    let unready = unready.unwrap();
    assert!(unready > Duration::from_secs(10), "it was unready after {unready:?} already");
    proxy.heal();
    replica.ready().await;
    println!("unready after {unready:?}");
}

/// Ten seconds without a server, simulated by a proxy: the time of a real restart depends on the machine.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_provision_outlasts_ten_seconds_without_the_database() {
    const CALLS: usize = 20;
    let (cluster, proxy) = proxied(1).await;
    let token = cluster.agent("inst-1").await;
    let (replica, callback) = (&cluster.replicas[0], cluster.agents.callback("inst-1"));
    let length = brief_outage(&cluster).await;
    let (outage_over, restored) = watch::channel(false);
    proxy.cut().await;
    let outage = async {
        tokio::time::sleep(length).await;
        proxy.restore().await;
        outage_over.send(true).unwrap();
    };
    let calls = join_all((0..CALLS).map(async |number| {
        let begun = Instant::now();
        let job = format!("job-{number}");
        let (status, body) = replica.try_provision(&token, &job, &fire_at(60_000), &callback).await;
        assert!(*restored.borrow(), "answered in the outage, after {:?}: {status} {body}", begun.elapsed());
        assert_eq!(status, 200, "after {:?}: {body}", begun.elapsed());
        begun.elapsed()
    }));
    let (took, ()) = tokio::join!(calls, outage);
    println!("the longest provision took {:?}", took.iter().max().unwrap());
}
