//! Reads a JSON object field by field, so that the error names a missing, invalid or unknown field.

use serde::{Deserialize, Deserializer, Serialize as _};
use serde_json::{Map, Value};

use super::InvalidField;

/// An invalid object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    /// The text is not a JSON object. Contains the problem and its position.
    #[error("not a JSON object: {0}")]
    NotAnObject(String),
    /// The object has an unknown field. It is an error so that typos are not ignored.
    #[error("{field}: unknown field; known are {known}")]
    Unknown {
        /// Name of the field, shortened.
        field: String,
        /// Names of the known fields.
        known: String,
    },
    /// A known field is missing or invalid.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
}

impl FieldsError {
    /// Returns the name of the field at fault, if there is one.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::NotAnObject(_) => None,
            Self::Unknown { field, .. } => Some(field),
            Self::Invalid(invalid) => Some(&invalid.field),
        }
    }
}

/// An optional field of a change: keeps, clears or sets a stored value.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Given<T> {
    /// Absent: keep the stored value.
    #[default]
    Keep,
    /// `null`: clear the stored value.
    Clear,
    /// A value: store it.
    Set(T),
}

impl<T> Given<T> {
    /// True for `Keep`. Such a field is omitted when it is serialized.
    pub const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// Serializes the value, or `null` if there is none.
    pub fn serialize_nullable<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: serde::Serialize,
    {
        self.value().serialize(serializer)
    }

    /// Returns the value of `Set`.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Keep | Self::Clear => None,
        }
    }

    /// Validates or converts the value of `Set`.
    pub fn try_map<U, E>(self, check: impl FnOnce(T) -> Result<U, E>) -> Result<Given<U>, E> {
        Ok(match self {
            Self::Keep => Given::Keep,
            Self::Clear => Given::Clear,
            Self::Set(value) => Given::Set(check(value)?),
        })
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    /// Requires `#[serde(default)]` on the field: without a value, serde then uses `Keep`.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Clear, Self::Set))
    }
}

/// A JSON object whose fields are taken one by one.
#[derive(Clone, Debug)]
pub struct Fields(Map<String, Value>);

/// Maximum length in characters of an unknown field's name in an error.
const SHOWN_NAME: usize = 64;

impl Fields {
    /// Parses one JSON object. `json` must not contain anything else.
    pub fn parse(json: &[u8]) -> Result<Self, FieldsError> {
        match crate::json::from_slice(json) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(other) => Err(FieldsError::NotAnObject(format!("it is {}", kind(&other)))),
            Err(error) => Err(FieldsError::NotAnObject(describe(&error, json))),
        }
    }

    /// Wraps fields from another source, such as the cells of a table.
    pub fn from_map(fields: Map<String, Value>) -> Self {
        Self(fields)
    }

    /// Takes a required string.
    pub fn required_text(&mut self, field: &'static str) -> Result<String, InvalidField> {
        self.text(field)?.ok_or_else(|| InvalidField::new(field, "is missing"))
    }

    /// Takes an optional string; `null` counts as absent.
    pub fn text(&mut self, field: &'static str) -> Result<Option<String>, InvalidField> {
        Ok(match self.clearable_text(field)? {
            Given::Set(text) => Some(text),
            Given::Keep | Given::Clear => None,
        })
    }

    /// Takes an optional string that `null` clears.
    pub fn clearable_text(&mut self, field: &'static str) -> Result<Given<String>, InvalidField> {
        self.clearable(field).try_map(|value| match value {
            Value::String(text) => Ok(text),
            other => Err(InvalidField::new(field, format!("must be a string, not {}", kind(&other)))),
        })
    }

    /// Takes an optional value of any type that `null` clears.
    pub fn clearable(&mut self, field: &str) -> Given<Value> {
        match self.0.remove(field) {
            None => Given::Keep,
            Some(Value::Null) => Given::Clear,
            Some(value) => Given::Set(value),
        }
    }

    /// Takes an optional boolean; `null` counts as absent.
    pub fn flag(&mut self, field: &'static str) -> Result<Option<bool>, InvalidField> {
        match self.0.remove(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => {
                Err(InvalidField::new(field, format!("must be true or false, not {}", kind(&other))))
            }
        }
    }

    /// Fails if a field is left over. `known` are the names of the fields that were taken.
    pub fn finish(self, known: &[&str]) -> Result<(), FieldsError> {
        match self.0.keys().next() {
            None => Ok(()),
            Some(field) => Err(FieldsError::Unknown {
                field: field.chars().filter(|c| !c.is_control()).take(SHOWN_NAME).collect(),
                known: known.join(", "),
            }),
        }
    }
}

/// Returns the type of a value, as a noun phrase without the value.
pub(super) fn kind(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "a boolean",
        Value::Number(_) => "a number",
        Value::String(_) => "a string",
        Value::Array(_) => "an array",
        Value::Object(_) => "an object",
    }
}

/// Returns the error with its position. The line number is omitted for text of one line.
fn describe(error: &crate::json::Error, json: &[u8]) -> String {
    let text = error.to_string();
    let what = text.split(" at line ").next().unwrap_or_default();
    if json.contains(&b'\n') { text } else { format!("{what} at column {}", error.column()) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(json: &str) -> Fields {
        Fields::parse(json.as_bytes()).expect(json)
    }

    fn problem(json: &str) -> String {
        Fields::parse(json.as_bytes()).expect_err(json).to_string()
    }

    #[test]
    fn malformed_json_is_rejected_with_the_position() {
        insta::assert_snapshot!(problem(""), @"not a JSON object: EOF while parsing a value at column 0");
        insta::assert_snapshot!(problem("[1]"), @"not a JSON object: it is an array");
        insta::assert_snapshot!(problem(r#"{"a":1} x"#), @"not a JSON object: trailing characters at column 9");
        insta::assert_snapshot!(problem(r#"{"a":}"#), @"not a JSON object: expected value at column 6");
        insta::assert_snapshot!(problem("{\n\"a\":}"), @"not a JSON object: expected value at line 2 column 5");
        assert!(Fields::parse(b"\xff\xfe").is_err());
    }

    #[test]
    fn absent_field_keeps_and_null_clears() {
        let mut it = fields(r#"{"b":null,"c":"x"}"#);
        assert_eq!(it.clearable_text("a"), Ok(Given::Keep));
        assert_eq!(it.clearable_text("b"), Ok(Given::Clear));
        assert_eq!(it.clearable_text("c"), Ok(Given::Set("x".to_owned())));
        assert_eq!(it.finish(&[]), Ok(()));
    }

    #[test]
    fn error_for_a_wrong_type_names_the_field_and_omits_the_value() {
        let mut it = fields(r#"{"org_id":["secret"],"enabled":"yes"}"#);
        insta::assert_snapshot!(it.required_text("org_id").unwrap_err(), @"org_id: must be a string, not an array");
        insta::assert_snapshot!(it.required_text("instance_id").unwrap_err(), @"instance_id: is missing");
        insta::assert_snapshot!(it.flag("enabled").unwrap_err(), @"enabled: must be true or false, not a string");
    }

    #[test]
    fn unknown_field_is_rejected_by_name() {
        let error = fields(r#"{"org":"x"}"#).finish(&["org_id", "enabled"]).unwrap_err();
        insta::assert_snapshot!(error, @"org: unknown field; known are org_id, enabled");
        assert_eq!(error.field(), Some("org"));
        let long = format!(r#"{{"{}":1}}"#, "\\u001b[2J".repeat(100));
        let error = fields(&long).finish(&[]).unwrap_err();
        assert!(!error.to_string().contains('\u{1b}') && error.field().unwrap().len() <= 64);
    }
}
