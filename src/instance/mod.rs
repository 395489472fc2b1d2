//! Who calls: from an access token of the portal to an agent instance.
//!
//! A token is read and judged ([`token`]), its signature asked of the portal's keys ([`portal_jwks`], the only
//! step that may wait), and its claims resolved to an instance ([`resolve`]). [`Authenticator`] is the three in
//! a row, within the one budget of a request.

mod jwks_http;
mod key_set;
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
    /// The instance that `token` belongs to. Called as soon as the request has arrived; rides out what it can
    /// (an unknown key, a restart of the database) until `deadline`.
    pub async fn authenticate(&self, token: &str, deadline: Instant) -> Result<AgentInstance, AuthError> {
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
