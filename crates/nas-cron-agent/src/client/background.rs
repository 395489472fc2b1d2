//! The background task: one task of the agent identity for all calls that belong to no conversation.
//!
//! It is registered on first use and kept in the auth store, where all processes, also later ones, share it. A process
//! that finds no task takes the store's lock, reads again, registers and releases the lock; processes that waited for the
//! lock then find the new task. A task or an identity that the server no longer knows is replaced in the same way.
//!
//! A failure here never fails a call: the access token is the fallback, with one warning per process. After a permanent
//! rejection the identity is paused ([`BackgroundTask::fall_back`]). During the pause, a task that another process has
//! registered is still used, and the identity is tried again if the access token is rejected too.

mod key_changes;

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use nas_cron_base::clock::Clock;
use parking_lot::Mutex;
use tokio::time::Instant;

use nas_cron_protocol::error::ErrorWord;

use super::bearer::Bearer;
use super::identity::{AgentKey, InvalidKey};
use super::registration::{self, TaskError};
use super::server_url::ServerUrl;
use super::store::{AuthStore, AuthStoreError, LockedStore, ServerEntry, StoredIdentity};
use super::transport::{Authorization, ClientError, Transport};

/// Timeout of a whole registration under the lock. Shorter than other processes wait for the lock.
const REGISTRATION_TIMEOUT: Duration = Duration::from_secs(8);
/// Duration of the pause after a permanent rejection. Long-running tools try again after it.
const PAUSE: Duration = Duration::from_mins(5);

/// Authenticates calls as the agent identity.
pub struct BackgroundTask {
    transport: Transport,
    store: AuthStore,
    server: ServerUrl,
    /// Registers the identity, and is the fallback for calls.
    bearer: Bearer,
    clock: Arc<dyn Clock>,
    warn: fn(&str),
    warned: AtomicBool,
    pause: Mutex<Option<Pause>>,
}

/// The credential of one call.
#[derive(Clone, Debug)]
pub(super) struct Assertion {
    pub(super) authorization: Authorization,
    ids: Ids,
}

/// The server's IDs of an identity and its task.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Ids {
    agent_runtime_id: String,
    task_id: String,
}

/// A pause after a permanent rejection.
#[derive(Clone, Debug)]
struct Pause {
    until: Instant,
    /// The rejected task, if it was one.
    rejected: Option<Ids>,
}

/// An unusable agent identity.
#[derive(Debug, thiserror::Error)]
pub enum IdentityError {
    /// The auth store has no entry for the server.
    #[error(
        "the auth store {store} has no entry for {server}: add it with `nas-cron cron login --server {server}`"
    )]
    UnknownServer {
        /// The auth store.
        store: String,
        /// The server.
        server: ServerUrl,
    },
    /// The auth store is unusable.
    #[error(transparent)]
    Store(#[from] AuthStoreError),
    /// The stored key is invalid.
    #[error("the auth store {store} has an {error}; register a new key with `nas-cron cron identity rotate`")]
    BadKey {
        /// The auth store.
        store: String,
        /// The problem.
        error: InvalidKey,
    },
    /// Agent identities are switched off at the server.
    #[error("agent identities are off at {0}")]
    Off(ServerUrl),
    /// Registering the identity failed.
    #[error("registering the identity failed: {0}")]
    Registration(ClientError),
    /// Revoking the identity failed.
    #[error("revoking the identity at the server failed: {0}")]
    NotRevoked(ClientError),
    /// Registering the background task failed.
    #[error("registering the background task failed: {0}")]
    Task(TaskError),
    /// The registration timed out.
    #[error("registering the identity timed out")]
    TimedOut,
    /// The server rejected the assertion.
    #[error("the server rejected the assertion ({error}: {description}){}", clock_hint(error))]
    Rejected {
        /// The error code.
        error: String,
        /// The server's description.
        description: String,
    },
}

fn clock_hint(error: &str) -> &'static str {
    if error.parse() == Ok(ErrorWord::InvalidAssertion) { "; check this machine's clock" } else { "" }
}

impl IdentityError {
    /// True if the next try would fail in the same way: the server rejected the request and is not just unavailable.
    fn is_permanent(&self) -> bool {
        match self {
            Self::Off(_) | Self::Rejected { .. } | Self::Task(TaskError::Unseal(_) | TaskError::Missing) => {
                true
            }
            // The access token is at fault, and its owner may renew it at any time.
            Self::Registration(ClientError::Refused { status: 401, .. }) => false,
            Self::Registration(error) | Self::Task(TaskError::Call(error)) => match error {
                ClientError::Refused { status, .. } => {
                    (400..500).contains(status) && !matches!(status, 408 | 429)
                }
                _ => false,
            },
            _ => false,
        }
    }
}

impl fmt::Debug for BackgroundTask {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("BackgroundTask").field("server", &self.server).finish_non_exhaustive()
    }
}

/// Returns the error code and the description if the server rejected the credential.
fn rejection(error: &ClientError) -> Option<(&str, &str)> {
    match error {
        ClientError::Refused { status: 401, error, description, .. } => Some((error, description)),
        _ => None,
    }
}

impl BackgroundTask {
    /// Creates the task for one server. `warn` is called at most once, with the reason for the fallback.
    pub fn new(
        server: ServerUrl,
        store: AuthStore,
        bearer: Bearer,
        clock: Arc<dyn Clock>,
        warn: fn(&str),
    ) -> reqwest::Result<Self> {
        let transport = Transport::new(server.as_url().clone(), true)?;
        let (warned, pause) = (AtomicBool::new(false), Mutex::new(None));
        Ok(Self { transport, store, server, bearer, clock, warn, warned, pause })
    }

    /// The transport to the server.
    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The access token, which is the fallback.
    pub(crate) fn bearer(&self) -> &Bearer {
        &self.bearer
    }

    /// True during the pause after a permanent rejection.
    pub(super) fn is_paused(&self) -> bool {
        self.pause().is_some()
    }

    /// Ends the pause.
    pub(super) fn resume(&self) {
        *self.pause.lock() = None;
    }

    fn pause(&self) -> Option<Pause> {
        let pause = self.pause.lock();
        pause.clone().filter(|pause| Instant::now() < pause.until)
    }

    /// Returns the credential for the next call, or `None` if it has to use the access token.
    pub(super) async fn assertion(&self, deadline: Instant) -> Option<Assertion> {
        let stored = self.stored();
        if let Some(Pause { rejected, .. }) = self.pause() {
            // Another process may have registered a new task.
            return stored.ok().flatten().filter(|stored| rejected.as_ref() != Some(&stored.ids));
        }
        let usable = match stored {
            Ok(Some(stored)) => Ok(stored),
            Ok(None) => self.obtain(None, deadline).await,
            Err(error) => Err(error),
        };
        usable.map_err(|error| self.fall_back(&error, None)).ok()
    }

    /// Returns the credential for another try of a rejected call, or `None` if it has to use the access token.
    ///
    /// Returns `error` itself if it is not about the credential: it is then the result of the call.
    pub(super) async fn after_rejection(
        &self,
        used: &Assertion,
        error: ClientError,
        deadline: Instant,
    ) -> Result<Option<Assertion>, ClientError> {
        let Some((word, description)) = rejection(&error) else { return Err(error) };
        let again = match error.word() {
            Some(known @ (ErrorWord::UnknownTask | ErrorWord::UnknownAgent)) => {
                self.obtain(Some((&used.ids, known)), deadline).await
            }
            Some(ErrorWord::SchemeNotEnabled) => Err(IdentityError::Off(self.server.clone())),
            _ => Err(IdentityError::Rejected { error: word.to_owned(), description: description.to_owned() }),
        };
        Ok(again.map_err(|error| self.fall_back(&error, Some(used))).ok())
    }

    /// Prepares the fallback after the second rejection of one call. Returns `error` itself if it is not about the
    /// credential.
    pub(super) fn after_second_rejection(
        &self,
        used: &Assertion,
        error: ClientError,
    ) -> Result<(), ClientError> {
        let Some((word, description)) = rejection(&error) else { return Err(error) };
        let error = IdentityError::Rejected { error: word.to_owned(), description: description.to_owned() };
        self.fall_back(&error, Some(used));
        Ok(())
    }

    /// Falls back to the access token: for this call, and after a permanent error for the length of a pause. Warns once.
    fn fall_back(&self, error: &IdentityError, rejected: Option<&Assertion>) {
        if error.is_permanent() {
            let rejected = rejected.map(|assertion| assertion.ids.clone());
            *self.pause.lock() = Some(Pause { until: Instant::now() + PAUSE, rejected });
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            (self.warn)(&format!("using the access token instead of the agent identity: {error}"));
        }
    }

    /// Signs with the stored key and task, or returns `None` if either is missing.
    fn stored(&self) -> Result<Option<Assertion>, IdentityError> {
        let entry = self.store.server(&self.server)?.ok_or_else(|| self.unknown_server())?;
        let Some(identity) = &entry.agent_identity else { return Ok(None) };
        let Some(task_id) = &identity.background_task_id else { return Ok(None) };
        let key = AgentKey::parse(&identity.private_key).map_err(|error| self.bad_key(error))?;
        Ok(Some(self.mint(&key, &identity.agent_runtime_id, task_id)))
    }

    fn mint(&self, key: &AgentKey, agent_runtime_id: &str, task_id: &str) -> Assertion {
        let assertion = key.assertion(agent_runtime_id, task_id, self.clock.now());
        Assertion {
            authorization: Authorization::assertion(&assertion),
            ids: Ids { agent_runtime_id: agent_runtime_id.to_owned(), task_id: task_id.to_owned() },
        }
    }

    /// Registers a missing identity or task under the store's lock. A `rejected` one is replaced if the store still has it.
    async fn obtain(
        &self,
        rejected: Option<(&Ids, ErrorWord)>,
        deadline: Instant,
    ) -> Result<Assertion, IdentityError> {
        let obtaining = async {
            let locked = self.store.lock().await?;
            in_time(self.complete(&locked, rejected)).await
        };
        tokio::time::timeout_at(deadline, obtaining).await.unwrap_or(Err(IdentityError::TimedOut))
    }

    /// Registers a missing identity or task. An identity that the server no longer knows is registered anew, once.
    async fn complete(
        &self,
        locked: &LockedStore<'_>,
        rejected: Option<(&Ids, ErrorWord)>,
    ) -> Result<Assertion, IdentityError> {
        let mut entry = locked.server(&self.server)?.ok_or_else(|| self.unknown_server())?;
        // A rejected identity stays in the store until a new one replaces it.
        let mut identity = entry.agent_identity.clone();
        if let (Some((used, word)), Some(stored)) = (rejected, &mut identity)
            && stored.agent_runtime_id == used.agent_runtime_id
        {
            if word == ErrorWord::UnknownAgent {
                identity = None;
            } else if stored.background_task_id.as_deref() == Some(&used.task_id) {
                stored.background_task_id = None;
            }
        }
        match self.register(locked, &mut entry, identity).await {
            Err(IdentityError::Task(TaskError::Call(error)))
                if error.word() == Some(ErrorWord::UnknownAgent) => {}
            done => return done,
        }
        self.register(locked, &mut entry, None).await
    }

    /// Registers the identity, if it is `None`, and a task. Each is stored as soon as it is registered, so that the next
    /// process continues an interrupted registration.
    async fn register(
        &self,
        locked: &LockedStore<'_>,
        entry: &mut ServerEntry,
        identity: Option<StoredIdentity>,
    ) -> Result<Assertion, IdentityError> {
        let mut identity = match identity {
            Some(identity) => identity,
            None => self.new_identity(locked, entry, None).await?,
        };
        let key = AgentKey::parse(&identity.private_key).map_err(|error| self.bad_key(error))?;
        let agent_runtime_id = identity.agent_runtime_id.clone();
        let task_id = if let Some(id) = identity.background_task_id.clone() {
            id
        } else {
            let now = self.clock.now();
            let registering =
                registration::register_task(&self.transport, &key, &agent_runtime_id, now).await;
            let id = registering.map_err(|error| self.no_task(error))?;
            identity.background_task_id = Some(id.clone());
            entry.agent_identity = Some(identity);
            locked.put(&self.server, entry)?;
            id
        };
        Ok(self.mint(&key, &agent_runtime_id, &task_id))
    }

    fn authorization(&self) -> Result<Authorization, IdentityError> {
        let token = self.bearer.read().map_err(|error| IdentityError::Registration(error.into()))?;
        Ok(Authorization::bearer(&token))
    }

    fn not_registered(&self, error: ClientError) -> IdentityError {
        if is_off(&error) {
            IdentityError::Off(self.server.clone())
        } else {
            IdentityError::Registration(error)
        }
    }

    fn no_task(&self, error: TaskError) -> IdentityError {
        match error {
            TaskError::Call(error) if is_off(&error) => IdentityError::Off(self.server.clone()),
            error => IdentityError::Task(error),
        }
    }

    fn unknown_server(&self) -> IdentityError {
        IdentityError::UnknownServer {
            store: self.store.path().display().to_string(),
            server: self.server.clone(),
        }
    }

    fn bad_key(&self, error: InvalidKey) -> IdentityError {
        IdentityError::BadKey { store: self.store.path().display().to_string(), error }
    }
}

/// Runs work under the lock with a timeout, so that other processes do not wait in vain for the lock.
async fn in_time<T>(work: impl Future<Output = Result<T, IdentityError>>) -> Result<T, IdentityError> {
    tokio::time::timeout(REGISTRATION_TIMEOUT, work).await.unwrap_or(Err(IdentityError::TimedOut))
}

fn is_off(error: &ClientError) -> bool {
    error.word() == Some(ErrorWord::AgentIdentityOff)
}

#[cfg(test)]
mod tests;
