//! The rules for the claims of an issuer's access tokens (docs/contract.md#authentication).

use chrono::{DateTime, Utc};

use super::claims::{Audience, Claims};
use super::numeric_date::NumericDate;
use super::token_error::TokenError;
use crate::config::Orgs;

/// Leeway on `exp`, `nbf` and `iat`, in seconds.
const LEEWAY: i64 = 30;

/// The rules for the claims of one issuer's tokens.
#[derive(Clone, Debug)]
pub struct TokenRules {
    issuer: String,
    audiences: Vec<String>,
    orgs: Orgs,
}

impl TokenRules {
    /// Accepts tokens with this `iss`, compared byte for byte (the portal's is `portal_url`), for instances of all
    /// orgs. If `audiences` is empty, `aud` is not checked.
    pub fn new(issuer: impl Into<String>, audiences: impl IntoIterator<Item = String>) -> Self {
        Self { issuer: issuer.into(), audiences: audiences.into_iter().collect(), orgs: Orgs::All }
    }

    /// Limits the issuer to the instances of these orgs.
    #[must_use]
    pub fn for_orgs(self, orgs: Orgs) -> Self {
        Self { orgs, ..self }
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
        let is_accepted = |audience: &Audience| self.audiences.iter().any(|one| audience.names(one));
        if !self.audiences.is_empty() && !claims.aud.as_ref().is_some_and(is_accepted) {
            return Err(TokenError::Audience);
        }
        if claims.org_id.as_deref().is_some_and(|org_id| !self.accepts_org(org_id)) {
            return Err(TokenError::Org);
        }
        Ok(())
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
