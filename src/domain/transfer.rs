//! State that is exported from one database and imported into another.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{AuthChoice, AuthPlace, AuthProfile, InstanceId, JobId};
use serde_json::Value;
use uuid::Uuid;

/// A login at the built-in portal. It contains no secret: without the key-encryption key, nobody can make its tokens.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StoredLogin {
    /// The instance that it belongs to.
    pub instance_id: InstanceId,
    /// Its id.
    pub login_id: Uuid,
    /// Id of the key that its refresh tokens are derived with.
    pub key_id: Vec<u8>,
    /// Number of the last refresh token that was presented, from 0.
    pub number: i64,
    /// Time at which it was created.
    pub created_at: DateTime<Utc>,
    /// Time at which its agent last got an access token.
    pub refreshed_at: Option<DateTime<Utc>>,
}

/// An auth profile, a default, or the own auth of a job.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum StoredAuth {
    /// A registered profile.
    Profile(AuthPlace, AuthProfile),
    /// The default of a place.
    Default(AuthPlace, AuthChoice),
    /// The auth of a job.
    Job(InstanceId, JobId, AuthChoice),
}

impl StoredAuth {
    /// Returns the instance that it belongs to; `None` for the service and for an org.
    pub const fn instance_id(&self) -> Option<&InstanceId> {
        match self {
            Self::Profile(AuthPlace::Instance(id), _)
            | Self::Default(AuthPlace::Instance(id), _)
            | Self::Job(id, ..) => Some(id),
            Self::Profile(..) | Self::Default(..) => None,
        }
    }
}

/// The result of importing a login or an auth.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It is new.
    Added,
    /// The same is there already.
    Unchanged,
    /// Not imported: there is another one in its place, which is newer.
    Kept,
    /// The instance is not registered.
    UnknownInstance,
}

/// The last line of a complete export.
pub const END: &str = r#"{"kind":"end"}"#;

/// Numbers of what is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ExportCounts {
    /// Lines of the whole export.
    pub lines: u64,
    /// Dead letters and stuck one-shots among them.
    pub dead: u64,
}

/// The part of an export, in its order: an agent comes before what refers to it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExportPart {
    /// Registered agents.
    Agents,
    /// Open logins.
    Logins,
    /// Auth profiles, defaults and the auth of jobs.
    Auth,
    /// One-shots that are not delivered.
    OneShots,
}

impl ExportPart {
    /// All parts, in their order.
    pub const ALL: [Self; 4] = [Self::Agents, Self::Logins, Self::Auth, Self::OneShots];
}

/// A place in an export: a line of one of its parts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ExportPlace {
    /// The part.
    pub part: ExportPart,
    /// The key of the line within it.
    pub key: [String; 3],
}

/// A page of an export: lines as JSON objects, and the place to go on after it, unless it is the last one.
#[derive(Clone, Debug, Default)]
pub struct ExportPage {
    /// The lines.
    pub lines: Vec<Value>,
    /// The key of the last line.
    pub next: Option<[String; 3]>,
}
