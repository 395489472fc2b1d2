//! Identifiers: opaque, bounded, printable.

use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::InvalidField;

/// Checks what every identifier promises: 1 to `max` bytes, no control characters. Bytes, because together they
/// are the key of an index, whose entries end at 2,704 bytes.
fn check(field: &'static str, value: &str, max: usize) -> Result<(), InvalidField> {
    if value.is_empty() {
        return Err(InvalidField::new(field, "must not be empty"));
    }
    if value.len() > max {
        return Err(InvalidField::new(field, format!("must be at most {max} bytes long")));
    }
    if value.chars().any(char::is_control) {
        return Err(InvalidField::new(field, "must not contain control characters"));
    }
    Ok(())
}

macro_rules! text_id {
    ($(#[$doc:meta])* $name:ident, $field:literal, $max:literal) => {
        $(#[$doc])*
        #[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize)]
        #[serde(transparent)]
        pub struct $name(String);

        impl $name {
            /// Takes it as it came; fails on emptiness, length and control characters.
            pub fn new(value: impl Into<String>) -> Result<Self, InvalidField> {
                let value = value.into();
                check($field, &value, $max)?;
                Ok(Self(value))
            }

            /// As it came.
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
    };
}

text_id!(
    /// One deployed agent, in the portal's words.
    InstanceId, "instance_id", 255
);
text_id!(
    /// The organisation that owns an instance.
    OrgId, "org_id", 255
);
text_id!(
    /// The session planted in a hosted agent at its first boot: its tokens' `sid`.
    SessionId, "bootstrap_session_id", 255
);
text_id!(
    /// One cron job of one instance, named by the agent.
    JobId, "job_id", 255
);
text_id!(
    /// What makes arming idempotent: `"{job_id}:{fire_at}"` from real agents, opaque to us.
    DedupKey, "dedup_key", 512
);

impl SessionId {
    /// A new one, for a portal of our own. Random: it is in access tokens, and in nothing else that agents see.
    pub fn fresh() -> Self {
        Self(Uuid::new_v4().to_string())
    }
}

/// For rows that were checked when they were stored.
macro_rules! read_back {
    ($($name:ident),+) => {
        $(impl $name {
            /// From a row that was checked when it was stored.
            pub fn stored(value: String) -> Self {
                Self(value)
            }
        })+
    };
}

read_back!(InstanceId, OrgId, SessionId, JobId, DedupKey);

/// Names one arm of a job. Opaque to agents; a UUID to us.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct ScheduleId(pub Uuid);

impl ScheduleId {
    /// A fresh one. Time-ordered, so that new arms stay together in the index.
    pub fn fresh() -> Self {
        Self(Uuid::now_v7())
    }

    /// As it is written.
    pub fn parse(text: &str) -> Result<Self, InvalidField> {
        let parsed = Uuid::try_parse(text);
        parsed
            .map(Self)
            .map_err(|_| InvalidField::new("schedule_id", "must be one that a provision answered"))
    }
}

impl std::fmt::Display for ScheduleId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        self.0.as_hyphenated().fmt(f)
    }
}

/// Names that we give and that agents sign: random, so that nobody finds one by guessing, and of one form, because
/// the signature is over the text.
macro_rules! signed_id {
    ($(#[$doc:meta])* $name:ident, $field:literal, $whence:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize)]
        #[serde(transparent)]
        pub struct $name(pub Uuid);

        impl $name {
            /// A fresh one.
            pub fn fresh() -> Self {
                Self(Uuid::new_v4())
            }

            /// As it is written, and not otherwise.
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
    };
}

signed_id!(
    /// An identity: one key of one instance.
    AgentRuntimeId, "agent_runtime_id", "a registration answered"
);
signed_id!(
    /// What an identity calls under: a task that it has registered.
    TaskId, "task_id", "a task registration answered"
);

impl From<Uuid> for ScheduleId {
    fn from(id: Uuid) -> Self {
        Self(id)
    }
}
