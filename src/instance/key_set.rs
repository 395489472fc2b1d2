//! The portal's public keys, read from a JWKS or PEM file, and the verification of signatures with them.

use std::sync::Arc;

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use nas_cron_protocol::json;
use rsa::pkcs8::{ObjectIdentifier, SubjectPublicKeyInfoRef};
use rustls::pki_types::pem::{PemObject, SectionKind};
use serde::Deserialize;

use super::claims::AccessClaims;
use super::token::{ALLOWED_ALGORITHMS, Presented};
use super::token_error::TokenError;
use super::verified_tokens::{self, VerifiedTokens};

/// Maximum number of keys; a portal has two or three.
const MAX_KEYS: usize = 64;
/// Minimum length of an RSA modulus for *ring*, in bytes: 2048 bits.
const MIN_RSA_MODULUS: usize = 256;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Keys that verify access tokens.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
    /// The tokens that these keys have verified.
    verified: Arc<VerifiedTokens>,
}

#[derive(Clone, Debug)]
struct VerificationKey {
    kid: Option<String>,
    /// The algorithms that the key's type, curve and `alg` allow. The token's header can only choose among them.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// Reading keys failed.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// The text is not a JWKS.
    #[error("not a JWKS: {0}")]
    NotJwks(#[source] json::Error),
    /// The text is neither a JWKS nor PEM.
    #[error("neither a JWKS nor PEM with a public key (`-----BEGIN PUBLIC KEY-----`)")]
    NoKeys,
    /// The text contains a private key, which the service must not have.
    #[error("contains a private key: use the public half (`openssl pkey -in key.pem -pubout`)")]
    Private,
    /// No key can verify access tokens.
    #[error("none of its keys can verify tokens{}", .0.as_ref().map(|why| format!(" (the last one {why})")).unwrap_or_default())]
    NoneUsable(Option<Unusable>),
}

/// The reason why a key is skipped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// It is not a JWK.
    #[error("is not a JWK")]
    NotJwk,
    /// It is symmetric, or its type or curve is not supported.
    #[error("has an unsupported type")]
    Type,
    /// Its `use`, `key_ops` or `alg` is for another purpose.
    #[error("is not for verifying signatures")]
    Use,
    /// Its parameters are malformed or too weak.
    #[error("is malformed, or an RSA key of less than 2048 bits")]
    Malformed,
}

/// A token could not be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotVerified {
    /// The key is known, and did not sign the token.
    Refused(TokenError),
    /// An unknown key may have signed the token.
    UnknownKey,
}

impl KeySet {
    /// Reads a JWKS (RFC 7517, 5). Keys that cannot verify tokens are skipped, as the RFC requires.
    pub fn from_jwks(json: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Jwks {
            keys: Vec<serde_json::Value>,
        }
        nas_cron_jwt::install();
        let jwks: Jwks = json::from_slice(json).map_err(KeySetError::NotJwks)?;
        Self::usable(jwks.keys.into_iter().map(|jwk| {
            let jwk: Jwk = serde_json::from_value(jwk).map_err(|_| Unusable::NotJwk)?;
            VerificationKey::from_jwk(jwk)
        }))
    }

    /// Reads the pinned keys of an operator: a JWKS, or PEM with one or more public keys. PEM keys have no `kid`, so
    /// each is tried for every token.
    pub fn from_pinned(text: &[u8]) -> Result<Self, KeySetError> {
        nas_cron_jwt::install();
        if text.trim_ascii_start().starts_with(b"{") {
            return Self::from_jwks(text);
        }
        let mut found = Vec::new();
        for section in <(SectionKind, Vec<u8>)>::pem_slice_iter(text) {
            match section.map_err(|_| KeySetError::NoKeys)? {
                (SectionKind::PublicKey, der) => found.push(VerificationKey::from_spki(&der)),
                (SectionKind::PrivateKey | SectionKind::RsaPrivateKey | SectionKind::EcPrivateKey, _) => {
                    return Err(KeySetError::Private);
                }
                _ => {}
            }
        }
        if found.is_empty() {
            return Err(KeySetError::NoKeys);
        }
        Self::usable(found.into_iter())
    }

    fn usable(found: impl Iterator<Item = Result<VerificationKey, Unusable>>) -> Result<Self, KeySetError> {
        let mut keys = Vec::new();
        let mut last = None;
        for key in found {
            match key {
                Ok(key) => keys.push(key),
                Err(why) => {
                    tracing::debug!(reason = %why, "portal key skipped");
                    last = Some(why);
                }
            }
        }
        if keys.is_empty() {
            return Err(KeySetError::NoneUsable(last));
        }
        keys.truncate(MAX_KEYS);
        Ok(Self { keys, verified: Arc::default() })
    }

    /// Returns the number of keys.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// True if there are no keys.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Verifies a token with the keys that may have signed it: those with its `kid` and those without one, or all keys
    /// if the token has no `kid`.
    pub(super) fn verify(&self, token: &Presented<'_>) -> Result<AccessClaims, NotVerified> {
        let hash = verified_tokens::hash_of(token);
        if self.verified.contains(&hash) {
            return Ok(token.claims.clone());
        }
        let mut refusal = None;
        for key in &self.keys {
            let named = token.kid.is_some() && key.kid == token.kid;
            if !named && token.kid.is_some() && key.kid.is_some() {
                continue;
            }
            let fits = key.algorithms.contains(&token.algorithm);
            if fits && key.signed(token) {
                self.verified.add(hash);
                return Ok(token.claims.clone());
            }
            if named && refusal != Some(TokenError::Signature) {
                refusal = Some(if fits { TokenError::Signature } else { TokenError::KeyMismatch });
            }
        }
        Err(refusal.map_or(NotVerified::UnknownKey, NotVerified::Refused))
    }
}

impl VerificationKey {
    fn from_jwk(jwk: Jwk) -> Result<Self, Unusable> {
        let common = jwk.common;
        if common.public_key_use.is_some_and(|one| one != PublicKeyUse::Signature)
            || common.key_operations.is_some_and(|operations| !operations.contains(&KeyOperations::Verify))
        {
            return Err(Unusable::Use);
        }
        let (key, mut algorithms) = match &jwk.algorithm {
            AlgorithmParameters::RSA(rsa) => {
                let (n, e) = (unsigned(&rsa.n)?, unsigned(&rsa.e)?);
                if n.len() < MIN_RSA_MODULUS {
                    return Err(Unusable::Malformed);
                }
                (DecodingKey::from_rsa_raw_components(&n, &e), of_family(AlgorithmFamily::Rsa))
            }
            AlgorithmParameters::EllipticCurve(ec) => {
                let (algorithm, length) = match ec.curve {
                    EllipticCurve::P256 => (Algorithm::ES256, 32),
                    EllipticCurve::P384 => (Algorithm::ES384, 48),
                    _ => return Err(Unusable::Type),
                };
                let (x, y) = (base64url(&ec.x)?, base64url(&ec.y)?);
                if x.len() != length || y.len() != length {
                    return Err(Unusable::Malformed);
                }
                (DecodingKey::from_ec_der(&[&[4], &x[..], &y[..]].concat()), vec![algorithm])
            }
            AlgorithmParameters::OctetKeyPair(okp) if okp.curve == EllipticCurve::Ed25519 => {
                let x = base64url(&okp.x)?;
                if x.len() != 32 {
                    return Err(Unusable::Malformed);
                }
                (DecodingKey::from_ed_der(&x), vec![Algorithm::EdDSA])
            }
            _ => return Err(Unusable::Type),
        };
        if let Some(own) = common.key_algorithm {
            let own = Algorithm::try_from(own).map_err(|_| Unusable::Use)?;
            algorithms.retain(|one| *one == own);
        }
        if algorithms.is_empty() {
            return Err(Unusable::Use);
        }
        Ok(Self { kid: common.key_id, algorithms, key })
    }

    /// Reads a `SubjectPublicKeyInfo` (RFC 5280, 4.1.2.7), as in `-----BEGIN PUBLIC KEY-----`.
    fn from_spki(der: &[u8]) -> Result<Self, Unusable> {
        let spki = SubjectPublicKeyInfoRef::try_from(der).map_err(|_| Unusable::Malformed)?;
        let key = spki.subject_public_key.as_bytes().ok_or(Unusable::Malformed)?;
        let (key, algorithms) = match (spki.algorithm.oid, key.len()) {
            // The key is a sequence of modulus and exponent, so it is never shorter than the modulus.
            (RSA, MIN_RSA_MODULUS..) => (DecodingKey::from_rsa_der(key), of_family(AlgorithmFamily::Rsa)),
            (EC, 65) => (DecodingKey::from_ec_der(key), vec![Algorithm::ES256]),
            (EC, 97) => (DecodingKey::from_ec_der(key), vec![Algorithm::ES384]),
            (ED25519, 32) => (DecodingKey::from_ed_der(key), vec![Algorithm::EdDSA]),
            (RSA | EC | ED25519, _) => return Err(Unusable::Malformed),
            _ => return Err(Unusable::Type),
        };
        Ok(Self { kid: None, algorithms, key })
    }

    fn signed(&self, token: &Presented<'_>) -> bool {
        jsonwebtoken::crypto::verify(token.signature, token.message.as_bytes(), &self.key, token.algorithm)
            .unwrap_or(false)
    }
}

fn of_family(family: AlgorithmFamily) -> Vec<Algorithm> {
    ALLOWED_ALGORITHMS.iter().copied().filter(|one| one.family() == family).collect()
}

fn base64url(text: &str) -> Result<Vec<u8>, Unusable> {
    use base64::Engine;
    base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(text).map_err(|_| Unusable::Malformed)
}

/// Decodes a `Base64urlUInt` (RFC 7518, 2), without the leading zero byte that some portals add and *ring* rejects.
fn unsigned(text: &str) -> Result<Vec<u8>, Unusable> {
    let mut bytes = base64url(text)?;
    let zeros = bytes.iter().take_while(|byte| **byte == 0).count();
    bytes.drain(..zeros);
    Ok(bytes)
}

#[cfg(test)]
mod tests {
    use base64::Engine;
    use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
    use chrono::DateTime;
    use nas_cron_jwt::testing::{Signing, jwks};
    use rsa::pkcs8::EncodePublicKey;
    use serde_json::{Value, json};

    use super::*;
    use crate::instance::TokenRules;

    fn verifies(keys: &KeySet, signing: &Signing) -> bool {
        let token = signing.sign(&json!({"iss": "p", "exp": 100}));
        let rules = TokenRules::new("p", []);
        let presented = Presented::read(&token, &rules, DateTime::UNIX_EPOCH).unwrap();
        keys.verify(&presented).is_ok()
    }

    fn jwk(signing: &Signing, changes: &Value) -> Value {
        let mut jwk = serde_json::to_value(signing.jwk()).unwrap();
        for (name, value) in changes.as_object().unwrap() {
            jwk[name] = value.clone();
        }
        jwk
    }

    fn set(keys: &[Value]) -> Result<KeySet, KeySetError> {
        KeySet::from_jwks(json!({ "keys": keys }).to_string().as_bytes())
    }

    #[test]
    fn only_usable_keys_are_kept() {
        let (rsa, ec) = (Signing::rsa(Algorithm::RS256, "rsa"), Signing::es256("ec"));
        let unusable = [
            (json!({"kty": "oct", "k": "c2VjcmV0", "kid": "oct", "alg": "HS256"}), Unusable::Type),
            (json!({"kty": "AKP", "alg": "ML-DSA-44", "pub": "AA"}), Unusable::Type),
            (json!("not a key"), Unusable::NotJwk),
            (json!({"kty": "RSA"}), Unusable::Type),
            (jwk(&rsa, &json!({"use": "enc"})), Unusable::Use),
            (jwk(&rsa, &json!({"key_ops": ["sign"]})), Unusable::Use),
            (jwk(&rsa, &json!({"alg": "RSA-OAEP"})), Unusable::Use),
            (jwk(&rsa, &json!({"alg": "ES256"})), Unusable::Use),
            (jwk(&rsa, &json!({"n": URL_SAFE_NO_PAD.encode([255; 128])})), Unusable::Malformed),
            (jwk(&rsa, &json!({"n": "+/+/"})), Unusable::Malformed),
            (jwk(&ec, &json!({"crv": "P-384", "alg": "ES384"})), Unusable::Malformed),
            (jwk(&ec, &json!({"alg": "ES384"})), Unusable::Use),
            (jwk(&ec, &json!({"x": "AA"})), Unusable::Malformed),
        ];
        for (key, expected) in &unusable {
            match set(std::slice::from_ref(key)) {
                Err(KeySetError::NoneUsable(Some(why))) => {
                    // Some of these already fail to parse as a JWK.
                    assert!(why == *expected || why == Unusable::NotJwk, "{key}: {why:?}");
                }
                other => panic!("{key}: {other:?}"),
            }
        }
        let mut all: Vec<_> = unusable.into_iter().map(|(key, _)| key).collect();
        all.push(jwk(&ec, &json!({"unknown": [1]})));
        let keys = set(&all).unwrap();
        assert_eq!(keys.len(), 1);
        assert!(verifies(&keys, &ec));
    }

    #[test]
    fn garbage_is_rejected() {
        for text in ["", "{}", "[]", "null", "<html>", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":[{}]}"#]
        {
            assert!(KeySet::from_jwks(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn rsa_key_with_a_leading_zero_or_without_alg_is_accepted() {
        let rsa = Signing::rsa(Algorithm::RS512, "rsa");
        let mut key = serde_json::to_value(rsa.jwk()).unwrap();
        let mut n = URL_SAFE_NO_PAD.decode(key["n"].as_str().unwrap()).unwrap();
        n.insert(0, 0);
        key["n"] = json!(URL_SAFE_NO_PAD.encode(n));
        key.as_object_mut().unwrap().remove("alg");
        key.as_object_mut().unwrap().remove("use");
        assert!(verifies(&set(&[key]).unwrap(), &rsa));
    }

    #[test]
    fn token_that_was_verified_is_refused_by_a_set_without_its_key_and_if_it_is_altered() {
        let (old, new) = (Signing::es256("old"), Signing::es256("new"));
        let rules = TokenRules::new("p", []);
        let token = old.sign(&json!({"iss": "p", "exp": 100}));
        let read = |token| Presented::read(token, &rules, DateTime::UNIX_EPOCH);
        let both = KeySet::from_jwks(&jwks([&old, &new])).unwrap();
        for _ in 0..2 {
            assert!(both.verify(&read(&token).unwrap()).is_ok());
        }
        let after_rotation = KeySet::from_jwks(&jwks([&new])).unwrap();
        assert_eq!(after_rotation.verify(&read(&token).unwrap()), Err(NotVerified::UnknownKey));
        // Its claims are checked each time.
        let late = DateTime::from_timestamp(1_000, 0).unwrap();
        assert_eq!(Presented::read(&token, &rules, late).err(), Some(TokenError::Expired));
        // Other claims, or another signature.
        let other = old.sign(&json!({"iss": "p", "exp": 200}));
        let (message, signature) = (other.rsplit_once('.').unwrap().0, token.rsplit_once('.').unwrap().1);
        let forged = format!("{message}.{signature}");
        for _ in 0..2 {
            assert_eq!(
                both.verify(&read(&forged).unwrap()),
                Err(NotVerified::Refused(TokenError::Signature))
            );
        }
    }

    #[test]
    fn two_keys_with_the_same_kid_are_both_tried() {
        let (old, new) = (Signing::es256("k"), Signing::es256("k"));
        let keys = KeySet::from_jwks(&jwks([&old, &new])).unwrap();
        assert!(verifies(&keys, &old) && verifies(&keys, &new));
    }

    fn pem(label: &str, der: &[u8]) -> String {
        format!("-----BEGIN {label}-----\n{}\n-----END {label}-----\n", STANDARD.encode(der))
    }

    #[test]
    fn pinned_pem_keys_have_no_kid_and_are_tried_for_every_token() {
        let (rsa, ed) = (Signing::rsa(Algorithm::RS256, "a kid"), Signing::eddsa("another"));
        let private =
            <rsa::RsaPrivateKey as rsa::pkcs1::DecodeRsaPrivateKey>::from_pkcs1_der(rsa.key.as_bytes());
        let rsa_spki = private.unwrap().to_public_key().to_public_key_der().unwrap();
        let ed_public =
            URL_SAFE_NO_PAD.decode(serde_json::to_value(ed.jwk()).unwrap()["x"].as_str().unwrap()).unwrap();
        let ed_spki =
            [&[0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00], &ed_public[..]]
                .concat();
        let text =
            format!("# ours\n{}\n{}", pem("PUBLIC KEY", rsa_spki.as_bytes()), pem("PUBLIC KEY", &ed_spki));
        let keys = KeySet::from_pinned(text.as_bytes()).unwrap();
        assert_eq!(keys.len(), 2);
        assert!(verifies(&keys, &rsa) && verifies(&keys, &ed));
        assert!(!verifies(&keys, &Signing::eddsa("a kid")));
        assert!(KeySet::from_pinned(&jwks([&rsa])).is_ok(), "a JWKS can be pinned too");
    }

    #[test]
    fn unusable_pinned_key_is_rejected_with_the_reason() {
        let ec = Signing::es256("k");
        let error = |text: &str| KeySet::from_pinned(text.as_bytes()).unwrap_err().to_string();
        assert!(error(&pem("PRIVATE KEY", ec.key.as_bytes())).contains("private key"));
        assert!(error("hello").contains("neither a JWKS nor PEM"));
        assert!(error(&pem("CERTIFICATE", b"x")).contains("neither a JWKS nor PEM"));
        assert!(error(&pem("PUBLIC KEY", b"x")).contains("malformed"));
        assert!(error(r#"{"keys":[]}"#).contains("none of its keys"));
    }
}
