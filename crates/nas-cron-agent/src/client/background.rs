//! The background task: one task of the agent's identity for all calls that belong to no conversation.
//!
//! It is registered on first need and kept in the auth store, so that all processes of all days share it. A process that
//! finds none takes the store's lock, looks again, registers, and lets go: others that wait for the lock then find
//! it there. A task that the server does not know any more is replaced in the same way, an identity too.
//!
//! None of this ever fails a call. Where it does not work, the access token does, with one warning for all of the process.
//! After a refusal that stays what it is, the identity rests for a while ([`BackgroundTask::give_up`]): a task that another
//! process has registered is used all the same, and where the access token does not open the door either, the identity
//! is tried again.

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

/// What registering may take in all, under the lock: less than others wait for it.
const REGISTERING: Duration = Duration::from_secs(8);
/// How long nothing is registered after a refusal: a tool that runs for days tries again.
const REST: Duration = Duration::from_mins(5);

/// How calls are made as the agent's identity.
pub struct BackgroundTask {
    transport: Transport,
    store: AuthStore,
    server: ServerUrl,
    /// Registers the identity, and makes the calls where the identity cannot.
    bearer: Bearer,
    clock: Arc<dyn Clock>,
    warn: fn(&str),
    warned: AtomicBool,
    rest: Mutex<Option<Rest>>,
}

/// What a call was made with.
#[derive(Clone, Debug)]
pub(super) struct Assertion {
    pub(super) authorization: Authorization,
    names: Names,
}

/// What the server calls an identity, and its task.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Names {
    agent_runtime_id: String,
    task_id: String,
}

/// After a refusal.
#[derive(Clone, Debug)]
struct Rest {
    until: Instant,
    /// What was refused.
    refused: Option<Names>,
}

/// Why calls are not made as the agent's identity.
#[derive(Debug, thiserror::Error)]
pub enum Unavailable {
    /// Nobody ever logged in at this server.
    #[error(
        "the auth store {store} does not know {server}; `nas-cron cron login --server {server}` makes it known"
    )]
    UnknownServer {
        /// Where it was looked up.
        store: String,
        /// Which server.
        server: ServerUrl,
    },
    /// The store cannot be used.
    #[error(transparent)]
    Store(#[from] AuthStoreError),
    /// What is in the store is no key.
    #[error("in the auth store {store}: {error}; `nas-cron cron identity rotate` makes a new one")]
    BadKey {
        /// Where it is.
        store: String,
        /// What is wrong.
        error: InvalidKey,
    },
    /// The server has the feature off.
    #[error("agent identities are off at {0}")]
    Off(ServerUrl),
    /// The identity was not registered.
    #[error("the identity cannot be registered: {0}")]
    Registration(ClientError),
    /// The identity was not revoked.
    #[error("the identity cannot be revoked at the server: {0}")]
    NotRevoked(ClientError),
    /// The task was not registered.
    #[error("the background task cannot be registered: {0}")]
    Task(TaskError),
    /// It took too long.
    #[error("registering takes too long")]
    TooLong,
    /// The server does not take what it was shown.
    #[error("the server refuses it ({error}: {description}){}", clock_hint(error))]
    Refused {
        /// The word.
        error: String,
        /// The server's sentence.
        description: String,
    },
}

fn clock_hint(error: &str) -> &'static str {
    if error.parse() == Ok(ErrorWord::InvalidAssertion) {
        "; see whether this machine's clock is right"
    } else {
        ""
    }
}

impl Unavailable {
    /// Whether the next attempt would come to the same: the server has said no, and not that it cannot just now.
    fn stays(&self) -> bool {
        match self {
            Self::Off(_) | Self::Refused { .. } | Self::Task(TaskError::NotForUs(_) | TaskError::None) => {
                true
            }
            // The access token's fault, which whoever owns it mends at any time.
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

/// The server's words about an assertion that it has refused.
fn refusal(error: &ClientError) -> Option<(&str, &str)> {
    match error {
        ClientError::Refused { status: 401, error, description, .. } => Some((error, description)),
        _ => None,
    }
}

impl BackgroundTask {
    /// For this server. `warn` is told at most once why the access token is used after all.
    pub fn new(
        server: ServerUrl,
        store: AuthStore,
        bearer: Bearer,
        clock: Arc<dyn Clock>,
        warn: fn(&str),
    ) -> reqwest::Result<Self> {
        let transport = Transport::new(server.as_url().clone(), true)?;
        let (warned, rest) = (AtomicBool::new(false), Mutex::new(None));
        Ok(Self { transport, store, server, bearer, clock, warn, warned, rest })
    }

    /// The way to the server.
    pub(super) fn transport(&self) -> &Transport {
        &self.transport
    }

    /// The other way to call.
    pub(crate) fn bearer(&self) -> &Bearer {
        &self.bearer
    }

    /// Whether the identity rests after a refusal.
    pub(super) fn rests(&self) -> bool {
        self.rest().is_some()
    }

    /// Tries the identity again, although it rests.
    pub(super) fn wake(&self) {
        *self.rest.lock() = None;
    }

    fn rest(&self) -> Option<Rest> {
        let rest = self.rest.lock();
        rest.clone().filter(|rest| Instant::now() < rest.until)
    }

    /// What to make the next call with; `None`: the access token.
    pub(super) async fn assertion(&self, deadline: Instant) -> Option<Assertion> {
        let kept = self.kept();
        if let Some(Rest { refused, .. }) = self.rest() {
            // Another process may have made a new one.
            return kept.ok().flatten().filter(|kept| refused.as_ref() != Some(&kept.names));
        }
        let kept = match kept {
            Ok(Some(kept)) => Ok(kept),
            Ok(None) => self.obtain(None, deadline).await,
            Err(error) => Err(error),
        };
        kept.map_err(|why| self.give_up(&why, None)).ok()
    }

    /// What to make a refused call with again; `None`: the access token. Other errors than refused credentials are
    /// none of its business: the second part is then what came of the call.
    pub(super) async fn after_refusal(
        &self,
        used: &Assertion,
        error: ClientError,
        deadline: Instant,
    ) -> Result<Option<Assertion>, ClientError> {
        let Some((word, description)) = refusal(&error) else { return Err(error) };
        let again = match error.word() {
            Some(known @ (ErrorWord::UnknownTask | ErrorWord::UnknownAgent)) => {
                self.obtain(Some((&used.names, known)), deadline).await
            }
            Some(ErrorWord::SchemeNotEnabled) => Err(Unavailable::Off(self.server.clone())),
            _ => Err(Unavailable::Refused { error: word.to_owned(), description: description.to_owned() }),
        };
        Ok(again.map_err(|why| self.give_up(&why, Some(used))).ok())
    }

    /// After the second refusal of one call: the access token makes it.
    pub(super) fn after_second_refusal(
        &self,
        used: &Assertion,
        error: ClientError,
    ) -> Result<(), ClientError> {
        let Some((word, description)) = refusal(&error) else { return Err(error) };
        let why = Unavailable::Refused { error: word.to_owned(), description: description.to_owned() };
        self.give_up(&why, Some(used));
        Ok(())
    }

    /// The access token makes the call, and the next ones too where trying again would come to the same. Says why, once.
    fn give_up(&self, why: &Unavailable, refused: Option<&Assertion>) {
        if why.stays() {
            let refused = refused.map(|assertion| assertion.names.clone());
            let rest = Rest { until: Instant::now() + REST, refused };
            *self.rest.lock() = Some(rest);
        }
        if !self.warned.swap(true, Ordering::Relaxed) {
            (self.warn)(&format!("calls are made with the access token, not as the agent identity: {why}"));
        }
    }

    /// What the store has, if that is all that is needed.
    fn kept(&self) -> Result<Option<Assertion>, Unavailable> {
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
            names: Names { agent_runtime_id: agent_runtime_id.to_owned(), task_id: task_id.to_owned() },
        }
    }

    /// Registers what is missing, or was `refused` and is still what the store has, under the store's lock.
    async fn obtain(
        &self,
        refused: Option<(&Names, ErrorWord)>,
        deadline: Instant,
    ) -> Result<Assertion, Unavailable> {
        let obtaining = async {
            let locked = self.store.lock().await?;
            in_time(self.complete(&locked, refused)).await
        };
        tokio::time::timeout_at(deadline, obtaining).await.unwrap_or(Err(Unavailable::TooLong))
    }

    /// Makes what is missing. An identity that the server has forgotten or revoked is made anew, once.
    async fn complete(
        &self,
        locked: &LockedStore<'_>,
        refused: Option<(&Names, ErrorWord)>,
    ) -> Result<Assertion, Unavailable> {
        let mut entry = locked.server(&self.server)?.ok_or_else(|| self.unknown_server())?;
        // What is refused stays in the store until there is something to put in its place.
        let mut identity = entry.agent_identity.clone();
        if let (Some((used, word)), Some(kept)) = (refused, &mut identity)
            && kept.agent_runtime_id == used.agent_runtime_id
        {
            if word == ErrorWord::UnknownAgent {
                identity = None;
            } else if kept.background_task_id.as_deref() == Some(&used.task_id) {
                kept.background_task_id = None;
            }
        }
        match self.register(locked, &mut entry, identity).await {
            Err(Unavailable::Task(TaskError::Call(error)))
                if error.word() == Some(ErrorWord::UnknownAgent) => {}
            done => return done,
        }
        self.register(locked, &mut entry, None).await
    }

    /// Registers what is not registered yet, and keeps each part as soon as it is there: whoever is cut off is gone on
    /// from.
    async fn register(
        &self,
        locked: &LockedStore<'_>,
        entry: &mut ServerEntry,
        identity: Option<StoredIdentity>,
    ) -> Result<Assertion, Unavailable> {
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

    fn authorization(&self) -> Result<Authorization, Unavailable> {
        let token = self.bearer.read().map_err(|error| Unavailable::Registration(error.into()))?;
        Ok(Authorization::bearer(&token))
    }

    fn not_registered(&self, error: ClientError) -> Unavailable {
        if is_off(&error) { Unavailable::Off(self.server.clone()) } else { Unavailable::Registration(error) }
    }

    fn no_task(&self, error: TaskError) -> Unavailable {
        match error {
            TaskError::Call(error) if is_off(&error) => Unavailable::Off(self.server.clone()),
            error => Unavailable::Task(error),
        }
    }

    fn unknown_server(&self) -> Unavailable {
        Unavailable::UnknownServer {
            store: self.store.path().display().to_string(),
            server: self.server.clone(),
        }
    }

    fn bad_key(&self, error: InvalidKey) -> Unavailable {
        Unavailable::BadKey { store: self.store.path().display().to_string(), error }
    }
}

/// No longer than others wait for the lock.
async fn in_time<T>(work: impl Future<Output = Result<T, Unavailable>>) -> Result<T, Unavailable> {
    tokio::time::timeout(REGISTERING, work).await.unwrap_or(Err(Unavailable::TooLong))
}

fn is_off(error: &ClientError) -> bool {
    error.word() == Some(ErrorWord::AgentIdentityOff)
}

#[cfg(test)]
mod tests;
