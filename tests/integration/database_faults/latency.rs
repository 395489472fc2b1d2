//! A slow network to the database. The load is one replica's share of the load of the chaos run.

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use futures::StreamExt;
use futures::stream::FuturesUnordered;
use nas_cron_testing::agent::Reply;
use nas_cron_testing::cluster::Cluster;
use nas_cron_testing::time::fire_at;

use super::fixture::{Calls, all_came, lateness_of, proxied};

const AGENTS: usize = 40;
/// About 57 provisions a second, a replica's half of 115, without waiting for the responses of earlier ones.
const EVERY: Duration = Duration::from_micros(17_500);
/// Length of the control run without a delay, which measures this machine.
const CONTROL: Duration = Duration::from_secs(5);
/// Length of the run with the delay: long enough for a queue to grow, if one grows.
const DELAYED: Duration = Duration::from_secs(25);

/// Provisions for this length of time, and returns the results.
async fn provisions(cluster: &Cluster, tokens: &[String], name: &str, length: Duration) -> Calls {
    let (begun, mut interval) = (Instant::now(), tokio::time::interval(EVERY));
    let mut calls = FuturesUnordered::new();
    let mut ended = Calls { armed: Vec::new(), failed: Vec::new() };
    let mut number = 0;
    loop {
        tokio::select! {
            _ = interval.tick(), if begun.elapsed() < length => {
                let (agent, job) = (number % AGENTS, format!("{name}-{number}"));
                number += 1;
                calls.push(async move {
                    let callback = cluster.agents.callback(&format!("inst-{agent}"));
                    let at = fire_at(4_000);
                    (cluster.replicas[0].try_provision(&tokens[agent], &job, &at, &callback).await, job)
                });
            }
            Some(((status, body), job)) = calls.next() => match status {
                200 => ended.armed.push(job),
                _ => ended.failed.push(format!("{status} {body}")),
            },
            else => return ended,
        }
    }
}

/// Returns the 99th percentile of the lateness of these jobs' first attempts, in milliseconds.
fn p99(cluster: &Cluster, calls: &Calls) -> f64 {
    let mut wanted: BTreeSet<_> = calls.armed.iter().cloned().collect();
    let fires = cluster.agents.fires();
    let first = fires.iter().filter(|fire| wanted.remove(&fire.job_id));
    let mut late: Vec<_> = first.map(lateness_of).collect();
    late.sort_by(f64::total_cmp);
    late[late.len() * 99 / 100]
}

async fn slow(round_trip: Duration, reach_ms: f64) {
    let (cluster, proxy) = proxied(1).await;
    // Every second one-shot is rejected at first: 85 attempts a second, a replica's half of 170.
    cluster.agents.answer(|fire, before| {
        let refused = before == 0 && fire.job_id.ends_with(['1', '3', '5', '7', '9']);
        if refused { Reply::status(503) } else { Reply::accepted() }
    });
    let mut tokens = Vec::new();
    for agent in 0..AGENTS {
        tokens.push(cluster.agent(&format!("inst-{agent}")).await);
    }
    let control = provisions(&cluster, &tokens, "control", CONTROL).await;
    all_came(&cluster, &control).await;
    proxy.delay(round_trip);
    let delayed = provisions(&cluster, &tokens, "delayed", DELAYED).await;
    all_came(&cluster, &delayed).await;
    let (p99, control) = (p99(&cluster, &delayed), p99(&cluster, &control));
    println!("{round_trip:?}: {} armed, p99 {p99:.0} ms; without delay {control:.0} ms", delayed.armed.len());
    assert!(delayed.failed.is_empty(), "{:#?}", delayed.failed);
    // A machine that is busy with other tests is slow even without a delay, and each step of a fire waits as long.
    assert!(p99 <= reach_ms + 5.0 * control, "p99 {p99:.0} ms; without delay {control:.0} ms");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_trip_of_100_ms_fails_no_provision_and_delays_fires_by_a_second_at_most() {
    slow(Duration::from_millis(100), 1_000.0).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_round_trip_of_200_ms_fails_no_provision_and_delays_fires_by_three_seconds_at_most() {
    slow(Duration::from_millis(200), 3_000.0).await;
}
