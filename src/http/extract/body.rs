//! Reads request bodies within limits on length and time.

use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::http::header::{CONTENT_LENGTH, EXPECT};
use futures::StreamExt;
use tokio::time::timeout;

use crate::http::ApiError;

/// Maximum length of a body, in bytes.
pub(in crate::http) const MAX_BODY: usize = 64 * 1024;
/// Timeout for receiving a body.
const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads the body of a request, byte for byte. Fails with 413 if it is too long, 408 if it is late, and 400 if it is
/// incomplete.
pub(in crate::http) async fn read(request: Request) -> Result<Vec<u8>, ApiError> {
    read_up_to(request, MAX_BODY).await
}

/// Reads a body like [`read`], of at most `max` bytes.
pub(in crate::http) async fn read_up_to(request: Request, max: usize) -> Result<Vec<u8>, ApiError> {
    let (parts, body) = request.into_parts();
    let announced = parts.headers.get(CONTENT_LENGTH).and_then(|value| value.to_str().ok()?.parse().ok());
    if announced.is_some_and(|length: u64| length > max as u64) && parts.headers.contains_key(EXPECT) {
        // The client waits for `100 Continue` and has not sent the body.
        return Err(ApiError::TooLarge(max));
    }
    timeout(BODY_TIMEOUT, collect(body, max)).await.map_err(|_| ApiError::BodyTimeout)?
}

async fn collect(body: Body, max: usize) -> Result<Vec<u8>, ApiError> {
    let mut stream = body.into_data_stream();
    let mut bytes = Vec::new();
    while let Some(chunk) = stream.next().await {
        let chunk = chunk.map_err(|_| ApiError::Body("the body is incomplete".to_owned()))?;
        if bytes.len() + chunk.len() > max {
            // `layers::observed` reads and discards the rest.
            return Err(ApiError::TooLarge(max));
        }
        bytes.extend_from_slice(&chunk);
    }
    Ok(bytes)
}
