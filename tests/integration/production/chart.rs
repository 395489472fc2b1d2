//! The chart of `deploy/helm`, rendered by the real helm and validated with the schemas of Kubernetes.

mod contents;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use nas_cron_testing::in_target;
use serde_json::Value;

const SCHEMA: &str = include_str!("../../../deploy/helm/nas-cron/values.schema.json");
const EXAMPLE: &str = include_str!("../../../nas-cron.example.toml");
const CHART: &str = include_str!("../../../deploy/helm/nas-cron/Chart.yaml");

/// Settings that the chart itself makes.
const OWN: [&str; 5] = ["listen", "admin_listen", "metrics_listen", "drain_delay", "shutdown_timeout"];

/// The values without which nothing works.
const LEAST: [&str; 2] = ["config.portal_url=https://portal.example", "secret.name=nas-cron"];

/// Values that switch everything on.
const ALL: [&str; 14] = [
    "config.portal_url=https://portal.example",
    "config.in_flight_max=2048",
    "config.agent_identity=true",
    "externalSecret.enabled=true",
    "externalSecret.storeRef.name=vault",
    "ingress.enabled=true",
    "ingress.hosts={portal.example}",
    "httpRoute.enabled=true",
    "httpRoute.parentRefs[0].name=public",
    "metrics.serviceMonitor.enabled=true",
    "metrics.prometheusRule.enabled=true",
    "networkPolicy.agentsFrom[0].namespaceSelector.matchLabels.name=edge",
    "image.digest=sha256:0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef",
    "imagePullSecrets[0].name=registry",
];

fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("deploy/helm/nas-cron")
}

fn helm(command: &[&str], values: &[&str]) -> Output {
    let mut helm = Command::new(in_target("helm/helm"));
    helm.args(command).arg(folder());
    for value in values {
        helm.args(["--set", value]);
    }
    helm.output().expect("helm runs: `make chart` installs it")
}

fn rendered(values: &[&str]) -> String {
    let output = helm(&["template", "cron", "--namespace", "agents"], values);
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).expect("a text")
}

/// Returns the error of a rendering that must fail.
fn refused(values: &[&str]) -> String {
    let output = helm(&["template", "cron"], values);
    assert!(!output.status.success(), "{values:?} was rendered");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

/// Checks manifests with `tests/external/chart/validate.py`. Returns true if all are valid, and its lines.
fn validated(manifests: &str) -> (bool, String) {
    let file = std::env::temp_dir().join(format!("nas-cron-chart-{:016x}.yaml", rand::random::<u64>()));
    std::fs::write(&file, manifests).expect("a file");
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let output = Command::new(in_target("chart-venv/bin/python"))
        .arg(root.join("tests/external/chart/validate.py"))
        .arg(&file)
        .output()
        .expect("Python runs: `make chart` installs its packages");
    let _ = std::fs::remove_file(&file);
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let error = String::from_utf8_lossy(&output.stderr).into_owned();
    (output.status.success(), text + &error)
}

#[test]
fn chart_passes_helm_lint() {
    for values in [&LEAST[..], &ALL] {
        let output = helm(&["lint", "--strict"], values);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stdout));
    }
}

#[test]
fn manifests_are_valid_for_the_oldest_and_the_newest_kubernetes() {
    let (are_valid, lines) = validated(&rendered(&LEAST));
    assert!(are_valid, "{lines}");
    insta::assert_snapshot!(lines, @"
    NetworkPolicy cron-nas-cron: valid
    PodDisruptionBudget cron-nas-cron: valid
    ServiceAccount cron-nas-cron: valid
    Service cron-nas-cron: valid
    Service cron-nas-cron-admin: valid
    Service cron-nas-cron-metrics: valid
    Deployment cron-nas-cron: valid
    Pod cron-nas-cron-doctor: valid
    Job cron-nas-cron-migrate: valid
    ");
    let (are_valid, lines) = validated(&rendered(&ALL));
    assert!(are_valid, "{lines}");
    insta::assert_snapshot!(lines, @"
    NetworkPolicy cron-nas-cron: valid
    PodDisruptionBudget cron-nas-cron: valid
    ServiceAccount cron-nas-cron: valid
    Service cron-nas-cron: valid
    Service cron-nas-cron-admin: valid
    Service cron-nas-cron-metrics: valid
    Deployment cron-nas-cron: valid
    Ingress cron-nas-cron: valid
    HTTPRoute cron-nas-cron: valid
    PrometheusRule cron-nas-cron-alerts: valid
    PrometheusRule cron-nas-cron-recording: valid
    ServiceMonitor cron-nas-cron: valid
    Pod cron-nas-cron-doctor: valid
    Job cron-nas-cron-migrate: valid
    ExternalSecret cron-nas-cron-settings: valid
    ");
}

#[test]
fn manifest_with_an_unknown_field_is_invalid() {
    let (are_valid, lines) = validated(&rendered(&LEAST).replacen("replicas: 3", "replica: 3", 1));
    assert!(!are_valid && lines.contains("Deployment cron-nas-cron: Kubernetes 1.27: "), "{lines}");
}

#[test]
fn custom_resource_with_an_unknown_field_is_invalid() {
    let manifests = rendered(&ALL);
    for (kind, field, misspelt) in [
        ("HTTPRoute cron-nas-cron", "timeouts: ", "timeout: "),
        ("ServiceMonitor cron-nas-cron", "relabelings:", "relabelling:"),
        ("PrometheusRule cron-nas-cron-alerts", "labels: { severity", "label: { severity"),
        ("ExternalSecret cron-nas-cron-settings", "deletionPolicy: ", "deletePolicy: "),
    ] {
        assert!(manifests.contains(field), "{field} in {manifests}");
        let (are_valid, lines) = validated(&manifests.replacen(field, misspelt, 1));
        let wanted = format!("{kind}: Additional properties are not allowed");
        assert!(!are_valid && lines.contains(&wanted), "{wanted} in {lines}");
    }
}

#[test]
fn custom_resource_without_a_schema_is_invalid() {
    let (are_valid, lines) =
        validated(&rendered(&ALL).replacen("kind: ServiceMonitor", "kind: PodMonitor", 1));
    assert!(!are_valid && lines.contains("PodMonitor cron-nas-cron: custom_resources.json has"), "{lines}");
}

#[test]
fn pods_have_no_privileges_and_time_to_drain() {
    let manifests = rendered(&LEAST);
    for (part, count) in [
        // The service, the migration and the doctor.
        ("runAsNonRoot: true", 3),
        ("readOnlyRootFilesystem: true", 3),
        ("capabilities: { drop: [ALL] }", 3),
        ("seccompProfile: { type: RuntimeDefault }", 3),
        ("allowPrivilegeEscalation: false", 3),
        ("terminationGracePeriodSeconds: 70", 1),
        ("replicas: 3", 1),
    ] {
        assert_eq!(manifests.matches(part).count(), count, "{part} in {manifests}");
    }
    let longer =
        rendered(&[LEAST[0], LEAST[1], "stop.drainDelaySeconds=30", "stop.shutdownTimeoutSeconds=120"]);
    assert!(longer.contains("terminationGracePeriodSeconds: 160"), "{longer}");
    assert!(longer.contains(r#"{ name: NAS_CRON_DRAIN_DELAY, value: "30s" }"#), "{longer}");
}

#[test]
fn numbers_and_switches_of_the_settings_keep_their_text() {
    let settings = [("in_flight_max", "2000000"), ("own_portal", "true"), ("traces_sample_ratio", "0.1")];
    // --set-json makes numbers, as a file of values does; --set makes a text of 0.1.
    for option in ["--set", "--set-json"] {
        let values: Vec<_> = settings.iter().map(|(key, value)| format!("config.{key}={value}")).collect();
        let mut command = vec!["template", "cron"];
        command.extend(values.iter().flat_map(|value| [option, value.as_str()]));
        let output = helm(&command, &LEAST);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let manifests = String::from_utf8(output.stdout).expect("a text");
        for (key, value) in settings {
            let name = key.to_uppercase();
            let wanted = format!("- name: NAS_CRON_{name}\n              value: \"{value}\"");
            assert!(manifests.contains(&wanted), "{option}: {wanted} in {manifests}");
        }
    }
}

#[test]
fn notes_warn_of_a_network_policy_that_keeps_prometheus_out() {
    let notes = |values: &[&str]| {
        let values = [&LEAST[..], values].concat();
        let output = helm(&["install", "cron", "--dry-run=client", "--namespace", "agents"], &values);
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let text = String::from_utf8(output.stdout).expect("a text");
        text.split_once("\nNOTES:\n").expect("notes").1.to_owned()
    };
    let warning = "lets only the namespace agents scrape the metrics";
    let monitor = "metrics.serviceMonitor.enabled=true";
    let allowed = "networkPolicy.metricsFrom[0].namespaceSelector.matchLabels.name=monitoring";
    assert!(notes(&[monitor]).contains(warning));
    for silent in [&[][..], &[monitor, allowed], &[monitor, "networkPolicy.enabled=false"]] {
        assert!(!notes(silent).contains(warning), "{silent:?}");
    }
    assert!(notes(&["migration.activeDeadlineSeconds=600"]).contains("--namespace agents --timeout 900s"));
}

#[test]
fn missing_and_unknown_values_are_named() {
    for (values, expected) in [
        (&[][..], "at '/config': missing property 'portal_url'"),
        (&[LEAST[0]], "secret.name is missing: create a Secret with database_url"),
        (&[LEAST[0], "externalSecret.enabled=true"], "externalSecret.storeRef.name is missing"),
        (&[LEAST[0], LEAST[1], "config.portal_uri=x"], "invalid propertyName 'portal_uri'"),
        (&[LEAST[0], LEAST[1], "config.database_url=postgres://x"], "invalid propertyName 'database_url'"),
        (&[LEAST[0], LEAST[1], "replicas=2"], "additional properties 'replicas' not allowed"),
        (&[LEAST[0], LEAST[1], "replicaCount=0"], "at '/replicaCount': minimum: got 0, want 1"),
        (&[LEAST[1], "config.portal_url=portal.example"], "at '/config/portal_url'"),
        (&[LEAST[0], LEAST[1], "ingress.enabled=true"], "ingress.hosts is empty"),
        (&[LEAST[0], LEAST[1], "httpRoute.enabled=true"], "httpRoute.parentRefs is empty"),
        (&[LEAST[0], LEAST[1], "paths={/api/}"], "which would route the admin API"),
        (
            &[LEAST[0], LEAST[1], "secret.files.database_url=null"],
            "secret.files (or externalSecret.data) needs database_url",
        ),
    ] {
        let error = refused(values);
        assert!(error.contains(expected), "{values:?}: {error}");
    }
}

#[test]
fn schema_of_the_values_has_every_setting() {
    let schema: Value = serde_json::from_str(SCHEMA).expect("JSON");
    let listed = |pointer| -> BTreeSet<String> {
        let names = schema.pointer(pointer).and_then(Value::as_array).expect("a list");
        names.iter().map(|name| name.as_str().expect("a name").to_owned()).collect()
    };
    let keys: BTreeSet<_> = EXAMPLE
        .lines()
        .filter_map(|line| line.trim_start_matches('#').split_once(" = "))
        .map(|(key, _)| key.to_owned())
        .filter(|key| key.chars().all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_'))
        .collect();
    let (secret, plain): (BTreeSet<_>, BTreeSet<_>) =
        keys.iter().cloned().partition(|key| keys.contains(&format!("{key}_file")));
    let plain: BTreeSet<_> = plain
        .into_iter()
        .filter(|key| !OWN.contains(&key.as_str()))
        .filter(|key| key.strip_suffix("_file").is_none_or(|key| !secret.contains(key)))
        .collect();
    assert_eq!(listed("/properties/config/propertyNames/enum"), plain);
    assert_eq!(listed("/properties/secret/properties/files/propertyNames/enum"), secret);
    assert_eq!(listed("/properties/externalSecret/properties/data/propertyNames/enum"), secret);
}

#[test]
fn chart_installs_the_release_of_this_repository() {
    for line in
        [concat!("appVersion: ", env!("CARGO_PKG_VERSION")), concat!("version: ", env!("CARGO_PKG_VERSION"))]
    {
        assert!(CHART.lines().any(|one| one == line), "Chart.yaml has no line `{line}`");
    }
}
