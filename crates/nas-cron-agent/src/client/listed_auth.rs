//! `auth` as a server reports it.

use std::fmt;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// The value of `auth` in a response, in whatever form it has: a newer server may know further forms.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize, Serialize)]
#[serde(transparent)]
pub struct ListedAuth(Value);

impl ListedAuth {
    /// Number of profiles.
    pub(crate) fn names(&self) -> usize {
        match &self.0 {
            Value::Array(profiles) => profiles.len(),
            Value::Bool(false) => 0,
            _ => 1,
        }
    }
}

impl fmt::Display for ListedAuth {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Value::Bool(false) => f.write_str("none"),
            Value::String(profile) => f.write_str(profile),
            Value::Array(profiles) if profiles.iter().all(Value::is_string) => {
                let names: Vec<&str> = profiles.iter().filter_map(Value::as_str).collect();
                f.write_str(&names.join(", "))
            }
            other => write!(f, "{other}"),
        }
    }
}

impl JsonSchema for ListedAuth {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "ListedAuth".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({
            "type": ["string", "array", "boolean"],
            "items": { "type": "string" },
            "description": "A profile as provider:name, several in order of preference, or false for explicitly none.",
        })
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn every_form_is_read_and_printed() {
        for (value, shown) in [
            (json!(false), "none"),
            (json!("claude:work"), "claude:work"),
            (json!(["claude:work", "codex:x"]), "claude:work, codex:x"),
            (json!({"rotate": ["claude:work"]}), r#"{"rotate":["claude:work"]}"#),
        ] {
            let listed: ListedAuth = serde_json::from_value(value.clone()).unwrap();
            assert_eq!(listed.to_string(), shown);
            assert_eq!(json!(listed), value, "passed on as it is");
        }
    }
}
