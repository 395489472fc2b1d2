//! Identifiers: opaque, bounded, visible.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::InvalidField;

/// Validates an identifier: 1 to `max` bytes, without control characters and white space around it, which would make two
/// identifiers look the same. The limit is in bytes because identifiers together form the key of an index, whose entries
/// have at most 2,704 bytes.
pub fn check_identifier(field: &'static str, value: &str, max: usize) -> Result<(), InvalidField> {
    if value.is_empty() {
        return Err(InvalidField::new(field, "must not be empty"));
    }
    if value.len() > max {
        return Err(InvalidField::new(field, format!("must be at most {max} bytes long")));
    }
    if value.chars().any(char::is_control) {
        return Err(InvalidField::new(field, "must not contain control characters"));
    }
    if value.trim().is_empty() {
        return Err(InvalidField::new(field, "must not be blank"));
    }
    if value.trim() != value {
        return Err(InvalidField::new(field, "must not begin or end with white space"));
    }
    Ok(())
}

/// Regular expression (ECMA-262) of the texts that [`check_identifier`] accepts, apart from the length.
pub const IDENTIFIER_PATTERN: &str = "^[^\\u0000-\\u0020\\u007f-\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000](?:\
                                      [^\\u0000-\\u001f\\u007f-\\u009f]*\
                                      [^\\u0000-\\u0020\\u007f-\\u00a0\\u1680\\u2000-\\u200a\\u2028\\u2029\\u202f\\u205f\\u3000])?$";

macro_rules! text_id {
    ($(#[doc = $doc:literal])+ $name:ident, $field:literal, $max:literal, $example:literal) => {
        $(#[doc = $doc])+
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Validates an identifier, as [`check_identifier`] does.
            pub fn new(value: impl Into<String>) -> Result<Self, InvalidField> {
                let value = value.into();
                check_identifier($field, &value, $max)?;
                Ok(Self(value))
            }

            /// The identifier as it was sent.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(&self.0)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidField;

            fn from_str(value: &str) -> Result<Self, InvalidField> {
                Self::new(value)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::new(String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }

        #[cfg(feature = "openapi")]
        crate::text_schema!($name, crate::schema::TextSchema {
            description: concat!($($doc),+).trim_ascii_start(),
            max_bytes: Some($max),
            pattern: Some(IDENTIFIER_PATTERN),
            format: None,
            example: $example,
        });
    };
}

text_id!(
    /// An agent instance, by the portal's name for it.
    InstanceId, "instance_id", 255, "agent-1"
);
text_id!(
    /// The organisation that owns an instance.
    OrgId, "org_id", 255, "acme"
);
text_id!(
    /// The bootstrap session of a hosted agent: the `sid` of its tokens.
    SessionId, "bootstrap_session_id", 255, "boot-5d0c"
);
text_id!(
    /// A cron job of one instance, named by the agent.
    JobId, "job_id", 255, "ab12cd34"
);
text_id!(
    /// The key that makes arming idempotent. Opaque to the service; real agents send `"{job_id}:{fire_at}"`.
    DedupKey, "dedup_key", 512, "ab12cd34:2026-06-18T12:34:56.250000+00:00"
);

impl SessionId {
    /// Generates a random ID for the built-in portal. Agents see it only in access tokens.
    pub fn fresh() -> Self {
        Self(Uuid::new_v4().to_string())
    }
}

/// Adds a constructor for stored values.
macro_rules! read_back {
    ($($name:ident),+) => {
        $(impl $name {
            /// Wraps a stored value, which was validated on insert.
            pub fn stored(value: String) -> Self {
                Self(value)
            }
        })+
    };
}

read_back!(InstanceId, OrgId, SessionId, JobId, DedupKey);

/// ID of a one-shot. A UUID, but opaque to agents.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScheduleId(pub Uuid);

impl ScheduleId {
    /// Generates a time-ordered ID, so that new one-shots are adjacent in the index.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// Parses any form of a UUID.
    pub fn parse(text: &str) -> Result<Self, InvalidField> {
        let parsed = Uuid::try_parse(text);
        parsed
            .map(Self)
            .map_err(|_| InvalidField::new("schedule_id", "must be one that a provision returned"))
    }
}

#[cfg(feature = "openapi")]
crate::text_schema!(
    ScheduleId,
    crate::schema::TextSchema {
        description: "Opaque ID of a one-shot.",
        max_bytes: None,
        pattern: None,
        format: Some("uuid"),
        example: "0190a5e4-7c1e-7000-8000-000000000000",
    }
);

impl std::fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

/// Declares an ID that the service issues and agents sign. It is random, because it must not be guessable, and has a single
/// textual form, because the signature covers the text.
macro_rules! signed_id {
    ($(#[doc = $doc:literal])+ $name:ident, $field:literal, $whence:literal, $example:literal) => {
        $(#[doc = $doc])+
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// Generates a random ID.
            pub fn fresh() -> Self {
                Self(Uuid::new_v4())
            }

            /// Parses the form that the service issues; other forms of the same UUID are invalid.
            pub fn parse(text: &str) -> Result<Self, InvalidField> {
                let parsed = Uuid::try_parse(text).ok().filter(|id| id.as_hyphenated().to_string() == text);
                parsed.map(Self).ok_or_else(|| InvalidField::new($field, concat!("must be one that ", $whence)))
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                self.0.as_hyphenated().fmt(f)
            }
        }

        impl std::str::FromStr for $name {
            type Err = InvalidField;

            fn from_str(text: &str) -> Result<Self, InvalidField> {
                Self::parse(text)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                Self::parse(&String::deserialize(deserializer)?).map_err(serde::de::Error::custom)
            }
        }

        #[cfg(feature = "openapi")]
        crate::text_schema!($name, crate::schema::TextSchema {
            description: concat!($($doc),+).trim_ascii_start(),
            max_bytes: None,
            pattern: Some("^[0-9a-f]{8}(?:-[0-9a-f]{4}){3}-[0-9a-f]{12}$"),
            format: Some("uuid"),
            example: $example,
        });
    };
}

signed_id!(
    /// ID of an agent identity: one key of one instance.
    AgentRuntimeId, "agent_runtime_id", "a registration returned", "8f14e45f-ceea-467a-9af0-dd1c3d5b7a10"
);
signed_id!(
    /// ID of a task that an identity has registered and calls with.
    TaskId, "task_id", "a task registration returned", "c9f0f895-fb98-4ab9-a7f5-1a2d3c4b5e60"
);

impl From<Uuid> for ScheduleId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn identifier_is_not_blank_not_padded_and_has_no_control_characters() {
        for (text, problem) in [
            ("", "must not be empty"),
            (" ", "must not be blank"),
            ("\u{a0}\u{2003}\u{3000}", "must not be blank"),
            (" a", "must not begin or end with white space"),
            ("a ", "must not begin or end with white space"),
            ("a\u{a0}", "must not begin or end with white space"),
            ("\u{2028}a", "must not begin or end with white space"),
            ("a\n", "must not contain control characters"),
            ("\t", "must not contain control characters"),
            ("a\0b", "must not contain control characters"),
            ("a\u{9b}b", "must not contain control characters"),
        ] {
            let expected = Err(InvalidField::new("job_id", problem));
            assert_eq!(JobId::new(text), expected, "{text:?}");
        }
        for text in ["a", "a b", "ä\u{a0}ö", "a1b2c3", "日本 語", "-", "a:b/c?d#e%20"] {
            assert_eq!(JobId::new(text).unwrap().as_str(), text);
        }
        assert!(JobId::new("x".repeat(255)).is_ok() && JobId::new("x".repeat(256)).is_err());
    }

    proptest::proptest! {
        #[test]
        fn pattern_of_the_schema_matches_what_is_accepted(
            text in r"(?s).{0,4}",
            edge in "[a\\x00\\t\\n \\x7f\\x85\\xa0\u{1680}\u{2003}\u{2028}\u{202f}\u{3000}\u{feff}]{0,3}",
        ) {
            let pattern = regex::Regex::new(IDENTIFIER_PATTERN).unwrap();
            for value in [text.clone(), edge.clone(), format!("{edge}{text}"), format!("{text}{edge}"), format!("x{edge}x")] {
                proptest::prop_assert_eq!(pattern.is_match(&value), JobId::new(&value).is_ok(), "{:?}", value);
            }
        }
    }
}
