//! The `OpenAPI` document: its general part, and what every operation has in common.
//!
//! A route documents itself, with its own responses. [`complete`] adds the rest by rules, so that a new route has it, too:
//! the common errors (`errors`), parameters without `null` (`parameters`), the headers by which a request is followed
//! (`correlation`), and an example for each body (`examples`).

mod correlation;
mod errors;
mod examples;
mod parameters;

use axum::http::Method;
use nas_cron_protocol::{AgentRuntimeId, AuthProfile, FireOutcome, InstanceId, JobId, OrgId, TaskId};
use serde_json::{Map, Value};
use utoipa::OpenApi as _;
use utoipa::openapi::OpenApi;
use utoipa::openapi::security::{
    ApiKey, ApiKeyValue, HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme,
};

use super::error::{ErrorBody, ProblemBody};
use super::fire_webhook;
use crate::admin_tokens::TokenName;
use crate::domain::agent_search::AgentSearch;
use crate::domain::event::EventType;
use crate::domain::job_filter::Parked;
use crate::operations::Cursor;

#[derive(utoipa::OpenApi)]
#[openapi(
    info(
        title = "nas-cron",
        description = "One-shot cron for agents that scale to zero. Agents arm, cancel and list one-shots. When a \
                       one-shot is due, the service POSTs it to the agent's callback with a short-lived token (see \
                       the webhook `fire`).\n\n\
                       **Errors.** Agents get `{\"error\", \"error_description\"}` (RFC 6749), all others problem details \
                       (RFC 9457); both have a word for programs in `error`. An unknown path gets 404, an unsupported \
                       method 405 with `Allow`.\n\n\
                       **Limits.** A body has at most 64 KiB and arrives within 10 s. Requests beyond the configured \
                       number in flight get 503. Calls with an invalid admin token are limited per client address: after \
                       100 failures, one per second. 429 and 503 have `Retry-After`, apart from `quota_exceeded`.\n\n\
                       **JSON.** Texts contain no NUL character and no half of a surrogate pair, and no name occurs twice \
                       in an object. Limits of texts count bytes of UTF-8 (`x-max-bytes`).\n\n\
                       **Request IDs.** Every response has `X-Request-Id`: that of the request, or a new one.",
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
    // utoipa does not collect the schemas of parameters and of shared responses.
    components(schemas(
        ErrorBody, ProblemBody, AgentRuntimeId, AgentSearch, AuthProfile, Cursor, EventType, FireOutcome, InstanceId, JobId,
        OrgId, Parked, TaskId, TokenName,
    ))
)]
struct Document;

/// Returns the general part of the document.
pub(super) fn general() -> OpenApi {
    Document::openapi()
}

/// Adds to a document what its operations have in common.
pub(super) fn complete(mut document: OpenApi) -> Value {
    add_security_schemes(&mut document);
    agent_api_by_assertion(&mut document);
    let mut document = serde_json::to_value(document).expect("it is JSON");
    for part in ["paths", "webhooks"] {
        for_each_operation(&mut document[part], |_, _, operation| parameters::complete(operation));
    }
    // The errors of an operation depend on its own parameters, which the headers of all operations are not.
    errors::add(&mut document);
    correlation::add(&mut document);
    examples::add(&mut document);
    document
}

/// Calls `change` with the path and method of each operation of these paths, and the operation.
fn for_each_operation(paths: &mut Value, mut change: impl FnMut(&str, &Method, &mut Map<String, Value>)) {
    for (path, item) in paths.as_object_mut().into_iter().flatten() {
        for (method, operation) in item.as_object_mut().into_iter().flatten() {
            let method = method.to_uppercase().parse().unwrap_or_default();
            if let Some(operation) = operation.as_object_mut() {
                change(path, &method, operation);
            }
        }
    }
}

fn add_security_schemes(document: &mut OpenApi) {
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
}

/// Adds the assertion as an alternative credential to every operation of the agent API.
fn agent_api_by_assertion(document: &mut OpenApi) {
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
