//! The contents of the manifests: probes, spread, disruptions, networks, and selectors and names that meet.

use std::collections::BTreeSet;

use serde_json::{Value, json};

use super::{ALL, LEAST, rendered};
use crate::production::yaml::documents;

const ALERTS: &str = include_str!("../../../../deploy/prometheus/rules/alerts.yaml");
const RECORDING: &str = include_str!("../../../../deploy/prometheus/rules/recording.yaml");

/// The rendered manifests.
struct Manifests(Vec<Value>);

impl Manifests {
    fn of(values: &[&str]) -> Self {
        Self(documents(&rendered(values)))
    }

    /// Returns the only manifest of this kind whose name has this end.
    fn one(&self, kind: &str, end: &str) -> &Value {
        let mut found = self.0.iter().filter(|one| {
            one["kind"] == kind && one["metadata"]["name"].as_str().is_some_and(|name| name.ends_with(end))
        });
        let one = found.next().unwrap_or_else(|| panic!("there is no {kind} …{end}"));
        assert!(found.next().is_none(), "there is more than one {kind} …{end}");
        one
    }
}

/// Fails unless each label of a selector is one of these labels.
fn assert_selects(selector: &Value, labels: &Value) {
    let selector = selector.as_object().expect("labels");
    assert!(!selector.is_empty());
    for (name, value) in selector {
        assert_eq!(&labels[name], value, "{name} of {selector:?} in {labels}");
    }
}

fn names(list: &Value, field: &str) -> BTreeSet<String> {
    list.as_array()
        .expect("a list")
        .iter()
        .map(|one| one[field].as_str().expect("a name").to_owned())
        .collect()
}

#[test]
fn an_outage_of_the_database_restarts_no_pod() {
    let manifests = Manifests::of(&LEAST);
    let container = &manifests.one("Deployment", "nas-cron")["spec"]["template"]["spec"]["containers"][0];
    // docs/contract.md#invariant-10-it-recovers-by-itself: /healthz says whether the process lives, /readyz whether it can serve.
    for (probe, path) in
        [("startupProbe", "/healthz"), ("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")]
    {
        assert_eq!(container[probe]["httpGet"], json!({"path": path, "port": "http"}), "{probe}");
    }
    let lasting = |probe: &str| {
        let number = |field: &str| container[probe][field].as_u64().expect("a number");
        number("periodSeconds") * number("failureThreshold")
    };
    assert!(lasting("livenessProbe") >= 30, "a pause of some seconds restarts nothing");
    assert!(lasting("startupProbe") > 30, "a start waits up to 30 s for the database");
    assert!(lasting("readinessProbe") <= 5, "a replica that cannot serve is left alone soon");
}

#[test]
fn replicas_are_spread_and_drained_one_at_a_time() {
    let manifests = Manifests::of(&LEAST);
    let deployment = &manifests.one("Deployment", "nas-cron")["spec"];
    let spread = &deployment["template"]["spec"]["topologySpreadConstraints"];
    assert_eq!(
        names(spread, "topologyKey"),
        ["kubernetes.io/hostname", "topology.kubernetes.io/zone"].map(String::from).into()
    );
    assert_eq!(deployment["strategy"]["rollingUpdate"], json!({"maxSurge": 1, "maxUnavailable": 0}));
    let labels = &deployment["template"]["metadata"]["labels"];
    for constraint in spread.as_array().unwrap() {
        assert_selects(&constraint["labelSelector"]["matchLabels"], labels);
    }
    assert_selects(&deployment["selector"]["matchLabels"], labels);
    let budget = &manifests.one("PodDisruptionBudget", "nas-cron")["spec"];
    assert_eq!(budget["maxUnavailable"], 1);
    assert_selects(&budget["selector"]["matchLabels"], labels);
}

#[test]
fn services_lead_to_ports_of_the_pods_and_only_the_first_is_open_to_other_namespaces() {
    let manifests = Manifests::of(&LEAST);
    let template = &manifests.one("Deployment", "nas-cron")["spec"]["template"];
    let labels = &template["metadata"]["labels"];
    let ports = names(&template["spec"]["containers"][0]["ports"], "name");
    for (service, port) in
        [("nas-cron", "http"), ("nas-cron-admin", "admin"), ("nas-cron-metrics", "metrics")]
    {
        let service = &manifests.one("Service", service)["spec"];
        assert_selects(&service["selector"], labels);
        assert_eq!((&service["ports"][0]["targetPort"], ports.contains(port)), (&json!(port), true));
    }
    let policy = &manifests.one("NetworkPolicy", "nas-cron")["spec"];
    assert_selects(&policy["podSelector"]["matchLabels"], labels);
    let own_namespace = json!([{"podSelector": {}}]);
    for rule in policy["ingress"].as_array().expect("rules") {
        let port = rule["ports"][0]["port"].as_str().expect("a name");
        assert!(ports.contains(port), "{port}");
        assert_eq!(rule.get("from"), (port != "http").then_some(&own_namespace), "{port}");
    }
    // The migration's pod is none of them.
    let migration = &manifests.one("Job", "migrate")["spec"]["template"]["metadata"]["labels"];
    assert_ne!(migration["app.kubernetes.io/name"], labels["app.kubernetes.io/name"]);
}

#[test]
fn schema_is_migrated_before_the_pods_start_and_after_the_secret_is_there() {
    let manifests = Manifests::of(&ALL);
    let hook = |kind, end| {
        let annotations = &manifests.one(kind, end)["metadata"]["annotations"];
        assert_eq!(annotations["helm.sh/hook"], "pre-install,pre-upgrade", "{kind}");
        annotations["helm.sh/hook-weight"]
            .as_str()
            .and_then(|weight| weight.parse::<i32>().ok())
            .expect("a number")
    };
    assert!(hook("ExternalSecret", "settings") < hook("Job", "migrate"));
    let secret = &manifests.one("ExternalSecret", "settings")["spec"];
    let pod = &manifests.one("Deployment", "nas-cron")["spec"]["template"]["spec"];
    let mounted = &pod["volumes"][0]["secret"];
    assert_eq!(mounted["secretName"], secret["target"]["name"]);
    assert_eq!(names(&mounted["items"], "key"), names(&secret["data"], "secretKey"));
}

#[test]
fn prometheus_finds_the_metrics_service() {
    let manifests = Manifests::of(&ALL);
    let monitor = &manifests.one("ServiceMonitor", "nas-cron")["spec"];
    let service = manifests.one("Service", "metrics");
    assert_selects(&monitor["selector"]["matchLabels"], &service["metadata"]["labels"]);
    assert_eq!(monitor["endpoints"][0]["port"], service["spec"]["ports"][0]["name"]);
    for other in ["nas-cron", "nas-cron-admin"] {
        let labels = &manifests.one("Service", other)["metadata"]["labels"];
        assert_ne!(labels["app.kubernetes.io/component"], "metrics", "{other}");
    }
    // Alerts are by job: those of two deployments must differ, also with the same name in two namespaces.
    let label = json!([{"targetLabel": "job", "replacement": "agents/cron-nas-cron"}]);
    assert_eq!(monitor["endpoints"][0]["relabelings"], label);
    for (end, rules) in [("alerts", ALERTS), ("recording", RECORDING)] {
        assert_eq!(manifests.one("PrometheusRule", end)["spec"], documents(rules)[0], "{end}");
    }
}

#[test]
fn route_of_the_relay_waits_for_the_end_of_an_attempt() {
    let route = |paths: &str| -> Vec<(Value, Value)> {
        let manifests = Manifests::of(&[&ALL[..], &[paths]].concat());
        let rules = &manifests.one("HTTPRoute", "nas-cron")["spec"]["rules"];
        let rules = rules.as_array().expect("rules").iter();
        rules.map(|rule| (rule["matches"][0]["path"].clone(), rule["timeouts"]["request"].clone())).collect()
    };
    let path = |kind: &str, value: &str| json!({"type": kind, "value": value});
    let found = route("paths={/api/agent-cron/,/api/oauth/}");
    assert_eq!(
        found,
        [
            (path("Exact", "/api/agent-cron/relay"), json!("60s")),
            (path("PathPrefix", "/api/agent-cron/"), json!("20s")),
        ]
    );
    assert_eq!(route("paths={/api/oauth/}"), [(path("PathPrefix", "/api/oauth/"), json!("20s"))]);
}
