//! The development portal: issues access tokens as a real portal does, and publishes their keys.
//!
//! Its base URL is the service's, because agents have one setting, `portal_url`, for the base URL of the agent API and
//! for `iss` (docs/clients.md#consequences-for-a-server, 10). It issues no tokens over HTTP, but only to processes that
//! can read its key file.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow};
use axum::Router;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE};
use axum::routing::get;
use bytes::Bytes;
use jsonwebtoken::jwk::{Jwk, JwkSet, PublicKeyUse, ThumbprintHash};
use jsonwebtoken::{Algorithm, EncodingKey, Header};
use nas_cron_base::clock::Clock;
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair};
use secrecy::SecretString;
use serde::Serialize;

use super::dir;

/// Path of its JWKS. The service uses the well-known path on the same host.
pub(super) const JWKS_PATH: &str = "/dev/portal/jwks.json";

/// The identity that a token is issued to.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bearer<'a> {
    /// Client id, which is also the audience.
    pub(crate) client_id: &'a str,
    /// Bootstrap session, if the token belongs to one.
    pub(crate) sid: Option<&'a str>,
    /// Organisation.
    pub(crate) org_id: &'a str,
}

/// The portal of one development folder.
pub(crate) struct DevPortal {
    issuer: String,
    key: EncodingKey,
    jwk: Jwk,
    kid: String,
    clock: Arc<dyn Clock>,
}

#[derive(Serialize)]
struct AccessClaims<'a> {
    iss: &'a str,
    aud: &'a str,
    sub: &'static str,
    org_id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    sid: Option<&'a str>,
    client_id: &'a str,
    scope: &'static str,
    iat: i64,
    exp: i64,
}

impl DevPortal {
    /// Opens the portal with the key in this file. A missing file is created with a new key.
    pub(crate) fn keep(key_file: &Path, issuer: String, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let key = dir::kept(key_file, || {
            let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &SystemRandom::new())
                .map_err(|_| {
                    anyhow!("generating the portal's key failed: the system returned no random numbers")
                })?;
            Ok(key.as_ref().to_vec())
        })?;
        Self::of(&key, issuer, clock).with_context(|| invalid_key(key_file))
    }

    /// Opens the portal with the key in this file, which must exist.
    pub(crate) fn open(key_file: &Path, issuer: String, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        let key = std::fs::read(key_file)
            .with_context(|| format!("could not read the development portal's key {}", key_file.display()))?;
        Self::of(&key, issuer, clock).with_context(|| invalid_key(key_file))
    }

    fn of(pkcs8: &[u8], issuer: String, clock: Arc<dyn Clock>) -> anyhow::Result<Self> {
        nas_cron_jwt::install();
        let key = EncodingKey::from_ec_der(pkcs8);
        let mut jwk = Jwk::from_encoding_key(&key, Algorithm::ES256)?;
        let kid = jwk.thumbprint(ThumbprintHash::SHA256)?;
        jwk.common.key_id = Some(kid.clone());
        jwk.common.public_key_use = Some(PublicKeyUse::Signature);
        Ok(Self { issuer, key, jwk, kid, clock })
    }

    /// Returns the route of its JWKS, which the service serves.
    pub(super) fn router(&self) -> Router {
        let jwks = JwkSet { keys: vec![self.jwk.clone()] };
        let json = Bytes::from(serde_json::to_vec(&jwks).expect("a JWKS is plain data"));
        let headers = [(CONTENT_TYPE, "application/json"), (CACHE_CONTROL, "public, max-age=300")];
        Router::new().route(JWKS_PATH, get(move || async move { (headers, json) }))
    }

    /// Issues a token with the claims of a real portal that expires after `ttl` (whole seconds).
    pub(crate) fn issue_token(&self, bearer: Bearer<'_>, ttl: Duration) -> anyhow::Result<SecretString> {
        let iat = self.clock.now().timestamp();
        let ttl = i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX);
        let claims = AccessClaims {
            iss: &self.issuer,
            aud: bearer.client_id,
            sub: "dev-user",
            org_id: bearer.org_id,
            sid: bearer.sid,
            client_id: bearer.client_id,
            scope: "agent_cron",
            iat,
            exp: iat.saturating_add(ttl),
        };
        let header = Header { kid: Some(self.kid.clone()), ..Header::new(Algorithm::ES256) };
        let token = jsonwebtoken::encode(&header, &claims, &self.key).context("signing the token failed")?;
        Ok(token.into())
    }
}

fn invalid_key(key_file: &Path) -> String {
    format!(
        "{} is not an ES256 key in PKCS#8; remove it, and `nas-cron dev` creates a new one",
        key_file.display()
    )
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use jsonwebtoken::{DecodingKey, Validation};
    use nas_cron_base::clock::SystemClock;
    use nas_cron_protocol::HOSTED_CLIENT;
    use secrecy::ExposeSecret;
    use serde_json::{Value, json};
    use tower::ServiceExt;

    use super::super::dir::tests::Scratch;
    use super::*;

    fn portal(scratch: &Scratch) -> DevPortal {
        let file = scratch.dir().portal_key();
        DevPortal::keep(&file, "http://127.0.0.1:8090".into(), Arc::new(SystemClock)).unwrap()
    }

    async fn published(portal: &DevPortal) -> Vec<u8> {
        let request = axum::http::Request::get(JWKS_PATH).body(axum::body::Body::empty()).unwrap();
        let response = portal.router().oneshot(request).await.unwrap();
        assert_eq!(response.status(), 200);
        assert_eq!(response.headers()["content-type"], "application/json");
        axum::body::to_bytes(response.into_body(), 65_536).await.unwrap().to_vec()
    }

    #[tokio::test]
    async fn issued_tokens_verify_with_the_published_keys() {
        let scratch = Scratch::new();
        let portal = portal(&scratch);
        let jwks: JwkSet = serde_json::from_slice(&published(&portal).await).unwrap();
        let bearer = Bearer { client_id: HOSTED_CLIENT, sid: Some("s1"), org_id: "o1" };
        let token = portal.issue_token(bearer, Duration::from_mins(1)).unwrap();
        let token = token.expose_secret();
        let kid = jsonwebtoken::decode_header(token).unwrap().kid.unwrap();
        let key = DecodingKey::from_jwk(jwks.find(&kid).unwrap()).unwrap();
        let mut rules = Validation::new(Algorithm::ES256);
        rules.set_issuer(&["http://127.0.0.1:8090"]);
        rules.set_audience(&[HOSTED_CLIENT]);
        let claims = jsonwebtoken::decode::<Value>(token, &key, &rules).unwrap().claims;
        assert_eq!(claims["client_id"], HOSTED_CLIENT);
        assert_eq!(claims["sid"], "s1");
        assert_eq!(claims["org_id"], "o1");
    }

    #[test]
    fn claims_are_those_of_a_real_portal() {
        let scratch = Scratch::new();
        let portal = portal(&scratch);
        let claims = |bearer| -> Value {
            let token = portal.issue_token(bearer, Duration::from_hours(1)).unwrap();
            let mut claims: Value =
                jsonwebtoken::dangerous::insecure_decode_claims(token.expose_secret()).unwrap();
            let iat = claims["iat"].as_i64().unwrap();
            assert_eq!(claims["exp"], iat + 3600);
            claims.as_object_mut().unwrap().retain(|name, _| name != "iat" && name != "exp");
            claims
        };
        assert_eq!(
            claims(Bearer { client_id: "agent:a1", sid: None, org_id: "o1" }),
            json!({
                "iss": "http://127.0.0.1:8090", "aud": "agent:a1", "client_id": "agent:a1", "sub": "dev-user",
                "org_id": "o1", "scope": "agent_cron",
            })
        );
        assert_eq!(claims(Bearer { client_id: "c", sid: Some("s"), org_id: "o1" })["sid"], "s");
    }

    #[tokio::test]
    async fn key_is_kept_and_private() {
        let scratch = Scratch::new();
        let file = scratch.dir().portal_key();
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        assert!(DevPortal::open(&file, "http://p".into(), Arc::clone(&clock)).is_err());
        let made = published(&portal(&scratch)).await;
        let again = DevPortal::open(&file, "http://p".into(), Arc::clone(&clock)).unwrap();
        assert_eq!(published(&again).await, made);
        assert_eq!(std::fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
        std::fs::write(&file, "no key").unwrap();
        let error = format!("{:#}", DevPortal::open(&file, "http://p".into(), clock).err().unwrap());
        assert!(error.contains("remove it"), "{error}");
    }
}
