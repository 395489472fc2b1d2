//! No list of the admin API and no page for operators reads a whole table, whatever its filter: checked with the plans that
//! Postgres executed.

use std::collections::BTreeMap;

use nas_cron::domain::job_filter::JobFilter;
use nas_cron_testing::service::{ADMIN_TOKEN, Service, client};
use nas_cron_testing::world::World;
use serde_json::{Value, json};

use crate::operators_page::fixture::{Operator, every_page};

/// Rows of each table that grows with the service.
const GROWN: i64 = 60_000;
/// Maximum number of rows that one step of a plan may read: 10,000 one-shots are examined, and some are looked up twice.
const READ: f64 = 25_000.0;
/// Calls with the same parameters: after five, Postgres may choose a plan that does not know their values.
const CALLS: usize = 7;

/// Tables that are small in every service: limited, or one row per replica, backend or hold.
const SMALL: &[&str] = &[
    "active_backend",
    "admin_tokens",
    "holds",
    "job_holds",
    "replicas",
    "schema_compatibility",
    "signing_keys",
    "webhooks",
];

/// Lists that are also read by a caller of one org, with every filter.
const OF_ORG: &[&str] = &["/api/admin/agents", "/api/admin/audit", "/api/admin/events", "/api/admin/jobs"];

/// A value of each parameter of a query.
const VALUES: &[(&str, &[&str])] = &[
    ("action", &["put_agent", "none"]),
    ("actor", &["config", "none"]),
    ("after", &[]),
    ("all", &["true"]),
    ("attempts", &["5"]),
    ("before", &[]),
    ("enabled", &["true", "false"]),
    ("error", &["busy", "none"]),
    ("error_group", &["busy", "none"]),
    ("expired", &["true", "false"]),
    ("fire_at_before", &["2020-01-01T00:00:00Z"]),
    ("fire_at_from", &["2030-01-01T00:00:00Z"]),
    ("instance_id", &["agent-17", "none"]),
    ("job_id", &["job-17", "none"]),
    ("last_status", &["503", "none"]),
    ("limit", &["1", "200"]),
    ("next_attempt_before", &["2027-01-01T00:00:00Z"]),
    ("next_attempt_from", &["2100-06-01T00:00:00Z"]),
    ("no_error", &["true"]),
    ("org_id", &["org-7", "none"]),
    ("outcome", &["failed", "gone"]),
    ("overdue", &["true"]),
    ("parked", &["true", "hold", "unreachable", "none"]),
    ("search", &["agent-17", "https://a.example", "none"]),
    ("since", &["2100-01-01T00:00:00Z"]),
    ("state", &["dead", "armed", "dormant", "dead,dormant", "stuck"]),
    ("subject", &["instance_id=agent-17", "instance_id=none"]),
    ("type", &["dead_letter.created", "clock.drifted"]),
    ("unreachable", &["true", "false"]),
    ("until", &["2020-01-01T00:00:00Z"]),
];

/// Grows every table, and makes the database report the plan of each statement to its client.
async fn grow(world: &World) {
    world
        .sql(&format!(
            "INSERT INTO instances (instance_id, org_id, enabled)
             SELECT 'agent-' || n, 'org-' || n % 300, n % 50 <> 0 FROM generate_series(1, {GROWN} / 10) n;
             INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                                    dead_since, next_attempt_at, last_started_at, last_outcome, last_error)
             SELECT 'agent-' || n / 10 + 1, 'job-' || n, gen_random_uuid(), 'k' || n, 't', '2100-01-01', 'https://a.example',
                    CASE WHEN n % 20 = 0 THEN 'dead' WHEN n % 20 = 1 THEN 'delivered' ELSE 'armed' END::one_shot_state,
                    CASE WHEN n % 20 = 0 THEN now() END,
                    CASE WHEN n % 20 > 1 THEN timestamptz '2100-01-01' + n * interval '1 s' END, now(),
                    CASE WHEN n % 20 = 0 THEN 'failed' END::fire_outcome, CASE WHEN n % 40 = 0 THEN 'busy' END
             FROM generate_series(0, {GROWN} - 11) n;
             INSERT INTO awaited_rearms (instance_id, job_id, schedule_id, delivered_at, recurrence, expected_at, check_at,
                                         closes_after, dormant_since)
             -- None becomes dormant while the test runs.
             SELECT instance_id, job_id, schedule_id, now(), 'daily', now(), now() + interval '1 day', '100 years',
                    CASE WHEN hashtext(job_id) % 10 = 0 THEN now() END FROM one_shots WHERE state = 'delivered';
             INSERT INTO fires (attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at, ended_at,
                                outcome)
             SELECT gen_random_uuid(), 'agent-' || n / 10 + 1, 'job-' || n, gen_random_uuid(), 'k', now(), 1,
                    now() - n * interval '1 s', now(), 'failed'
             FROM generate_series(0, {GROWN} - 11) n;
             INSERT INTO audit_log (actor, origin, action, subject, org_id)
             SELECT 'someone-' || n % 100, 'here', 'act_' || n % 30, ARRAY['instance_id=agent-' || n % 5000], 'org-' || n % 300
             FROM generate_series(1, {GROWN}) n;
             INSERT INTO events (event_id, type, org_id, occurred_at, last_at, count, data)
             SELECT gen_random_uuid(), CASE WHEN n % 2 = 0 THEN 'one_shot.stuck' ELSE 'dead_letter.created' END,
                    'org-' || n % 300, now(), now(), 1, '{{}}'
             FROM generate_series(1, {GROWN}) n;
             INSERT INTO logins (login_id, instance_id, key_id)
             SELECT gen_random_uuid(), instance_id, 'some key' FROM instances WHERE instance_id <> 'inst-1';
             INSERT INTO auth_profiles (scope, scope_id, auth)
             SELECT 'instance', instance_id, 'p:' || p FROM instances, generate_series(1, 5) p;
             INSERT INTO agent_identities (agent_runtime_id, instance_id, org_id, public_key)
             SELECT gen_random_uuid(), instance_id, org_id, sha256(instance_id::bytea) FROM instances;
             INSERT INTO holds (scope, scope_id)
             SELECT 'instance'::hold_scope, 'agent-' || n FROM generate_series(100, 200) n
             UNION ALL VALUES ('org'::hold_scope, 'org-7'), ('all', '');
             INSERT INTO job_holds (instance_id, job_id) SELECT instance_id, job_id FROM one_shots LIMIT 100;
             INSERT INTO webhooks (webhook_id, url, secret_nonce, secret)
             VALUES ('7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0f', 'http://127.0.0.1:1/', 'n', 's');
             UPDATE webhooks SET ended_at = now(), ended_by = 'operator';
             ANALYZE;
             DO $$ BEGIN
                 EXECUTE format('ALTER DATABASE %I SET session_preload_libraries = auto_explain', current_database());
                 EXECUTE format('ALTER DATABASE %I SET auto_explain.log_min_duration = 0', current_database());
                 EXECUTE format('ALTER DATABASE %I SET auto_explain.log_analyze = on', current_database());
                 EXECUTE format('ALTER DATABASE %I SET auto_explain.log_timing = off', current_database());
                 EXECUTE format('ALTER DATABASE %I SET auto_explain.log_format = json', current_database());
                 EXECUTE format('ALTER DATABASE %I SET auto_explain.log_level = notice', current_database());
             END $$"
        ))
        .await;
}

/// Returns the path of a call with values for its parameters.
fn with_names(path: &str) -> String {
    path.replace("{instance_id}", "agent-17")
        .replace("{job_id}", "job-163")
        .replace("{org_id}", "org-7")
        .replace("{webhook_id}", "7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0f")
}

/// Returns the queries of an operation: without parameters, each parameter alone, and each within an org.
fn queries(operation: &Value) -> Vec<String> {
    let parameters = operation["parameters"].as_array().into_iter().flatten();
    let names: Vec<_> = parameters
        .filter(|parameter| parameter["in"] == "query")
        .map(|parameter| parameter["name"].as_str().unwrap())
        .collect();
    let mut queries = vec![String::new()];
    for name in &names {
        let row = VALUES.iter().find(|(known, _)| known == name);
        let (_, values) = row.unwrap_or_else(|| panic!("add values of the parameter `{name}` to VALUES"));
        for value in *values {
            queries.push(format!("{name}={value}"));
            if names.contains(&"org_id") && *name != "org_id" {
                queries.push(format!("org_id=org-7&{name}={value}"));
            }
        }
    }
    queries
}

/// Calls a route several times, and its next page. Returns the last status.
async fn call(service: &Service, token: &str, path: &str, query: &str) -> u16 {
    let get = async |query: &str| {
        let request = client().get(format!("{}{path}?{query}", service.admin_url)).bearer_auth(token);
        let response = request.send().await.expect("a response");
        (response.status().as_u16(), response.json::<Value>().await.expect("JSON"))
    };
    let (mut status, mut next) = (0, Value::Null);
    for _ in 0..CALLS {
        let (answered, body) = get(query).await;
        (status, next) = (answered, body["next"].clone());
    }
    if let Some(next) = next.as_str() {
        let cursor = if path.ends_with("/events") || path.ends_with("/audit") || path.ends_with("/deliveries")
        {
            "before"
        } else {
            "after"
        };
        status = get(&format!("{query}&{cursor}={next}")).await.0;
    }
    status
}

/// Adds what each step of a plan has read of growing tables, by table and kind of scan.
fn add(node: &Value, found: &mut BTreeMap<String, f64>) {
    let number = |name: &str| node[name].as_f64().unwrap_or_default();
    if let Some(table) = node["Relation Name"].as_str().filter(|table| !SMALL.contains(table)) {
        let rows = number("Actual Rows")
            + number("Rows Removed by Filter")
            + number("Rows Removed by Index Recheck")
            + number("Rows Removed by Join Filter");
        let kind = node["Node Type"].as_str().unwrap();
        let read = found.entry(format!("{kind} of {table}")).or_default();
        *read = read.max(rows * number("Actual Loops"));
    }
    node["Plans"].as_array().into_iter().flatten().for_each(|child| add(child, found));
}

/// Returns what the statements of each route have read, from the plans in the service's log.
fn plans(service: &Service) -> BTreeMap<String, BTreeMap<String, f64>> {
    let mut found: BTreeMap<String, BTreeMap<String, f64>> = BTreeMap::new();
    for line in service.log().lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let Some((_, plan)) = line["message"].as_str().and_then(|text| text.split_once("plan:\n")) else {
            continue;
        };
        let spans = line["spans"].as_array().into_iter().flatten();
        let Some(route) = spans.into_iter().find_map(|span| span["http.route"].as_str()) else { continue };
        let plan: Value = serde_json::from_str(plan).expect("a plan as JSON");
        add(&plan["Plan"], found.entry(route.to_owned()).or_default());
    }
    found
}

/// Loads every page for operators several times.
async fn load_pages(service: &Service, token: &str) {
    let mut operator = Operator::at(&service.admin_url);
    assert_eq!(operator.sign_in(&[("token", token)]).await.status, 303);
    for path in every_page("agent-17", "job-163") {
        for _ in 0..CALLS {
            let page = operator.get(&path).await;
            // Some pages are not for a token of one org.
            assert!(matches!(page.status, 200 | 403 | 404), "{path}: {}", page.html);
        }
    }
}

#[tokio::test]
async fn no_list_and_no_page_scans_a_table_that_grows() {
    let world = World::with(|settings| settings.with("NAS_CRON_ADMIN_LISTEN", "127.0.0.1:0")).await;
    grow(&world).await;
    let service = Service::start(&world.settings).await;
    let of_org = json!({"name": "of-org", "role": "viewer", "org_id": "org-7"});
    let (_, created) = service.admin("POST", "/api/admin/tokens", Some(&of_org)).await;
    let of_org = created["token"].as_str().expect("a token of one org");
    load_pages(&service, ADMIN_TOKEN).await;
    load_pages(&service, of_org).await;
    let document = client().get(format!("{}/openapi.json", service.admin_url)).send().await.unwrap();
    let document: Value = document.json().await.unwrap();
    let jobs = queries(&document["paths"]["/api/admin/jobs"]["get"]);
    for name in JobFilter::NAMES {
        assert!(jobs.iter().any(|query| query.starts_with(name)), "the filter {name} is not tried");
    }
    let mut wrong = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        let operation = &item["get"];
        if !path.starts_with("/api/admin/") || operation.is_null() {
            continue;
        }
        for query in queries(operation) {
            let status = call(&service, ADMIN_TOKEN, &with_names(path), &query).await;
            // Some operations reject some values before they read anything.
            if status != 200 && !(status == 400 && query.contains("state=")) {
                wrong.push(format!("{path}?{query}: status {status}"));
            }
            // Its org is a condition of every statement, as if the query had it.
            if status == 200 && (query.is_empty() || OF_ORG.iter().any(|list| path.starts_with(list))) {
                let status = call(&service, of_org, &with_names(path), &query).await;
                if !matches!(status, 200 | 403 | 404) {
                    wrong.push(format!("{path}?{query} for one org: status {status}"));
                }
            }
        }
    }
    let plans = plans(&service);
    // With its log, a failure would be hard to read.
    drop(service);
    assert!(plans.len() > 30, "{:?}", plans.keys());
    assert!(plans.keys().any(|route| route == "/ops/dead-letters"), "{:?}", plans.keys());
    for (route, steps) in &plans {
        for (step, rows) in steps {
            if *rows > READ || step.starts_with("Seq Scan") && *rows > READ / 10.0 {
                wrong.push(format!("{route}: {step} reads {rows} rows"));
            }
        }
    }
    assert!(wrong.is_empty(), "{wrong:#?}");
}
