//! Keys and tokens for tests: a portal in a few lines.

use std::sync::LazyLock;

use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::rand::SystemRandom;
use rsa::pkcs1::EncodeRsaPrivateKey;
use serde_json::{Value, json};

/// A key pair that signs as a portal would.
#[derive(Clone)]
pub struct Signing {
    /// The algorithm that the key is for.
    pub algorithm: Algorithm,
    /// Goes into the header, and into the JWK.
    pub kid: Option<String>,
    /// The private half.
    pub key: EncodingKey,
}

impl Signing {
    /// ECDSA on P-256.
    pub fn es256(kid: &str) -> Self {
        let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = ring::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        Self::of(Algorithm::ES256, kid, EncodingKey::from_ec_der(pkcs8.as_ref()))
    }

    /// ECDSA on P-384.
    pub fn es384(kid: &str) -> Self {
        let algorithm = &ring::signature::ECDSA_P384_SHA384_FIXED_SIGNING;
        let pkcs8 = ring::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        Self::of(Algorithm::ES384, kid, EncodingKey::from_ec_der(pkcs8.as_ref()))
    }

    /// Ed25519.
    pub fn eddsa(kid: &str) -> Self {
        // PKCS#8 version 1, as OpenSSL writes it: what `jsonwebtoken` can make a JWK of.
        let mut pkcs8 = hex::decode("302e020100300506032b657004220420").unwrap();
        pkcs8.extend_from_slice(&ring::rand::generate::<[u8; 32]>(&SystemRandom::new()).unwrap().expose());
        Self::of(Algorithm::EdDSA, kid, EncodingKey::from_ed_der(&pkcs8))
    }

    /// All RSA keys here are one key: making one takes a while.
    pub fn rsa(algorithm: Algorithm, kid: &str) -> Self {
        static DER: LazyLock<Vec<u8>> = LazyLock::new(|| {
            let key = rsa::RsaPrivateKey::new(&mut rsa::rand_core::OsRng, 2048).unwrap();
            key.to_pkcs1_der().unwrap().as_bytes().to_vec()
        });
        Self::of(algorithm, kid, EncodingKey::from_rsa_der(&DER))
    }

    fn of(algorithm: Algorithm, kid: &str, key: EncodingKey) -> Self {
        crate::install();
        Self { algorithm, kid: Some(kid.to_owned()), key }
    }

    /// The public half.
    pub fn jwk(&self) -> Jwk {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id.clone_from(&self.kid);
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        jwk
    }

    /// A token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid.clone_from(&self.kid);
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }

    /// With a header of one's own: `alg` stays what the key can do.
    pub fn sign_with_header(&self, header: &Value, claims: &Value) -> String {
        use base64::Engine;
        let part = |value: &Value| {
            base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(value.to_string().as_bytes())
        };
        let message = format!("{}.{}", part(header), part(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

/// A JWK Set of these keys.
pub fn jwks<'a>(keys: impl IntoIterator<Item = &'a Signing>) -> Vec<u8> {
    let keys: Vec<_> = keys.into_iter().map(Signing::jwk).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}
