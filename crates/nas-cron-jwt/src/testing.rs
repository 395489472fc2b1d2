//! Signing keys, JWKS and tokens of a portal, for tests.

use std::sync::LazyLock;

use jsonwebtoken::jwk::{Jwk, PublicKeyUse};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use ring::rand::SystemRandom;
use rsa::pkcs1::EncodeRsaPrivateKey;
use serde_json::{Value, json};

/// A key pair that signs as a portal would.
#[derive(Clone)]
pub struct Signing {
    /// Algorithm of the key.
    pub algorithm: Algorithm,
    /// Key ID in the header and in the JWK.
    pub kid: Option<String>,
    /// The private half.
    pub key: EncodingKey,
}

impl Signing {
    /// Generates an ECDSA key on P-256.
    pub fn es256(kid: &str) -> Self {
        let algorithm = &ring::signature::ECDSA_P256_SHA256_FIXED_SIGNING;
        let pkcs8 = ring::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        Self::of(Algorithm::ES256, kid, EncodingKey::from_ec_der(pkcs8.as_ref()))
    }

    /// Generates an ECDSA key on P-384.
    pub fn es384(kid: &str) -> Self {
        let algorithm = &ring::signature::ECDSA_P384_SHA384_FIXED_SIGNING;
        let pkcs8 = ring::signature::EcdsaKeyPair::generate_pkcs8(algorithm, &SystemRandom::new()).unwrap();
        Self::of(Algorithm::ES384, kid, EncodingKey::from_ec_der(pkcs8.as_ref()))
    }

    /// Generates an Ed25519 key.
    pub fn eddsa(kid: &str) -> Self {
        // PKCS#8 version 1, as OpenSSL writes it: `jsonwebtoken` can make a JWK from it.
        let mut pkcs8 = hex::decode("302e020100300506032b657004220420").unwrap();
        pkcs8.extend_from_slice(&ring::rand::generate::<[u8; 32]>(&SystemRandom::new()).unwrap().expose());
        Self::of(Algorithm::EdDSA, kid, EncodingKey::from_ed_der(&pkcs8))
    }

    /// Returns the RSA key. All RSA keys share one key pair, because generating one is slow.
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

    /// Returns the public half as a JWK.
    pub fn jwk(&self) -> Jwk {
        let mut jwk = Jwk::from_encoding_key(&self.key, self.algorithm).unwrap();
        jwk.common.key_id.clone_from(&self.kid);
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        jwk
    }

    /// Signs a token with these claims.
    pub fn sign(&self, claims: &Value) -> String {
        let mut header = Header::new(self.algorithm);
        header.kid.clone_from(&self.kid);
        jsonwebtoken::encode(&header, claims, &self.key).unwrap()
    }

    /// Signs a token with this header. The signature always uses the key's algorithm, whatever `alg` the header has.
    pub fn sign_with_header(&self, header: &Value, claims: &Value) -> String {
        self.sign_bytes(header.to_string().as_bytes(), claims.to_string().as_bytes())
    }

    /// Signs a header and claims that need not be JSON.
    pub fn sign_bytes(&self, header: &[u8], claims: &[u8]) -> String {
        use base64::Engine;
        let part = |bytes: &[u8]| base64::engine::general_purpose::URL_SAFE_NO_PAD.encode(bytes);
        let message = format!("{}.{}", part(header), part(claims));
        let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &self.key, self.algorithm).unwrap();
        format!("{message}.{signature}")
    }
}

/// Returns the JWK Set of these keys.
pub fn jwks<'a>(keys: impl IntoIterator<Item = &'a Signing>) -> Vec<u8> {
    let keys: Vec<_> = keys.into_iter().map(Signing::jwk).collect();
    json!({ "keys": keys }).to_string().into_bytes()
}
