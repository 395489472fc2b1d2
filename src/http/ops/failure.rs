//! The page of an error: what failed, and the way back.

use askama::Template;
use axum::response::{Html, IntoResponse, Response};

use super::frame::Frame;
use super::session::Session;
use crate::http::error::{ErrorPage, Failure};

#[derive(Template)]
#[template(path = "failure.html")]
struct FailurePage {
    frame: Frame,
    detail: super::view::Html,
    status: u16,
    /// The page to try again, or to return to.
    back: Option<String>,
}

/// Returns the page of an error, in the layout of the session, with a link to `back`.
pub(super) fn page(error: ErrorPage, session: Option<&Session>, back: Option<&str>) -> Response {
    dressed(error.into_response(), session, back)
}

/// Gives an error that a handler has returned its page. Other responses stay as they are.
pub(super) fn dressed(mut response: Response, session: Option<&Session>, back: Option<&str>) -> Response {
    let Some(Failure { status, detail }) = response.extensions_mut().remove::<Failure>() else {
        return response;
    };
    let title = match status.as_u16() {
        400 | 413 => "This cannot be done",
        401 => "Not signed in",
        403 => "Not permitted",
        404 => "Not found",
        405 => "Not a page",
        409 => "The state has changed",
        429 => "Too many failed sign-ins",
        503 => "Temporarily unavailable",
        _ => "The service failed",
    };
    let frame = session.map_or_else(|| Frame::outside(title), |session| session.frame(title));
    let (detail, back) = (super::view::with_code(&detail), back.map(str::to_owned));
    let page = FailurePage { frame, detail, status: status.as_u16(), back };
    let (mut head, _) = response.into_parts();
    head.headers.remove(axum::http::header::CONTENT_LENGTH);
    head.headers.remove(axum::http::header::CONTENT_TYPE);
    let body = rendered(&page);
    (head.status, head.headers, body).into_response()
}

/// Renders a page.
pub(super) fn rendered(page: &impl Template) -> Response {
    match page.render() {
        Ok(html) => Html(html).into_response(),
        Err(error) => ErrorPage(crate::http::ApiError::Internal(error.into())).into_response(),
    }
}
