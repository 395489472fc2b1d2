//! Errors as the portal's backend, operators and scheduler backends get them: problem details (RFC 9457).

use std::borrow::Cow;

use axum::Json;
use axum::http::HeaderValue;
use axum::http::header::CONTENT_TYPE;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::ApiError;
use super::meaning::with_headers;

/// An error as problem details (RFC 9457).
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ProblemBody {
    /// Always `about:blank`: the status says what kind it is.
    #[serde(rename = "type")]
    pub kind: Cow<'static, str>,
    /// The status in words.
    pub title: Cow<'static, str>,
    /// The status.
    pub status: u16,
    /// A sentence for whoever looks into it.
    pub detail: String,
    /// A word to branch on, as agents get it.
    pub error: Cow<'static, str>,
}

/// The same errors for endpoints that are not the agents': `Result<_, Problem>` with `?` on anything that
/// becomes an [`ApiError`].
#[derive(Debug)]
pub struct Problem(pub ApiError);

impl<E: Into<ApiError>> From<E> for Problem {
    fn from(error: E) -> Self {
        Self(error.into())
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (meaning, detail) = self.0.told();
        let body = ProblemBody {
            kind: "about:blank".into(),
            title: meaning.status.canonical_reason().unwrap_or_default().into(),
            status: meaning.status.as_u16(),
            detail,
            error: meaning.error.as_str().into(),
        };
        let mut response = with_headers(&meaning, (meaning.status, Json(body)).into_response());
        response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        response
    }
}
