//! Error responses in the format of QStash.

use axum::Json;
use axum::body::Body;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::json;

/// Returns an error response.
pub fn error(status: StatusCode, text: &str) -> Response<Body> {
    (status, Json(json!({"error": text}))).into_response()
}
