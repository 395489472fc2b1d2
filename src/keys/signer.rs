//! Signers. A key is parsed once, because parsing costs more than an ES256 signature and every fire signs one token.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::rsa::PublicKeyComponents;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _, RSA_PKCS1_SHA256, RsaKeyPair,
};
use rsa::pkcs8::EncodePrivateKey as _;
use secrecy::{ExposeSecret, SecretSlice, SecretString};
use serde_json::{Value, json};

use super::pem::{self, PemError};
use crate::domain::SigningAlg;

const RSA_BITS: usize = 2048;

/// A private key as PKCS#8 DER, the form in which keys are generated, imported and stored. `Debug` shows no key.
#[derive(Debug)]
pub struct PrivateKey {
    alg: SigningAlg,
    pkcs8: SecretSlice<u8>,
}

/// Reasons for which a key could not be generated or used.
#[derive(Debug, thiserror::Error)]
pub enum SignerError {
    /// ring rejected the key: it is damaged or has an unsupported size.
    #[error("unusable {alg} key: {reason}")]
    Rejected {
        /// The expected algorithm.
        alg: SigningAlg,
        /// ring's error text.
        reason: String,
    },
    /// Key generation failed for lack of random bytes.
    #[error("generating a key for {0} failed: the operating system returned no random bytes")]
    Generate(SigningAlg),
    /// Signing failed for lack of random bytes.
    #[error("signing with key `{0}` failed: the operating system returned no random bytes")]
    Sign(String),
}

impl PrivateKey {
    /// Generates a key: P-256 with ring, or RSA of 2048 bits with the `rsa` crate, because ring generates no RSA keys. RSA
    /// takes up to seconds of one core, so call this where blocking is allowed.
    pub fn generate(alg: SigningAlg) -> Result<Self, SignerError> {
        let failed = || SignerError::Generate(alg);
        let pkcs8 = match alg {
            SigningAlg::Es256 => {
                let document =
                    EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                        .map_err(|_| failed())?;
                SecretSlice::from(Box::<[u8]>::from(document.as_ref()))
            }
            SigningAlg::Rs256 => {
                let key =
                    rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, RSA_BITS).map_err(|_| failed())?;
                let document = key.to_pkcs8_der().map_err(|_| failed())?;
                SecretSlice::from(Box::<[u8]>::from(document.as_bytes()))
            }
        };
        Ok(Self { alg, pkcs8 })
    }

    /// Parses an unencrypted PEM: PKCS#8, PKCS#1 (RSA) or SEC1 (EC).
    pub fn from_pem(pem: &[u8]) -> Result<Self, PemError> {
        let (alg, pkcs8) = pem::parse(pem)?;
        Ok(Self { alg, pkcs8 })
    }

    /// Returns the key for DER from [`Self::pkcs8`].
    pub fn from_pkcs8(alg: SigningAlg, pkcs8: SecretSlice<u8>) -> Self {
        Self { alg, pkcs8 }
    }

    /// Returns the DER.
    pub fn pkcs8(&self) -> &SecretSlice<u8> {
        &self.pkcs8
    }

    /// Returns the algorithm.
    pub fn alg(&self) -> SigningAlg {
        self.alg
    }
}

#[derive(Debug)]
enum KeyPair {
    Es256(Box<EcdsaKeyPair>),
    Rs256(Box<RsaKeyPair>),
}

/// Signs tokens with one key. `Debug` shows only the public half.
#[derive(Debug)]
pub struct Signer {
    kid: String,
    alg: SigningAlg,
    pair: KeyPair,
    header: String,
}

impl Signer {
    /// Parses `key`. Without a `kid`, its RFC 7638 thumbprint (SHA-256) is the `kid`.
    pub fn new(key: &PrivateKey, kid: Option<String>) -> Result<Self, SignerError> {
        let rejected = |error: ring::error::KeyRejected| SignerError::Rejected {
            alg: key.alg,
            reason: error.to_string(),
        };
        let der = key.pkcs8.expose_secret();
        let pair = match key.alg {
            SigningAlg::Es256 => KeyPair::Es256(Box::new(
                EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &SystemRandom::new())
                    .map_err(rejected)?,
            )),
            SigningAlg::Rs256 => KeyPair::Rs256(Box::new(RsaKeyPair::from_pkcs8(der).map_err(rejected)?)),
        };
        let kid = kid.unwrap_or_else(|| thumbprint(&pair));
        let header = json!({ "alg": key.alg, "typ": "JWT", "kid": kid }).to_string();
        Ok(Self { header: URL_SAFE_NO_PAD.encode(header), kid, alg: key.alg, pair })
    }

    /// Returns the `kid`.
    pub fn kid(&self) -> &str {
        &self.kid
    }

    /// Returns the algorithm.
    pub fn alg(&self) -> SigningAlg {
        self.alg
    }

    /// Returns the public half as published (RFC 7517, RFC 7518 section 6).
    pub fn public_jwk(&self) -> Value {
        let mut jwk = public_members(&self.pair);
        jwk["use"] = json!("sig");
        jwk["alg"] = json!(self.alg);
        jwk["kid"] = json!(self.kid);
        jwk
    }

    /// Returns a signed JWT with these claims (JSON), in the compact form of RFC 7515.
    pub(super) fn token(&self, claims: &[u8]) -> Result<SecretString, SignerError> {
        let mut token = String::with_capacity(self.header.len() + claims.len() * 4 / 3 + 352);
        token.push_str(&self.header);
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(claims, &mut token);
        let signature = self.sign(token.as_bytes())?;
        token.push('.');
        URL_SAFE_NO_PAD.encode_string(signature, &mut token);
        Ok(token.into())
    }

    /// Returns a signature in the format of JWS: R and S concatenated for ES256 (RFC 7518, 3.4), PKCS#1 v1.5 for RS256.
    pub fn sign(&self, message: &[u8]) -> Result<Vec<u8>, SignerError> {
        let failed = |_| SignerError::Sign(self.kid.clone());
        let random = SystemRandom::new();
        match &self.pair {
            KeyPair::Es256(pair) => {
                pair.sign(&random, message).map(|signature| signature.as_ref().to_vec()).map_err(failed)
            }
            KeyPair::Rs256(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).map_err(failed)?;
                Ok(signature)
            }
        }
    }
}

/// Returns the required members of the public JWK, which RFC 7638 (3.2) digests.
fn public_members(pair: &KeyPair) -> Value {
    let encode = |bytes: &[u8]| URL_SAFE_NO_PAD.encode(bytes);
    match pair {
        KeyPair::Es256(pair) => {
            // An uncompressed point: 0x04, then x and y of 32 bytes each.
            let point = &pair.public_key().as_ref()[1..];
            let (x, y) = point.split_at(point.len() / 2);
            json!({ "crv": "P-256", "kty": "EC", "x": encode(x), "y": encode(y) })
        }
        KeyPair::Rs256(pair) => {
            let public = PublicKeyComponents::<Vec<u8>>::from(pair.public());
            json!({ "e": encode(&public.e), "kty": "RSA", "n": encode(&public.n) })
        }
    }
}

/// Returns the RFC 7638 thumbprint: SHA-256 over the required members, in lexical order and without white space.
fn thumbprint(pair: &KeyPair) -> String {
    let members = public_members(pair);
    let of = |name: &str| members[name].as_str().unwrap_or_default();
    let canonical = match pair {
        KeyPair::Es256(_) => {
            format!(r#"{{"crv":"P-256","kty":"EC","x":"{}","y":"{}"}}"#, of("x"), of("y"))
        }
        KeyPair::Rs256(_) => format!(r#"{{"e":"{}","kty":"RSA","n":"{}"}}"#, of("e"), of("n")),
    };
    URL_SAFE_NO_PAD.encode(ring::digest::digest(&ring::digest::SHA256, canonical.as_bytes()))
}

/// Returns true if two JWKs contain the same public key; `kid` and `use` may differ.
pub fn same_public_key(one: &Value, other: &Value) -> bool {
    let same = |name: &str| one.get(name).is_some() && one.get(name) == other.get(name);
    same("kty") && (same("n") && same("e") || same("crv") && same("x") && same("y"))
}
