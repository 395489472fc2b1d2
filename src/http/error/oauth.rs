//! Errors as agents get them (RFC 6749, 5.2; RFC 6750, 3).

use std::borrow::Cow;

use axum::Json;
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::meaning::with_headers;
use super::{ApiError, NoFailure};

/// An error as agents get it.
#[derive(Clone, Debug, Serialize, ToSchema)]
pub struct ErrorBody {
    /// A word to branch on.
    #[schema(example = "invalid_request")]
    pub error: Cow<'static, str>,
    /// A sentence for whoever looks into it.
    #[schema(example = "fire_at: must be an ISO 8601 date-time with an offset")]
    pub error_description: String,
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (meaning, error_description) = self.told();
        let body = ErrorBody { error: meaning.error.into(), error_description };
        let mut response = with_headers(&meaning, (meaning.status, Json(body)).into_response());
        if self.is_as_it_should_be() {
            response.extensions_mut().insert(NoFailure);
        }
        response
    }
}
