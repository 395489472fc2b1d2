//! Who calls: from an access token of the portal to an agent instance.
//!
//! A token is read and judged ([`token`]), its signature asked of the portal's keys ([`portal_jwks`], the only
//! step that may wait), and its claims resolved to an instance ([`resolve`]). [`Authenticator`] is the three in
//! a row, within the one budget of a request. What an agent presents instead of a token is for [`crate::identity`].

mod jwks_http;
mod key_set;
mod own_keys;
pub mod portal_jwks;
pub mod resolve;
pub mod token;

use std::sync::Arc;

use tokio::time::Instant;

pub(crate) use jwks_http::causes;
pub use jwks_http::count_keys_at;
pub use key_set::{KeySet, KeySetError, Unusable};
pub use portal_jwks::{FetchLimits, KeyRefresh, PortalKeys, VerifyError};
pub use resolve::Refusal;
pub use token::{AccessClaims, TokenError, TokenRules};

pub use crate::db::instances::AgentInstance;

use crate::clock::Clock;
use crate::db::{self, Db, DbError};
use crate::identity::{Identities, IdentityError};
use resolve::Identity;
use token::Presented;

/// What it takes to know who calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authenticator {
    /// Who signs access tokens.
    pub keys: PortalKeys,
    /// What they must say.
    pub rules: Arc<TokenRules>,
    /// Where instances are.
    pub db: Db,
    /// By which tokens are too old or too young.
    pub clock: Arc<dyn Clock>,
    /// Who calls by a key of its own, where that is on.
    pub identities: Option<Identities>,
}

/// What a caller presents: the scheme of its Authorization header, and what follows it.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// An access token.
    Bearer(&'a str),
    /// What an agent has signed (see [`crate::identity::assertion`]).
    AgentAssertion(&'a str),
}

/// Why nobody is known to call.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The token is bad, or its key cannot be known now.
    #[error(transparent)]
    Token(#[from] VerifyError),
    /// The token is good, and opens nothing.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The assertion opens nothing.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The instance could not be looked up.
    #[error(transparent)]
    Db(#[from] DbError),
}

impl From<TokenError> for AuthError {
    fn from(error: TokenError) -> Self {
        Self::Token(error.into())
    }
}

impl Authenticator {
    /// The instance that `credential` belongs to. Called as soon as the request has arrived; rides out what it can
    /// (an unknown key, a restart of the database) until `deadline`.
    pub async fn authenticate(
        &self,
        credential: Credential<'_>,
        deadline: Instant,
    ) -> Result<AgentInstance, AuthError> {
        match credential {
            Credential::Bearer(token) => self.bearer(token, deadline).await,
            Credential::AgentAssertion(assertion) => {
                let identities = self.identities.as_ref().ok_or(IdentityError::SchemeNotEnabled)?;
                Ok(identities.authenticate(assertion, deadline).await?)
            }
        }
    }

    async fn bearer(&self, token: &str, deadline: Instant) -> Result<AgentInstance, AuthError> {
        let presented = Presented::read(token, &self.rules, self.clock.now())?;
        let claims = self.keys.verify(&presented, deadline).await?;
        let found = match resolve::identify(&claims)? {
            Identity::Client(id) => db::ride_out(deadline, || db::instances::by_id(&self.db, &id)).await?,
            Identity::Session(org, sid) => {
                db::ride_out(deadline, || db::instances::by_session(&self.db, &org, &sid)).await?
            }
            Identity::Nowhere => None,
        };
        Ok(resolve::admit(&claims, found, self.clock.now())?)
    }
}
