//! Being the agents' portal, where there is no other: logins, and the tokens that they are kept alive with.
//!
//! An operator makes a login for an agent ([`enroll`]) and gives it the first refresh token. The agent
//! exchanges that for an access token and the next refresh token ([`OwnPortal::refresh`]), again and again. A refresh
//! token stays good until its successor is first presented; presented after that it is a copy in somebody else's
//! hands, or an agent that was set back to an old one: nobody can tell, and the login ends.
//!
//! Agents throw their tokens away on a final refusal. So nothing is one that may pass.

mod enrollment;
mod other_keys;
pub mod refresh_token;

use std::sync::Arc;
use std::time::Duration;

use secrecy::{SecretBox, SecretString};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

pub use enrollment::{EnrollError, Enrolled, Enrollment, LoginChange, enroll};
pub use other_keys::OfOtherKeys;
pub use refresh_token::RefreshKey;

use crate::db::{self, Db, DbError, logins};
use crate::domain::LoginEnd;
use crate::keys::{AccessSubject, KeyRing, MintError};

/// What it takes to issue access tokens. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OwnPortal {
    db: Db,
    keys: Arc<KeyRing>,
    refresh_key: Arc<RefreshKey>,
    access_token_ttl: Duration,
}

/// What a refresh token is exchanged for.
#[derive(Debug)]
pub struct Granted {
    /// Opens hop 1.
    pub access_token: SecretString,
    /// How long it does, in whole seconds.
    pub expires_in: Duration,
    /// For the next time. The same again, when the same refresh token is presented again.
    pub refresh_token: SecretString,
}

/// Why no tokens are given.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// For good: never made here.
    #[error(
        "the refresh token was not made here, or with another key-encryption key: enroll the agent again"
    )]
    Unknown,
    /// Until the login is back, if ever. We made the token: its agent was removed, or the database is another one, or was
    /// restored from before the login, and nobody can tell which.
    #[error(
        "the login of this refresh token is not in the database: unless that comes back, enroll the agent again"
    )]
    Gone,
    /// For good: the operator made another login.
    #[error("the login of this refresh token was replaced by another one of the same agent")]
    Replaced,
    /// For good: a spent token was presented, now or before. Agents explain it to their users by the word "reuse".
    #[error(
        "refresh token reuse: a spent one was presented, and the login has ended; enroll the agent again"
    )]
    Reused,
    /// Until it is enabled.
    #[error("the agent is disabled: its login is kept until it is enabled")]
    Disabled,
    /// Until it has a session again.
    #[error("the agent's registration has no bootstrap session any more: enroll it again")]
    NoSession,
    /// Until a key can sign.
    #[error(transparent)]
    NoKey(#[from] MintError),
    /// Until the database answers.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// Why it cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// To each of these agents it would look as if its login had ended, and it would throw its tokens away.
    #[error(
        "there are logins that were made with another key-encryption key, and their agents would lose them ({0}): set \
         that one again, or end each of these logins with `nas-cron agents enroll --new-login`"
    )]
    OtherKey(OfOtherKeys),
    /// The database.
    #[error("the logins cannot be read: {0}")]
    Db(#[from] DbError),
}

impl OwnPortal {
    /// With the key-encryption key that the logins were made with. Access tokens will live for `access_token_ttl`, whole
    /// seconds. Waits for a database that is away until `deadline`.
    pub async fn start(
        db: &Db,
        keys: Arc<KeyRing>,
        key_encryption_key: &SecretBox<[u8; 32]>,
        access_token_ttl: Duration,
        deadline: Instant,
    ) -> Result<Self, StartError> {
        let refresh_key = Arc::new(RefreshKey::derive(key_encryption_key));
        match db::ride_out(deadline, || OfOtherKeys::find(db, &refresh_key)).await? {
            None => Ok(Self { db: db.clone(), keys, refresh_key, access_token_ttl }),
            Some(others) => Err(StartError::OtherKey(others)),
        }
    }

    /// Exchanges a refresh token. Rides out what the database can be ridden out of, until `deadline`. What was
    /// not made by our key never gets as far as the database.
    pub async fn refresh(&self, refresh_token: &str, deadline: Instant) -> Result<Granted, RefreshError> {
        let ticket = self.refresh_key.read(refresh_token).ok_or(RefreshError::Unknown)?;
        let presented =
            db::ride_out(deadline, || logins::present(&self.db, ticket.login_id, ticket.number)).await?;
        let login = presented.ok_or(RefreshError::Gone)?;
        if login.ended_now {
            warn!(
                agent.id = %login.instance_id,
                "a spent refresh token was presented: two use this login, or an old copy was restored. It has ended; \
                 `nas-cron agents enroll` makes another"
            );
        }
        match login.ended_by {
            Some(LoginEnd::Reused) => return Err(RefreshError::Reused),
            Some(LoginEnd::Replaced) => return Err(RefreshError::Replaced),
            None if !login.enabled => return Err(RefreshError::Disabled),
            None => {}
        }
        let sid = login.sid.ok_or(RefreshError::NoSession)?;
        let bearer = AccessSubject { instance_id: &login.instance_id, org_id: &login.org_id, sid: &sid };
        // Should it fail, what was presented stays good.
        let access_token = self.mint(bearer, deadline).await?;
        info!(agent.id = %login.instance_id, "an access token was issued");
        Ok(Granted {
            access_token,
            expires_in: self.access_token_ttl,
            refresh_token: self.refresh_key.token(ticket.successor()),
        })
    }

    /// After a database that was away the keys are too old to sign with until they are looked at again, which happens
    /// about every second then: real agents do not come again for that.
    async fn mint(&self, bearer: AccessSubject<'_>, deadline: Instant) -> Result<SecretString, MintError> {
        match self.keys.mint_access(bearer, self.access_token_ttl) {
            Err(MintError::Stale | MintError::NoKey) => {
                let _ = timeout_at(deadline, self.keys.wait_until_ready()).await;
                self.keys.mint_access(bearer, self.access_token_ttl)
            }
            minted => minted,
        }
    }
}
