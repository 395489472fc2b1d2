//! Agent identities: authenticates agents that sign assertions with a key of their own.
//!
//! An agent registers a public key once, with an access token of the portal ([`public_key`]). It registers tasks with
//! the key, and calls with assertions for a task ([`assertion`]). Every call reads identity, task and instance in one
//! statement and caches nothing, so that a revocation takes effect at once on every replica.

mod admission_limit;
pub mod assertion;
mod in_use;
mod own;
pub mod public_key;
pub mod registry;
mod sealed;

use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use self::admission_limit::AdmissionLimit;
use self::assertion::{Assertion, TaskRegistration, within_window};
use self::in_use::InUse;
pub use self::public_key::PublicKey;
use nas_cron_base::clock::Clock;
use nas_cron_protocol::{AgentRuntimeId, InvalidField, TaskId};

use crate::config;
use crate::db::identities::{self, tasks};
use crate::db::{Db, DbError};
use crate::domain::agent_instance::AgentInstance;
use crate::domain::identity::{NewIdentity, Presented, Registered, TaskRegistered};
use crate::store_error::StoreError;

/// A key, a task or an assertion was rejected. The texts are public.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Assertions are off.
    #[error("the scheme AgentAssertion is not enabled: use Bearer with an access token of the portal")]
    SchemeNotEnabled,
    /// Agent identities are off.
    #[error("agent identities are not enabled: use an access token of the portal")]
    Off,
    /// The assertion is malformed, outside its time window, or not signed by the registered key.
    #[error("{0}")]
    Invalid(&'static str),
    /// The identity is unknown or revoked, or its instance has moved to another org.
    #[error("unknown or revoked identity: register a key")]
    UnknownAgent,
    /// The task is unknown, expired or revoked, or belongs to another identity.
    #[error("unknown, expired or revoked task: register a new task")]
    UnknownTask,
    /// The instance is disabled.
    #[error("this agent instance is disabled")]
    Disabled,
    /// A field of a registration is invalid.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// The key was revoked. A revoked key cannot be registered again.
    #[error("this key was revoked and cannot be registered again: generate a new one")]
    KeyRevoked,
    /// The instance has the maximum number of identities.
    #[error(
        "this agent already has {} identities, the maximum: revoke one with DELETE /v1/agent/{{agent_runtime_id}}, \
         or name the one to replace in `replaces`",
        identities::LIVE_IDENTITIES
    )]
    TooMany,
    /// The task of this registration was revoked or has expired.
    #[error("the task of this signature was revoked or has expired: sign a new timestamp")]
    TaskRevoked,
    /// The instance was removed or moved concurrently.
    #[error("this agent instance was removed or moved; retry later")]
    InstanceGone,
    /// Too many callers are waiting to be authenticated or to register.
    #[error("too many concurrent callers; retry later")]
    Busy,
    /// The database failed.
    #[error(transparent)]
    Db(#[from] StoreError),
}

impl From<DbError> for IdentityError {
    fn from(error: DbError) -> Self {
        Self::Db(error.into())
    }
}

/// A task ID in a response.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskName {
    /// In plain text.
    Plain(TaskId),
    /// In a sealed box for the agent.
    Sealed(String),
}

/// The agent identities. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Identities {
    db: Db,
    clock: Arc<dyn Clock>,
    task_lifetime: Duration,
    task_ids_encrypted: bool,
    in_use: Arc<InUse>,
    lookups: Arc<AdmissionLimit>,
    registrations: Arc<AdmissionLimit>,
}

impl Identities {
    /// Returns the identities as configured, or `None` if they are off.
    pub fn configured(settings: &config::Identity, db: &Db, clock: &Arc<dyn Clock>) -> Option<Self> {
        settings.on.then(|| Self {
            db: db.clone(),
            clock: Arc::clone(clock),
            task_lifetime: settings.task_lifetime,
            task_ids_encrypted: settings.task_ids_encrypted,
            in_use: Arc::default(),
            lookups: Arc::new(AdmissionLimit::new(db)),
            registrations: Arc::new(AdmissionLimit::new(db)),
        })
    }

    /// Authenticates the assertion in `presented`, and returns its instance. Waits for an unavailable database until
    /// `deadline`.
    ///
    /// Cheap checks come first, and the signature is verified before anything about the task is revealed.
    pub async fn authenticate(
        &self,
        presented: &str,
        deadline: Instant,
    ) -> Result<AgentInstance, IdentityError> {
        let assertion = Assertion::read(presented)?;
        within_window(assertion.at, self.clock.now())?;
        let found = self.presented(assertion.agent_runtime_id, assertion.task_id, deadline).await?;
        assertion.verify(&PublicKey::stored(&found.public_key))?;
        let instance = active(&found)?;
        // Both are `None` for a text that is not a task ID.
        let (task_id, task) = assertion.task_id.zip(found.task).ok_or(IdentityError::UnknownTask)?;
        // The caller of this function looks up a denied instance in the portal again.
        let instance = if instance.denied_by_portal.is_some() { instance } else { enabled(instance)? };
        if task.touch {
            self.in_use.note(task_id, &self.db, self.task_lifetime);
        }
        Ok(instance.clone())
    }

    /// Registers a key for `instance`, which was authenticated by an access token. Registering the same key again
    /// returns the same ID.
    pub async fn register(
        &self,
        instance: &AgentInstance,
        key: &PublicKey,
        replaces: Option<AgentRuntimeId>,
        deadline: Instant,
    ) -> Result<AgentRuntimeId, IdentityError> {
        let new = NewIdentity {
            agent_runtime_id: AgentRuntimeId::fresh(),
            instance_id: &instance.instance_id,
            org_id: &instance.org_id,
            public_key: key.as_bytes(),
            replaces,
        };
        let field = |problem: &str| Err(InvalidField::new("replaces", problem).into());
        match self.registrations.ride_out(deadline, || identities::register(&self.db, &new)).await? {
            Registered::Identity(id) => Ok(id),
            Registered::KeyRevoked => Err(IdentityError::KeyRevoked),
            Registered::TooMany => Err(IdentityError::TooMany),
            Registered::NothingToReplace => field("must be an identity of this agent"),
            Registered::ReplacesItself => field("must not be the identity of the same key: send a new key"),
            Registered::InstanceGone => Err(IdentityError::InstanceGone),
        }
    }

    /// Registers a task of an identity, which is authenticated by the signature. The same signature returns the same
    /// task.
    pub async fn register_task(
        &self,
        agent_runtime_id: AgentRuntimeId,
        wanted: &TaskRegistration,
        deadline: Instant,
    ) -> Result<TaskName, IdentityError> {
        within_window(wanted.at, self.clock.now())?;
        let found = self.presented(agent_runtime_id, None, deadline).await?;
        let key = PublicKey::stored(&found.public_key);
        wanted.verify(agent_runtime_id, &key)?;
        let instance = enabled(active(&found)?)?;
        let fresh = TaskId::fresh();
        let registered = self.registrations.ride_out(deadline, || {
            tasks::register(&self.db, agent_runtime_id, wanted.at, fresh, self.task_lifetime)
        });
        let task_id = match registered.await? {
            TaskRegistered::Task(task_id, displaced) => {
                if displaced > 0 {
                    tracing::info!(agent.id = %instance.instance_id, %agent_runtime_id, displaced,
                        "task limit of the identity reached; least recently used task revoked");
                }
                task_id
            }
            TaskRegistered::Over => return Err(IdentityError::TaskRevoked),
            TaskRegistered::IdentityGone => return Err(IdentityError::UnknownAgent),
        };
        Ok(if self.task_ids_encrypted {
            TaskName::Sealed(sealed::seal(&key, &task_id.to_string()))
        } else {
            TaskName::Plain(task_id)
        })
    }

    async fn presented(
        &self,
        agent_runtime_id: AgentRuntimeId,
        task_id: Option<TaskId>,
        deadline: Instant,
    ) -> Result<Presented, IdentityError> {
        let statement = || identities::presented(&self.db, agent_runtime_id, task_id);
        let found = self.lookups.ride_out(deadline, statement);
        found.await?.ok_or(IdentityError::UnknownAgent)
    }
}

/// Returns the instance of an identity that has not ended.
fn active(found: &Presented) -> Result<&AgentInstance, IdentityError> {
    if found.ended { Err(IdentityError::UnknownAgent) } else { Ok(&found.instance) }
}

fn enabled(instance: &AgentInstance) -> Result<&AgentInstance, IdentityError> {
    if instance.enabled { Ok(instance) } else { Err(IdentityError::Disabled) }
}
