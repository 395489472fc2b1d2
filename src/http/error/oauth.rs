//! Error responses for agents (RFC 6749, 5.2; RFC 6750, 3).

use axum::Json;
use axum::response::{IntoResponse, Response};
use nas_cron_protocol::error::ErrorBody;

use super::meaning::with_headers;
use super::{ApiError, ExpectedUnavailable};

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        let (meaning, description) = self.log();
        let mut body = ErrorBody::new(meaning.error, description);
        if let Self::Quota(exceeded) = &self {
            body = body.with_quota(exceeded.scope, exceeded.quota, exceeded.armed);
        }
        let mut response = with_headers(&meaning, (meaning.status, Json(body)).into_response());
        if self.is_expected() {
            response.extensions_mut().insert(ExpectedUnavailable);
        }
        response
    }
}
