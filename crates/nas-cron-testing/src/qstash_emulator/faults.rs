//! Faults that can be injected.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::refusal::error;

/// A fault of its API responses.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiFault {
    /// 429 with `Retry-After`, in seconds.
    TooMany(u32),
    /// 429 with the headers of the burst limit, which is reset in that many seconds.
    Burst(u32),
    /// This status, with an error in JSON.
    Status(u16),
    /// 200 with a body other than JSON.
    Garbage,
    /// 200 with JSON of the wrong shape.
    WrongShape,
    /// 200 with JSON that ends in the middle, with the connection.
    Truncated,
    /// 200 with a body that does not end.
    Endless,
    /// 200 with a byte of body every 100 ms.
    Drip,
    /// No response, while the connection stays open.
    Hang,
    /// The connection closes without a response, and the call has no effect.
    Close,
    /// The call takes effect, and the connection closes without a response.
    LoseAnswer,
}

/// A fault of its deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryFault {
    /// Delivers every message twice, concurrently.
    Twice,
    /// Delivers nothing; messages stay pending.
    Never,
    /// Delivers that many milliseconds early.
    Early(u32),
}

/// Closes the connection.
#[derive(Debug)]
pub struct Close;

impl std::fmt::Display for Close {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed on purpose")
    }
}

impl std::error::Error for Close {}

/// Returns the response of a fault, or `None` if the call must take effect and its response be lost.
pub(super) async fn answer(fault: ApiFault) -> Option<Result<Response<Body>, Close>> {
    let stream = |pause: Duration, chunk: Bytes| {
        let chunks = futures::stream::repeat(chunk).then(move |chunk| async move {
            tokio::time::sleep(pause).await;
            Ok::<_, std::convert::Infallible>(chunk)
        });
        Body::from_stream(chunks).into_response()
    };
    Some(Ok(match fault {
        ApiFault::TooMany(seconds) => {
            (StatusCode::TOO_MANY_REQUESTS, [("retry-after", seconds.to_string())]).into_response()
        }
        ApiFault::Burst(seconds) => {
            let reset = super::now().timestamp() + i64::from(seconds);
            let headers = [
                ("burst-ratelimit-limit", "100".to_owned()),
                ("burst-ratelimit-remaining", "0".to_owned()),
                ("burst-ratelimit-reset", reset.to_string()),
            ];
            (StatusCode::TOO_MANY_REQUESTS, headers).into_response()
        }
        ApiFault::Status(status) => error(StatusCode::from_u16(status).expect("a status"), "injected fault"),
        ApiFault::Garbage => "<html>a proxy's page</html>".into_response(),
        ApiFault::WrongShape => axum::Json(serde_json::json!({"messageId": 1, "events": {}})).into_response(),
        ApiFault::Truncated => {
            let start = Ok(Bytes::from_static(br#"{"messageId":"msg_"#));
            Body::from_stream(futures::stream::iter([start, Err(Close)])).into_response()
        }
        ApiFault::Endless => stream(Duration::ZERO, Bytes::from_static(&[b' '; 16 * 1024])),
        ApiFault::Drip => stream(Duration::from_millis(100), Bytes::from_static(b" ")),
        ApiFault::Hang => std::future::pending().await,
        ApiFault::Close => return Some(Err(Close)),
        ApiFault::LoseAnswer => return None,
    }))
}
