//! Error responses of the operators' page: a page that says what failed and what to do.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};

use super::ApiError;
use super::meaning::with_headers;

/// An [`ApiError`] whose response is a page. Handlers return `Result<_, ErrorPage>`, and use `?` on anything that converts to
/// an [`ApiError`].
#[derive(Debug)]
pub struct ErrorPage(pub ApiError);

/// What an error page says, in the extensions of its response: the operators' page gives it its layout.
#[derive(Clone, Debug)]
pub(in crate::http) struct Failure {
    /// Status of the response.
    pub(in crate::http) status: StatusCode,
    /// Description for the operator.
    pub(in crate::http) detail: String,
}

impl<E: Into<ApiError>> From<E> for ErrorPage {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for ErrorPage {
    fn into_response(self) -> Response {
        let (meaning, detail) = self.0.log();
        // Without the layout if the operators' page is not reached: too many requests, or a panic.
        let text = format!("{}: {detail}\n", meaning.status);
        let mut response = with_headers(&meaning, (meaning.status, text).into_response());
        response.extensions_mut().insert(Failure { status: meaning.status, detail });
        response
    }
}
