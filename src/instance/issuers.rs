//! The accepted issuers of access tokens: the portal, and those that `issuers_file` adds.
//!
//! A JWT is verified by the rules and keys of the issuer in its `iss` (compared byte for byte) only, so a key of one
//! issuer never verifies another issuer's token. An opaque token belongs to the issuer whose prefix it begins with,
//! otherwise to the portal. It is sent to no other issuer, because any recipient could use it. A JWT is introspected
//! only if its issuer is configured with introspection and without keys.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, Utc};
use tokio::time::Instant;

use super::claims::AccessClaims;
use super::introspection::{Endpoint, Introspections};
use super::portal_keys::PortalKeys;
use super::token::{self, Jws, MAX_TOKEN_LENGTH};
use super::token_error::TokenError;
use super::token_rules::{Form, TokenRules};
use super::verify_error::VerifyError;

/// One issuer: its rules, and at least one way to verify its tokens.
#[derive(Debug)]
pub struct Issuer {
    /// The rules for its tokens.
    pub rules: TokenRules,
    /// The keys of its JWTs; `None` if they are introspected.
    pub keys: Option<PortalKeys>,
    /// Its introspection endpoint.
    pub introspection: Option<Endpoint>,
    /// The prefix of its opaque tokens; `None` for the portal, which gets all tokens without a known prefix.
    pub token_prefix: Option<String>,
}

/// All issuers, with distinct names.
#[derive(Debug)]
pub struct Issuers {
    /// The portal comes first.
    known: Vec<Known>,
    introspections: Arc<Introspections>,
}

#[derive(Debug)]
struct Known {
    rules: TokenRules,
    keys: Option<PortalKeys>,
    endpoint: Option<usize>,
    token_prefix: Option<String>,
}

/// A verified token.
#[derive(Debug)]
pub struct Verified<'a> {
    /// The token's claims.
    pub claims: AccessClaims,
    /// The rules of the issuer, which may be limited to some orgs.
    pub rules: &'a TokenRules,
    /// True if the built-in portal issued the token.
    pub own: bool,
}

impl Issuers {
    /// Accepts the tokens of the portal and of `others`, whose names must be distinct. Introspection responses are
    /// cached for `introspection_ttl`.
    pub fn new(portal: Issuer, others: Vec<Issuer>, introspection_ttl: Duration) -> Self {
        let (mut known, mut endpoints) = (Vec::new(), Vec::new());
        for Issuer { rules, keys, introspection, token_prefix } in std::iter::once(portal).chain(others) {
            let endpoint = introspection.map(|endpoint| {
                endpoints.push(endpoint);
                endpoints.len() - 1
            });
            known.push(Known { rules, keys, endpoint, token_prefix });
        }
        Self { known, introspections: Introspections::new(endpoints, introspection_ttl) }
    }

    /// Accepts the tokens of the portal only, all of them JWTs.
    pub fn portal(rules: TokenRules, keys: PortalKeys) -> Self {
        let portal = Issuer { rules, keys: Some(keys), introspection: None, token_prefix: None };
        Self::new(portal, Vec::new(), Duration::ZERO)
    }

    /// Verifies a token. Call it as soon as the request has arrived. Waits for unknown keys and for introspection until
    /// `deadline`.
    pub async fn verify(
        &self,
        token: &str,
        now: DateTime<Utc>,
        deadline: Instant,
    ) -> Result<Verified<'_>, VerifyError> {
        let jws = match Jws::read(token) {
            Ok(jws) => jws,
            Err(error) => {
                let known = self.of_opaque(token);
                let endpoint = known.endpoint.filter(|_| may_be_opaque(token)).ok_or(error)?;
                return self.introspected(token, known, endpoint, now, deadline).await;
            }
        };
        // A token of an unknown issuer fails by the portal's rules.
        let named = self.known.iter().find(|known| jws.issuer() == Some(known.rules.issuer()));
        let known = named.unwrap_or(&self.known[0]);
        match (&known.keys, known.endpoint) {
            (None, Some(endpoint)) => {
                // Rules first, so that a token that breaks them (a fire token, for example) is not sent to the issuer.
                jws.judged(&known.rules, now)?;
                self.introspected(token, known, endpoint, now, deadline).await
            }
            (None, None) => Err(TokenError::UnknownKey.into()),
            (Some(keys), _) => {
                let presented = jws.judged(&known.rules, now)?;
                let claims = keys.verify(&presented, deadline).await?;
                Ok(Verified { claims, rules: &known.rules, own: keys.are_own() })
            }
        }
    }

    /// Returns the issuer of an opaque token.
    fn of_opaque(&self, token: &str) -> &Known {
        let begins =
            |known: &&Known| known.token_prefix.as_ref().is_some_and(|prefix| token.starts_with(prefix));
        self.known.iter().find(begins).unwrap_or(&self.known[0])
    }

    async fn introspected<'a>(
        &self,
        token: &str,
        of: &'a Known,
        endpoint: usize,
        now: DateTime<Utc>,
        deadline: Instant,
    ) -> Result<Verified<'a>, VerifyError> {
        let claims = self.introspections.ask(token, endpoint, &of.rules, now, deadline).await?;
        let claims = of.rules.identifying(claims, Form::Introspected);
        Ok(Verified { claims, rules: &of.rules, own: false })
    }
}

/// True if `token` may be an opaque token: it has valid characters (RFC 6750, 2.1), and is not a malformed JWT.
fn may_be_opaque(token: &str) -> bool {
    let fits = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    token.len() <= MAX_TOKEN_LENGTH && token.bytes().all(fits) && !token::is_jws(token)
}

#[cfg(test)]
mod tests {
    use nas_cron_jwt::testing::{Signing, jwks};
    use serde_json::json;

    use super::*;
    use crate::config::Orgs;
    use crate::instance::KeySet;

    const NOW: i64 = 1_800_000_000;

    fn issuer(name: &str, orgs: &[&str], key: &Signing) -> Issuer {
        let orgs = match orgs {
            [] => Orgs::All,
            orgs => Orgs::Only(orgs.iter().map(|&org| org.to_owned()).collect()),
        };
        Issuer {
            rules: TokenRules::new(name, []).for_orgs(orgs),
            keys: Some(PortalKeys::pinned(KeySet::from_jwks(&jwks([key])).unwrap())),
            introspection: None,
            token_prefix: None,
        }
    }

    #[tokio::test]
    async fn a_key_of_one_issuer_never_verifies_anothers_token() {
        // The same `kid` for both, so that only the choice of the issuer's keys matters.
        let (ours, theirs) = (Signing::es256("k"), Signing::es256("k"));
        let others = vec![issuer("other", &["org-b"], &theirs)];
        let issuers = Issuers::new(issuer("portal", &[], &ours), others, Duration::ZERO);
        let verify = async |key: &Signing, iss: &str, org: &str| {
            let token = key.sign(&json!({"iss": iss, "exp": NOW + 60, "org_id": org}));
            let now = DateTime::from_timestamp(NOW, 0).unwrap();
            let verified = issuers.verify(&token, now, Instant::now()).await;
            verified.map(|verified| verified.rules.issuer().to_owned())
        };
        assert_eq!(verify(&ours, "portal", "org-a").await, Ok("portal".to_owned()));
        assert_eq!(verify(&theirs, "other", "org-b").await, Ok("other".to_owned()));
        let refused = |error: TokenError| Err(VerifyError::Refused(error));
        assert_eq!(verify(&theirs, "portal", "org-b").await, refused(TokenError::Signature));
        assert_eq!(verify(&ours, "other", "org-b").await, refused(TokenError::Signature));
        assert_eq!(verify(&theirs, "other", "org-a").await, refused(TokenError::Org));
        assert_eq!(verify(&theirs, "other/", "org-b").await, refused(TokenError::Issuer));
        assert_eq!(verify(&ours, "", "org-b").await, refused(TokenError::Issuer));
    }

    #[test]
    fn opaque_tokens_are_distinguished_from_malformed_jwts() {
        let jwt = Signing::es256("k").sign(&json!({"iss": "p"}));
        let (start, _) = jwt.split_once('.').unwrap();
        for opaque in ["abc", "a.b.c", "pat_1-2~3/4+5==", "eyJ", "v4.public.abc"] {
            assert!(may_be_opaque(opaque), "{opaque}");
        }
        for no in
            [jwt.clone(), format!("{start}.garbage.x"), "a b".to_owned(), "ä".to_owned(), "x".repeat(20_000)]
        {
            assert!(!may_be_opaque(&no), "{no}");
        }
    }
}
