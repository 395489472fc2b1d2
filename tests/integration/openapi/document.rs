//! The document at `/openapi.json`, and the errors that do not belong to one route.

use std::collections::BTreeSet;
use std::process::Stdio;

use nas_cron_testing::in_target;
use nas_cron_testing::service::client;
use nas_cron_testing::world::World;
use serde_json::Value;
use tokio::io::AsyncWriteExt;
use tokio::process::Command;

async fn document() -> Value {
    let world = World::new().await;
    let (status, document) = world.service.get("/openapi.json").await;
    assert_eq!(status, 200);
    document
}

/// Returns the target of a reference, or else the value itself.
fn resolved<'a>(document: &'a Value, value: &'a Value) -> &'a Value {
    match value["$ref"].as_str() {
        Some(reference) => document.pointer(reference.trim_start_matches('#')).expect(reference),
        None => value,
    }
}

/// Returns each operation with its name, the webhook included.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let items = ["paths", "webhooks"].into_iter().flat_map(|part| document[part].as_object().unwrap());
    items
        .flat_map(|(path, item)| {
            item.as_object()
                .unwrap()
                .iter()
                .map(move |(method, operation)| (format!("{method} {path}"), operation))
        })
        .collect()
}

/// Calls `look` with each value within `value`.
fn walk(value: &Value, look: &mut impl FnMut(&Value)) {
    look(value);
    match value {
        Value::Array(items) => items.iter().for_each(|item| walk(item, look)),
        Value::Object(fields) => fields.values().for_each(|field| walk(field, look)),
        _ => {}
    }
}

/// Adds each object schema within the schema of a body, also those that it refers to.
fn objects<'a>(
    document: &'a Value,
    schema: &'a Value,
    seen: &mut BTreeSet<&'a str>,
    found: &mut Vec<&'a Value>,
) {
    if let Some(reference) = schema["$ref"].as_str() {
        if seen.insert(reference) {
            objects(document, resolved(document, schema), seen, found);
        }
        return;
    }
    let mut kinds = schema["type"].as_array().into_iter().flatten().chain([&schema["type"]]);
    if schema["properties"].is_object() || kinds.any(|kind| kind == "object") {
        found.push(schema);
    }
    let parts = ["oneOf", "anyOf", "allOf"].into_iter().filter_map(|key| schema[key].as_array()).flatten();
    let fields = schema["properties"].as_object().into_iter().flat_map(|fields| fields.values());
    let items = ["items", "additionalProperties"].into_iter().map(|key| &schema[key]);
    for inner in parts.chain(fields).chain(items.filter(|items| items.is_object())) {
        objects(document, inner, seen, found);
    }
}

#[tokio::test]
async fn every_operation_has_a_summary_an_id_and_an_example_per_body() {
    let document = document().await;
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1."));
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        assert!(operation["summary"].is_string() && operation["tags"][0].is_string(), "{name}");
        assert!(ids.insert(operation["operationId"].as_str().expect(&name)), "{name}: the ID is taken");
        for parameter in operation["parameters"].as_array().into_iter().flatten() {
            let parameter = resolved(&document, parameter);
            assert!(parameter["description"].is_string(), "{name}: {parameter}");
        }
        let responses = operation["responses"].as_object().unwrap();
        let bodies = responses.iter().map(|(status, response)| (status.as_str(), response));
        for (of, body) in bodies.chain(operation.get("requestBody").map(|body| ("request", body))) {
            let body = resolved(&document, body);
            assert!(
                of == "request" || body["description"].as_str().is_some_and(|text| !text.is_empty()),
                "{name} {of}"
            );
            for (kind, content) in body["content"].as_object().into_iter().flatten() {
                assert!(content["example"].is_object(), "{name} {of}: no example of {kind}");
            }
        }
    }
    let mut missing = Vec::new();
    walk(&document, &mut |value| missing.extend((value == "(no example)").then(|| value.clone())));
    assert!(missing.is_empty(), "add examples to the schemas, or to `http::openapi::examples`");
}

#[tokio::test]
async fn every_reference_has_its_target_also_with_a_listener_for_the_admin_api() {
    let world = World::with(|settings| settings.with("NAS_CRON_ADMIN_LISTEN", "127.0.0.3:0")).await;
    for base in [&world.service.url, &world.service.admin_url] {
        let answer = client().get(format!("{base}/openapi.json")).send().await.unwrap();
        let document: Value = answer.json().await.unwrap();
        walk(&document, &mut |value| {
            resolved(&document, value);
        });
    }
}

#[tokio::test]
async fn every_operation_documents_the_errors_that_can_occur() {
    let document = document().await;
    for (name, operation) in operations(&document) {
        if name.ends_with(" fire") {
            // The agents' answers.
            continue;
        }
        let is_admin = name.contains(" /api/admin/");
        let is_limited = !["/healthz", "/readyz", "jwks.json"].iter().any(|end| name.ends_with(end));
        let has_body = operation["requestBody"].is_object();
        let mut parameters = operation["parameters"].as_array().into_iter().flatten();
        // No header of a request is rejected, except credentials.
        let has_input =
            has_body || parameters.any(|parameter| resolved(&document, parameter)["in"] != "header");
        let is_token = name.ends_with("/oauth/token");
        let expected = [
            ("400", has_input),
            ("401", is_admin || name.contains("/agent-cron/") && is_limited),
            ("403", is_admin || name.contains("/agent-cron/") && is_limited && !name.ends_with("/relay")),
            ("408", has_body && !is_token),
            ("413", has_body),
            ("429", is_admin),
            ("500", true),
            ("503", true),
        ];
        for (status, occurs) in expected {
            let response = resolved(&document, &operation["responses"][status]);
            assert!(!occurs || response.is_object(), "{name} does not document {status}");
        }
        for (status, response) in operation["responses"].as_object().unwrap() {
            let response = resolved(&document, response);
            if is_limited && ["429", "503"].contains(&status.as_str()) {
                assert!(response["headers"]["Retry-After"].is_object(), "{name} {status}");
            }
            if is_admin && status.starts_with(['4', '5']) {
                let problem = &response["content"]["application/problem+json"]["example"];
                assert_eq!(problem["status"].to_string(), *status, "{name}");
                assert!(problem["error"].is_string() && problem["detail"].is_string(), "{name} {status}");
            }
        }
    }
}

/// The admin API rejects unknown fields; agents' APIs, which also have the bodies of auth profiles, ignore them
/// (docs/contract.md). The tenant matrix checks the calls themselves.
#[tokio::test]
async fn bodies_have_no_unknown_fields_where_the_service_rejects_them() {
    let document = document().await;
    let (mut closed, mut open) = (0, 0);
    for (name, operation) in operations(&document) {
        let is_closed = name.contains(" /api/admin/") && !name.contains(" /api/admin/auth-profiles/");
        let body = resolved(&document, &operation["requestBody"]);
        for (kind, content) in body["content"].as_object().into_iter().flatten() {
            let mut found = Vec::new();
            objects(&document, &content["schema"], &mut BTreeSet::new(), &mut found);
            assert!(!found.is_empty(), "{name}: no object in {kind}");
            for object in &found {
                assert_eq!(object["additionalProperties"] == false, is_closed, "{name}: {object}");
            }
            let count = if is_closed { &mut closed } else { &mut open };
            *count += found.len();
        }
    }
    assert!(closed > 15 && open > 5, "{closed} closed, {open} open");
}

#[tokio::test]
async fn every_example_is_valid_for_its_schema() {
    let python = in_target("schemathesis-venv/bin/python");
    assert!(python.exists(), "the validator is not installed: run `make installed` (`make test` does)");
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/external/schemathesis/examples.py");
    let mut command = Command::new(python);
    command.arg(script).stdin(Stdio::piped()).stdout(Stdio::piped()).kill_on_drop(true);
    let mut child = command.spawn().unwrap();
    let document = document().await.to_string();
    child.stdin.take().unwrap().write_all(document.as_bytes()).await.unwrap();
    let output = child.wait_with_output().await.unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{text}");
    let count: usize = text.trim().parse().expect("the number of examples");
    assert!(count > 200, "{count}");
}

#[tokio::test]
async fn errors_outside_of_handlers_have_the_form_of_their_callers() {
    let world = World::new().await;
    for (method, path, status, kind) in [
        ("GET", "/nothing", 404, "application/problem+json"),
        ("GET", "/api/admin/nothing", 404, "application/problem+json"),
        ("GET", "/api/agent-cron/nothing", 404, "application/json"),
        ("POST", "/healthz", 405, "application/problem+json"),
        ("GET", "/api/agent-cron/relay", 405, "application/problem+json"),
        ("GET", "/api/agent-cron/provision", 405, "application/json"),
        ("GET", "/api/oauth/token", 405, "application/json"),
    ] {
        let method: reqwest::Method = method.parse().unwrap();
        let answer = client().request(method, format!("{}{path}", world.service.url)).send().await.unwrap();
        let headers = answer.headers().clone();
        assert_eq!(
            (answer.status().as_u16(), headers["content-type"].to_str().unwrap()),
            (status, kind),
            "{path}"
        );
        assert_eq!(headers.contains_key("allow"), status == 405, "{path}");
        let body: Value = answer.json().await.unwrap();
        let text = if kind == "application/json" { "error_description" } else { "detail" };
        assert!(body["error"].is_string() && body[text].is_string(), "{path}: {body}");
    }
}
