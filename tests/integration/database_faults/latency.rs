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
/// Time until a one-shot is due, in milliseconds: longer than its provision takes.
const AHEAD: i64 = 4_000;
/// About 57 provisions a second, a replica's half of 115, without waiting for the responses of earlier ones.
const EVERY: Duration = Duration::from_micros(17_500);
/// Length of the control runs without a delay, which measure this machine.
const CONTROL: Duration = Duration::from_secs(3);
/// Maximum p99 of the lateness without a delay, in milliseconds, of a machine that serves the rate in time.
const CALM_MS: f64 = 250.0;
/// Length of a run with a delay: long enough for a queue to grow, if one grows.
const DELAYED: Duration = Duration::from_secs(20);

/// Provisions for this length of time, and returns the results.
async fn provisions(
    cluster: &Cluster,
    tokens: &[String],
    name: &str,
    every: Duration,
    length: Duration,
) -> Calls {
    let (begun, mut interval) = (Instant::now(), tokio::time::interval(every));
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
                    let at = fire_at(AHEAD);
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
    late.get(late.len() * 99 / 100).copied().unwrap_or(f64::INFINITY)
}

/// Provisions for this length of time, and waits for the fires. Returns the 99th percentile of their lateness, in
/// milliseconds, and the failed provisions.
async fn measured(
    cluster: &Cluster,
    tokens: &[String],
    name: &str,
    every: Duration,
    length: Duration,
) -> (f64, Vec<String>) {
    let calls = provisions(cluster, tokens, name, every, length).await;
    all_came(cluster, &calls).await;
    (p99(cluster, &calls), calls.failed)
}

/// Returns the interval of provisions that this machine serves in time without a delay, and their p99. A machine that is
/// busy with other work may be too slow for the full rate.
async fn calm_pace(cluster: &Cluster, tokens: &[String]) -> (Duration, f64) {
    let mut every = EVERY;
    loop {
        let (p99, failed) = measured(cluster, tokens, &format!("control-{every:?}"), every, CONTROL).await;
        if p99 <= CALM_MS && failed.is_empty() || every >= 8 * EVERY {
            return (every, p99);
        }
        every *= 2;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn slow_round_trips_fail_no_provision_and_delay_fires_by_one_or_three_seconds_at_most() {
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
    let (every, mut control) = calm_pace(&cluster, &tokens).await;
    for (round_trip, reach_ms) in [(100, 1_000.0), (200, 3_000.0)] {
        let name = format!("{round_trip}-ms");
        proxy.delay(Duration::from_millis(round_trip));
        let (p99, failed) = measured(&cluster, &tokens, &name, every, DELAYED).await;
        proxy.delay(Duration::ZERO);
        // Other work may have begun meanwhile.
        let (after, _) = measured(&cluster, &tokens, &format!("after-{name}"), every, CONTROL).await;
        control = control.max(after);
        assert!(failed.is_empty(), "{name}: {failed:#?}");
        println!("{name}, every {every:?}: p99 {p99:.0} ms; without delay {control:.0} ms");
        // A machine that is busy with other work is slow even without a delay, and each step of a fire waits as long.
        assert!(p99 <= reach_ms + 5.0 * control, "{name}: p99 {p99:.0} ms; without delay {control:.0} ms");
    }
}
