//! Parsing of access tokens that are signed JWTs.
//!
//! A [`Presented`] token is well-formed and its claims satisfy the [`TokenRules`]. A [`KeySet`](super::KeySet) verifies
//! its signature, and only then reveals its [`AccessClaims`].

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use jsonwebtoken::Algorithm;
use nas_cron_protocol::json;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::claims::{AccessClaims, Claims, is_there};
use super::token_error::TokenError;
use super::token_rules::{Form, TokenRules};

/// The allow-list of algorithms. Asymmetric only, so that a public key cannot serve as a shared secret.
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

/// Maximum length of a token, in bytes.
pub const MAX_TOKEN_LENGTH: usize = 16 * 1024;

/// A well-formed token with valid claims, whose signature is not verified yet.
pub struct Presented<'a> {
    pub(super) algorithm: Algorithm,
    pub(super) kid: Option<String>,
    /// The signed text: header and claims as received.
    pub(super) message: &'a str,
    /// The signature in base64url, as received.
    pub(super) signature: &'a str,
    /// Only the key set may reveal them.
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
    #[serde(default, deserialize_with = "is_there")]
    b64: bool,
}

/// True if `token` has the shape of a signed JWT, valid or not. Such a token never counts as opaque.
pub(super) fn is_jws(token: &str) -> bool {
    let mut parts = token.split('.');
    let header = parts.next().and_then(|header| URL_SAFE_NO_PAD.decode(header).ok());
    parts.count() == 2 && header.is_some_and(|header| header.first() == Some(&b'{'))
}

/// A parsed token. None of its claims is checked yet, not even the issuer.
pub(super) struct Jws<'a> {
    algorithm: Algorithm,
    kid: Option<String>,
    message: &'a str,
    signature: &'a str,
    claims: Claims,
}

impl<'a> Jws<'a> {
    /// Parses a token, without checking its claims.
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
        if header.b64 {
            return Err(TokenError::Unencoded);
        }
        let algorithm = header.alg.parse().map_err(|_| TokenError::Algorithm)?;
        if !ALLOWED_ALGORITHMS.contains(&algorithm) {
            return Err(TokenError::Algorithm);
        }
        let claims: Claims = part(claims, TokenError::Claims)?;
        Ok(Self { algorithm, kid: header.kid, message, signature, claims })
    }

    /// Returns the claimed issuer, which selects the rules and keys for the token.
    pub(super) fn issuer(&self) -> Option<&str> {
        self.claims.iss.as_deref()
    }

    /// Returns all claims that could identify a bearer. They are not verified.
    pub(super) fn claimed(self) -> AccessClaims {
        self.claims.identifying(true)
    }

    /// Checks the claims, so that no keys are fetched for a token that would be rejected anyway.
    pub(super) fn judged(self, rules: &TokenRules, now: DateTime<Utc>) -> Result<Presented<'a>, TokenError> {
        rules.judge(&self.claims, now, Form::Signed)?;
        let Self { algorithm, kid, message, signature, claims } = self;
        let claims = rules.identifying(claims, Form::Signed);
        Ok(Presented { algorithm, kid, message, signature, claims })
    }
}

impl<'a> Presented<'a> {
    /// Parses a token and checks its claims. Does not verify the signature.
    pub fn read(token: &'a str, rules: &TokenRules, now: DateTime<Utc>) -> Result<Self, TokenError> {
        Jws::read(token)?.judged(rules, now)
    }
}

/// Parses one part of a JWT: a JSON object in base64url without padding.
fn part<T: DeserializeOwned>(text: &str, otherwise: TokenError) -> Result<T, TokenError> {
    let bytes = URL_SAFE_NO_PAD.decode(text).map_err(|_| TokenError::Malformed)?;
    // White space before it would be accepted, too.
    if bytes.first() != Some(&b'{') {
        return Err(TokenError::Malformed);
    }
    json::from_slice(&bytes).map_err(|error| match error.problem() {
        Some(problem) => TokenError::Unsound(problem),
        None if error.is_data() => otherwise,
        None => TokenError::Malformed,
    })
}

#[cfg(test)]
mod hostile_tests;
#[cfg(test)]
mod tests;
#[cfg(test)]
mod wycheproof_tests;
