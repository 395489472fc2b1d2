//! The headers by which a request is followed: `X-Request-Id` and `traceparent`.

use serde_json::{Map, Value, json};

use super::for_each_operation;
use crate::metrics::AgentApi;

/// Name in `components`, of the parameter and of the header.
const REQUEST_ID: &str = "X-Request-Id";
/// Name in `components`.
const TRACEPARENT: &str = "traceparent";

/// Adds the headers of requests and responses. No value of a request's header is rejected, so its schema is that of any
/// text.
pub(super) fn add(document: &mut Value) {
    for_each_operation(&mut document["paths"], |path, method, operation| {
        let is_traced = AgentApi::of(method, path).is_some();
        let parameters = operation.entry("parameters").or_insert_with(|| json!([]));
        if let Some(parameters) = parameters.as_array_mut() {
            parameters.push(reference("parameters", REQUEST_ID));
            parameters.extend(is_traced.then(|| reference("parameters", TRACEPARENT)));
        }
        let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
        responses.into_iter().flatten().for_each(|(_, response)| returned(response));
    });
    let components = &mut document["components"];
    for response in components["responses"].as_object_mut().into_iter().flatten().map(|(_, one)| one) {
        returned(response);
    }
    components["headers"][REQUEST_ID] = json!({
        "description": "ID of the request: that of the request's header, or a new UUID. It is in the log.",
        "required": true,
        "schema": { "type": "string", "minLength": 1, "maxLength": 128, "pattern": "^[A-Za-z0-9._:+/=~-]+$" },
        "example": "0190a5e4-8d2f-7000-8000-000000000000",
    });
    components["parameters"] = parameters().into();
}

/// Adds `X-Request-Id` to a response. A reference is left: the shared response has it already.
fn returned(response: &mut Value) {
    if response.get("$ref").is_none() {
        response["headers"][REQUEST_ID] = reference("headers", REQUEST_ID);
    }
}

fn reference(part: &str, name: &str) -> Value {
    json!({ "$ref": format!("#/components/{part}/{name}") })
}

fn parameters() -> Map<String, Value> {
    let header = |name: &str, description: &str, example: &str| {
        let parameter = json!({
            "name": name, "in": "header", "description": description,
            "schema": { "type": "string" }, "example": example,
        });
        (name.to_owned(), parameter)
    };
    Map::from_iter([
        header(
            REQUEST_ID,
            "ID of the request, for logs: at most 128 letters, digits and `-_.:+/=~`. Any other value is replaced by a new \
             ID.",
            "report-7",
        ),
        header(
            TRACEPARENT,
            "Place in the caller's trace (W3C Trace Context), which the request continues. An invalid value counts as none.",
            "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
        ),
    ])
}
