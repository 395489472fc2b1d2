//! A portal: it issues access tokens and publishes the key that verifies them.

use std::net::SocketAddr;

use axum::{Json, Router, routing};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};

/// Its issuer: nobody listens there, only the name counts.
pub const PORTAL_URL: &str = "https://portal.test";

/// A running portal.
pub struct Portal {
    key: EcdsaKeyPair,
    kid: String,
    address: SocketAddr,
}

impl Portal {
    /// Starts one with a fresh ES256 key.
    pub async fn start() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let point = key.public_key().as_ref();
        let kid = format!("portal-{}", URL_SAFE_NO_PAD.encode(&point[1..9]));
        let jwks = json!({"keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": kid,
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
        }]});
        let router = Router::new().route("/jwks.json", routing::get(async move || Json(jwks)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { key, kid, address }
    }

    /// Where its keys are.
    pub fn jwks_url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    /// Signs `claims` on top of what every token has: issuer, a fresh `iat`, an hour to live. `null` removes one.
    pub fn sign(&self, claims: Value) -> String {
        let now = chrono::DateTime::<chrono::Utc>::from(
            std::time::SystemTime::UNIX_EPOCH + std::time::UNIX_EPOCH.elapsed().unwrap(),
        )
        .timestamp();
        let mut all = json!({"iss": PORTAL_URL, "sub": "user-1", "aud": "hermes-cli-vps", "iat": now, "exp": now + 3600});
        for (name, value) in claims.as_object().unwrap() {
            if value.is_null() {
                all.as_object_mut().unwrap().remove(name);
            } else {
                all[name] = value.clone();
            }
        }
        let header = json!({"alg": "ES256", "typ": "JWT", "kid": self.kid});
        let encode = |value: &Value| URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).unwrap());
        let message = format!("{}.{}", encode(&header), encode(&all));
        let signature = self.key.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    /// What a hosted agent calls with: its bootstrap session's token.
    pub fn session_token(&self, org_id: &str, sid: &str) -> String {
        self.sign(json!({"client_id": "hermes-cli-vps", "org_id": org_id, "sid": sid}))
    }

    /// What the dashboard and self-hosters call with.
    pub fn client_token(&self, org_id: &str, instance_id: &str) -> String {
        self.sign(json!({"client_id": format!("agent:{instance_id}"), "org_id": org_id}))
    }
}
