//! Examples of all bodies, made from their schemas: the example of a type or field is stated once, beside it.

use serde_json::{Map, Value, json};

/// Examples of fields whose schemas have none, by name: they are the same in every body.
const BY_NAME: &[(&str, &str)] = &[
    ("access_token", "eyJhbGciOiJFUzI1NiJ9.eyJzdWIiOiJhZ2VudC0xIn0.c2lnbmF0dXJl"),
    ("action", "hold_org"),
    ("actor", "portal-2027"),
    ("agent_callback_url", "https://agent-1.example"),
    ("attempt_id", "0190a5e4-8d2f-7000-8000-000000000000"),
    ("callback_url", "https://agent-1.example"),
    ("confirm", "5f3a90c2"),
    ("created_by", "config"),
    ("encrypted_task_id", "ZW5jcnlwdGVkIHRhc2sgSUQ="),
    ("fire_at", "2026-06-18T12:34:56.250000+00:00"),
    ("message", "no profile claude:work is registered for this instance"),
    ("name", "portal-2027"),
    ("origin", "192.0.2.7"),
    ("reason", "database maintenance"),
    ("refresh_token", "ncr_4JjL0m2wT9pQ7sVxY1zA3bC5dE7fG9hI"),
    ("scope_id", "acme"),
    ("signature", "bm90IGEgc2lnbmF0dXJl"),
    ("token_type", "Bearer"),
    ("scope", "agent_cron"),
    ("type", "dead_letter.created"),
    ("url", "https://ops.example/nas-cron"),
];

/// Stands for a text without an example. A test searches the document for it.
const MISSING: &str = "(no example)";

/// Adds an example to each body without one.
pub(super) fn add(document: &mut Value) {
    let schemas = document["components"]["schemas"].as_object().cloned().unwrap_or_default();
    let schemas = Schemas(&schemas);
    for part in ["paths", "webhooks"] {
        let items = document.get_mut(part).and_then(Value::as_object_mut).into_iter().flatten();
        for operation in items.filter_map(|(_, item)| item.as_object_mut()).flatten().map(|(_, one)| one) {
            if let Some(body) = operation.get_mut("requestBody") {
                schemas.complete(body);
            }
            let responses = operation.get_mut("responses").and_then(Value::as_object_mut);
            responses.into_iter().flatten().for_each(|(_, response)| schemas.complete(response));
        }
    }
}

/// The schemas of the document, by name.
struct Schemas<'a>(&'a Map<String, Value>);

impl Schemas<'_> {
    /// Adds an example to the content of a request or response.
    fn complete(&self, body: &mut Value) {
        let content = body.get_mut("content").and_then(Value::as_object_mut);
        for content in content.into_iter().flatten().filter_map(|(_, content)| content.as_object_mut()) {
            if !content.contains_key("example") && !content.contains_key("examples") {
                let example = content.get("schema").map(|schema| self.example("", schema));
                content.extend(example.map(|example| ("example".to_owned(), example)));
            }
        }
    }

    /// Returns the schema that a reference names, or else the schema itself.
    fn resolved<'s>(&'s self, schema: &'s Value) -> &'s Value {
        let name = schema["$ref"].as_str().and_then(|path| path.strip_prefix("#/components/schemas/"));
        name.and_then(|name| self.0.get(name)).unwrap_or(schema)
    }

    /// Returns an example of the field `name` with this schema.
    fn example(&self, name: &str, schema: &Value) -> Value {
        if let Some(stated) = stated(schema) {
            return stated.clone();
        }
        if schema.get("$ref").is_some() {
            return self.example(name, self.resolved(schema));
        }
        if let Some(parts) = schema["allOf"].as_array() {
            let parts = parts.iter().map(|part| self.example(name, part));
            let fields = parts.filter_map(|part| part.as_object().cloned()).flatten();
            return fields.collect::<Map<_, _>>().into();
        }
        if let Some(chosen) = alternatives(schema).next() {
            return self.example(name, chosen);
        }
        match kind(schema) {
            Some("object") => self.object(schema),
            Some("array") => json!([self.example(name, &schema["items"])]),
            Some("string") => text(name, schema),
            Some("integer" | "number") => schema.get("minimum").cloned().unwrap_or_else(|| json!(1)),
            Some("boolean") => json!(true),
            _ => Value::Null,
        }
    }

    /// Returns an object with its required fields, and the optional ones whose example is stated.
    fn object(&self, schema: &Value) -> Value {
        let required =
            |name: &str| schema["required"].as_array().is_some_and(|all| all.iter().any(|one| one == name));
        let fields = schema["properties"].as_object().into_iter().flatten();
        let shown = fields.filter(|(name, field)| required(name) || self.is_stated(field));
        shown.map(|(name, field)| (name.clone(), self.example(name, field))).collect::<Map<_, _>>().into()
    }

    /// True if the schema of an optional field, or the type that it names, states an example.
    fn is_stated(&self, field: &Value) -> bool {
        let one = alternatives(field).next().unwrap_or(field);
        stated(one).or_else(|| stated(self.resolved(one))).is_some() || stated(field).is_some()
    }
}

/// Returns the example that a schema states, also by a list of all values.
fn stated(schema: &Value) -> Option<&Value> {
    schema.get("example").or_else(|| schema["examples"].get(0))
}

/// Returns the alternatives of a schema, without `null`.
fn alternatives(schema: &Value) -> impl Iterator<Item = &Value> {
    let lists = ["oneOf", "anyOf"].into_iter().filter_map(|key| schema[key].as_array());
    lists.flatten().filter(|one| one["type"] != "null")
}

/// Returns the type of a schema, without `null`.
fn kind(schema: &Value) -> Option<&str> {
    match &schema["type"] {
        Value::Array(types) => types.iter().filter_map(Value::as_str).find(|name| *name != "null"),
        name => name.as_str(),
    }
}

fn text(name: &str, schema: &Value) -> Value {
    if let Some(word) = schema["enum"].get(0) {
        return word.clone();
    }
    match schema["format"].as_str() {
        Some("date-time") => json!("2026-06-18T12:34:56.25Z"),
        Some("uuid") => json!("0190a5e4-7c1e-7000-8000-000000000000"),
        _ => json!(BY_NAME.iter().find(|(known, _)| *known == name).map_or(MISSING, |(_, text)| *text)),
    }
}
