//! Who calls, by a key of its own: from what an agent has signed to its instance.
//!
//! An agent registers the public half of a key once, with the portal's token ([`public_key`]); with the key it
//! registers tasks, and under a task it calls ([`assertion`]). Every call reads identity, task and instance in one
//! statement, so that a revocation holds at once on every replica: nothing of it is cached.

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

/// Why a key, a task or an assertion is not taken. The texts may be shown.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// Nobody may call with a key here.
    #[error("the AgentAssertion scheme is not enabled at this service: call with Bearer")]
    SchemeNotEnabled,
    /// There are no identities here.
    #[error("agent identities are off at this service: call with the portal's access token")]
    Off,
    /// It is not of the right form, not of this time, or not signed by the registered key.
    #[error("{0}")]
    Invalid(&'static str),
    /// Nothing that this identity signs is taken: unknown, revoked, or its instance's no longer.
    #[error("this identity is not known, or was revoked: register a key")]
    UnknownAgent,
    /// Not known, expired, revoked, or another identity's.
    #[error("this task is not known, has expired, or was revoked: register another")]
    UnknownTask,
    /// Its instance is switched off.
    #[error("this agent instance is disabled")]
    Disabled,
    /// A field of a registration cannot be accepted.
    #[error(transparent)]
    Field(#[from] InvalidField),
    /// This key does not come back.
    #[error("this key was revoked, and does not come back: make a new one")]
    KeyRevoked,
    /// The instance has as many identities as it may have.
    #[error(
        "this agent has {} identities, which is as many as it may have: revoke one with DELETE /v1/agent/{{agent_runtime_id}}, \
         or name the one that this takes the place of in `replaces`",
        identities::LIVE_IDENTITIES
    )]
    TooMany,
    /// This very registration made a task that is no more.
    #[error(
        "the task of this very registration was revoked, and does not come back: sign one for another second"
    )]
    TaskRevoked,
    /// The instance was removed, or moved, in this moment.
    #[error("this agent instance is not known any more")]
    InstanceGone,
    /// More callers than may wait want to know whether they are known, or want to register.
    #[error("too many callers at once: come again")]
    Busy,
    /// The database.
    #[error(transparent)]
    Db(#[from] StoreError),
}

impl From<DbError> for IdentityError {
    fn from(error: DbError) -> Self {
        Self::Db(error.into())
    }
}

/// A task's name, as it is answered.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TaskName {
    /// For everybody's eyes.
    Plain(TaskId),
    /// In a box for its agent's.
    Sealed(String),
}

/// What a service that knows agent identities does with them. Cheap to clone.
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
    /// As configured: `None` where they are off.
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

    /// The instance that calls: what follows `AgentAssertion` says who, and the signature shows it. Rides out what it
    /// can of the database's absences until `deadline`.
    ///
    /// What costs nothing is judged first, the signature before anything is told about tasks.
    pub async fn authenticate(
        &self,
        presented: &str,
        deadline: Instant,
    ) -> Result<AgentInstance, IdentityError> {
        let assertion = Assertion::read(presented)?;
        within_window(assertion.at, self.clock.now())?;
        let found = self.presented(assertion.agent_runtime_id, assertion.task_id, deadline).await?;
        assertion.verify(&PublicKey::stored(&found.public_key))?;
        let instance = standing(&found)?;
        // Without a task of ours none was looked for.
        let (task_id, task) = assertion.task_id.zip(found.task).ok_or(IdentityError::UnknownTask)?;
        // What the portal denies, it may be asked about again: by whoever asked for this.
        let instance = if instance.denied_by_portal.is_some() { instance } else { enabled(instance)? };
        if task.touch {
            self.in_use.note(task_id, &self.db, self.task_lifetime);
        }
        Ok(instance.clone())
    }

    /// Registers a key for `instance`, which has shown by the portal's token who it is. The same again answers the same.
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
            Registered::ReplacesItself => field("is the identity of this very key: send a new key"),
            Registered::InstanceGone => Err(IdentityError::InstanceGone),
        }
    }

    /// Registers a task of an identity, which has shown by its signature who it is. The same signature again answers
    /// the same task.
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
        let instance = enabled(standing(&found)?)?;
        let fresh = TaskId::fresh();
        let registered = self.registrations.ride_out(deadline, || {
            tasks::register(&self.db, agent_runtime_id, wanted.at, fresh, self.task_lifetime)
        });
        let task_id = match registered.await? {
            TaskRegistered::Task(task_id, displaced) => {
                if displaced > 0 {
                    tracing::info!(agent.id = %instance.instance_id, %agent_runtime_id, displaced,
                        "an identity has as many tasks as it may have: the one unused for longest went");
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

/// The instance of an identity that stands.
fn standing(found: &Presented) -> Result<&AgentInstance, IdentityError> {
    if found.ended { Err(IdentityError::UnknownAgent) } else { Ok(&found.instance) }
}

fn enabled(instance: &AgentInstance) -> Result<&AgentInstance, IdentityError> {
    if instance.enabled { Ok(instance) } else { Err(IdentityError::Disabled) }
}
