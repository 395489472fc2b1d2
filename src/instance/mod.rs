//! Authentication of callers: from an access token to an agent instance.
//!
//! A token is verified by the rules ([`TokenRules`]) of its issuer ([`issuers`]), and by the issuer's keys
//! ([`portal_keys`]) or its introspection endpoint ([`introspection`]). The token's claims are then resolved
//! ([`resolve`]) to an instance in the table or in the portal ([`lookup`]). [`Authenticator`] runs these steps within
//! the deadline of the request. Assertions, which agents may present instead of a token, are verified by
//! [`crate::identity`].

mod circuit_breaker;
mod claims;
mod fetch_error;
mod fetched_keys;
#[cfg(any(test, fuzzing))]
pub mod fuzzing;
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
mod refusal_log;
mod remembered;
pub mod resolve;
mod single_flight;
#[cfg(test)]
pub(crate) mod testing;
pub mod token;
mod token_error;
mod token_rules;
mod verified_tokens;
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
pub use refusal_log::{Claimed, RefusalLog};
pub use remembered::Remembered;
pub use resolve::Refusal;
pub use token_error::TokenError;
pub use token_rules::TokenRules;
pub use verify_error::VerifyError;

pub use crate::domain::agent_instance::AgentInstance;

use issuers::Verified;
use lookup::Query;
use nas_cron_base::clock::Clock;
use nas_cron_protocol::OrgId;
use resolve::Identity;

use crate::db::{self, Db, DbError};
use crate::identity::{Identities, IdentityError};
use crate::store_error::StoreError;

/// Resolves credentials to agent instances. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Authenticator {
    /// The issuers whose access tokens are accepted.
    pub issuers: Arc<Issuers>,
    /// The portal's lookup; `None` if the table is the source of instances.
    pub lookup: Option<Arc<Lookup>>,
    /// The database with the table of instances.
    pub db: Db,
    /// Clock that the times of tokens are checked against.
    pub clock: Arc<dyn Clock>,
    /// The agents' keys; `None` if agent identities are off.
    pub identities: Option<Identities>,
    /// Logs callers that were not admitted.
    pub refusals: Arc<RefusalLog>,
    /// The instances of recent callers.
    pub remembered: Remembered,
}

/// An authenticated instance.
#[derive(Clone, Debug)]
pub struct Admitted {
    /// The instance. It is enabled.
    pub instance: AgentInstance,
    /// True if it may have changed since it was read. Use it only for a statement that compares its version.
    pub is_remembered: bool,
}

/// The credential in an `Authorization` header, by its scheme.
#[derive(Clone, Copy)]
pub enum Credential<'a> {
    /// An access token.
    Bearer(&'a str),
    /// An assertion signed by an agent (see [`crate::identity::assertion`]).
    AgentAssertion(&'a str),
}

/// The calling instance could not be identified.
#[derive(Debug, thiserror::Error)]
pub enum AuthError {
    /// The token is invalid, or could not be verified now.
    #[error(transparent)]
    Token(#[from] VerifyError),
    /// The token is valid, but gives no access.
    #[error(transparent)]
    Refused(#[from] Refusal),
    /// The assertion was rejected.
    #[error(transparent)]
    Identity(#[from] IdentityError),
    /// The portal's lookup failed.
    #[error("{0}")]
    Lookup(LookupError),
    /// The instance could not be read from the database.
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
    /// Returns the instance that `credential` belongs to. Call it as soon as the request has arrived. While a key is
    /// unknown, or the portal or the database is unavailable, it waits until `deadline`.
    pub async fn authenticate(
        &self,
        credential: Credential<'_>,
        deadline: Instant,
    ) -> Result<AgentInstance, AuthError> {
        match credential {
            Credential::Bearer(token) => self.bearer(token, deadline).await,
            Credential::AgentAssertion(presented) => {
                let admitted = self.asserted(presented, deadline).await;
                admitted.inspect_err(|error| {
                    self.refusals.note_error(error, &Claimed::in_assertion(presented));
                })
            }
        }
    }

    /// Like [`authenticate`](Self::authenticate), but without a statement if the caller's instance is remembered.
    pub async fn authenticate_remembered(
        &self,
        credential: Credential<'_>,
        deadline: Instant,
    ) -> Result<Admitted, AuthError> {
        let instance = match credential {
            Credential::Bearer(token) => {
                let verified = self.verified(token, deadline).await?;
                if let Some(instance) = self.remembered(&verified).await {
                    return Ok(Admitted { instance, is_remembered: true });
                }
                self.admitted(&verified, deadline).await?
            }
            Credential::AgentAssertion(_) => self.authenticate(credential, deadline).await?,
        };
        Ok(Admitted { instance, is_remembered: false })
    }

    async fn bearer(&self, token: &str, deadline: Instant) -> Result<AgentInstance, AuthError> {
        let verified = self.verified(token, deadline).await?;
        self.admitted(&verified, deadline).await
    }

    async fn verified(&self, token: &str, deadline: Instant) -> Result<Verified<'_>, AuthError> {
        let verified = self.issuers.verify(token, self.clock.now(), deadline).await;
        verified.map_err(AuthError::from).inspect_err(|error| {
            self.refusals.note_error(error, &Claimed::in_jwt(token));
        })
    }

    /// Returns the remembered instance of a verified token, if it admits the caller. Otherwise it has to be read.
    async fn remembered(&self, verified: &Verified<'_>) -> Option<AgentInstance> {
        let identity = resolve::identify(&verified.claims).ok()?;
        let found = self.remembered.get(&identity).await?;
        let is_current = self.lookup.as_ref().is_none_or(|lookup| lookup.is_recent(&found));
        let may_call = is_current && verified.rules.accepts_org(found.org_id.as_str());
        may_call.then(|| resolve::admit(&verified.claims, Some(found), self.clock.now()).ok())?
    }

    async fn asserted(&self, presented: &str, deadline: Instant) -> Result<AgentInstance, AuthError> {
        let identities = self.identities.as_ref().ok_or(IdentityError::SchemeNotEnabled)?;
        let instance = identities.authenticate(presented, deadline).await?;
        self.confirmed(instance, deadline).await
    }

    /// Returns the instance that a verified token belongs to.
    async fn admitted(&self, verified: &Verified<'_>, deadline: Instant) -> Result<AgentInstance, AuthError> {
        let admitted = self.read(verified, deadline).await;
        admitted.inspect_err(|error| {
            self.refusals.note_error(error, &Claimed::verified(&verified.claims));
        })
    }

    async fn read(&self, verified: &Verified<'_>, deadline: Instant) -> Result<AgentInstance, AuthError> {
        let identity = resolve::identify(&verified.claims)?;
        let found = self.find(identity.clone(), &verified.claims, deadline).await?;
        // An issuer that is limited to some orgs has no access to instances of other orgs, whatever its tokens claim.
        let found = found.filter(|instance| verified.rules.accepts_org(instance.org_id.as_str()));
        match resolve::admit(&verified.claims, found, self.clock.now()) {
            // The built-in portal only issues tokens to registered agents, so the session has changed since: a refresh
            // gets a token for the new one.
            Err(Refusal::InvalidClient | Refusal::NotYetKnown) if verified.own => {
                Err(TokenError::SessionOver.into())
            }
            admitted => {
                let instance = admitted?;
                self.remembered.add(identity, instance.clone()).await;
                Ok(instance)
            }
        }
    }

    /// Looks up the instance of an assertion in the portal, as for a token.
    async fn confirmed(
        &self,
        instance: AgentInstance,
        deadline: Instant,
    ) -> Result<AgentInstance, AuthError> {
        let instance = match &self.lookup {
            None => instance,
            Some(lookup) => {
                let query = Query::Client(instance.instance_id.clone(), Some(instance.org_id.clone()));
                let mut found = lookup.find(query, deadline).await?;
                if found.is_none() {
                    let id = &instance.instance_id;
                    let row = db::ride_out(deadline, || db::instances::by_id(&self.db, id)).await?;
                    // Reported as disabled, not unknown, so that the agent keeps its key: the denial may be temporary.
                    found = row.map(|row| AgentInstance { enabled: false, ..row });
                }
                // An agent's keys are not valid in another org.
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
                lookup.find(Query::Client(id, org), deadline).await?
            }
            (Identity::Session(org, sid), Some(lookup)) => {
                lookup.find(Query::Session(org, sid), deadline).await?
            }
        })
    }
}
