//! A collector that accepts requests and never answers. Its queue is bounded, and nothing waits for it.

use std::time::Instant;

use futures::StreamExt;
use nas_cron_testing::time::lateness_ms;
use nas_cron_testing::world::{World, eventually};
use serde_json::Value;

use super::collector::Collector;
use super::reports::{dropped, metric, warnings};

/// Starts a collector that hangs and a service that waits for its answer.
async fn hanging() -> (Collector, World) {
    let collector = Collector::start().await;
    let endpoint = collector.endpoint("hang");
    let world = World::with(|settings| settings.with("NAS_CRON_OTLP_ENDPOINT", endpoint)).await;
    world.arm("first", 0).await;
    eventually("an export", async || (!collector.exports().is_empty()).then_some(())).await;
    (collector, world)
}

/// Jobs of the comparison.
const JOBS: usize = 100;

/// Waits for the fires of the comparison, and returns their lateness in milliseconds.
async fn lateness(world: &World) -> Vec<f64> {
    let compared = |job: &str| job.starts_with("job-");
    let fires = world
        .agents
        .wait_until("all fires", |fires| fires.iter().filter(|fire| compared(&fire.job_id)).count() >= JOBS);
    let fires = fires.await.into_iter().filter(|fire| compared(&fire.job_id));
    fires.map(|fire| lateness_ms(&fire.fire_at, fire.arrived)).collect()
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Asserts that the median is about the same. A wait for the collector would last for seconds.
fn as_fast(what: &str, without: Vec<f64>, hanging: Vec<f64>) {
    let (without, hanging) = (median(without), median(hanging));
    println!("{what}: {without:.1} ms without traces, {hanging:.1} ms with a collector that hangs");
    assert!(hanging <= 3.0 * without + 10.0, "{what}: {without} ms, but {hanging} ms with the collector");
}

#[tokio::test]
async fn provisions_and_fires_are_as_fast_as_without_traces() {
    let (_collector, traced) = hanging().await;
    let without = World::new().await;
    let mut provisions = [Vec::new(), Vec::new()];
    // In turn, so that both services meet the same load of the machine.
    for job in 0..JOBS {
        for (world, took) in [&without, &traced].into_iter().zip(&mut provisions) {
            let begun = Instant::now();
            world.arm(&format!("job-{job}"), 2_000).await;
            took.push(begun.elapsed().as_secs_f64() * 1e3);
        }
    }
    let [untraced, waiting] = provisions;
    as_fast("a provision", untraced, waiting);
    as_fast("a fire", lateness(&without).await, lateness(&traced).await);
    let exported = metric(&traced.service, "nas_cron_spans_exported_total").await;
    assert_eq!(exported, Some(0), "the collector has answered");
}

#[tokio::test]
async fn full_queue_drops_and_counts_spans_and_requests_and_fires_go_on() {
    /// Traces that the queue has, and those that are taken from it in about a minute.
    const KEPT: usize = 2_048 + 2 * 256;
    const REQUESTS: usize = 3_000;
    let (collector, world) = hanging().await;
    // Each of them fails unless it is answered with 200.
    let requests = futures::stream::iter(0..REQUESTS).map(|_| world.service.list(&world.token));
    assert_eq!(requests.buffer_unordered(16).count().await, REQUESTS);
    world.arm("job", 0).await;
    world.agents.wait_for("job", 1).await;
    world.delivered("job").await;
    assert_eq!(world.service.get("/healthz").await.0, 200);
    let full = metric(&world.service, &dropped("queue_full")).await.expect("a counter");
    assert!(full >= (REQUESTS - KEPT) as u64, "{full} spans were dropped");

    // The export fails, and the warning names what was dropped meanwhile.
    drop(collector);
    let warning = eventually("a warning", async || warnings(&world.service).pop()).await;
    let line: Value = serde_json::from_str(&warning).expect(&warning);
    assert_eq!(line["queue_full"], full, "{warning}");
    assert!(line["dropped"].as_u64() > Some(full), "the failed batch counts, too: {warning}");
}
