//! What it can be told to do wrong.

use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::http::{Response, StatusCode};
use axum::response::IntoResponse;
use futures::StreamExt;
use serde::{Deserialize, Serialize};

use super::refusal::error;

/// What is wrong with its answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ApiFault {
    /// 429 with `Retry-After`, in seconds.
    TooMany(u32),
    /// 429 with the headers of the limit for bursts, which is reset in that many seconds.
    Burst(u32),
    /// This status, with an error in JSON.
    Status(u16),
    /// 200 with what is not JSON.
    Garbage,
    /// 200 with JSON that says something else.
    WrongShape,
    /// 200 with a body that does not end.
    Endless,
    /// 200 with a byte of body every 100 ms.
    Drip,
    /// No answer, ever.
    Hang,
    /// The connection ends without an answer; nothing was done.
    Close,
    /// What was asked for is done, and the connection ends without an answer.
    LoseAnswer,
}

/// What is wrong with its deliveries.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeliveryFault {
    /// Everything is delivered twice, at the same time.
    Twice,
    /// Nothing is delivered; it stays pending.
    Never,
    /// That many milliseconds before it may be.
    Early(u32),
}

/// The connection is to be closed.
#[derive(Debug)]
pub struct Close;

impl std::fmt::Display for Close {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed on purpose")
    }
}

impl std::error::Error for Close {}

/// The answer in place of the right one; `None` where the right one is to be made and lost.
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
        ApiFault::Status(status) => error(StatusCode::from_u16(status).expect("a status"), "told to fail"),
        ApiFault::Garbage => "<html>a proxy's page</html>".into_response(),
        ApiFault::WrongShape => axum::Json(serde_json::json!({"messageId": 1, "events": {}})).into_response(),
        ApiFault::Endless => stream(Duration::ZERO, Bytes::from_static(&[b' '; 16 * 1024])),
        ApiFault::Drip => stream(Duration::from_millis(100), Bytes::from_static(b" ")),
        ApiFault::Hang => std::future::pending().await,
        ApiFault::Close => return Some(Err(Close)),
        ApiFault::LoseAnswer => return None,
    }))
}
