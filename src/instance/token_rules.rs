//! The rules for the claims of an issuer's access tokens (docs/contract.md#authentication).

use chrono::{DateTime, Utc};

use super::claims::{AccessClaims, Audience, Claims, agent_id};
use super::numeric_date::NumericDate;
use super::token_error::TokenError;
use crate::config::Orgs;

/// Leeway on `exp`, `nbf` and `iat`, in seconds.
const LEEWAY: i64 = 30;
/// Accepted audience that stands for every agent's own client `agent:<id>`.
const ANY_AGENT: &str = "agent:*";

/// The rules for the claims of one issuer's tokens.
#[derive(Clone, Debug)]
pub struct TokenRules {
    issuer: String,
    audiences: Vec<String>,
    orgs: Orgs,
    agents_by_audience: bool,
}

impl TokenRules {
    /// Accepts tokens with this `iss`, compared byte for byte (the portal's is `portal_url`), for instances of all
    /// orgs. If `audiences` is empty, `aud` is not checked.
    ///
    /// An accepted audience `agent:*` stands for every `agent:<id>`. A token with a client must then have this client
    /// as its audience: one that an agent obtained for another agent is not for this service.
    pub fn new(issuer: impl Into<String>, audiences: impl IntoIterator<Item = String>) -> Self {
        let audiences = audiences.into_iter().collect();
        Self { issuer: issuer.into(), audiences, orgs: Orgs::All, agents_by_audience: false }
    }

    /// Limits the issuer to the instances of these orgs.
    #[must_use]
    pub fn for_orgs(self, orgs: Orgs) -> Self {
        Self { orgs, ..self }
    }

    /// Sets if a JWT of the issuer without a client may identify an agent by its `aud` (docs/contract.md#who-calls).
    /// Never set it for the built-in portal: its keys also sign fire tokens, which have an agent's audience.
    #[must_use]
    pub fn with_agents_by_audience(self, agents_by_audience: bool) -> Self {
        Self { agents_by_audience, ..self }
    }

    /// Returns the `iss` of the issuer's tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// True if the issuer's tokens are accepted for this org's instances.
    pub fn accepts_org(&self, org_id: &str) -> bool {
        match &self.orgs {
            Orgs::All => true,
            Orgs::Only(orgs) => orgs.contains(org_id),
        }
    }

    /// Checks these claims.
    pub(super) fn judge(&self, claims: &Claims, now: DateTime<Utc>, form: Form) -> Result<(), TokenError> {
        let (now, introspected) = (now.timestamp(), form == Form::Introspected);
        if claims.iss.as_deref().map_or(!introspected, |issuer| issuer != self.issuer) {
            return Err(TokenError::Issuer);
        }
        if claims.purpose {
            return Err(TokenError::Purpose);
        }
        match claims.expiry() {
            None if introspected => {}
            None => return Err(TokenError::NoExpiry),
            Some(expiry) if now >= expiry.saturating_add(LEEWAY) => return Err(TokenError::Expired),
            Some(_) => {}
        }
        let lies_ahead = |at: &Option<NumericDate>| at.as_ref().is_some_and(|at| at.0 > now + LEEWAY);
        if lies_ahead(&claims.nbf) {
            return Err(TokenError::NotYetValid);
        }
        if lies_ahead(&claims.iat) {
            return Err(TokenError::IssuedAhead);
        }
        if !self.audiences.is_empty() && !claims.aud.as_ref().is_some_and(|aud| self.accepts(aud, claims)) {
            return Err(TokenError::Audience);
        }
        if claims.org_id.as_deref().is_some_and(|org_id| !self.accepts_org(org_id)) {
            return Err(TokenError::Org);
        }
        Ok(())
    }

    fn accepts(&self, audience: &Audience, claims: &Claims) -> bool {
        let own =
            |name: &str| agent_id(name).is_some() && claims.client().is_none_or(|client| client == name);
        // A token for the audience `agent:*` itself is not for any client.
        let fits = |one: &str, name: &str| if one == ANY_AGENT { own(name) } else { name == one };
        self.audiences.iter().any(|one| audience.any(|name| fits(one, name)))
    }

    /// Returns the claims that identify the bearer of a token that satisfies the rules.
    pub(super) fn identifying(&self, claims: Claims, form: Form) -> AccessClaims {
        claims.identifying(self.agents_by_audience && form == Form::Signed)
    }
}

/// The origin of a token's claims.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// The signed token itself.
    Signed,
    /// An introspection response (RFC 7662, 2.2). `iss` and `exp` are optional, because the issuer itself responds, and
    /// an expired token is not active.
    Introspected,
}
