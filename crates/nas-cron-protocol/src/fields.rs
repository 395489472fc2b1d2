//! The fields of a JSON object, taken out one by one, so that each one that is wrong, missing or unknown is named.

use serde::{Deserialize, Deserializer, Serialize as _};
use serde_json::{Map, Value};

use super::InvalidField;

/// What is wrong with an object.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FieldsError {
    /// It is no JSON object at all; says where it breaks.
    #[error("not a JSON object: {0}")]
    NotAnObject(String),
    /// It has a field that means nothing here: a typo must not be lost.
    #[error("{field}: unknown field; known are {known}")]
    Unknown {
        /// As it came, shortened.
        field: String,
        /// What it may have been meant to be.
        known: String,
    },
    /// A known field is missing or wrong.
    #[error(transparent)]
    Invalid(#[from] InvalidField),
}

impl FieldsError {
    /// The field's name, where one is to blame.
    pub fn field(&self) -> Option<&str> {
        match self {
            Self::NotAnObject(_) => None,
            Self::Unknown { field, .. } => Some(field),
            Self::Invalid(invalid) => Some(invalid.field),
        }
    }
}

/// What a field that may be left out says about a value that may be there already.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub enum Given<T> {
    /// Absent: what is there stays.
    #[default]
    Keep,
    /// `null`: what is there goes.
    Clear,
    /// This one.
    Set(T),
}

impl<T> Given<T> {
    /// Whether what is there stays: for fields that are then left out.
    pub const fn is_keep(&self) -> bool {
        matches!(self, Self::Keep)
    }

    /// The value, or `null`.
    pub fn serialize_nullable<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error>
    where
        T: serde::Serialize,
    {
        self.value().serialize(serializer)
    }

    /// The value, if there is one.
    pub fn value(&self) -> Option<&T> {
        match self {
            Self::Set(value) => Some(value),
            Self::Keep | Self::Clear => None,
        }
    }

    /// Checks or changes the value.
    pub fn try_map<U, E>(self, check: impl FnOnce(T) -> Result<U, E>) -> Result<Given<U>, E> {
        Ok(match self {
            Self::Keep => Given::Keep,
            Self::Clear => Given::Clear,
            Self::Set(value) => Given::Set(check(value)?),
        })
    }
}

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Given<T> {
    /// For fields with `#[serde(default)]`: what is absent is not asked, and keeps.
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        Ok(Option::deserialize(deserializer)?.map_or(Self::Clear, Self::Set))
    }
}

/// An object whose fields are being taken out.
#[derive(Clone, Debug)]
pub struct Fields(Map<String, Value>);

/// Unknown names are repeated to their sender up to here.
const SHOWN_NAME: usize = 64;

impl Fields {
    /// Reads one JSON object, which must be all there is in `json`.
    pub fn parse(json: &[u8]) -> Result<Self, FieldsError> {
        match serde_json::from_slice(json) {
            Ok(Value::Object(fields)) => Ok(Self(fields)),
            Ok(other) => Err(FieldsError::NotAnObject(format!("it is {}", kind(&other)))),
            Err(error) => Err(FieldsError::NotAnObject(in_words(&error, json))),
        }
    }

    /// Fields that came in another form, such as the cells of a table.
    pub fn from_map(fields: Map<String, Value>) -> Self {
        Self(fields)
    }

    /// A text that must be there.
    pub fn required_text(&mut self, field: &'static str) -> Result<String, InvalidField> {
        self.text(field)?.ok_or_else(|| InvalidField::new(field, "is missing"))
    }

    /// A text that may be left out; `null` is the same as leaving it out.
    pub fn text(&mut self, field: &'static str) -> Result<Option<String>, InvalidField> {
        Ok(match self.clearable_text(field)? {
            Given::Set(text) => Some(text),
            Given::Keep | Given::Clear => None,
        })
    }

    /// A text that may be left out, or taken away by `null`.
    pub fn clearable_text(&mut self, field: &'static str) -> Result<Given<String>, InvalidField> {
        match self.0.remove(field) {
            None => Ok(Given::Keep),
            Some(Value::Null) => Ok(Given::Clear),
            Some(Value::String(text)) => Ok(Given::Set(text)),
            Some(other) => Err(InvalidField::new(field, format!("must be a string, not {}", kind(&other)))),
        }
    }

    /// A flag that may be left out; `null` is the same as leaving it out.
    pub fn flag(&mut self, field: &'static str) -> Result<Option<bool>, InvalidField> {
        match self.0.remove(field) {
            None | Some(Value::Null) => Ok(None),
            Some(Value::Bool(flag)) => Ok(Some(flag)),
            Some(other) => {
                Err(InvalidField::new(field, format!("must be true or false, not {}", kind(&other))))
            }
        }
    }

    /// Refuses what nobody took out. `known` are the names that would have been taken.
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

/// What a value is, without saying what it contains.
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

/// `serde_json` counts lines and columns; in what is one line to its sender, a line number only misleads.
fn in_words(error: &serde_json::Error, json: &[u8]) -> String {
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
    fn malformed_json_is_refused_with_the_position() {
        insta::assert_snapshot!(problem(""), @"not a JSON object: EOF while parsing a value at column 0");
        insta::assert_snapshot!(problem("[1]"), @"not a JSON object: it is an array");
        insta::assert_snapshot!(problem(r#"{"a":1} x"#), @"not a JSON object: trailing characters at column 9");
        insta::assert_snapshot!(problem(r#"{"a":}"#), @"not a JSON object: expected value at column 6");
        insta::assert_snapshot!(problem("{\n\"a\":}"), @"not a JSON object: expected value at line 2 column 5");
        assert!(Fields::parse(b"\xff\xfe").is_err());
    }

    #[test]
    fn absent_keeps_null_clears() {
        let mut it = fields(r#"{"b":null,"c":"x"}"#);
        assert_eq!(it.clearable_text("a"), Ok(Given::Keep));
        assert_eq!(it.clearable_text("b"), Ok(Given::Clear));
        assert_eq!(it.clearable_text("c"), Ok(Given::Set("x".to_owned())));
        assert_eq!(it.finish(&[]), Ok(()));
    }

    #[test]
    fn a_wrong_type_names_its_field_and_does_not_repeat_the_value() {
        let mut it = fields(r#"{"org_id":["secret"],"enabled":"yes"}"#);
        insta::assert_snapshot!(it.required_text("org_id").unwrap_err(), @"org_id: must be a string, not an array");
        insta::assert_snapshot!(it.required_text("instance_id").unwrap_err(), @"instance_id: is missing");
        insta::assert_snapshot!(it.flag("enabled").unwrap_err(), @"enabled: must be true or false, not a string");
    }

    #[test]
    fn a_typo_is_not_lost() {
        let error = fields(r#"{"org":"x"}"#).finish(&["org_id", "enabled"]).unwrap_err();
        insta::assert_snapshot!(error, @"org: unknown field; known are org_id, enabled");
        assert_eq!(error.field(), Some("org"));
        let long = format!(r#"{{"{}":1}}"#, "\\u001b[2J".repeat(100));
        let error = fields(&long).finish(&[]).unwrap_err();
        assert!(!error.to_string().contains('\u{1b}') && error.field().unwrap().len() <= 64);
    }
}
