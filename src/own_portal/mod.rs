//! The built-in portal: logins of agents, and the tokens that keep them alive.
//!
//! An operator enrolls an agent ([`enroll`]) and gives it the first refresh token. The agent exchanges each refresh
//! token for an access token and the next refresh token ([`OwnPortal::refresh`]). A refresh token stays valid until its
//! successor is first presented. If it is presented after that, either it was copied, or the agent was restored from an
//! old state. The two cannot be distinguished, so the login ends.
//!
//! Agents delete their tokens on a permanent error. Therefore only permanent failures are reported as such.

mod enrollment;
mod other_keys;
pub mod refresh_token;

use std::sync::Arc;
use std::time::Duration;

use secrecy::SecretString;
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

pub use enrollment::{EnrollError, Enrolled, Enrollment, LoginChange, enroll};
pub use other_keys::OfOtherKeys;
pub use refresh_token::RefreshKeys;

use crate::db::{self, Db, DbError, logins};
use crate::domain::LoginEnd;
use crate::keys::{AccessSubject, KeyRing, MintError};

/// Issues access tokens. Cheap to clone.
#[derive(Clone, Debug)]
pub struct OwnPortal {
    db: Db,
    keys: Arc<KeyRing>,
    refresh_keys: Arc<RefreshKeys>,
    access_token_ttl: Duration,
}

/// The tokens issued for a refresh token.
#[derive(Debug)]
pub struct Granted {
    /// Access token for the agent API.
    pub access_token: SecretString,
    /// Lifetime of the access token, in whole seconds.
    pub expires_in: Duration,
    /// The next refresh token. The same refresh token always gets the same successor.
    pub refresh_token: SecretString,
}

/// A refresh token could not be exchanged.
#[derive(Debug, thiserror::Error)]
pub enum RefreshError {
    /// Permanent: this key-encryption key did not create the token.
    #[error(
        "this service did not issue the refresh token, or issued it with another key-encryption key: enroll the agent again"
    )]
    Unknown,
    /// Temporary, until the login is restored: the token is authentic, but the database does not have its login. The
    /// agent was removed, or the database is another one or was restored from an earlier backup; the cases cannot be
    /// distinguished.
    #[error(
        "the login of this refresh token is not in the database: restore the login, or enroll the agent again"
    )]
    Gone,
    /// Permanent: the operator began another login.
    #[error("the login of this refresh token was replaced by another login of the same agent")]
    Replaced,
    /// Permanent: the operator revoked the login.
    #[error("the login of this refresh token was revoked by an operator; enroll the agent again")]
    Revoked,
    /// Permanent: a spent token was presented, now or earlier. Agents explain this to their users by the word "reuse".
    #[error(
        "refresh token reuse: a spent token was presented, so the login has ended; enroll the agent again"
    )]
    Reused,
    /// Temporary, until the agent is enabled.
    #[error("the agent is disabled: its login is kept until it is enabled")]
    Disabled,
    /// Temporary, until the agent has a session again.
    #[error("the agent's registration no longer has a bootstrap session: enroll the agent again")]
    NoSession,
    /// Temporary, until a key can sign.
    #[error(transparent)]
    NoKey(#[from] MintError),
    /// The database failed.
    #[error(transparent)]
    Db(#[from] DbError),
}

/// The built-in portal could not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Some logins use another key-encryption key. Their agents would get `invalid_grant` and delete their tokens.
    #[error(
        "agents with logins of another key-encryption key exist and would lose their logins ({0}): set that key again, \
         also as a fallback, or end each of these logins with `nas-cron agents enroll --new-login`"
    )]
    OtherKey(OfOtherKeys),
    /// The database failed.
    #[error("reading the logins failed: {0}")]
    Db(#[from] DbError),
}

impl OwnPortal {
    /// Starts with the keys of the existing logins. Access tokens will live for `access_token_ttl`, in
    /// whole seconds. Waits for an unavailable database until `deadline`.
    pub async fn start(
        db: &Db,
        keys: Arc<KeyRing>,
        refresh_keys: RefreshKeys,
        access_token_ttl: Duration,
        deadline: Instant,
    ) -> Result<Self, StartError> {
        match db::ride_out(deadline, || OfOtherKeys::find(db, &refresh_keys)).await? {
            None => Ok(Self { db: db.clone(), keys, refresh_keys: Arc::new(refresh_keys), access_token_ttl }),
            Some(others) => Err(StartError::OtherKey(others)),
        }
    }

    /// Exchanges a refresh token. Waits for an unavailable database until `deadline`. A token that none of the keys created
    /// is rejected without a database statement.
    pub async fn refresh(&self, refresh_token: &str, deadline: Instant) -> Result<Granted, RefreshError> {
        let (ticket, key_id) = self.refresh_keys.read(refresh_token).ok_or(RefreshError::Unknown)?;
        let present = || logins::present(&self.db, ticket.login_id, ticket.number, key_id);
        let presented = db::ride_out(deadline, present).await?;
        let login = presented.ok_or(RefreshError::Gone)?;
        if login.ended_now {
            warn!(
                agent.id = %login.instance_id,
                "a spent refresh token was presented and its login ended: two agents use it, or an old copy was restored; \
                 begin another login with `nas-cron agents enroll`"
            );
        }
        match login.ended_by {
            Some(LoginEnd::Reused) => return Err(RefreshError::Reused),
            Some(LoginEnd::Replaced) => return Err(RefreshError::Replaced),
            Some(LoginEnd::Revoked) => return Err(RefreshError::Revoked),
            None if !login.enabled => return Err(RefreshError::Disabled),
            None => {}
        }
        let sid = login.sid.ok_or(RefreshError::NoSession)?;
        let bearer = AccessSubject { instance_id: &login.instance_id, org_id: &login.org_id, sid: &sid };
        // If this fails, the presented token stays valid.
        let access_token = self.mint(bearer, deadline).await?;
        info!(agent.id = %login.instance_id, "access token issued");
        Ok(Granted {
            access_token,
            expires_in: self.access_token_ttl,
            refresh_token: self.refresh_keys.token(ticket.successor()),
        })
    }

    /// Mints an access token. After a database outage, the keys are too stale to sign until they are reloaded, which is
    /// tried about every second. This waits for it until `deadline`, because real agents do not retry.
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
