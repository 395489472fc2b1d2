//! The gate before all pages but the sign-in: the session, and for forms the proof that they come from one of its pages.
//!
//! All of it is done here and for every route, so that a new page cannot forget any of it. Roles are checked for each action
//! ([`super::actions`]); pages read with the role viewer, limited to the operator's org.

use axum::extract::{Request, State};
use axum::http::header::{HeaderName, SET_COOKIE};
use axum::http::request::Parts;
use axum::http::uri::PathAndQuery;
use axum::http::{HeaderValue, StatusCode};
use axum::middleware::Next;
use axum::response::{IntoResponse, Redirect, Response};
use uuid::Uuid;

use super::OpsState;
use super::cookie::{self, Sent};
use super::failure;
use super::form::Form;
use super::session::{SENT, Session};
use super::sign_in;
use super::view::with_query;
use crate::domain::actor::Actor;
use crate::http::error::ErrorPage;
use crate::http::{log_fields, origin};
use crate::operator_sessions::{Bearing, OpenSession, Submission};
use crate::store_error::StoreError;

/// Sent by the script with requests that no operator has made.
const BY_ITSELF: HeaderName = HeaderName::from_static("hx-request");

/// Lets requests with a session through. Others get the page that signs in.
pub(super) async fn require(State(ops): State<OpsState>, request: Request, next: Next) -> Response {
    let (parts, body) = request.into_parts();
    let by_itself = parts.headers.contains_key(BY_ITSELF);
    let session = match session(&ops, &parts, by_itself).await {
        Ok(Ok(session)) => session,
        Ok(Err(had_one)) => return signed_out(Request::from_parts(parts, body), had_one, by_itself).await,
        Err(error) => return failure::page(ErrorPage::from(error), None, here(&parts)),
    };
    log_fields::actor(&session.actor.name);
    let mut request = Request::from_parts(parts, body);
    let is_safe = request.method().is_safe();
    let mut back = way_out(&session.path, &session.query);
    if !is_safe {
        let form = match form(&mut request, &session).await {
            Ok(form) => form,
            Err(error) => return failure::page(error, Some(&session), Some("/ops")),
        };
        form.back().clone_into(&mut back);
        request.extensions_mut().insert(form);
    }
    request.extensions_mut().insert(session.clone());
    let response = next.run(request).await;
    // A service that failed may show the same page a moment later.
    let again = (response.status().is_server_error() && is_safe).then(|| session.here());
    failure::dressed(response, Some(&session), Some(&again.unwrap_or(back)))
}

/// Parameters that go to another part of a list, or change its filters.
const STEPS: [&str; 3] = ["add", "after", "before"];

/// Returns the page to return to from one that cannot be shown: the list of its subjects, the same filters, or all of a list.
fn way_out(path: &str, query: &str) -> String {
    match path {
        "/ops/job" | "/ops/batch" => return "/ops/jobs".to_owned(),
        "/ops/agent" => return "/ops/agents".to_owned(),
        "/ops/webhook" => return "/ops/events".to_owned(),
        "/ops/backends/switch" => return "/ops/backends".to_owned(),
        _ if query.is_empty() => return "/ops".to_owned(),
        _ => {}
    }
    let is_step = |pair: &&str| STEPS.contains(&pair.split('=').next().unwrap_or_default());
    let (steps, rest): (Vec<_>, Vec<_>) = query.split('&').partition(is_step);
    if steps.is_empty() || rest.is_empty() { path.to_owned() } else { format!("{path}?{}", rest.join("&")) }
}

/// Takes the form out of a request, and checks that it comes from a page of the session.
async fn form(request: &mut Request, session: &Session) -> Result<Form, ErrorPage> {
    let mut taken = Request::new(std::mem::take(request.body_mut()));
    request.headers().clone_into(taken.headers_mut());
    let form = Form::read_of_session(taken).await?;
    form.require_proof(&session.id)?;
    Ok(form)
}

/// Returns the session of a request, or else whether it had one that has ended.
async fn session(
    ops: &OpsState,
    parts: &Parts,
    by_itself: bool,
) -> Result<Result<Session, bool>, StoreError> {
    let id = match cookie::read(&parts.headers) {
        Sent::Session(id) => id,
        Sent::Invalid => return Ok(Err(true)),
        Sent::Nothing => return Ok(Err(false)),
    };
    let Some((open, actor)) = operator(ops, &id, parts, !by_itself).await? else { return Ok(Err(true)) };
    let (query, sent) = separated(parts.uri.query().unwrap_or_default());
    let sent = match sent {
        Some(submission_id) => shown(ops, &id, submission_id).await?,
        None => None,
    };
    let path = parts.uri.path().to_owned();
    Ok(Ok(Session { id, actor, now: open.now, path, query, by_itself, sent }))
}

/// Finds an open session, and the operator with the present rights of its token.
async fn operator(
    ops: &OpsState,
    id: &Bearing,
    parts: &Parts,
    in_use: bool,
) -> Result<Option<(OpenSession, Actor)>, StoreError> {
    let Some(open) = ops.sessions.find(id, in_use).await? else { return Ok(None) };
    let rights = open.rights.clone().or_else(|| {
        // Removing the token from the configuration ends its sessions.
        open.signed_in.of_config.then(|| ops.credentials.config_rights(&open.signed_in.token_hash))?
    });
    let from = format!("{}, operators' page", origin::origin(parts));
    Ok(rights.map(|rights| (open, rights.caller(from))))
}

/// Returns the query without [`SENT`], and the form that it names.
fn separated(query: &str) -> (String, Option<Uuid>) {
    let (mut rest, mut sent) = (Vec::new(), None);
    for pair in query.split('&').filter(|pair| !pair.is_empty()) {
        match pair.strip_prefix(SENT).and_then(|value| value.strip_prefix('=')) {
            Some(value) => sent = Uuid::try_parse(value).ok().or(sent),
            None => rest.push(pair),
        }
    }
    (rest.join("&"), sent)
}

async fn shown(ops: &OpsState, id: &Bearing, submission_id: Uuid) -> Result<Option<Submission>, StoreError> {
    ops.sessions.submission(id, submission_id).await
}

/// Returns the response to a request without a session. A form is refused; its page comes back after the sign-in.
async fn signed_out(request: Request, had_one: bool, by_itself: bool) -> Response {
    if by_itself {
        // The script reloads the page, which leads to the sign-in.
        let reload = [(HeaderName::from_static("hx-refresh"), HeaderValue::from_static("true"))];
        return (StatusCode::UNAUTHORIZED, reload).into_response();
    }
    if !request.method().is_safe() {
        // A form of another site names no page.
        let form = Form::read(request).await.ok();
        return sign_in::instead_of_form(had_one, form.as_ref().map(Form::back));
    }
    let here = request.uri().path_and_query().map_or("/ops", PathAndQuery::as_str);
    let mut pairs = vec![("next", here)];
    if had_one {
        pairs.push(("ended", "true"));
    }
    let mut response = Redirect::to(&with_query("/ops/sign-in", pairs)).into_response();
    if had_one {
        response.headers_mut().insert(SET_COOKIE, cookie::remove());
    }
    response
}

/// Returns the path and query of a request, if it changes nothing.
fn here(parts: &Parts) -> Option<&str> {
    parts.uri.path_and_query().filter(|_| parts.method.is_safe()).map(PathAndQuery::as_str)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn page_that_cannot_be_shown_leads_to_one_that_can() {
        for (path, query, out) in [
            ("/ops/nothing", "", "/ops"),
            ("/ops", "nonsense=1", "/ops"),
            ("/ops/job", "instance_id=a&job_id=unknown", "/ops/jobs"),
            ("/ops/agent", "instance_id=unknown", "/ops/agents"),
            ("/ops/backends/switch", "backend=qstash", "/ops/backends"),
            ("/ops/jobs", "nonsense=1", "/ops/jobs"),
            ("/ops/jobs", "state=dead&add=colour%3Ared", "/ops/jobs?state=dead"),
            ("/ops/jobs", "after=x", "/ops/jobs"),
            ("/ops/audit", "actor=a&before=x&action=b", "/ops/audit?actor=a&action=b"),
        ] {
            assert_eq!(way_out(path, query), out, "{path}?{query}");
        }
    }

    #[test]
    fn result_to_show_is_not_a_parameter_of_the_page() {
        let id = Uuid::new_v4();
        assert_eq!(
            separated(&format!("state=dead&sent={id}&after=x")),
            ("state=dead&after=x".to_owned(), Some(id))
        );
        assert_eq!(separated("sent=nonsense"), (String::new(), None));
        assert_eq!(separated("sentence=1"), ("sentence=1".to_owned(), None));
        assert_eq!(separated(""), (String::new(), None));
    }
}
