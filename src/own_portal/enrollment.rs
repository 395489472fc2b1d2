//! Enrolls agents: registers them and begins their logins.

use nas_cron_protocol::{CallbackUrl, Given, InstanceId, OrgId, SessionId};
use secrecy::SecretString;
use uuid::Uuid;

use super::other_keys::OfOtherKeys;
use super::refresh_token::{RefreshKeys, Ticket};
use crate::db::{Db, DbError, logins};
use crate::directory::{self, DirectoryError};
use crate::domain::registration::{Agent, Registration};

/// Maximum number of retries after a concurrent enrollment of the same agent.
const RACES: usize = 3;

/// An enrollment request.
#[derive(Clone, Debug)]
pub struct Enrollment {
    /// The agent.
    pub instance_id: InstanceId,
    /// The org that owns the agent.
    pub org_id: OrgId,
    /// The agent's callback URL.
    pub callback_url: CallbackUrl,
    /// True to end an open login and begin a new one.
    pub new_login: bool,
}

/// The effect of an enrollment on the agent's login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginChange {
    /// The agent had no open login; a new one began.
    Begun,
    /// The agent keeps its open login, and the refresh token belongs to it.
    Kept,
    /// The old login has ended and its access tokens are no longer accepted; a new one began.
    Replaced,
}

/// An enrolled agent.
#[derive(Debug)]
pub struct Enrolled {
    /// The registration.
    pub agent: Agent,
    /// The effect on the agent's login.
    pub login: LoginChange,
    /// A refresh token, valid until a later one of the same login is presented.
    pub refresh_token: SecretString,
}

/// An enrollment failed.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// The agent could not be registered.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// Other logins use another key-encryption key. With logins of two keys, `serve` could not start with either.
    #[error(
        "agents with logins of another key-encryption key exist ({0}): set that key, also as a fallback; if it is lost, enroll each of \
         these agents again with --new-login first"
    )]
    OtherKey(OfOtherKeys),
}

impl From<DbError> for EnrollError {
    fn from(error: DbError) -> Self {
        Self::Directory(error.into())
    }
}

/// Registers the agent and begins a login. Repeating it changes nothing, and returns a refresh token of the open login.
/// The first login keeps the session that the agent was registered with; every later one has a new session. While
/// logins of another key exist, only an enrollment that ends one of them succeeds.
pub async fn enroll(db: &Db, keys: &RefreshKeys, wanted: Enrollment) -> Result<Enrolled, EnrollError> {
    let Enrollment { instance_id, org_id, callback_url, new_login } = wanted;
    if let Some(others) = OfOtherKeys::find(db, keys).await? {
        let last = logins::last(db, &instance_id).await?;
        let ends_one = last.is_some_and(|login| login.ended_at.is_none() && !keys.have(&login.key_id));
        if !(new_login && ends_one) {
            return Err(EnrollError::OtherKey(others));
        }
    }
    let mut registration = Registration {
        instance_id: instance_id.clone(),
        org_id,
        bootstrap_session_id: Given::Keep,
        callback_url: Some(callback_url),
        enabled: None,
    };
    let (_, registered) = directory::register(db, registration.clone(), false).await?;
    if registered.bootstrap_session_id.is_none() {
        registration.bootstrap_session_id = Given::Set(SessionId::fresh());
        directory::register(db, registration, false).await?;
    }
    let mut races = 0;
    let (login, ticket) = loop {
        let last = logins::last(db, &instance_id).await?;
        let open = last.as_ref().filter(|login| login.ended_at.is_none());
        if let Some(open) = open.filter(|_| !new_login) {
            if !keys.have(&open.key_id) {
                return Err(EnrollError::OtherKey(OfOtherKeys::of(&instance_id)));
            }
            break (LoginChange::Kept, Ticket { login_id: open.login_id, number: open.number });
        }
        let ticket = Ticket { login_id: Uuid::new_v4(), number: 0 };
        // A new session, because access tokens of the old login may still exist.
        let session = last.is_some().then(SessionId::fresh);
        match logins::begin(
            db,
            &instance_id,
            ticket.login_id,
            keys.current_id(),
            session.as_ref(),
            open.map(|login| login.login_id),
        )
        .await
        {
            Ok(true) => {
                let change = if open.is_some() { LoginChange::Replaced } else { LoginChange::Begun };
                break (change, ticket);
            }
            Ok(false) => return Err(DirectoryError::Unknown(instance_id).into()),
            Err(DbError::Conflict { .. }) if races < RACES => races += 1,
            Err(error) => return Err(error.into()),
        }
    };
    let agent = directory::find(db, &instance_id).await?;
    Ok(Enrolled { agent, login, refresh_token: keys.token(ticket) })
}
