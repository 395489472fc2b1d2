//! The form of an access token: a signed JWT, taken apart.
//!
//! A [`Presented`] token is one whose form and claims are in order ([`TokenRules`]); who signed it is for a
//! [`KeySet`](super::KeySet) to say, and only that gives its [`AccessClaims`] away.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::Algorithm;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::claims::{AccessClaims, Claims, is_there};
use super::token_error::TokenError;
use super::token_rules::{Form, TokenRules};

/// The one allow-list of algorithms. Asymmetric only: a public key is no secret.
pub const ALLOWED_ALGORITHMS: &[Algorithm] = &[
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// Longer tokens are not looked at, in bytes.
pub const MAX_TOKEN_LENGTH: usize = 16 * 1024;

/// A token whose form and claims are in order, and whose signature nobody has looked at yet.
pub struct Presented<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    /// What is signed: header and claims as they came.
    pub(super) message: &'a str,
    /// base64url, as it came.
    pub(super) signature: &'a str,
    /// For the key set alone to give away.
    pub(super) claims: AccessClaims,
}

impl fmt::Debug for Presented<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Presented").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: Option<String>,
    #[serde(default, deserialize_with = "is_there")]
    crit: bool,
}

/// Whether it has the shape of a signed JWT: such a token is never asked for elsewhere, whatever is wrong with it.
pub(super) fn is_jws(token: &str) -> bool {
    let mut parts = token.split('.');
    let header = parts.next().and_then(|header| URL_SAFE_NO_PAD.decode(header).ok());
    parts.count() == 2 && header.is_some_and(|header| header.first() == Some(&b'{'))
}

/// A token taken apart. Nothing that its claims say is judged yet, its issuer included.
pub(super) struct Jws<'a> {
    algorithm: Algorithm,
    kid: Option<String>,
    message: &'a str,
    signature: &'a str,
    claims: Claims,
}

impl<'a> Jws<'a> {
    /// Reads a token, as far as that needs no rules.
    pub(super) fn read(token: &'a str) -> Result<Self, TokenError> {
        if token.len() > MAX_TOKEN_LENGTH {
            return Err(TokenError::TooLong);
        }
        let (message, signature) = token.rsplit_once('.').ok_or(TokenError::Malformed)?;
        let (header, claims) = message.split_once('.').ok_or(TokenError::Malformed)?;
        if claims.contains('.') {
            return Err(TokenError::Malformed);
        }
        let header: Header = part(header, TokenError::Malformed)?;
        if header.crit {
            return Err(TokenError::Critical);
        }
        let algorithm = header.alg.parse().map_err(|_| TokenError::Algorithm)?;
        if !ALLOWED_ALGORITHMS.contains(&algorithm) {
            return Err(TokenError::Algorithm);
        }
        let claims: Claims = part(claims, TokenError::Claims)?;
        Ok(Self { algorithm, kid: header.kid, message, signature, claims })
    }

    /// Who it says has issued it: whose rules it is to keep, and whose keys are to say whether that is true.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.iss.as_deref()
    }

    /// Judges all that needs no key, so that nothing is fetched for a token that is refused whoever signed it.
    pub(super) fn judged(self, rules: &TokenRules, now: DateTime<Utc>) -> Result<Presented<'a>, TokenError> {
        rules.judge(&self.claims, now, Form::Signed)?;
        let Self { algorithm, kid, message, signature, claims } = self;
        Ok(Presented { algorithm, kid, message, signature, claims: claims.into() })
    }
}

impl<'a> Presented<'a> {
    /// Reads a token and judges all that needs no key.
    pub fn read(token: &'a str, rules: &TokenRules, now: DateTime<Utc>) -> Result<Self, TokenError> {
        Jws::read(token)?.judged(rules, now)
    }
}

/// One part of a JWT: base64url without padding, of a JSON object.
fn part<T: DeserializeOwned>(text: &str, otherwise: TokenError) -> Result<T, TokenError> {
    let json = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed)?;
    // An array would do for serde's derive.
    if json.first() != Some(&b'{') {
        return Err(TokenError::Malformed);
    }
    serde_json::from_slice(&json)
        .map_err(|error| if error.is_data() { otherwise } else { TokenError::Malformed })
}

#[cfg(test)]
mod tests;
