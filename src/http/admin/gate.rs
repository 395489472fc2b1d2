//! The gate before all routes of the admin API: the token, the role, the org, and the line in the audit log.
//!
//! All of it is done here and for every route, so that a new route cannot forget any of it.

use std::convert::Infallible;
use std::sync::Arc;

use axum::extract::{FromRequestParts, MatchedPath, RawPathParams, Request, State};
use axum::http::header::CACHE_CONTROL;
use axum::http::request::Parts;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::access::{Access, permitted};
use super::credentials::Credentials;
use crate::audit::{Act, AuditLog, AuditOutcome};
use crate::domain::actor::Actor;
use crate::domain::job_filter::JobFilter;
use crate::http::auth::bearer_token;
use crate::http::error::{ApiError, Problem};
use crate::http::extract::QueryParams;
use crate::http::log_fields;
use crate::http::noted::{Notes, Reason};
use crate::http::origin;

/// Maximum length of a parameter in the audit log, in bytes.
const MAX_PARAMETER: usize = 255;
/// Parameters of a query that are in the audit log besides the conditions of [`JobFilter`]: they decide what a call
/// changes, and how. Any other may be a secret in the wrong place, so a handler notes it after its check.
const SELECTING: [&str; 3] = ["all", "move_org", "per_second"];

/// Everything that decides about a call.
#[derive(Clone, Debug)]
pub(super) struct Gate {
    pub(super) access: Arc<Access>,
    pub(super) credentials: Credentials,
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
        let served = route.and_then(|route| self.access.operation(&parts.method, route));
        // An operation that the table does not have is not served.
        let served = served.ok_or(ApiError::MethodNotAllowed)?;
        let operation = served.operation;
        let subject = subject(&mut parts).await;
        let permitted = permitted(&actor, operation, &subject)
            .and_then(|()| served.query(parts.uri.query()))
            .map(|query| drop(parts.extensions.insert(query)));
        let subject = [subject, selection(&parts)].concat();
        parts.extensions.insert(actor.clone());
        let is_read = parts.method.is_safe();
        let notes = Notes::default();
        parts.extensions.insert(notes.clone());
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
        let (said, reason) = (notes.noted(), response.extensions().get::<Reason>());
        let detail = reason.map(|reason| reason.0.as_str()).or(said.detail.as_deref());
        self.audit.end(id, outcome(response.status()), &said.about, detail).await;
        Ok(response)
    }

    /// Returns the caller, or the error of an invalid token.
    async fn actor(&self, parts: &Parts) -> Result<Actor, ApiError> {
        let token = bearer_token(&parts.headers);
        let holder = self.credentials.holder(token, origin::address(parts)).await?;
        Ok(holder.rights.caller(origin::origin(parts)))
    }
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
    let mut found: Vec<(String, String)> = Vec::new();
    for (name, value) in pairs {
        if selects(&name) && fits(&value) && found.iter().all(|(known, _)| *known != name) {
            found.push((name, value));
        }
    }
    found
}

/// True if the audit log can have a value that was not checked yet.
pub(in crate::http) fn fits(value: &str) -> bool {
    value.len() <= MAX_PARAMETER && !value.contains('\0')
}

/// Returns the outcome of a call in the audit log.
pub(in crate::http) fn outcome(status: StatusCode) -> AuditOutcome {
    match status.as_u16() {
        200..=399 => AuditOutcome::Done,
        400..=499 => AuditOutcome::Refused,
        _ => AuditOutcome::Failed,
    }
}

/// The parameters of the query, which the gate has compared with the documented ones.
impl<S: Sync> FromRequestParts<S> for QueryParams {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // Every route of the admin API is behind the gate.
        Ok(parts.extensions.remove().expect("the gate has parsed the query"))
    }
}

/// The notes of the call for the gate, which writes the line.
impl<S: Sync> FromRequestParts<S> for Notes {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // Every route of the admin API is behind the gate.
        Ok(parts.extensions.get::<Self>().cloned().expect("the gate has added the notes"))
    }
}

/// The caller, as the gate has found it.
impl<S: Sync> FromRequestParts<S> for Actor {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        // Every route of the admin API is behind the gate.
        Ok(parts.extensions.get::<Self>().cloned().expect("the gate has found the caller"))
    }
}
