//! `GET /.well-known/jwks.json`, and the same at `/api/agent-cron/jwks.json`: on the portal's own host the
//! well-known path is the portal's.
//!
//! Agents fetch it all at once, at the same second, inside the handler of the very fire we wait for: it is
//! answered from memory, and needs no database.

use std::sync::Arc;

use axum::extract::State;
use axum::http::header::{CACHE_CONTROL, CONTENT_TYPE, ETAG, IF_NONE_MATCH, RETRY_AFTER};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use utoipa_axum::router::{OpenApiRouter, UtoipaMethodRouter};
use utoipa_axum::routes;

use crate::keys::KeyRing;

/// `max-age` is the 300 s that rotation counts on.
const CACHED: &str = "public, max-age=300";

/// Both paths, answered from `ring`.
pub fn router<S: Clone + Send + Sync + 'static>(ring: Arc<KeyRing>) -> OpenApiRouter<S> {
    OpenApiRouter::new().routes(on_portal_host(routes!(jwks))).routes(routes!(jwks)).with_state(ring)
}

/// The same route, documented under the path that is routed here on the portal's host.
fn on_portal_host<S>((schemas, mut paths, methods): UtoipaMethodRouter<S>) -> UtoipaMethodRouter<S> {
    let path = "/api/agent-cron/jwks.json";
    paths.paths = std::mem::take(&mut paths.paths)
        .into_values()
        .map(|mut item| {
            if let Some(get) = &mut item.get {
                get.operation_id = Some("agent_cron_jwks".to_owned());
                get.summary = Some(
                    "The public keys that verify fire tokens, under the path that is routed here on the portal's host"
                        .to_owned(),
                );
            }
            (path.to_owned(), item)
        })
        .collect();
    (schemas, paths, methods)
}

/// The public keys that verify fire tokens
#[utoipa::path(
    get,
    path = "/.well-known/jwks.json",
    operation_id = "jwks",
    tag = "keys",
    responses(
        (status = OK, description = "A JWK Set (RFC 7517). Cacheable for 300 s; carries an `ETag`.", content_type = "application/json", body = serde_json::Value),
        (status = NOT_MODIFIED, description = "`If-None-Match` names the current `ETag`."),
        (status = SERVICE_UNAVAILABLE, description = "No keys are known yet."),
    )
)]
async fn jwks(State(ring): State<Arc<KeyRing>>, headers: HeaderMap) -> Response {
    let Some(jwks) = ring.jwks() else {
        // Never an empty set: it would be cached for minutes.
        return (StatusCode::SERVICE_UNAVAILABLE, [(CACHE_CONTROL, "no-store"), (RETRY_AFTER, "1")])
            .into_response();
    };
    let validators = [(CACHE_CONTROL, CACHED), (ETAG, jwks.etag.as_str())];
    if names(&headers, &jwks.etag) {
        return (StatusCode::NOT_MODIFIED, validators).into_response();
    }
    (validators, [(CONTENT_TYPE, "application/json")], jwks.body).into_response()
}

/// RFC 9110, 13.1.2: a list of tags or `*`, compared weakly.
fn names(headers: &HeaderMap, etag: &str) -> bool {
    headers
        .get_all(IF_NONE_MATCH)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(str::trim)
        .any(|tag| tag == "*" || tag.strip_prefix("W/").unwrap_or(tag) == etag)
}
