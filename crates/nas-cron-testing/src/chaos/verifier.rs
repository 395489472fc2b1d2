//! Verifies fire tokens as an agent does: with the service's JWKS, which it caches and fetches again when a token names an
//! unknown key.

use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use parking_lot::RwLock;
use serde_json::Value;
use tokio::sync::Mutex;
use tokio::time::Instant;

use super::balancer::Balancer;
use crate::jwt::try_verify;

/// Time for which an agent uses a key set without fetching it again.
const CACHED_FOR: Duration = Duration::from_mins(5);

/// A reason to reject a token.
pub(super) enum Rejection {
    /// The key set lacks the key with this ID, also after a fetch, or could not be fetched.
    UnknownKey(String),
    /// The token or its signature is invalid.
    Invalid(String),
}

/// A key set, and the time at which its fetch began.
struct KeySet {
    jwks: Value,
    fetched: Instant,
}

/// A verifier that all agents share.
pub(super) struct Verifier {
    balancer: Arc<Balancer>,
    keys: RwLock<Option<Arc<KeySet>>>,
    /// Serialises fetches.
    fetching: Mutex<()>,
}

impl Verifier {
    /// Returns a verifier with the present key set.
    pub(super) async fn new(balancer: Arc<Balancer>) -> Self {
        let verifier = Self { balancer, keys: RwLock::default(), fetching: Mutex::default() };
        verifier.fetch(Instant::now()).await;
        verifier
    }

    /// Verifies the signature of a bearer token, and returns the claims.
    pub(super) async fn verify(&self, headers: &HeaderMap) -> Result<Value, Rejection> {
        let arrived = Instant::now();
        let token =
            headers.get("authorization").and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        let token = token.ok_or_else(|| Rejection::Invalid("no token".to_owned()))?;
        let kid = kid(token).ok_or_else(|| Rejection::Invalid("a token without a key ID".to_owned()))?;
        let known = |keys: &KeySet| {
            keys.jwks["keys"].as_array().is_some_and(|keys| keys.iter().any(|key| key["kid"] == *kid))
        };
        let mut keys = self.keys();
        if !keys.as_ref().is_some_and(|keys| known(keys) && keys.fetched.elapsed() < CACHED_FOR) {
            self.fetch(arrived).await;
            keys = self.keys();
        }
        match keys {
            Some(keys) if known(&keys) => {
                try_verify(token, &keys.jwks).map(|(_, claims)| claims).map_err(Rejection::Invalid)
            }
            _ => Err(Rejection::UnknownKey(kid)),
        }
    }

    fn keys(&self) -> Option<Arc<KeySet>> {
        self.keys.read().clone()
    }

    /// Fetches the key set, unless a fetch has begun after `since`. Keeps the present one if that fails.
    async fn fetch(&self, since: Instant) {
        let _turn = self.fetching.lock().await;
        if self.keys().is_some_and(|keys| keys.fetched >= since) {
            return;
        }
        let fetched = Instant::now();
        if let Some(jwks) = self.balancer.jwks().await {
            *self.keys.write() = Some(Arc::new(KeySet { jwks, fetched }));
        }
    }
}

/// Returns the key ID of a token's header.
fn kid(token: &str) -> Option<String> {
    let header = URL_SAFE_NO_PAD.decode(token.split('.').next()?).ok()?;
    Some(serde_json::from_slice::<Value>(&header).ok()?["kid"].as_str()?.to_owned())
}
