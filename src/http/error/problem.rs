//! Error responses for the portal's backend, operators and scheduler backends: problem details (RFC 9457).

use std::borrow::Cow;

use axum::Json;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::ApiError;
use super::meaning::with_headers;
use crate::http::noted::Reason;

/// An error as problem details (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// Always `about:blank`: the status identifies the problem type.
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
    /// Title of the status.
    pub title: Cow<'static, str>,
    /// HTTP status.
    pub status: u16,
    /// Description for humans.
    pub detail: String,
    /// Error word for programs, the same as in the agent API.
    pub error: Cow<'static, str>,
}

/// An [`ApiError`] whose response is problem details. Handlers return `Result<_, Problem>`, and use `?` on anything
/// that converts to an [`ApiError`].
#[derive(Debug)]
pub struct Problem(pub ApiError);

impl<E: Into<ApiError>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (meaning, detail) = self.0.log();
        let body = ProblemBody {
            kind: "about:blank".into(),
            title: meaning.status.canonical_reason().unwrap_or_default().into(),
            status: meaning.status.as_u16(),
            detail: detail.clone(),
            error: meaning.error.as_str().into(),
        };
        let mut response = with_headers(&meaning, (meaning.status, Json(body)).into_response());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response.extensions_mut().insert(Reason(detail));
        response
    }
}
