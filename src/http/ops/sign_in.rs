//! The sign-in with an admin token or a one-time link, and the sign-out.

use std::net::IpAddr;

use askama::Template;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Query, Request, State};
use axum::http::StatusCode;
use axum::http::header::SET_COOKIE;
use axum::http::request::Parts;
use axum::response::{IntoResponse, Redirect, Response};
use tracing::info;

use super::OpsState;
use super::cookie;
use super::failure::{self, rendered};
use super::form::{Form, local};
use super::frame::Frame;
use super::session::Session;
use crate::audit::{Act, AuditOutcome};
use crate::domain::actor::Actor;
use crate::http::admin::Holder;
use crate::http::error::ErrorPage;
use crate::http::{ApiError, origin};
use crate::operator_sessions::{Bearing, SignedIn};

/// The page of the sign-in.
#[derive(Template)]
#[template(path = "sign_in.html")]
struct SignInPage {
    frame: Frame,
    /// The page to go to afterwards.
    next: String,
    /// A one-time link, which takes the place of a token.
    link: Option<String>,
    /// The reason for which the operator sees the page.
    reason: Option<&'static str>,
    /// The error of the attempt before.
    error: Option<super::view::Html>,
}

impl SignInPage {
    fn new(next: Option<&str>) -> Self {
        let next = local(next).unwrap_or("/ops").to_owned();
        Self { frame: Frame::outside("Sign in"), next, link: None, reason: None, error: None }
    }
}

/// Parameters of the page.
#[derive(serde::Deserialize)]
pub(super) struct Params {
    next: Option<String>,
    link: Option<String>,
    ended: Option<String>,
    out: Option<String>,
}

/// Shows the form. A link signs in with a button, which the script presses: a GET changes nothing, and a program that looks at
/// links does not use it up.
pub(super) async fn show(params: Result<Query<Params>, QueryRejection>) -> Response {
    let Ok(Query(params)) = params else {
        return rendered(&SignInPage::new(None));
    };
    let reason = match (&params.ended, &params.out) {
        (Some(_), _) => Some(
            "Your session has ended: it was not used for 30 minutes, is older than 12 hours, or its token was revoked.",
        ),
        (_, Some(_)) => Some("You are signed out."),
        _ => None,
    };
    let link = params.link.filter(|link| Bearing::parse(link).is_some());
    rendered(&SignInPage { link, reason, ..SignInPage::new(params.next.as_deref()) })
}

/// The response to a form without a session. The sign-in leads to the page of the form.
pub(super) fn instead_of_form(had_one: bool, back: Option<&str>) -> Response {
    let reason = if had_one {
        "Your session has ended, so nothing was changed. Sign in, and send the form again."
    } else {
        "You are not signed in, so nothing was changed."
    };
    let page = SignInPage { reason: Some(reason), ..SignInPage::new(back) };
    (StatusCode::UNAUTHORIZED, rendered(&page)).into_response()
}

/// Opens a session for the holder of a token or a link.
pub(super) async fn sign_in(State(ops): State<OpsState>, request: Request) -> Response {
    let (parts, body) = request.into_parts();
    let mut copy = Request::new(body);
    parts.headers.clone_into(copy.headers_mut());
    let form = match Form::read(copy).await {
        Ok(form) => form,
        Err(error) => return failure::page(error.into(), None, Some("/ops/sign-in")),
    };
    let next = local(form.text("next")).unwrap_or("/ops");
    match open(&ops, &parts, &form).await {
        Ok(id) => {
            let mut response = Redirect::to(next).into_response();
            response.headers_mut().insert(SET_COOKIE, cookie::set(&id));
            response
        }
        Err(
            error @ (ApiError::InvalidToken(_)
            | ApiError::NoToken
            | ApiError::TooManyFailures(_)
            | ApiError::TooManyCalls(_)),
        ) => {
            let response = ErrorPage(error).into_response();
            let detail = response
                .extensions()
                .get::<crate::http::error::Failure>()
                .map(|failure| failure.detail.clone());
            let error = detail.map(|detail| super::view::with_code(&detail));
            let mut page = rendered(&SignInPage { error, ..SignInPage::new(Some(next)) });
            *page.status_mut() = response.status();
            if let Some(wait) = response.headers().get("retry-after") {
                page.headers_mut().insert("retry-after", wait.clone());
            }
            page
        }
        Err(error) => failure::page(ErrorPage(error), None, Some("/ops/sign-in")),
    }
}

/// Checks the token or the link, and opens a session. Returns its ID.
async fn open(ops: &OpsState, parts: &Parts, form: &Form) -> Result<Bearing, ApiError> {
    let address = origin::address(parts);
    let holder = if let Some(link) = form.text("link") {
        by_link(ops, link, address).await?
    } else {
        let token = form.text("token").map(str::trim).ok_or(ApiError::InvalidToken("enter an admin token"));
        ops.credentials.holder(token, address).await?
    };
    let signed_in = SignedIn { token_hash: holder.hash, of_config: holder.of_config };
    let actor = holder.rights.caller(format!("{}, operators' page", origin::origin(parts)));
    let line = ops.admin.audit.begin(&actor, &Act::new("sign_in")).await?;
    let opened = ops.sessions.open(&signed_in).await;
    let outcome = if opened.is_ok() { AuditOutcome::Done } else { AuditOutcome::Failed };
    ops.admin.audit.end(line, outcome, &[], None).await;
    info!(admin.actor = actor.name, "operator signed in");
    Ok(opened?)
}

/// Uses up a link, and returns the rights of its token.
async fn by_link(ops: &OpsState, link: &str, address: IpAddr) -> Result<Holder, ApiError> {
    if let Some(retry_after) = ops.credentials.wait(address) {
        return Err(ApiError::TooManyFailures(retry_after));
    }
    let signed_in = match Bearing::parse(link) {
        Some(link) => ops.sessions.take_link(&link).await?,
        None => None,
    };
    let holder = match signed_in {
        Some(SignedIn { token_hash: hash, of_config }) => {
            let rights = if of_config {
                ops.credentials.config_rights(&hash)
            } else {
                ops.admin.tokens.present(&hash).await?
            };
            rights.map(|rights| Holder { rights, hash, of_config })
        }
        None => None,
    };
    holder.ok_or_else(|| {
        ops.credentials.count_failure(address);
        ApiError::InvalidToken("this link was used or has expired: sign in with an admin token")
    })
}

/// Ends the session.
pub(super) async fn sign_out(State(ops): State<OpsState>, session: Session) -> Result<Response, ErrorPage> {
    let actor: &Actor = &session.actor;
    let line = ops.admin.audit.begin(actor, &Act::new("sign_out")).await?;
    ops.sessions.close(&session.id).await?;
    ops.admin.audit.end(line, AuditOutcome::Done, &[], None).await;
    let mut response = Redirect::to("/ops/sign-in?out=true").into_response();
    response.headers_mut().insert(SET_COOKIE, cookie::remove());
    Ok(response)
}
