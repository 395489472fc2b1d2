//! `/metrics`: its port, its names, and labels that do not grow with use.

use std::collections::BTreeSet;

use nas_cron_testing::agent::Reply;
use nas_cron_testing::service::client;
use nas_cron_testing::world::{World, eventually};

/// Metrics that exist after the first fire.
const NAMES: [&str; 59] = [
    "nas_cron_agent_api_requests_total",
    "nas_cron_attempts_deferred_total",
    "nas_cron_attempts_in_flight",
    "nas_cron_attempts_in_flight_max",
    "nas_cron_backend_misses_total",
    "nas_cron_build_info",
    "nas_cron_connections_closed_total",
    "nas_cron_database_clock_offset_seconds",
    "nas_cron_database_connections",
    "nas_cron_database_connections_max",
    "nas_cron_database_schema_version",
    "nas_cron_database_silent_seconds",
    "nas_cron_database_waiting_statements",
    "nas_cron_dead_letters",
    "nas_cron_dead_replicas_total",
    "nas_cron_directory_lookups_total",
    "nas_cron_dormant_jobs",
    "nas_cron_due_one_shots",
    "nas_cron_events_total",
    "nas_cron_failed_webhooks",
    "nas_cron_fire_attempt_duration_seconds",
    "nas_cron_fire_lateness_seconds",
    "nas_cron_fires_total",
    "nas_cron_holds",
    "nas_cron_introspections_total",
    "nas_cron_known_schema_version",
    "nas_cron_leases_lost_total",
    "nas_cron_nearly_used_quotas",
    "nas_cron_oldest_overdue_seconds",
    "nas_cron_one_shots",
    "nas_cron_one_shots_expired_total",
    "nas_cron_one_shots_recovered_total",
    "nas_cron_open_connections",
    "nas_cron_open_connections_max",
    "nas_cron_paced_calls_total",
    "nas_cron_panics_total",
    "nas_cron_parked_one_shots",
    "nas_cron_provision_duration_seconds",
    "nas_cron_quota_refusals_total",
    "nas_cron_ready",
    "nas_cron_runtime_queued_tasks",
    "nas_cron_runtime_tasks",
    "nas_cron_runtime_worker_threads",
    "nas_cron_signing_key_next_step_seconds",
    "nas_cron_signing_key_usable",
    "nas_cron_signing_keys",
    "nas_cron_spans_dropped_total",
    "nas_cron_spans_exported_total",
    "nas_cron_stopped_loops",
    "nas_cron_token_requests_total",
    "nas_cron_webhook_attempts_total",
    "nas_cron_webhook_pending_deliveries",
    "nas_cron_withheld_instances",
    "process_cpu_seconds_total",
    "process_max_fds",
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_start_time_seconds",
    "process_virtual_memory_bytes",
];

/// Returns the value of a series.
fn value(page: &str, series: &str) -> f64 {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.unwrap_or_else(|| panic!("no {series} in:\n{page}")).parse().unwrap()
}

#[tokio::test]
async fn metrics_are_on_their_own_port_only() {
    let world = World::new().await;
    assert_eq!(world.service.get("/metrics").await.0, 404);
    let operators = world.service.metrics_url.trim_end_matches("/metrics").to_owned();
    for path in ["/api/agent-cron/list", "/.well-known/jwks.json", "/readyz", "/openapi.json"] {
        assert_eq!(client().get(format!("{operators}{path}")).send().await.unwrap().status(), 404, "{path}");
    }
    let response = client().get(&world.service.metrics_url).send().await.unwrap();
    assert_eq!(response.status(), 200);
    assert!(response.headers()["content-type"].to_str().unwrap().starts_with("text/plain"));
}

#[tokio::test]
async fn metrics_have_these_names_and_no_id_or_url_as_a_label() {
    let world = World::with(|s| {
        s.with("NAS_CRON_RETRY_DEFINITE_BASE", "100ms")
            .with("NAS_CRON_RETRY_GIVE_UP_AFTER", "300ms")
            .with("NAS_CRON_RETRY_CAP", "200ms")
            .with("NAS_CRON_RETRY_AMBIGUOUS_FLOOR", "100ms")
    })
    .await;
    world.agents.answer(|fire, before| match fire.job_id.as_str() {
        "hopeless" => Reply::status(500),
        "gone" => Reply::gone(),
        _ if before == 0 => Reply::status(404),
        _ => Reply::accepted(),
    });
    for job in ["hopeless", "gone", "retried"] {
        world.arm(job, 3_000).await;
    }
    world.arm("later", 3_600_000).await;
    world.delivered("retried").await;
    world.delivered("gone").await;
    eventually("it is dead", async || world.listed("hopeless").await.filter(|(half, _)| *half == "dead"))
        .await;
    // Gauges follow within a round of maintenance.
    let page = eventually("the gauges follow", async || {
        let page = world.service.metrics().await;
        (page.contains("\nnas_cron_dead_letters{reason=\"budget_spent\"} 1\n")).then_some(page)
    })
    .await;

    assert!(value(&page, "nas_cron_fires_total{outcome=\"delivered\"}") >= 1.0);
    assert!(value(&page, "nas_cron_fires_total{outcome=\"gone\"}") >= 1.0);
    assert!(value(&page, "nas_cron_fires_total{outcome=\"failed\"}") >= 2.0);
    assert!(value(&page, "nas_cron_one_shots{state=\"armed\"}") >= 1.0);
    assert!(value(&page, "nas_cron_one_shots{state=\"dead\"}") >= 1.0);
    assert!(value(&page, "nas_cron_provision_duration_seconds_count") >= 4.0);
    assert!(value(&page, "nas_cron_fire_attempt_duration_seconds_count{status_class=\"4xx\"}") >= 1.0);
    assert!(
        value(&page, "nas_cron_agent_api_requests_total{endpoint=\"provision\",status_class=\"2xx\"}") >= 4.0
    );
    assert!(value(&page, "nas_cron_attempts_in_flight") < 1.0);

    let mut names = BTreeSet::new();
    let mut labels = BTreeSet::new();
    for line in page.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        let (series, _) = line.rsplit_once(' ').unwrap();
        let (name, inside) = series.split_once('{').unwrap_or((series, ""));
        let base = ["_bucket", "_sum", "_count"].iter().find_map(|end| name.strip_suffix(end));
        names.insert(base.filter(|base| NAMES.contains(base)).unwrap_or(name).to_owned());
        labels.extend(
            inside
                .trim_end_matches('}')
                .split(',')
                .filter(|one| !one.is_empty() && !one.starts_with("le="))
                .map(str::to_owned),
        );
        for id in ["inst-1", "org-1", "sid-1", "hopeless", "retried", "127.0.0.1", "http"] {
            let place = series.contains("place=\"http\"") && id == "http";
            assert!(!inside.contains(id) || place, "{id} in {series}");
        }
    }
    assert_eq!(names.iter().map(String::as_str).collect::<Vec<_>>(), NAMES);
    let kinds: BTreeSet<_> = labels.iter().map(|label| label.split('=').next().unwrap()).collect();
    assert_eq!(
        kinds.into_iter().collect::<Vec<_>>(),
        [
            "backend",
            "commit",
            "endpoint",
            "kind",
            "listener",
            "outcome",
            "place",
            "pool",
            "reason",
            "result",
            "scope",
            "state",
            "status_class",
            "type",
            "version"
        ]
    );
    assert!(labels.len() < 120, "{labels:?}");
}

#[tokio::test]
async fn lateness_is_measured_and_an_overdue_one_shot_shows() {
    let world = World::new().await;
    world.arm("job", 3_000).await;
    world.agents.wait_for("job", 1).await;
    world.delivered("job").await;
    let page = world.service.metrics().await;
    assert!(value(&page, "nas_cron_fire_lateness_seconds_count") >= 1.0);
    let late = value(&page, "nas_cron_fire_lateness_seconds_sum");
    assert!((0.0..60.0).contains(&late), "{late}");
    assert!(value(&page, "nas_cron_database_clock_offset_seconds").abs() < 0.5, "the same machine's clock");
}
