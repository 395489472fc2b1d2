//! All routes on one page, and the `OpenAPI` document they make.

use std::sync::Arc;

use axum::{Json, Router, routing};
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
use super::{auth_profiles, error, jwks, layers, oauth};
use crate::keys::key_ring::KeyRing;
use crate::own_portal::OwnPortal;

/// What the routes are made of.
#[derive(Clone)]
pub struct Parts {
    /// Hop 1.
    pub agent_cron: AgentCron,
    /// Keys that agents call with.
    pub agent_identity: AgentIdentity,
    /// Hop 2.
    pub relay: Relay,
    /// What issues access tokens, where this service is the portal.
    pub own_portal: Option<OwnPortal>,
    /// Who signs fires, for the JWKS.
    pub keys: Arc<KeyRing>,
    /// Registration by the portal's backend.
    pub admin: AdminState,
    /// What the probes are answered by.
    pub probe: Arc<dyn Probe>,
    /// Requests that may wait for their handlers at once.
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
        description = "One-shot cron for agents that scale to zero. Agents arm, cancel and list one-shots; at its \
                       instant each is POSTed to the agent's callback with a short-lived token.",
        license(name = "MIT OR Apache-2.0", identifier = "MIT OR Apache-2.0")
    ),
    tags(
        (name = "agent-cron", description = "Hop 1: what agents call with their portal access token"),
        (name = "agent-identity", description = "Keys that agents call with beside the portal's access token"),
        (name = "relay", description = "Hop 2: what the hosted scheduler calls, signed"),
        (name = "own-portal", description = "What agents log in with, where this service is their portal"),
        (name = "keys", description = "The public keys that fire tokens are verified with"),
        (name = "admin", description = "What the portal's backend calls with the admin token"),
        (name = "health", description = "Probes"),
    ),
    // Shared responses do not bring their schemas along.
    components(schemas(ErrorBody, ProblemBody))
)]
struct Document;

/// The public router, and its document at `/openapi.json`.
pub fn router(parts: Parts) -> Router {
    let requests_at_once = parts.requests_at_once;
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .merge(auth_profiles::routes(parts.agent_cron.clone()))
        .merge(agent_cron::routes(parts.agent_cron))
        .merge(agent_identity::routes(parts.agent_identity))
        .merge(relay::routes(parts.relay))
        .merge(oauth::routes(parts.own_portal))
        .merge(jwks::router(parts.keys))
        .merge(admin::router(parts.admin))
        .merge(health::routes(parts.probe))
        .split_for_parts();
    let bearer = |description: &str| {
        SecurityScheme::Http(
            HttpBuilder::new().scheme(HttpAuthScheme::Bearer).description(Some(description)).build(),
        )
    };
    let components = document.components.get_or_insert_default();
    components.add_security_scheme("portal_access_token", bearer("An access token of the portal (a JWT)"));
    components
        .add_security_scheme("admin_token", bearer("The admin token, kept by the service only as a hash"));
    let signature =
        ApiKeyValue::with_description("Upstash-Signature", "A JWT over the exact bytes of the body");
    components.add_security_scheme("engine_signature", SecurityScheme::ApiKey(ApiKey::Header(signature)));
    let assertion = ApiKeyValue::with_description(
        "Authorization",
        "`AgentAssertion <base64url(JSON)>`: signed with a key that the agent has registered, where the service takes them",
    );
    components.add_security_scheme("agent_assertion", SecurityScheme::ApiKey(ApiKey::Header(assertion)));
    hop_1_by_assertion(&mut document);
    let document = Json(document);
    let router = router
        .route("/openapi.json", routing::get(async move || document))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed);
    layers::observed(router, requests_at_once)
}

/// Whatever hop 1 does for an agent with the portal's token, it does for one that calls with its own key.
fn hop_1_by_assertion(document: &mut utoipa::openapi::OpenApi) {
    for item in document.paths.paths.values_mut() {
        let operations = [&mut item.get, &mut item.put, &mut item.post, &mut item.patch, &mut item.delete];
        for operation in operations.into_iter().flatten() {
            let is_hop_1 = operation.tags.iter().flatten().any(|tag| tag == "agent-cron");
            if let Some(security) = operation.security.as_mut().filter(|_| is_hop_1) {
                security.push(SecurityRequirement::new("agent_assertion", [] as [&str; 0]));
            }
        }
    }
}
