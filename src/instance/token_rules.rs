//! The rules that an issuer's access tokens must keep (docs/contract.md#authentication), whoever signed them.

use chrono::{DateTime, Utc};

use super::claims::{Audience, Claims};
use super::numeric_date::NumericDate;
use super::token_error::TokenError;
use crate::config::Orgs;

/// How far clocks may be apart, in seconds: on `exp`, `nbf` and `iat`.
const LEEWAY: i64 = 30;

/// What a token must say to be one of ours.
#[derive(Clone, Debug)]
pub struct TokenRules {
    issuer: String,
    audiences: Vec<String>,
    orgs: Orgs,
}

impl TokenRules {
    /// `issuer` is compared byte for byte: the portal's is `portal_url`. An empty list of audiences: `aud` is not
    /// judged. It may speak for every org's instances.
    pub fn new(issuer: impl Into<String>, audiences: impl IntoIterator<Item = String>) -> Self {
        Self { issuer: issuer.into(), audiences: audiences.into_iter().collect(), orgs: Orgs::All }
    }

    /// It may speak for the instances of these orgs alone.
    #[must_use]
    pub fn for_orgs(self, orgs: Orgs) -> Self {
        Self { orgs, ..self }
    }

    /// The `iss` of its tokens.
    pub fn issuer(&self) -> &str {
        &self.issuer
    }

    /// Whether the issuer may speak for this org's instances.
    pub fn speaks_for(&self, org_id: &str) -> bool {
        match &self.orgs {
            Orgs::All => true,
            Orgs::Only(orgs) => orgs.contains(org_id),
        }
    }

    /// Whether these claims keep the issuer's rules.
    pub(super) fn judge(&self, claims: &Claims, now: DateTime<Utc>, form: Form) -> Result<(), TokenError> {
        let (now, asked) = (now.timestamp(), form == Form::Introspected);
        if claims.iss.as_deref().map_or(!asked, |issuer| issuer != self.issuer) {
            return Err(TokenError::Issuer);
        }
        if claims.purpose {
            return Err(TokenError::Purpose);
        }
        match claims.expiry() {
            None if asked => {}
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
        let for_us = |audience: &Audience| self.audiences.iter().any(|one| audience.names(one));
        if !self.audiences.is_empty() && !claims.aud.as_ref().is_some_and(for_us) {
            return Err(TokenError::Audience);
        }
        if claims.org_id.as_deref().is_some_and(|org_id| !self.speaks_for(org_id)) {
            return Err(TokenError::Org);
        }
        Ok(())
    }
}

/// How a token's claims came: some may be left out where they were asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    /// Signed, in the token.
    Signed,
    /// As its issuer's answer about it (RFC 7662, 2.2), where `iss` and `exp` are optional: who answers is the issuer,
    /// and what has expired is not active.
    Introspected,
}
