//! Reports of a service about the export of its traces: its metrics and its log.

use nas_cron_testing::service::Service;
use nas_cron_testing::world::{World, eventually};

/// Returns the value of a metric.
pub(super) async fn metric(service: &Service, name: &str) -> Option<u64> {
    let page = service.metrics().await;
    page.lines().find_map(|line| line.strip_prefix(name)?.trim().parse().ok())
}

/// Returns the name of the counter of spans that were dropped for this reason.
pub(super) fn dropped(reason: &str) -> String {
    format!("nas_cron_spans_dropped_total{{reason=\"{reason}\"}}")
}

/// Waits until spans are dropped for this reason, and returns their number.
pub(super) async fn eventually_dropped(world: &World, reason: &str) -> u64 {
    eventually(&format!("spans are dropped: {reason}"), async || {
        metric(&world.service, &dropped(reason)).await.filter(|count| *count > 0)
    })
    .await
}

/// Returns the warnings about the export.
pub(super) fn warnings(service: &Service) -> Vec<String> {
    let log = service.log();
    log.lines().filter(|line| line.contains("exporting traces failed")).map(str::to_owned).collect()
}
