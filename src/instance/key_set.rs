//! The portal's public keys: read from a JWKS or from PEM, and asked whether one of them signed a token.

use jsonwebtoken::jwk::{AlgorithmParameters, EllipticCurve, Jwk, KeyOperations, PublicKeyUse};
use jsonwebtoken::{Algorithm, AlgorithmFamily, DecodingKey};
use rsa::pkcs8::{ObjectIdentifier, SubjectPublicKeyInfoRef};
use rustls::pki_types::pem::{PemObject, SectionKind};
use serde::Deserialize;

use super::claims::AccessClaims;
use super::token::{ALLOWED_ALGORITHMS, Presented};
use super::token_error::TokenError;

/// More keys than this are not kept: a portal has two or three.
const MAX_KEYS: usize = 64;
/// The smallest RSA modulus that *ring* verifies with, in bytes: 2048 bits.
const MIN_RSA_MODULUS: usize = 256;

const RSA: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.113549.1.1.1");
const EC: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.2.840.10045.2.1");
const ED25519: ObjectIdentifier = ObjectIdentifier::new_unwrap("1.3.101.112");

/// Keys that verify access tokens.
#[derive(Clone, Debug, Default)]
pub struct KeySet {
    keys: Vec<VerificationKey>,
}

#[derive(Clone, Debug)]
struct VerificationKey {
    kid: Option<String>,
    /// Fixed by the key's type, curve and own `alg`: the token's header only chooses among them.
    algorithms: Vec<Algorithm>,
    key: DecodingKey,
}

/// Why keys could not be read.
#[derive(Debug, thiserror::Error)]
pub enum KeySetError {
    /// Not a JWKS.
    #[error("it is not a JWKS: {0}")]
    NotJwks(#[source] serde_json::Error),
    /// Neither JWKS nor PEM.
    #[error("it is neither a JWKS nor PEM with a public key (`-----BEGIN PUBLIC KEY-----`)")]
    NoKeys,
    /// A private key, which is not for us to have.
    #[error("it holds a private key: give the public half (`openssl pkey -in key.pem -pubout`)")]
    Private,
    /// Keys, and none of them verifies access tokens.
    #[error("none of its keys can verify a token{}", .0.as_ref().map(|why| format!(" (the last one {why})")).unwrap_or_default())]
    NoneUsable(Option<Unusable>),
}

/// Why one key is passed over.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Unusable {
    /// Not a JWK.
    #[error("is not a JWK")]
    NotJwk,
    /// Symmetric, or of a type or curve nobody verifies here.
    #[error("is of an unsupported type")]
    Type,
    /// `use`, `key_ops` or `alg` say that it is for something else.
    #[error("is not for verifying signatures")]
    Use,
    /// Its numbers are not a key, or too weak a one.
    #[error("is malformed, or an RSA key of less than 2048 bits")]
    Malformed,
}

/// Why a token could not be verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NotVerified {
    /// Its key is here, and says no.
    Refused(TokenError),
    /// A key that is not here may have signed it.
    UnknownKey,
}

impl KeySet {
    /// Reads a JWKS (RFC 7517, 5). Keys that cannot verify tokens are passed over, as they must be.
    pub fn from_jwks(json: &[u8]) -> Result<Self, KeySetError> {
        #[derive(Deserialize)]
        struct Jwks {
            keys: Vec<serde_json::Value>,
        }
        nas_cron_jwt::install();
        let jwks: Jwks = serde_json::from_slice(json).map_err(KeySetError::NotJwks)?;
        Self::usable(jwks.keys.into_iter().map(|jwk| {
            let jwk: Jwk = serde_json::from_value(jwk).map_err(|_| Unusable::NotJwk)?;
            VerificationKey::from_jwk(jwk)
        }))
    }

    /// Reads what an operator pins: a JWKS, or PEM with one or several public keys. Those have no `kid`, so
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
                    tracing::debug!(%why, "a key of the portal is passed over: it");
                    last = Some(why);
                }
            }
        }
        if keys.is_empty() {
            return Err(KeySetError::NoneUsable(last));
        }
        keys.truncate(MAX_KEYS);
        Ok(Self { keys })
    }

    /// How many keys there are.
    pub fn len(&self) -> usize {
        self.keys.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.keys.is_empty()
    }

    /// Asks the keys that may have signed it: those of its `kid` and those without one, or all of them where
    /// it names none.
    pub(super) fn verify(&self, token: &Presented<'_>) -> Result<AccessClaims, NotVerified> {
        let mut refusal = None;
        for key in &self.keys {
            let named = token.kid.is_some() && key.kid == token.kid;
            if !named && token.kid.is_some() && key.kid.is_some() {
                continue;
            }
            let fits = key.algorithms.contains(&token.algorithm);
            if fits && key.signed(token) {
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

    /// `SubjectPublicKeyInfo` (RFC 5280, 4.1.2.7), as in `-----BEGIN PUBLIC KEY-----`.
    fn from_spki(der: &[u8]) -> Result<Self, Unusable> {
        let spki = SubjectPublicKeyInfoRef::try_from(der).map_err(|_| Unusable::Malformed)?;
        let key = spki.subject_public_key.as_bytes().ok_or(Unusable::Malformed)?;
        let (key, algorithms) = match (spki.algorithm.oid, key.len()) {
            // A sequence of the modulus and the exponent: never shorter than the modulus.
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

/// A `Base64urlUInt` (RFC 7518, 2). Some portals prepend a zero byte, which *ring* would refuse.
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
                    // What the JWK type itself cannot read is not a JWK to us.
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
    fn garbage_is_no_key_set() {
        for text in ["", "{}", "[]", "null", "<html>", r#"{"keys":{}}"#, r#"{"keys":[]}"#, r#"{"keys":[{}]}"#]
        {
            assert!(KeySet::from_jwks(text.as_bytes()).is_err(), "{text}");
        }
    }

    #[test]
    fn an_rsa_key_with_a_leading_zero_or_without_alg_is_one_all_the_same() {
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
    fn two_keys_of_one_name_are_both_tried() {
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
        assert!(KeySet::from_pinned(&jwks([&rsa])).is_ok(), "a JWKS can be pinned, too");
    }

    #[test]
    fn an_unusable_pinned_key_is_refused_with_the_reason() {
        let ec = Signing::es256("k");
        let told = |text: &str| KeySet::from_pinned(text.as_bytes()).unwrap_err().to_string();
        assert!(told(&pem("PRIVATE KEY", ec.key.as_bytes())).contains("private key"));
        assert!(told("hello").contains("neither a JWKS nor PEM"));
        assert!(told(&pem("CERTIFICATE", b"x")).contains("neither a JWKS nor PEM"));
        assert!(told(&pem("PUBLIC KEY", b"x")).contains("malformed"));
        assert!(told(r#"{"keys":[]}"#).contains("none of its keys"));
    }
}
