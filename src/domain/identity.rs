//! Agent identities: keys that agents call with, and the tasks that they call under.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{AgentRuntimeId, InstanceId, OrgId, TaskId};

use super::agent_instance::AgentInstance;

/// A key that is to be registered.
#[derive(Clone, Debug)]
pub struct NewIdentity<'a> {
    /// The name it gets if it is new.
    pub agent_runtime_id: AgentRuntimeId,
    /// Whose it is.
    pub instance_id: &'a InstanceId,
    /// Who owned the instance when it was told who calls.
    pub org_id: &'a OrgId,
    /// The encoded point.
    pub public_key: &'a [u8; 32],
    /// The identity that it takes the place of, if any.
    pub replaces: Option<AgentRuntimeId>,
}

/// What became of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// It is there, under this name: as of now, or since an earlier registration.
    Identity(AgentRuntimeId),
    /// Refused: this key was revoked.
    KeyRevoked,
    /// Refused: the instance has as many as it may have.
    TooMany,
    /// Refused: it is to take the place of one that the instance does not have.
    NothingToReplace,
    /// Refused: it is to take its own place.
    ReplacesItself,
    /// Refused: the instance is not there, or another org's by now.
    InstanceGone,
}

/// What there is of an identity, and of one of its tasks, when something signed by it comes.
#[derive(Clone, Debug)]
pub struct Presented {
    /// The encoded point.
    pub public_key: Vec<u8>,
    /// Whether it was revoked, or belongs to an org that has the instance no longer.
    pub ended: bool,
    /// The task, if it is this identity's, not revoked and not expired: whether its use is to be recorded.
    pub task: Option<TaskInUse>,
    /// Whose identity it is.
    pub instance: AgentInstance,
}

/// A task that stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskInUse {
    /// Whether it is time to renew it, and to record that it is used.
    pub touch: bool,
}

/// Which identities are meant.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Of this instance.
    pub instance_id: &'a InstanceId,
    /// And of this org only.
    pub org_id: Option<&'a OrgId>,
}

/// What became of a task's registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskRegistered {
    /// It stands, under this name: as of now, or since the same registration came before. With how many others had
    /// to go for it.
    Task(TaskId, i64),
    /// This very registration made a task that was revoked, or has expired: it does not come back.
    Over,
    /// The identity was revoked meanwhile, or is gone.
    IdentityGone,
}

/// A registered task, as it is shown.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, utoipa::ToSchema)]
pub struct TaskRecord {
    /// Its name.
    #[schema(value_type = uuid::Uuid)]
    pub task_id: TaskId,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// Until when it is good for, unless it is used before.
    pub expires_at: DateTime<Utc>,
    /// When it was last used, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A row of a listing: an identity, with its key as it is stored, and one task of it.
#[derive(Clone, Debug)]
pub struct ListedRow {
    /// Its tasks are to be gathered from the rows that follow.
    pub agent_runtime_id: AgentRuntimeId,
    /// The encoded point.
    pub public_key: Vec<u8>,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// When it was last used.
    pub last_used_at: Option<DateTime<Utc>>,
    /// When it was revoked.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Its org, where that has the instance no longer.
    pub of_org: Option<String>,
    /// One of its tasks, if it has any.
    pub task: Option<TaskRecord>,
}
