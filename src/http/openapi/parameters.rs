//! Parameters: an optional one is absent, never `null`.

use serde_json::{Map, Value};

/// Removes `null` from the schemas of an operation's parameters, which utoipa has from `Option`.
pub(super) fn complete(operation: &mut Map<String, Value>) {
    let parameters = operation.get_mut("parameters").and_then(Value::as_array_mut);
    for schema in parameters.into_iter().flatten().filter_map(|parameter| parameter.get_mut("schema")) {
        if let Some(types) = schema.get_mut("type").and_then(Value::as_array_mut) {
            types.retain(|name| name != "null");
            if let [only] = types.as_mut_slice() {
                schema["type"] = only.take();
            }
        }
        if let Some(alternatives) = schema.get_mut("oneOf").and_then(Value::as_array_mut) {
            alternatives.retain(|one| one.get("type").is_none_or(|name| name != "null"));
            if let [only] = alternatives.as_mut_slice() {
                *schema = only.take();
            }
        }
    }
}
