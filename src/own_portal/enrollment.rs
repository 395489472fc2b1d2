//! Making a login for an agent.

use nas_cron_protocol::{CallbackUrl, Given, InstanceId, OrgId, SessionId};
use secrecy::SecretString;
use uuid::Uuid;

use super::other_keys::OfOtherKeys;
use super::refresh_token::{RefreshKey, Ticket};
use crate::db::{Db, DbError, logins};
use crate::directory::{self, DirectoryError};
use crate::domain::registration::{Agent, Registration};

/// How often a login that began at the same moment elsewhere is looked at again.
const RACES: usize = 3;

/// What is wanted.
#[derive(Clone, Debug)]
pub struct Enrollment {
    /// The agent.
    pub instance_id: InstanceId,
    /// The org that owns it.
    pub org_id: OrgId,
    /// Where it is called.
    pub callback_url: CallbackUrl,
    /// Whether an open login is to end.
    pub new_login: bool,
}

/// What became of the agent's login.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "snake_case")]
pub enum LoginChange {
    /// It had none that was open.
    Begun,
    /// It has it still, and this refresh token is one of it.
    Kept,
    /// The old one has ended, and its access tokens open nothing any more.
    Replaced,
}

/// An agent that can log in.
#[derive(Debug)]
pub struct Enrolled {
    /// As it is registered.
    pub agent: Agent,
    /// What became of its login.
    pub login: LoginChange,
    /// Good until one that came after it is presented.
    pub refresh_token: SecretString,
}

/// Why an agent is not enrolled.
#[derive(Debug, thiserror::Error)]
pub enum EnrollError {
    /// It cannot be registered like this.
    #[error(transparent)]
    Directory(#[from] DirectoryError),
    /// With logins of two keys `serve` would start with neither.
    #[error(
        "there are logins that were made with another key-encryption key ({0}): set that one, or end each of them with \
         --new-login first, if that key is lost"
    )]
    OtherKey(OfOtherKeys),
}

impl From<DbError> for EnrollError {
    fn from(error: DbError) -> Self {
        Self::Directory(error.into())
    }
}

/// Registers the agent and gives it a login. Repeating it changes nothing and ends nothing: it gives a refresh token
/// of the login that is there. The first login keeps the session that the agent was registered with; every later one
/// has a new session. Beside logins of another key nothing is made but what ends one of them.
pub async fn enroll(db: &Db, key: &RefreshKey, wanted: Enrollment) -> Result<Enrolled, EnrollError> {
    let Enrollment { instance_id, org_id, callback_url, new_login } = wanted;
    if let Some(others) = OfOtherKeys::find(db, key).await? {
        let last = logins::last(db, &instance_id).await?;
        let ends_one = last.is_some_and(|login| login.ended_at.is_none() && login.key_id != key.id());
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
            if open.key_id != key.id() {
                return Err(EnrollError::OtherKey(OfOtherKeys::of(&instance_id)));
            }
            break (LoginChange::Kept, Ticket { login_id: open.login_id, number: open.number });
        }
        let ticket = Ticket { login_id: Uuid::new_v4(), number: 0 };
        // Whoever has the old login may have an access token of it too.
        let session = last.is_some().then(SessionId::fresh);
        match logins::begin(
            db,
            &instance_id,
            ticket.login_id,
            key.id(),
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
    Ok(Enrolled { agent, login, refresh_token: key.token(ticket) })
}
