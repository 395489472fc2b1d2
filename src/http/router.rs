//! All routes on one page, and the `OpenAPI` document they make.

use std::sync::Arc;

use axum::{Json, Router, routing};
use utoipa::OpenApi;
use utoipa::openapi::security::{ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;

use super::admin::{self, AdminState};
use super::agent_cron::{self, AgentCron};
use super::health::{self, Probe};
use super::relay::{self, Relay};
use super::{auth_profiles, error, jwks, layers};
use crate::keys::ring::KeyRing;

/// What the routes are made of.
#[derive(Clone)]
pub struct Parts {
    /// Hop 1.
    pub agent_cron: AgentCron,
    /// Hop 2.
    pub relay: Relay,
    /// Who signs fires, for the JWKS.
    pub keys: Arc<KeyRing>,
    /// Registration by the portal's backend.
    pub admin: AdminState,
    /// What readiness is judged by.
    pub probe: Arc<dyn Probe>,
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
        (name = "relay", description = "Hop 2: what the hosted scheduler calls, signed"),
        (name = "keys", description = "The public keys that fire tokens are verified with"),
        (name = "admin", description = "What the portal's backend calls with the admin token"),
        (name = "health", description = "Probes"),
    )
)]
struct Document;

/// The public router, and its document at `/openapi.json`.
pub fn router(parts: Parts) -> Router {
    let (router, mut document) = OpenApiRouter::with_openapi(Document::openapi())
        .merge(auth_profiles::routes(parts.agent_cron.clone()))
        .merge(agent_cron::routes(parts.agent_cron))
        .merge(relay::routes(parts.relay))
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
    let document = Json(document);
    let router = router
        .route("/openapi.json", routing::get(async move || document))
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed);
    layers::observed(router)
}
