//! The portal's access tokens: what is read out of one, and every rule it must keep (contract, "Hop 1").
//!
//! A [`Presented`] token is one whose form and claims are in order; who signed it is for a
//! [`KeySet`](super::KeySet) to say, and only that gives its [`AccessClaims`] away.

use std::fmt;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, TimeDelta, Utc};
use jsonwebtoken::Algorithm;
use serde::de::{DeserializeOwned, IgnoredAny};
use serde::{Deserialize, Deserializer};

use super::numeric_date::NumericDate;
use crate::config::Orgs;

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

/// Why a token is refused. The texts may be shown to whoever sent it: they hold nothing of the token.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum TokenError {
    /// Longer than [`MAX_TOKEN_LENGTH`].
    #[error("the access token is longer than 16 KiB")]
    TooLong,
    /// Not three base64url parts with JSON objects in the first two.
    #[error("the access token is not a signed JWT")]
    Malformed,
    /// Its header demands that extensions are understood (RFC 7515, 4.1.11); none are.
    #[error("the access token demands extensions (`crit`) that are not supported")]
    Critical,
    /// Not in [`ALLOWED_ALGORITHMS`].
    #[error("the access token's algorithm is not allowed")]
    Algorithm,
    /// A claim is of the wrong type, or is there twice.
    #[error("the access token's claims are not of the expected types")]
    Claims,
    /// Not issued by our portal.
    #[error("the access token was issued by another issuer")]
    Issuer,
    /// There is no `exp`.
    #[error("the access token has no expiry")]
    NoExpiry,
    /// Past its `exp`.
    #[error("the access token has expired")]
    Expired,
    /// Before its `nbf`.
    #[error("the access token is not valid yet")]
    NotYetValid,
    /// Its `iat` lies ahead.
    #[error("the access token was issued in the future")]
    IssuedAhead,
    /// Made for somebody else.
    #[error("the access token is meant for another audience")]
    Audience,
    /// We issued it ourselves, for a session that its agent no longer has.
    #[error("the access token's session is over: refresh it")]
    SessionOver,
    /// It has a `purpose`: a fire token, say, has our issuer and an agent's audience.
    #[error("a token with a purpose is not an access token")]
    Purpose,
    /// It names an org that its issuer may not speak for.
    #[error("the access token's issuer may not speak for its org")]
    Org,
    /// Its issuer says that it is not active: unknown to it, expired or revoked (RFC 7662, 2.2).
    #[error("the access token is not active")]
    Inactive,
    /// Its issuer says that it is active, and of another kind: a refresh token, or one bound to a key.
    #[error("the token is not a bearer access token")]
    NotAccess,
    /// No key that could have signed it is known, and none more can be had.
    #[error("the access token was signed with an unknown key")]
    UnknownKey,
    /// The key it names is for another algorithm.
    #[error("the access token's algorithm does not fit its key")]
    KeyMismatch,
    /// The signature is not by the key it names.
    #[error("the access token's signature is not valid")]
    Signature,
}

/// What a verified access token says about its bearer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct AccessClaims {
    /// `client_id`, or `azp` in its absence.
    pub client_id: Option<String>,
    /// The portal session it belongs to.
    pub sid: Option<String>,
    /// The bearer's organisation.
    pub org_id: Option<String>,
    /// Named by dashboard tokens.
    pub agent_instance_id: Option<String>,
    /// `iat`, or `nbf` in its absence.
    pub issued_at: Option<DateTime<Utc>>,
}

impl AccessClaims {
    /// Since when the token exists. `None` where it does not say.
    pub fn age(&self, now: DateTime<Utc>) -> Option<TimeDelta> {
        self.issued_at.map(|issued_at| now.signed_duration_since(issued_at))
    }
}

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

/// What is judged of a token's claims, and what [`AccessClaims`] are made of.
#[derive(Clone, Deserialize)]
pub(super) struct Claims {
    iss: Option<String>,
    exp: Option<NumericDate>,
    nbf: Option<NumericDate>,
    iat: Option<NumericDate>,
    aud: Option<Audience>,
    #[serde(default, deserialize_with = "is_there")]
    purpose: bool,
    client_id: Option<String>,
    azp: Option<String>,
    sid: Option<String>,
    org_id: Option<String>,
    agent_instance_id: Option<String>,
}

impl Claims {
    /// `exp`, in seconds since 1970.
    pub(super) fn expiry(&self) -> Option<i64> {
        self.exp.as_ref().map(|at| at.0)
    }

    /// Whether they are as short as what is kept of them by the thousand: no longer name is anybody's here.
    pub(super) fn are_short(&self) -> bool {
        let ids = [&self.client_id, &self.azp, &self.sid, &self.org_id, &self.agent_instance_id];
        ids.into_iter().flatten().all(|id| id.len() <= 300)
            && self.iss.as_ref().is_none_or(|iss| iss.len() <= 2_048)
            && self.aud.as_ref().is_none_or(|aud| aud.length() <= 4_096)
    }
}

impl From<Claims> for AccessClaims {
    fn from(claims: Claims) -> Self {
        let issued_at = claims.iat.or(claims.nbf);
        Self {
            client_id: claims.client_id.or(claims.azp),
            sid: claims.sid,
            org_id: claims.org_id,
            agent_instance_id: claims.agent_instance_id,
            // Not in the future, so what chrono cannot hold lies before the year -262143.
            issued_at: issued_at
                .map(|at| DateTime::from_timestamp(at.0, 0).unwrap_or(DateTime::<Utc>::MIN_UTC)),
        }
    }
}

#[derive(Clone, Deserialize)]
#[serde(untagged)]
enum Audience {
    One(String),
    Many(Vec<String>),
    /// Judged only where audiences are.
    Odd(IgnoredAny),
}

impl Audience {
    fn names(&self, one: &str) -> bool {
        match self {
            Self::One(name) => name == one,
            Self::Many(names) => names.iter().any(|name| name == one),
            Self::Odd(_) => false,
        }
    }

    fn length(&self) -> usize {
        match self {
            Self::One(name) => name.len(),
            Self::Many(names) => names.iter().map(|name| size_of::<String>() + name.len()).sum(),
            Self::Odd(_) => 0,
        }
    }
}

/// Whatever it is, `null` too.
fn is_there<'de, D: Deserializer<'de>>(deserializer: D) -> Result<bool, D::Error> {
    IgnoredAny::deserialize(deserializer).map(|_| true)
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

impl TokenRules {
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
mod tests {
    use nas_cron_jwt::testing::{Signing, jwks};
    use serde_json::{Value, json};

    use super::*;
    use crate::instance::key_set::{KeySet, NotVerified};

    const NOW: i64 = 1_800_000_000;
    const ISSUER: &str = "https://portal.example";

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(NOW, 500_000_000).unwrap()
    }

    fn rules() -> TokenRules {
        TokenRules::new(ISSUER, [])
    }

    /// Good claims, with changes: `null` takes one away.
    fn claims(changes: &Value) -> Value {
        let mut claims = json!({
            "iss": ISSUER, "aud": "hermes-cli-vps", "sub": "user", "client_id": "hermes-cli-vps", "sid": "s1",
            "org_id": "o1", "scope": "inference", "exp": NOW + 3600, "iat": NOW - 5, "oauth_contract_version": 3,
        });
        for (name, value) in changes.as_object().unwrap() {
            if value.is_null() {
                claims.as_object_mut().unwrap().remove(name);
            } else {
                claims[name] = value.clone();
            }
        }
        claims
    }

    fn judge(keys: &KeySet, rules: &TokenRules, token: &str) -> Result<AccessClaims, TokenError> {
        let presented = Presented::read(token, rules, now())?;
        keys.verify(&presented).map_err(|why| match why {
            NotVerified::Refused(error) => error,
            NotVerified::UnknownKey => TokenError::UnknownKey,
        })
    }

    #[test]
    fn a_good_token_gives_its_claims() {
        let portal = Signing::rsa(Algorithm::RS256, "k1");
        let keys = KeySet::from_jwks(&jwks([&portal])).unwrap();
        assert_eq!(
            judge(&keys, &rules(), &portal.sign(&claims(&json!({})))).unwrap(),
            AccessClaims {
                client_id: Some("hermes-cli-vps".to_owned()),
                sid: Some("s1".to_owned()),
                org_id: Some("o1".to_owned()),
                agent_instance_id: None,
                issued_at: DateTime::from_timestamp(NOW - 5, 0),
            }
        );
    }

    #[test]
    fn every_rule_about_claims() {
        let portal = Signing::es256("k1");
        let keys = KeySet::from_jwks(&jwks([&portal])).unwrap();
        let cases: &[(&str, Value, Result<(), TokenError>)] = &[
            ("iss missing", json!({"iss": null}), Err(TokenError::Issuer)),
            ("iss with a slash", json!({"iss": "https://portal.example/"}), Err(TokenError::Issuer)),
            ("iss in capitals", json!({"iss": "https://Portal.example"}), Err(TokenError::Issuer)),
            ("iss as a list", json!({"iss": [ISSUER]}), Err(TokenError::Claims)),
            ("exp missing", json!({"exp": null}), Err(TokenError::NoExpiry)),
            ("exp as text", json!({"exp": "1900000000"}), Err(TokenError::Claims)),
            ("exp just past", json!({"exp": NOW - 29}), Ok(())),
            ("exp past the leeway", json!({"exp": NOW - 30}), Err(TokenError::Expired)),
            ("exp with a fraction", json!({"exp": 1_800_000_100.75}), Ok(())),
            ("exp in scientific clothes", json!({"exp": 1.9e9}), Ok(())),
            ("exp at the end of time", json!({"exp": u64::MAX}), Ok(())),
            ("exp beyond it", json!({"exp": 1e300}), Ok(())),
            ("exp negative", json!({"exp": -1}), Err(TokenError::Expired)),
            ("exp at its beginning", json!({"exp": i64::MIN}), Err(TokenError::Expired)),
            ("nbf a little ahead", json!({"nbf": NOW + 30}), Ok(())),
            ("nbf ahead", json!({"nbf": NOW + 31}), Err(TokenError::NotYetValid)),
            ("iat a little ahead", json!({"iat": NOW + 30}), Ok(())),
            ("iat ahead", json!({"iat": NOW + 31}), Err(TokenError::IssuedAhead)),
            ("iat missing", json!({"iat": null}), Ok(())),
            ("a fire token", json!({"purpose": "cron_fire", "aud": "agent:i1"}), Err(TokenError::Purpose)),
            ("an empty purpose", json!({"purpose": ""}), Err(TokenError::Purpose)),
            ("aud is not judged", json!({"aud": {"odd": 1}}), Ok(())),
            ("sid as a number", json!({"sid": 7}), Err(TokenError::Claims)),
        ];
        for (name, changes, expected) in cases {
            let judged = judge(&keys, &rules(), &portal.sign(&claims(changes)));
            assert_eq!(judged.map(|_| ()), *expected, "{name}");
        }
        // A purpose of null is a purpose.
        let mut with_null = claims(&json!({}));
        with_null["purpose"] = Value::Null;
        assert_eq!(judge(&keys, &rules(), &portal.sign(&with_null)), Err(TokenError::Purpose));
    }

    #[test]
    fn aud_is_judged_where_an_allow_list_is_set() {
        let portal = Signing::es256("k1");
        let keys = KeySet::from_jwks(&jwks([&portal])).unwrap();
        let rules = TokenRules::new(ISSUER, ["hermes-cli-vps".to_owned(), "cron".to_owned()]);
        for (aud, allowed) in [
            (json!("cron"), true),
            (json!(["x", "hermes-cli-vps"]), true),
            (json!("cro"), false),
            (json!([]), false),
            (json!(["x"]), false),
            (json!(["cron", 1]), false),
            (json!(1), false),
            (Value::Null, false),
        ] {
            let judged = judge(&keys, &rules, &portal.sign(&claims(&json!({ "aud": aud }))));
            assert_eq!(judged.map(|_| ()), if allowed { Ok(()) } else { Err(TokenError::Audience) }, "{aud}");
        }
    }

    #[test]
    fn azp_stands_in_for_client_id_and_nbf_for_iat() {
        let portal = Signing::es256("k1");
        let keys = KeySet::from_jwks(&jwks([&portal])).unwrap();
        let told = |changes| judge(&keys, &rules(), &portal.sign(&claims(&changes))).unwrap();
        assert_eq!(told(json!({"client_id": null, "azp": "agent:i1"})).client_id.unwrap(), "agent:i1");
        assert_eq!(told(json!({"azp": "agent:i1"})).client_id.unwrap(), "hermes-cli-vps");
        let age = |changes| {
            told(changes).age(DateTime::from_timestamp(NOW, 0).unwrap()).map(|age| age.num_seconds())
        };
        assert_eq!(age(json!({})), Some(5));
        assert_eq!(age(json!({"iat": null, "nbf": NOW - 60})), Some(60));
        assert_eq!(age(json!({"iat": null})), None);
        assert!(age(json!({"iat": i64::MIN})).unwrap() > 0);
    }

    #[test]
    fn asymmetric_algorithms_only_from_one_allow_list() {
        let good = claims(&json!({}));
        for algorithm in ALLOWED_ALGORITHMS {
            let portal = match algorithm {
                Algorithm::ES256 => Signing::es256("k"),
                Algorithm::ES384 => Signing::es384("k"),
                Algorithm::EdDSA => Signing::eddsa("k"),
                _ => Signing::rsa(*algorithm, "k"),
            };
            let keys = KeySet::from_jwks(&jwks([&portal])).unwrap();
            assert!(judge(&keys, &rules(), &portal.sign(&good)).is_ok(), "{algorithm:?}");
        }

        let portal = Signing::rsa(Algorithm::RS256, "k");
        let keys = KeySet::from_jwks(&jwks([&portal])).unwrap();
        for alg in ["none", "None", "", "HS256", "HS512", "ES512", "rs256", "RSA-OAEP", "dir"] {
            let token = portal.sign_with_header(&json!({"alg": alg, "kid": "k"}), &good);
            assert_eq!(judge(&keys, &rules(), &token), Err(TokenError::Algorithm), "{alg}");
        }
        let unsigned = portal.sign_with_header(&json!({"alg": "none"}), &good);
        let (message, _) = unsigned.rsplit_once('.').unwrap();
        assert_eq!(judge(&keys, &rules(), &format!("{message}.")), Err(TokenError::Algorithm));
    }

    #[test]
    fn a_public_key_is_no_secret() {
        let portal = Signing::rsa(Algorithm::RS256, "k");
        let jwks = jwks([&portal]);
        let keys = KeySet::from_jwks(&jwks).unwrap();
        let forged = portal.sign_with_header(&json!({"alg": "HS256", "kid": "k"}), &claims(&json!({})));
        let (message, _) = forged.rsplit_once('.').unwrap();
        let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &jwks);
        let tag = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&secret, message.as_bytes()));
        assert_eq!(judge(&keys, &rules(), &format!("{message}.{tag}")), Err(TokenError::Algorithm));
    }

    #[test]
    fn the_key_s_own_type_and_algorithm_must_agree_with_the_header() {
        let (rsa, ec) = (Signing::rsa(Algorithm::RS256, "rsa"), Signing::es256("ec"));
        let keys = KeySet::from_jwks(&jwks([&rsa, &ec])).unwrap();
        let good = claims(&json!({}));
        let with = |signing: &Signing, alg: &str, kid: &str| {
            judge(&keys, &rules(), &signing.sign_with_header(&json!({"alg": alg, "kid": kid}), &good))
        };
        assert!(with(&rsa, "RS256", "rsa").is_ok());
        assert_eq!(with(&ec, "ES256", "rsa"), Err(TokenError::KeyMismatch), "kid of another type");
        assert_eq!(with(&rsa, "RS256", "ec"), Err(TokenError::KeyMismatch));
        assert_eq!(with(&ec, "ES384", "ec"), Err(TokenError::KeyMismatch), "another curve");
        let pss = Signing::rsa(Algorithm::PS256, "rsa");
        assert_eq!(with(&pss, "PS256", "rsa"), Err(TokenError::KeyMismatch), "the key's own alg is RS256");
        assert_eq!(
            with(&Signing::es256("ec"), "ES256", "ec"),
            Err(TokenError::Signature),
            "another key of that name"
        );
        assert_eq!(with(&ec, "ES256", "new"), Err(TokenError::UnknownKey));
        assert_eq!(with(&ec, "ES256", "EC"), Err(TokenError::UnknownKey), "names are compared byte for byte");
    }

    #[test]
    fn without_a_kid_all_keys_are_tried() {
        let (rsa, mut ec) = (Signing::rsa(Algorithm::RS256, "rsa"), Signing::es256("ec"));
        let keys = KeySet::from_jwks(&jwks([&rsa, &ec])).unwrap();
        ec.kid = None;
        let mut stranger = Signing::es256("");
        stranger.kid = None;
        let good = claims(&json!({}));
        assert!(judge(&keys, &rules(), &ec.sign(&good)).is_ok());
        assert_eq!(judge(&keys, &rules(), &stranger.sign(&good)), Err(TokenError::UnknownKey));
    }

    #[test]
    fn broken_tokens_are_refused_whatever_they_hold() {
        let portal = Signing::es256("k");
        let keys = KeySet::from_jwks(&jwks([&portal])).unwrap();
        let good = portal.sign(&claims(&json!({})));
        let parts: Vec<_> = good.split('.').collect();
        let (header, body, signature) = (parts[0], parts[1], parts[2]);
        let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
        let twice = encoded(&format!(r#"{{"iss":"{ISSUER}","iss":"{ISSUER}","exp":{}}}"#, NOW + 60));
        let cases = [
            (String::new(), TokenError::Malformed),
            ("..".to_owned(), TokenError::Malformed),
            ("a.b".to_owned(), TokenError::Malformed),
            (format!("{good}.x"), TokenError::Malformed),
            (format!("{header}..{signature}"), TokenError::Malformed),
            (format!("{header}=.{body}.{signature}"), TokenError::Malformed),
            (format!("{}.{body}.{signature}", encoded("[\"ES256\"]")), TokenError::Malformed),
            (format!("{}.{body}.{signature}", encoded("{\"alg\":1}")), TokenError::Malformed),
            (
                format!("{}.{body}.{signature}", encoded("{\"alg\":\"ES256\",\"kid\":7}")),
                TokenError::Malformed,
            ),
            (format!("{header}.{}.{signature}", encoded("{\"exp\":1e999}")), TokenError::Malformed),
            (format!("{header}.{twice}.{signature}"), TokenError::Claims),
            (format!("{header}.{body}."), TokenError::Signature),
            (format!("{header}.{body}.!!!"), TokenError::Signature),
            (format!("{header}.{body}.{}", &signature[1..]), TokenError::Signature),
            (format!("{header}.{body}.{}", "A".repeat(86)), TokenError::Signature),
            ("x".repeat(MAX_TOKEN_LENGTH + 1), TokenError::TooLong),
            (
                portal.sign_with_header(
                    &json!({"alg": "ES256", "kid": "k", "crit": ["b64"], "b64": false}),
                    &claims(&json!({})),
                ),
                TokenError::Critical,
            ),
        ];
        for (token, expected) in cases {
            assert_eq!(judge(&keys, &rules(), &token), Err(expected), "{token:.80}");
        }
        let another = portal.sign(&claims(&json!({"sid": "s2"})));
        let body_of_another = another.split('.').nth(1).unwrap();
        let mixed = format!("{header}.{body_of_another}.{signature}");
        assert_eq!(judge(&keys, &rules(), &mixed), Err(TokenError::Signature));
    }

    #[test]
    fn what_is_shown_of_a_token_holds_nothing_of_it() {
        let portal = Signing::es256("the-kid");
        let token = portal.sign(&claims(&json!({"sid": "the-sid"})));
        let presented = Presented::read(&token, &rules(), now()).unwrap();
        assert_eq!(format!("{presented:?}"), "Presented { algorithm: ES256, .. }");
    }

    proptest::proptest! {
        #[test]
        fn no_token_panics(token in "[A-Za-z0-9_.=-]{0,80}") {
            let _ = Presented::read(&token, &rules(), now());
        }

        #[test]
        fn no_header_or_claims_panic(header in "\\PC{0,60}", claims in "\\PC{0,60}") {
            let token = format!("{}.{}.AA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
            let _ = Presented::read(&token, &rules(), now());
        }
    }
}
