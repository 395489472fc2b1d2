//! Agent identities: keys with which agents authenticate, and their tasks.

use chrono::{DateTime, Utc};
use nas_cron_protocol::{AgentRuntimeId, InstanceId, OrgId, TaskId};

use super::agent_instance::AgentInstance;

/// A key for registration.
#[derive(Clone, Debug)]
pub struct NewIdentity<'a> {
    /// The id that it gets if it is new.
    pub agent_runtime_id: AgentRuntimeId,
    /// The instance that it belongs to.
    pub instance_id: &'a InstanceId,
    /// The instance's org at the time of authentication.
    pub org_id: &'a OrgId,
    /// The encoded point.
    pub public_key: &'a [u8; 32],
    /// The identity that it replaces, if any.
    pub replaces: Option<AgentRuntimeId>,
}

/// The result of a registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Registered {
    /// The identity is registered under this id, now or by an earlier registration.
    Identity(AgentRuntimeId),
    /// Rejected: this key was revoked.
    KeyRevoked,
    /// Rejected: the instance has the maximum number of identities.
    TooMany,
    /// Rejected: the instance does not have the identity that it should replace.
    NothingToReplace,
    /// Rejected: the identity should replace itself.
    ReplacesItself,
    /// Rejected: the instance was removed, or belongs to another org now.
    InstanceGone,
}

/// The stored data of an identity and one of its tasks, for the verification of a signature.
#[derive(Clone, Debug)]
pub struct Presented {
    /// The encoded point.
    pub public_key: Vec<u8>,
    /// True if the identity was revoked, or its org no longer owns the instance.
    pub ended: bool,
    /// The task, if it belongs to this identity and is neither revoked nor expired.
    pub task: Option<TaskInUse>,
    /// The instance that the identity belongs to.
    pub instance: AgentInstance,
}

/// A valid task.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TaskInUse {
    /// True if its expiry and its last use must be updated now.
    pub touch: bool,
}

/// Selection of identities.
#[derive(Clone, Copy, Debug)]
pub struct Scope<'a> {
    /// Identities of this instance.
    pub instance_id: &'a InstanceId,
    /// Identities of this org only, if set.
    pub org_id: Option<&'a OrgId>,
}

/// The result of a task's registration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TaskRegistered {
    /// The task is registered under this id, now or by the same registration before; with the number of other tasks that
    /// were removed for it.
    Task(TaskId, i64),
    /// The same registration created a task before that was revoked or has expired; the task is not restored.
    Over,
    /// The identity was revoked or removed in the meantime.
    IdentityGone,
}

/// A registered task as listings show it.
#[derive(Clone, Debug, PartialEq, Eq, serde::Deserialize, serde::Serialize, utoipa::ToSchema)]
pub struct TaskRecord {
    /// Id of the task.
    pub task_id: TaskId,
    /// Time of its registration.
    pub created_at: DateTime<Utc>,
    /// Time at which it expires, unless it is used before.
    pub expires_at: DateTime<Utc>,
    /// Time of its last use, to the minute.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Time of its revocation.
    pub revoked_at: Option<DateTime<Utc>>,
}

/// A row of a listing: an identity with its stored key and one of its tasks. An identity with several tasks has several
/// rows, one after the other.
#[derive(Clone, Debug)]
pub struct ListedRow {
    /// Id of the identity.
    pub agent_runtime_id: AgentRuntimeId,
    /// The encoded point.
    pub public_key: Vec<u8>,
    /// Time of its registration.
    pub created_at: DateTime<Utc>,
    /// Time of its last use.
    pub last_used_at: Option<DateTime<Utc>>,
    /// Time of its revocation.
    pub revoked_at: Option<DateTime<Utc>>,
    /// Its org, if that org no longer owns the instance.
    pub of_org: Option<String>,
    /// One of its tasks, if it has any.
    pub task: Option<TaskRecord>,
}
