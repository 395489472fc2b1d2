//! Error answers, in QStash's form.

use axum::Json;
use axum::body::Body;
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use serde_json::json;

/// The answer to a call that cannot be done.
pub fn error(status: StatusCode, text: &str) -> Response<Body> {
    (status, Json(json!({"error": text}))).into_response()
}
