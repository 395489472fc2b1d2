//! All routes, and the `OpenAPI` document that describes them.

use std::sync::{Arc, LazyLock};

use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::{Router, routing};
use utoipa::OpenApi;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};
use utoipa_axum::router::OpenApiRouter;

use super::admin::{self, AdminState};
use super::agent_cron::{self, AgentCron};
use super::agent_identity::{self, AgentIdentity};
use super::error::{ErrorBody, ProblemBody};
use super::health::{self, Probe};
use super::relay::{self, Relay};
use super::{auth_profiles, error, fire_webhook, jobs, jwks, layers, oauth};
use crate::keys::key_ring::KeyRing;
use crate::own_portal::OwnPortal;

/// Shared state of the routes.
#[derive(Clone)]
pub struct Parts {
    /// State of the agent API.
    pub agent_cron: AgentCron,
    /// State of the agent identity endpoints.
    pub agent_identity: AgentIdentity,
    /// State of the relay.
    pub relay: Relay,
    /// The built-in portal, which issues access tokens; `None` if it is off.
    pub own_portal: Option<OwnPortal>,
    /// The keys that the JWKS publishes.
    pub keys: Arc<KeyRing>,
    /// State of the admin API.
    pub admin: AdminState,
    /// The service state that the probes report.
    pub probe: Arc<dyn Probe>,
    /// Maximum number of requests in flight.
    pub requests_at_once: usize,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "nas-cron",
        description = "One-shot cron for agents that scale to zero. Agents arm, cancel and list one-shots. When a \
                       one-shot is due, the service POSTs it to the agent's callback with a short-lived token (see \
                       the webhook `fire`).",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "agent-cron", description = "The agent API. Agents call it with a portal access token or a signed assertion."),
        (name = "agent-identity", description = "Keys and tasks that let an agent call with signed assertions instead of access tokens."),
        (name = "relay", description = "Signed wake-ups from an external scheduler backend."),
        (name = "own-portal", description = "The built-in portal's token endpoint."),
        (name = "keys", description = "Public keys that verify fire tokens."),
        (name = "admin", description = "Agents, identities and auth profiles, for the portal's backend and operators."),
        (name = "fire", description = "The request that the service sends to agents."),
        (name = "health", description = "Liveness and readiness probes."),
    ),
    // utoipa does not collect the schemas of shared responses.
    components(schemas(ErrorBody, ProblemBody))
)]
struct Document;

/// Returns the router of all routes, including the document at `/openapi.json`.
pub fn router(parts: Parts) -> Router {
    let requests_at_once = parts.requests_at_once;
    let admin = admin::router(parts.admin.clone());
    finished(public(parts).merge(admin), requests_at_once)
}

/// Returns the router without the admin API, and that of the admin API, which has `admin_requests_at_once` requests in
/// flight at most. Each has its own document.
pub fn separate(parts: Parts, admin_requests_at_once: usize) -> (Router, Router) {
    let requests_at_once = parts.requests_at_once;
    let admin = OpenApiRouter::with_openapi(Document::openapi()).merge(admin::router(parts.admin.clone()));
    (finished(public(parts), requests_at_once), finished(admin, admin_requests_at_once))
}

/// Returns all routes but the admin API.
fn public(parts: Parts) -> OpenApiRouter {
    let mut router = OpenApiRouter::with_openapi(Document::openapi())
        .merge(auth_profiles::routes(parts.agent_cron.clone()))
        .merge(jobs::routes(parts.agent_cron.clone()))
        .merge(agent_cron::routes(parts.agent_cron))
        .merge(agent_identity::routes(parts.agent_identity))
        .merge(relay::routes(parts.relay))
        .merge(oauth::routes(parts.own_portal))
        .merge(jwks::router(parts.keys))
        .merge(health::routes(parts.probe));
    fire_webhook::add_to(router.get_openapi_mut());
    router
}

/// Completes the document, and adds it and the middleware.
fn finished(router: OpenApiRouter, requests_at_once: usize) -> Router {
    let (router, mut document) = router.split_for_parts();
    let bearer = |description: &str| {
        SecurityScheme::Http(
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build(),
        )
    };
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("portal_access_token", bearer("An access token of the portal."));
    components
        .add_security_scheme("admin_token", bearer("An admin token. The service stores only its SHA-256."));
    components.add_security_scheme("fire_token", bearer(fire_webhook::TOKEN));
    let signature =
        ApiKeyValue::with_description("Upstash-Signature", "A JWT that signs the exact bytes of the body.");
    components.add_security_scheme("backend_signature", SecurityScheme::ApiKey(ApiKey::Header(signature)));
    let assertion = ApiKeyValue::with_description(
        "Authorization",
        "`AgentAssertion <base64url(JSON)>`, signed with a key that the agent has registered. Requires `agent_identity`.",
    );
    components.add_security_scheme("agent_assertion", SecurityScheme::ApiKey(ApiKey::Header(assertion)));
    agent_api_by_assertion(&mut document);
    // Serialized once: it is large, and the requests of one connection are answered without a pause.
    let document =
        Arc::new(LazyLock::new(move || Bytes::from(serde_json::to_vec(&document).expect("it is JSON"))));
    let openapi = async move || ([(CONTENT_TYPE, "application/json")], Bytes::clone(&document));
    let router = router
        .route("/openapi.json", routing::get(openapi))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed);
    layers::observed(router, requests_at_once)
}

/// Adds the assertion as an alternative credential to every operation of the agent API.
fn agent_api_by_assertion(document: &mut utoipa::openapi::OpenApi) {
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            let is_agent_api = operation.tags.iter().flatten().any(|tag| tag == "agent-cron");
            if let Some(security) = operation.security.as_mut().filter(|_| is_agent_api) {
                security.push(SecurityRequirement::new("agent_assertion", [] as [&str; 0]));
            }
        }
    }
}
