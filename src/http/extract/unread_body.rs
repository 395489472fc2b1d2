//! Reads the rest of a body that an early response left unread.
//!
//! If the connection is closed while the client is still sending, the client gets a reset and may never see the
//! response. Python's clients send head and body separately, and a 401 or 503 only needs the head. Therefore the rest
//! of the body is read and discarded before the response is sent, within limits.

use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::http::header::EXPECT;
use axum::middleware::Next;
use axum::response::Response;
use futures::StreamExt;
use http_body::{Body as HttpBody, Frame, SizeHint};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Maximum number of bytes that are read and discarded.
const MAX_DRAINED: usize = 4 << 20;
/// Timeout for reading them.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);

/// Middleware that delays the response until the rest of the body has arrived.
pub(in crate::http) async fn read_to_the_end(request: Request, next: Next) -> Response {
    // A client that waits for `100 Continue` does not send the body after this response.
    if request.body().is_end_stream() || request.headers().contains_key(EXPECT) {
        return next.run(request).await;
    }
    let (give_back, mut left) = oneshot::channel();
    let request = request.map(|body| Body::new(Lent { body, give_back: Some(give_back) }));
    let response = next.run(request).await;
    if let Ok(body) = left.try_recv() {
        // Best effort: the response is the same.
        let _ = timeout(DRAIN_TIMEOUT, drain(body)).await;
    }
    response
}

async fn drain(body: Body) {
    let mut stream = body.into_data_stream();
    let mut drained = 0;
    while let Some(Ok(chunk)) = stream.next().await {
        drained += chunk.len();
        if drained > MAX_DRAINED {
            return;
        }
    }
}

/// A body that is returned through `give_back` if its reader drops it before its end.
struct Lent {
    body: Body,
    give_back: Option<oneshot::Sender<Body>>,
}

impl HttpBody for Lent {
    type Data = Bytes;
    type Error = axum::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        context: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, axum::Error>>> {
        let frame = Pin::new(&mut self.body).poll_frame(context);
        if matches!(frame, Poll::Ready(None | Some(Err(_)))) {
            self.give_back = None;
        }
        frame
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}

impl Drop for Lent {
    fn drop(&mut self) {
        if let Some(give_back) = self.give_back.take().filter(|_| !self.body.is_end_stream()) {
            // The receiver is gone if the client disconnected.
            let _ = give_back.send(std::mem::take(&mut self.body));
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::Router;
    use axum::http::StatusCode;
    use axum::routing::post;
    use futures::stream;
    use tower::ServiceExt;

    use super::*;

    /// Posts `chunks` of 1 KiB to a handler. Returns how many were read before the response.
    async fn chunks_read(chunks: usize, path: &str, expect: bool) -> usize {
        let router = Router::new()
            .route("/refused", post(async || StatusCode::UNAUTHORIZED))
            .route("/read", post(async |body: Bytes| body.len().to_string()))
            .layer(axum::middleware::from_fn(read_to_the_end));
        let count = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&count);
        let body = stream::iter(0..chunks).map(move |_| {
            counter.fetch_add(1, Ordering::SeqCst);
            Ok::<_, std::io::Error>(Bytes::from_static(&[b'x'; 1024]))
        });
        let mut request = Request::post(path).body(Body::from_stream(body)).unwrap();
        if expect {
            request.headers_mut().insert(EXPECT, "100-continue".parse().unwrap());
        }
        router.oneshot(request).await.unwrap();
        count.load(Ordering::SeqCst)
    }

    #[tokio::test]
    async fn unread_body_is_read_up_to_a_limit() {
        assert_eq!(chunks_read(0, "/refused", false).await, 0);
        assert_eq!(chunks_read(64, "/refused", false).await, 64);
        assert_eq!(chunks_read(64, "/read", false).await, 64);
        assert_eq!(chunks_read(100_000, "/refused", false).await, MAX_DRAINED / 1024 + 1);
    }

    #[tokio::test]
    async fn client_that_waits_for_100_continue_does_not_delay_the_response() {
        assert_eq!(chunks_read(64, "/refused", true).await, 0);
    }

    #[tokio::test(start_paused = true)]
    async fn missing_rest_of_a_body_delays_the_response_by_two_seconds() {
        let router = Router::new()
            .route("/", post(async || StatusCode::UNAUTHORIZED))
            .layer(axum::middleware::from_fn(read_to_the_end));
        let never = Body::from_stream(stream::pending::<Result<Bytes, std::io::Error>>());
        let began = tokio::time::Instant::now();
        let response = router.oneshot(Request::post("/").body(never).unwrap()).await.unwrap();
        assert_eq!((response.status(), began.elapsed()), (StatusCode::UNAUTHORIZED, DRAIN_TIMEOUT));
    }
}
