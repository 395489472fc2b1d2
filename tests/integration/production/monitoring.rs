//! The rules of `deploy/prometheus` and the dashboard of `deploy/grafana`, with promtool and a real Prometheus.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use nas_cron_testing::prometheus::{Prometheus, promtool};
use nas_cron_testing::world::{World, eventually};
use serde_json::Value;

const RECORDING: &str = include_str!("../../../deploy/prometheus/rules/recording.yaml");
const ALERTS: &str = include_str!("../../../deploy/prometheus/rules/alerts.yaml");
const CASES: &str = include_str!("../../../deploy/prometheus/tests/alerts.yaml");
const DASHBOARD: &str = include_str!("../../../deploy/grafana/nas-cron.json");
const RUNBOOK: &str = include_str!("../../../docs/runbook.md");

const PICTURE: &str = include_str!("../../../docs/production/dashboard.svg");

/// Metrics whose query has no result in a run without failures: no event has happened.
const MAY_BE_EMPTY: [&str; 1] = ["nas_cron_events_total"];
/// Rows of the dashboard that the picture in docs/production.md shows.
const SHOWN: [&str; 5] = ["Health", "Lateness", "Fires", "Provisions", "Database"];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/prometheus")
}

/// Returns the names of all alerts.
fn alerts() -> Vec<&'static str> {
    ALERTS.lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).collect()
}

/// Returns the names of metrics of the service in a text.
fn metrics(text: &str) -> BTreeSet<String> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | ':');
    let words = text.split(|c| !is_name(c));
    let ours = words.filter(|word| word.starts_with("nas_cron_") || word.starts_with("process_"));
    ours.map(str::to_owned).collect()
}

/// Returns the text without comments.
fn uncommented(yaml: &str) -> String {
    yaml.lines().filter(|line| !line.trim_start().starts_with('#')).collect::<Vec<_>>().join("\n")
}

/// Returns the title of each panel with its queries, for a window of 30 s.
fn panels() -> Vec<(String, Vec<String>)> {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels");
    let query = |target: &Value| {
        let expression = target["expr"].as_str().expect("an expression");
        expression.replace("$__rate_interval", "30s").replace("$job", ".+")
    };
    panels
        .iter()
        .filter(|panel| panel["type"] != "row")
        .map(|panel| {
            let targets = panel["targets"].as_array().expect("targets");
            (panel["title"].as_str().expect("a title").to_owned(), targets.iter().map(query).collect())
        })
        .collect()
}

#[test]
fn every_query_of_the_dashboard_is_limited_to_the_chosen_job() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let panels = dashboard["panels"].as_array().expect("panels").iter();
    let targets = panels.filter_map(|panel| panel["targets"].as_array()).flatten();
    let mut queries: Vec<_> = targets.map(|target| target["expr"].as_str().expect("an expression")).collect();
    let annotations = dashboard["annotations"]["list"].as_array().expect("annotations").iter();
    queries.extend(annotations.filter_map(|annotation| annotation["expr"].as_str()));
    assert!(queries.len() > 40);
    for query in queries {
        // A metric beside `on (job, …)` is limited by the other one.
        let selectors = query.matches('{').count();
        assert!(selectors > 0 && selectors == query.matches("job=~\"$job").count(), "{query}");
    }
}

#[test]
fn picture_of_the_dashboard_has_its_panels() {
    let dashboard: Value = serde_json::from_str(DASHBOARD).expect("JSON");
    let mut row = "";
    let mut missing = Vec::new();
    for panel in dashboard["panels"].as_array().expect("panels") {
        let title = panel["title"].as_str().expect("a title");
        if panel["type"] == "row" {
            row = title;
        }
        if SHOWN.contains(&row) && !PICTURE.contains(&format!(">{}<", title.replace('\'', "&#x27;"))) {
            missing.push(format!("{row}: {title}"));
        }
    }
    assert!(
        missing.is_empty(),
        "docs/production/dashboard.svg lacks {missing:?}: draw it again with deploy/grafana/draw.py"
    );
}

#[test]
fn rules_pass_the_checks_and_cases_of_promtool() {
    promtool(&folder(), &["check", "config", "prometheus.yaml"]);
    promtool(&folder(), &["check", "rules", "rules/recording.yaml", "rules/alerts.yaml"]);
    promtool(&folder(), &["test", "rules", "tests/alerts.yaml"]);
}

#[test]
fn buckets_are_found_by_their_labels_of_prometheus_2_and_3() {
    // Prometheus 3 stores le="1" as le="1.0".
    let text = [RECORDING, ALERTS, DASHBOARD].map(uncommented).concat();
    let selectors: Vec<_> = text.split("le=").skip(1).collect();
    assert!(selectors.len() > 5, "{selectors:?}");
    for selector in selectors {
        let value = selector.trim_start_matches(['~', '\\', '"']);
        assert!(selector.starts_with('~') && value.starts_with("1|1[.]0"), "le={selector}");
    }
}

#[test]
fn every_alert_has_cases_in_which_it_fires_and_is_silent() {
    let cases: Vec<_> = CASES.lines().filter_map(|line| line.trim().strip_prefix("- name: ")).collect();
    for alert in alerts() {
        for state in ["fires", "is silent"] {
            let prefix = format!("{alert} {state} - ");
            assert!(cases.iter().any(|case| case.starts_with(&prefix)), "no case in which {alert} {state}");
        }
    }
}

#[test]
fn every_alert_leads_to_its_section_of_the_runbook() {
    let sections: BTreeSet<_> = RUNBOOK.lines().filter_map(|line| line.strip_prefix("### ")).collect();
    let links: Vec<_> = ALERTS.lines().filter_map(|line| line.trim().strip_prefix("runbook_url: ")).collect();
    assert_eq!(links.len(), alerts().len());
    for (alert, link) in alerts().into_iter().zip(links) {
        assert!(sections.contains(alert), "docs/runbook.md has no section {alert}");
        assert!(link.ends_with(&format!("/docs/runbook.md#{}", alert.to_lowercase())), "{alert}: {link}");
    }
    let known: BTreeSet<_> = alerts().into_iter().collect();
    let extra: Vec<_> =
        sections.iter().filter(|name| name.starts_with("NasCron") && !known.contains(**name)).collect();
    assert!(extra.is_empty(), "docs/runbook.md has sections of unknown alerts: {extra:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rules_and_dashboard_answer_about_a_real_run_and_no_alert_fires() {
    let world = World::new().await;
    let target = world.service.metrics_url.trim_start_matches("http://").trim_end_matches("/metrics");
    let rules = ["rules/recording.yaml", "rules/alerts.yaml"].map(|rules| folder().join(rules));
    let prometheus = Prometheus::start(&[target], &rules).await;
    // Events between two scrapes, so that every rate has a value.
    let mut fires = 0;
    eventually("Prometheus has seen fires", async || {
        fires += 1;
        let job = format!("job-{fires}");
        world.arm(&job, 0).await;
        world.arm(&format!("late-{fires}"), 3_000).await;
        world.delivered(&job).await;
        let seen = "rate(nas_cron_fires_total{outcome=\"delivered\"}[30s]) > 0
                    and on (job) rate(nas_cron_fire_lateness_seconds_count[30s]) > 0
                    and on (job) job:nas_cron_failed_fires:ratio_rate5m";
        (!prometheus.query(seen).await.is_empty()).then_some(())
    })
    .await;

    let page = world.service.metrics().await;
    let known: BTreeSet<_> = page
        .lines()
        .filter(|line| !line.starts_with('#'))
        .filter_map(|line| metrics(line).into_iter().next())
        .collect();
    let used = [RECORDING, ALERTS].map(uncommented).concat() + DASHBOARD;
    let missing: Vec<_> = metrics(&used).into_iter().filter(|name| !known.contains(name)).collect();
    assert!(missing.is_empty(), "not in /metrics: {missing:?}");

    eventually("every rule was evaluated", async || {
        let rules = prometheus.rules().await;
        let broken: Vec<_> = rules.iter().filter(|rule| rule["health"] == "err").collect();
        assert!(broken.is_empty(), "{broken:?}");
        (rules.len() >= alerts().len() && rules.iter().all(|rule| rule["health"] == "ok")).then_some(())
    })
    .await;
    let firing = prometheus.query("ALERTS{alertstate=\"firing\"}").await;
    assert!(firing.is_empty(), "{firing:?}");

    for (title, queries) in panels() {
        for query in queries {
            let result = prometheus.query(&query).await;
            assert!(
                !result.is_empty() || MAY_BE_EMPTY.iter().any(|metric| query.contains(metric)),
                "{title}: no data: {query}"
            );
        }
    }
}
