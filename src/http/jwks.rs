//! `GET /.well-known/jwks.json`, and the same set at `/api/agent-cron/jwks.json`, because on the portal's host the
//! well-known path belongs to the portal.
//!
//! Many agents fetch the set in the same second, while they handle a fire that the service waits for. The response
//! therefore comes from memory and does not need the database.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use super::{ApiError, Problem};
use crate::keys::KeyRing;

/// Key rotation relies on this `max-age` of 300 s.
const CACHED: &str = "public, max-age=300";

/// `Retry-After` until the keys are loaded.
const RETRY_LOADING: Duration = Duration::from_secs(1);

/// Returns the routes of both paths, served from `ring`.
pub fn router<S: Clone + Send + Sync + 'static>(ring: Arc<KeyRing>) -> OpenApiRouter<S> {
    OpenApiRouter::new().routes(on_portal_host(routes!(jwks))).routes(routes!(jwks)).with_state(ring)
}

/// The same route, documented under the path that the portal's host routes to the service.
fn on_portal_host<S>((schemas, mut paths, methods): UtoipaMethodRouter<S>) -> UtoipaMethodRouter<S> {
    let path = "/api/agent-cron/jwks.json";
    paths.paths = std::mem::take(&mut paths.paths)
        .into_values()
        .map(|mut item| {
            if let Some(get) = &mut item.get {
                get.operation_id = Some("agent_cron_jwks".to_owned());
                get.summary = Some(
                    "Get the public keys that verify fire tokens, at the path that the portal's host routes to the service"
                        .to_owned(),
                );
            }
            (path.to_owned(), item)
        })
        .collect();
    (schemas, paths, methods)
}

/// A JWK Set (RFC 7517).
#[derive(utoipa::ToSchema)]
#[expect(dead_code, reason = "documents what `crate::keys` builds")]
struct JwkSet {
    /// Next, active and retired keys, in the order of their publication.
    keys: Vec<Jwk>,
}

/// A public key: of the curve P-256 (`crv`, `x`, `y`), or RSA (`n`, `e`).
#[derive(utoipa::ToSchema)]
#[schema(example = json!({
    "kty": "EC", "alg": "ES256", "use": "sig", "kid": "Q3Vyd2VkIGtleQ", "crv": "P-256",
    "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU", "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0",
}))]
#[expect(dead_code, reason = "documents what `crate::keys` builds")]
struct Jwk {
    /// `EC` or `RSA`.
    kty: String,
    /// ID of the key: the `kid` of the tokens that it signs.
    kid: String,
    /// `ES256` or `RS256`.
    alg: Option<String>,
    /// Always `sig`.
    r#use: Option<String>,
    /// Always `P-256`.
    crv: Option<String>,
    /// First coordinate.
    x: Option<String>,
    /// Second coordinate.
    y: Option<String>,
    /// Modulus.
    n: Option<String>,
    /// Exponent.
    e: Option<String>,
}

/// Get the public keys that verify fire tokens
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    operation_id = "jwks",
    tag = "keys",
    responses(
        (status = OK, description = "A JWK Set (RFC 7517), with an `ETag`. It may be cached for 300 s.", content_type = "application/json", body = JwkSet,
            headers(("ETag" = String, description = "The version of the set."), ("Cache-Control" = String, description = "`public, max-age=300`."))),
        (status = NOT_MODIFIED, description = "`If-None-Match` contains the current `ETag`."),
        (status = SERVICE_UNAVAILABLE, description = "The keys are not loaded yet. Retry after `Retry-After`."),
    )
)]
async fn jwks(State(ring): State<Arc<KeyRing>>, headers: HeaderMap) -> Response {
    let Some(jwks) = ring.jwks() else {
        // Not an empty set, which agents would cache for minutes.
        let reason = "the keys are not loaded yet".into();
        return Problem(ApiError::Unavailable { reason, retry_after: RETRY_LOADING }).into_response();
    };
    let validators = [(CACHE_CONTROL, CACHED), (ETAG, jwks.etag.as_str())];
    if has_etag(&headers, &jwks.etag) {
        return (StatusCode::NOT_MODIFIED, validators).into_response();
    }
    (validators, [(CONTENT_TYPE, "application/json")], jwks.body).into_response()
}

/// True if `If-None-Match` (a list of tags or `*`) matches `etag` by weak comparison (RFC 9110, 13.1.2).
fn has_etag(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}
