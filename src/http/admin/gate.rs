//! The gate before all routes of the admin API: the token, the role, the org, and the line in the audit log.
//!
//! All of it is done here and for every route, so that a new route cannot forget any of it.

use std::convert::Infallible;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use nas_cron_protocol::OrgId;
use tracing::warn;

use super::access::{Access, Operation, Reach};
use super::config_tokens::ConfigTokens;
use super::failed_calls::FailedCalls;
use crate::admin_tokens::{self, StoredTokens};
use crate::audit::{Act, AuditLog, AuditOutcome};
use crate::domain::actor::{Actor, Role};
use crate::domain::admin_token::CONFIG_NAME;
use crate::domain::job_filter::JobFilter;
use crate::http::auth::bearer_token;
use crate::http::error::{ApiError, Problem};
use crate::http::log_fields;
use crate::http::noted::Noted;
use crate::http::peer::Peer;

/// Maximum length of the origin that a caller's proxy names, in bytes.
const MAX_FORWARDED: usize = 64;

/// Maximum length of a parameter in the audit log, in bytes.
const MAX_PARAMETER: usize = 255;
/// Parameters of a query that are in the audit log besides the conditions of [`JobFilter`]: they select what a call
/// changes. Any other may be a secret in the wrong place, so a handler notes it after its check.
const SELECTING: [&str; 2] = ["all", "move_org"];

/// Everything that decides about a call.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) access: Arc<Access>,
    pub(super) config: Arc<ConfigTokens>,
    pub(super) stored: StoredTokens,
    pub(super) failed: Arc<FailedCalls>,
    pub(super) audit: AuditLog,
}

/// Lets calls through that have a token with the needed rights. A state-changing call has a line in the audit log before
/// its handler runs, also if it is rejected.
pub(super) async fn require(State(gate): State<Gate>, request: Request, next: Next) -> Response {
    let answered = gate.admit(request, next).await;
    let mut response = answered.unwrap_or_else(IntoResponse::into_response);
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

impl Gate {
    async fn admit(&self, request: Request, next: Next) -> Result<Response, Problem> {
        let (mut parts, body) = request.into_parts();
        let actor = self.actor(&parts).await?;
        log_fields::actor(&actor.name);
        let route = parts.extensions.get::<MatchedPath>().map(MatchedPath::as_str);
        let operation = route.and_then(|route| self.access.operation(&parts.method, route));
        // An operation that the table does not have is not served.
        let operation = operation.ok_or(ApiError::MethodNotAllowed)?;
        let subject = subject(&mut parts).await;
        let permitted = permitted(&actor, operation, &subject);
        let subject = [subject, selection(&parts)].concat();
        parts.extensions.insert(actor.clone());
        let is_read = parts.method.is_safe();
        let request = Request::from_parts(parts, body);
        if is_read {
            permitted?;
            return Ok(next.run(request).await);
        }
        let act = Act { action: operation.id, subject };
        let id = self.audit.begin(&actor, &act).await?;
        let response = match permitted {
            Ok(()) => next.run(request).await,
            Err(error) => Problem(error).into_response(),
        };
        let noted = response.extensions().get::<Noted>().cloned().unwrap_or_default();
        self.audit.end(id, outcome(&response), &noted.about, noted.detail.as_deref()).await;
        Ok(response)
    }

    /// Returns the caller, or the error of an invalid token.
    async fn actor(&self, parts: &Parts) -> Result<Actor, ApiError> {
        let token = bearer_token(&parts.headers);
        let origin = || origin(parts);
        if token.as_ref().is_ok_and(|token| self.config.accept(token)) {
            let (name, role) = (CONFIG_NAME.to_owned(), Role::Admin);
            return Ok(Actor { name, role, org: None, expires_at: None, origin: origin() });
        }
        let address = address(parts);
        let hash = token.as_ref().ok().filter(|token| admin_tokens::is_well_formed(token));
        let hash = hash.map(|token| admin_tokens::hash(token));
        if let Some(retry_after) = self.failed.wait(address, hash.as_ref()) {
            return Err(ApiError::TooManyRequests(retry_after));
        }
        if let Some(hash) = hash {
            if let Some(rights) = self.stored.present(&hash).await? {
                self.failed.succeeded(hash);
                let admin_tokens::TokenRights { name, role, org_id: org, expires_at } = rights;
                return Ok(Actor { name, role, org, expires_at, origin: origin() });
            }
            self.failed.refused(&hash);
        }
        if self.failed.failed(address) {
            warn!(client.address = %address, "calls of the admin API with an invalid token reached the limit");
        }
        if self.config.is_empty() && !self.stored.any().await? {
            return Err(ApiError::AdminApiOff);
        }
        token?;
        Err(ApiError::InvalidToken(
            "unknown, expired or revoked admin token: `nas-cron admin-tokens create` creates one",
        ))
    }
}

/// Returns the error of a caller that may not do this, independent of what exists.
fn permitted(actor: &Actor, operation: &Operation, subject: &[(String, String)]) -> Result<(), ApiError> {
    actor.require(operation.role)?;
    if operation.reach == Reach::Service {
        actor.require_whole_service()?;
    }
    let org = subject.iter().find(|(name, _)| name == "org_id").map(|(_, value)| value.as_str());
    // An invalid ID is reported by the handler.
    let hidden = org.and_then(|org| OrgId::new(org).ok()).is_some_and(|org| !actor.sees(&org));
    if hidden { Err(ApiError::NotFound("no such org".into())) } else { Ok(()) }
}

/// Returns the parameters of the path, by name.
async fn subject(parts: &mut Parts) -> Vec<(String, String)> {
    // Invalid UTF-8 is reported by the handler.
    let Ok(params) = RawPathParams::from_request_parts(parts, &()).await else { return Vec::new() };
    params.iter().map(|(name, value)| (name.to_owned(), value.to_owned())).collect()
}

/// Returns the parameters of the query that select what a call changes, by name.
fn selection(parts: &Parts) -> Vec<(String, String)> {
    let pairs = url::form_urlencoded::parse(parts.uri.query().unwrap_or_default().as_bytes()).into_owned();
    let selects = |name: &str| JobFilter::NAMES.iter().chain(&SELECTING).any(|one| *one == name);
    // The line is written before the parameters are checked.
    let fits = |value: &str| value.len() <= MAX_PARAMETER && !value.contains('\0');
    let mut found: Vec<(String, String)> = Vec::new();
    for (name, value) in pairs {
        if selects(&name) && fits(&value) && found.iter().all(|(known, _)| *known != name) {
            found.push((name, value));
        }
    }
    found
}

fn outcome(response: &Response) -> AuditOutcome {
    match response.status().as_u16() {
        200..=399 => AuditOutcome::Done,
        400..=499 => AuditOutcome::Refused,
        _ => AuditOutcome::Failed,
    }
}

/// Returns the address at the other end of the connection.
fn address(parts: &Parts) -> IpAddr {
    parts.extensions.get::<Peer>().map_or(Ipv4Addr::UNSPECIFIED.into(), |peer| peer.0)
}

/// Returns where a call came from: the address of the connection, and the one that its proxy names. The latter is not
/// verified.
fn origin(parts: &Parts) -> String {
    let address = address(parts);
    match forwarded_for(&parts.headers) {
        Some(client) => format!("{address}, forwarded for {client}"),
        None => address.to_string(),
    }
}

/// Returns the last address in `X-Forwarded-For`: the one that the nearest proxy has added.
fn forwarded_for(headers: &HeaderMap) -> Option<&str> {
    let last = headers.get_all("x-forwarded-for").iter().next_back()?.to_str().ok()?;
    let client = last.rsplit(',').next()?.trim();
    let is_address = (1..=MAX_FORWARDED).contains(&client.len())
        && client.bytes().all(|b| b.is_ascii_alphanumeric() || b".:[]-_%".contains(&b));
    is_address.then_some(client)
}

/// The caller, as the gate has found it.
impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // Every route of the admin API is behind the gate.
        Ok(parts.extensions.get::<Self>().cloned().expect("the gate has found the caller"))
    }
}
