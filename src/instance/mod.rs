//! Who calls: from an access token to an agent instance.
//!
//! A token is for its issuer to judge ([`issuers`]): by its rules ([`TokenRules`]), its keys ([`portal_keys`]) or its own word
//! ([`introspection`]). Its claims are then resolved to an instance ([`resolve`]) that our table or the portal knows
//! ([`lookup`]). [`Authenticator`] is all of it in a row, within the one budget of a request. What an agent presents
//! instead of a token is for [`crate::identity`].

mod circuit_breaker;
mod claims;
mod fetch_error;
mod fetched_keys;
pub mod introspection;
pub mod issuers;
mod jwks_fetch;
mod jwks_http;
mod key_set;
pub mod lookup;
mod numeric_date;
mod own_keys;
mod portal_http;
pub mod portal_keys;
pub mod resolve;
mod single_flight;
#[cfg(test)]
pub(crate) mod testing;
pub mod token;
mod token_error;
mod token_rules;
mod verify_error;

use std::sync::Arc;

use tokio::time::Instant;

pub use claims::AccessClaims;
pub use fetched_keys::KeyRefresh;
pub use issuers::{Issuer, Issuers};
pub use jwks_fetch::FetchLimits;
pub use jwks_http::count_keys_at;
pub use key_set::{KeySet, KeySetError, Unusable};
pub use lookup::{Lookup, LookupError};
pub use portal_keys::PortalKeys;
pub use resolve::Refusal;
pub use token_error::TokenError;
pub use token_rules::TokenRules;
pub use verify_error::VerifyError;

pub use crate::domain::agent_instance::AgentInstance;

use lookup::Question;
use nas_cron_base::clock::Clock;
use nas_cron_protocol::OrgId;
use resolve::Identity;

use crate::db::{self, Db, DbError};
use crate::identity::{Identities, IdentityError};
use crate::store_error::StoreError;

/// What it takes to know who calls. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authenticator {
    /// Whose access tokens are taken.
    pub issuers: Arc<Issuers>,
    /// Where it is asked which instances there are; `None`: our own table knows.
    pub lookup: Option<Arc<Lookup>>,
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
    /// Whether there is such an instance could not be asked now.
    #[error("{0}")]
    Lookup(LookupError),
    /// The instance could not be looked up.
    #[error(transparent)]
    Db(#[from] StoreError),
}

impl From<DbError> for AuthError {
    fn from(error: DbError) -> Self {
        Self::Db(error.into())
    }
}

impl From<TokenError> for AuthError {
    fn from(error: TokenError) -> Self {
        Self::Token(error.into())
    }
}

impl From<LookupError> for AuthError {
    fn from(error: LookupError) -> Self {
        match error {
            LookupError::Db(error) => error.into(),
            error => Self::Lookup(error),
        }
    }
}

impl Authenticator {
    /// The instance that `credential` belongs to. Called as soon as the request has arrived; rides out what it can
    /// (an unknown key, a portal or a database that is away) until `deadline`.
    pub async fn authenticate(
        &self,
        credential: Credential<'_>,
        deadline: Instant,
    ) -> Result<AgentInstance, AuthError> {
        match credential {
            Credential::Bearer(token) => self.bearer(token, deadline).await,
            Credential::AgentAssertion(assertion) => {
                let identities = self.identities.as_ref().ok_or(IdentityError::SchemeNotEnabled)?;
                let instance = identities.authenticate(assertion, deadline).await?;
                self.confirmed(instance, deadline).await
            }
        }
    }

    async fn bearer(&self, token: &str, deadline: Instant) -> Result<AgentInstance, AuthError> {
        let verified = self.issuers.verify(token, self.clock.now(), deadline).await?;
        let found = self.find(resolve::identify(&verified.claims)?, &verified.claims, deadline).await?;
        // An issuer that speaks for some orgs alone knows no other's instances, whatever its tokens call themselves.
        let found = found.filter(|instance| verified.rules.speaks_for(instance.org_id.as_str()));
        match resolve::admit(&verified.claims, found, self.clock.now()) {
            // Whoever we gave a token to was registered: its session has changed since, and a refresh brings the new one.
            Err(Refusal::InvalidClient | Refusal::NotYetKnown) if verified.own => {
                Err(TokenError::SessionOver.into())
            }
            admitted => Ok(admitted?),
        }
    }

    /// The instance whose key has signed, if the portal still has it: an agent that calls with its key alone brings no
    /// token that would have it looked up.
    async fn confirmed(
        &self,
        instance: AgentInstance,
        deadline: Instant,
    ) -> Result<AgentInstance, AuthError> {
        let instance = match &self.lookup {
            None => instance,
            Some(lookup) => {
                let question = Question::Client(instance.instance_id.clone(), Some(instance.org_id.clone()));
                let mut found = lookup.find(question, deadline).await?;
                if found.is_none() {
                    let id = &instance.instance_id;
                    let row = db::ride_out(deadline, || db::instances::by_id(&self.db, id)).await?;
                    // Its keys stay, and it must not be told to make others: the portal may know it again.
                    found = row.map(|row| AgentInstance { enabled: false, ..row });
                }
                // One that has moved to another org has left its keys behind.
                let found = found.filter(|found| found.org_id == instance.org_id);
                found.ok_or(IdentityError::UnknownAgent)?
            }
        };
        if instance.enabled { Ok(instance) } else { Err(IdentityError::Disabled.into()) }
    }

    async fn find(
        &self,
        identity: Identity,
        claims: &AccessClaims,
        deadline: Instant,
    ) -> Result<Option<AgentInstance>, AuthError> {
        Ok(match (identity, &self.lookup) {
            (Identity::Nowhere, _) => None,
            (Identity::Client(id), None) => {
                db::ride_out(deadline, || db::instances::by_id(&self.db, &id)).await?
            }
            (Identity::Session(org, sid), None) => {
                db::ride_out(deadline, || db::instances::by_session(&self.db, &org, &sid)).await?
            }
            (Identity::Client(id), Some(lookup)) => {
                let org = claims.org_id.as_deref().and_then(|org| OrgId::new(org).ok());
                lookup.find(Question::Client(id, org), deadline).await?
            }
            (Identity::Session(org, sid), Some(lookup)) => {
                lookup.find(Question::Session(org, sid), deadline).await?
            }
        })
    }
}
