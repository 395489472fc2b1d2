//! A portal that issues access tokens and publishes its keys.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use axum::extract::State;
use axum::{Json, Router, routing};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;

use crate::time::now;

/// Its issuer. The name is only compared; no server listens there.
pub const PORTAL_URL: &str = "https://portal.test";

/// A running portal.
pub struct Portal {
    published: Arc<Published>,
    address: SocketAddr,
    server: Mutex<JoinHandle<()>>,
}

/// The state of its JWKS endpoint. The last key signs.
struct Published {
    keys: Mutex<Vec<Key>>,
    fetches: AtomicUsize,
}

struct Key {
    pair: EcdsaKeyPair,
    kid: String,
}

impl Key {
    fn fresh() -> Self {
        let random = SystemRandom::new();
        let pkcs8 = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let pair =
            EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, pkcs8.as_ref(), &random).unwrap();
        let kid = format!("portal-{}", URL_SAFE_NO_PAD.encode(&pair.public_key().as_ref()[1..9]));
        Self { pair, kid }
    }

    fn jwk(&self) -> Value {
        let point = self.pair.public_key().as_ref();
        json!({
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": self.kid,
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
        })
    }
}

impl Portal {
    /// Starts a portal with a new ES256 key.
    pub async fn start() -> Self {
        let published =
            Arc::new(Published { keys: Mutex::new(vec![Key::fresh()]), fetches: AtomicUsize::new(0) });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let server = Mutex::new(serve(listener, &published));
        Self { published, address, server }
    }

    /// Returns its JWKS URL.
    pub fn jwks_url(&self) -> String {
        format!("http://{}/jwks.json", self.address)
    }

    /// Returns its JWKS.
    pub fn jwks(&self) -> Value {
        self.published.jwks()
    }

    /// Returns the number of fetches of its JWKS.
    pub fn fetches(&self) -> usize {
        self.published.fetches.load(Ordering::SeqCst)
    }

    /// Adds a new key, which is published at once and signs from now on.
    pub fn rotate(&self) {
        self.published.keys.lock().unwrap().push(Key::fresh());
    }

    /// Stops listening: connections are refused when this returns.
    pub async fn leave(&self) {
        let server = std::mem::replace(&mut *self.server.lock().unwrap(), tokio::spawn(async {}));
        server.abort();
        let _ = server.await;
    }

    /// Listens again on its address.
    pub async fn come_back(&self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        *self.server.lock().unwrap() = serve(listener, &self.published);
    }

    /// Returns the header of its tokens: the algorithm, and the `kid` of the signing key.
    pub fn header(&self) -> Value {
        json!({"alg": "ES256", "typ": "JWT", "kid": self.published.keys.lock().unwrap().last().unwrap().kid})
    }

    /// Signs a token with default claims (issuer, current `iat`, a lifetime of an hour), overridden by `claims`. `null`
    /// removes a claim.
    #[expect(clippy::needless_pass_by_value, reason = "callers write the claims in place")]
    pub fn sign(&self, claims: Value) -> String {
        self.sign_as_is(&self.header(), &all_claims(&claims))
    }

    /// Signs exactly this header and these claims.
    pub fn sign_as_is(&self, header: &Value, claims: &Value) -> String {
        self.sign_bytes(&serde_json::to_vec(header).unwrap(), &serde_json::to_vec(claims).unwrap())
    }

    /// Signs a header and claims that need not be JSON.
    pub fn sign_bytes(&self, header: &[u8], claims: &[u8]) -> String {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let keys = self.published.keys.lock().unwrap();
        let signature = keys.last().unwrap().pair.sign(&SystemRandom::new(), message.as_bytes()).unwrap();
        format!("{message}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }

    /// Returns the token of a hosted agent, from its bootstrap session.
    pub fn session_token(&self, org_id: &str, sid: &str) -> String {
        self.sign(json!({"client_id": "hermes-cli-vps", "org_id": org_id, "sid": sid}))
    }

    /// Returns the token of the dashboard or a self-hosted agent.
    pub fn client_token(&self, org_id: &str, instance_id: &str) -> String {
        self.sign(json!({"client_id": format!("agent:{instance_id}"), "org_id": org_id}))
    }
}

impl Published {
    fn jwks(&self) -> Value {
        let keys: Vec<_> = self.keys.lock().unwrap().iter().map(Key::jwk).collect();
        json!({ "keys": keys })
    }
}

/// Returns the default claims with a lifetime of an hour, overridden by `changes`. `null` removes a claim.
pub fn all_claims(changes: &Value) -> Value {
    let now = now().timestamp();
    let mut all =
        json!({"iss": PORTAL_URL, "sub": "user-1", "aud": "hermes-cli-vps", "iat": now, "exp": now + 3600});
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            all.as_object_mut().unwrap().remove(name);
        } else {
            all[name] = value.clone();
        }
    }
    all
}

/// Returns the signed part of a JWT: header and claims.
pub fn unsigned(header: &Value, claims: &Value) -> String {
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(serde_json::to_vec(value).unwrap());
    format!("{}.{}", encode(header), encode(claims))
}

fn serve(listener: TcpListener, published: &Arc<Published>) -> JoinHandle<()> {
    let jwks = async |State(published): State<Arc<Published>>| {
        published.fetches.fetch_add(1, Ordering::SeqCst);
        Json(published.jwks())
    };
    let router = Router::new().route("/jwks.json", routing::get(jwks)).with_state(Arc::clone(published));
    tokio::spawn(async move { axum::serve(listener, router).await.unwrap() })
}
