//! All routes, and the `OpenAPI` document that describes them.

use std::sync::{Arc, LazyLock};

use axum::body::Bytes;
use axum::http::header::CONTENT_TYPE;
use axum::{Router, routing};
use utoipa_axum::router::OpenApiRouter;

use super::admin::{self, AdminState};
use super::agent_cron::{self, AgentCron};
use super::agent_identity::{self, AgentIdentity};
use super::health::{self, Probe};
use super::ops::{self, OpsState};
use super::relay::{self, Relay};
use super::{auth_profiles, docs, error, fire_webhook, jobs, jwks, layers, oauth, openapi};
use crate::keys::key_ring::KeyRing;
use crate::operator_sessions::OperatorSessions;
use crate::own_portal::OwnPortal;
use crate::traces::Traces;

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
    /// The sessions of the operators' page.
    pub operator_sessions: OperatorSessions,
    /// The service state that the probes report.
    pub probe: Arc<dyn Probe>,
    /// Records requests of the agent API.
    pub traces: Traces,
    /// Maximum number of requests in flight.
    pub requests_at_once: usize,
}

impl std::fmt::Debug for Parts {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Parts").finish_non_exhaustive()
    }
}

/// Returns the router of all routes, including the document at `/openapi.json`.
pub fn router(parts: Parts) -> Router {
    let (requests_at_once, traces) = (parts.requests_at_once, parts.traces.clone());
    let admin = admin::router(parts.admin.clone());
    finished(public(parts).merge(admin), docs::routes(), requests_at_once, traces)
}

/// Returns the router without the admin API, and that of the admin API and the operators' page, which has
/// `admin_requests_at_once` requests in flight at most. Each has its own document.
pub fn separate(parts: Parts, admin_requests_at_once: usize) -> (Router, Router) {
    let (requests_at_once, traces) = (parts.requests_at_once, parts.traces.clone());
    let credentials = parts.admin.credentials();
    let admin = admin::guarded(parts.admin.clone(), credentials.clone());
    let admin = OpenApiRouter::with_openapi(openapi::general()).merge(admin);
    let ops = OpsState::new(parts.admin.clone(), credentials, parts.operator_sessions.clone());
    let beside = docs::routes().merge(ops::router(ops));
    let public = finished(public(parts), Router::new(), requests_at_once, traces);
    (public, finished(admin, beside, admin_requests_at_once, Traces::off()))
}

/// Returns all routes but the admin API.
fn public(parts: Parts) -> OpenApiRouter {
    let mut router = OpenApiRouter::with_openapi(openapi::general())
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

/// Completes the document, and adds it, the undocumented routes and the middleware.
fn finished(router: OpenApiRouter, others: Router, requests_at_once: usize, traces: Traces) -> Router {
    let (router, document) = router.split_for_parts();
    // Serialized once: it is large, and the requests of one connection are answered without a pause.
    let document = Arc::new(LazyLock::new(move || Bytes::from(openapi::complete(document).to_string())));
    let openapi = async move || ([(CONTENT_TYPE, "application/json")], Bytes::clone(&document));
    let router = router
        .route("/openapi.json", routing::get(openapi))
        .merge(others)
        .fallback(error::not_found)
        .method_not_allowed_fallback(error::method_not_allowed);
    layers::observed(router, requests_at_once, traces)
}
