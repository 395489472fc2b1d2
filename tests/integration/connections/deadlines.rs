//! Timeouts of a connection.

use std::time::{Duration, Instant};

use nas_cron_testing::time::PATIENCE;
use nas_cron_testing::world::{World, eventually};
use tokio::io::AsyncWriteExt;

use super::fixture::{Connection, closed_for};

const HALF_HEAD: &[u8] = b"POST /api/agent-cron/provision HTTP/1.1\r\nHost: nas\r\nX: ";
/// Thirty seconds, less the tolerance of the test's clock.
const ALMOST: Duration = Duration::from_secs(28);

/// Sends `head`, and then a byte every second until the server closes the connection. Returns the time that this took.
async fn dripping(url: &str, head: &[u8]) -> Duration {
    let mut connection = Connection::open(url).await;
    connection.send(head).await;
    let began = Instant::now();
    while connection.0.write_all(b"x").await.is_ok() {
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert!(began.elapsed() < PATIENCE, "it goes on");
    }
    began.elapsed()
}

/// Sends `head` and nothing more, and returns the time until the server closed the connection.
async fn left(url: &str, head: &[u8]) -> Duration {
    let mut connection = Connection::open(url).await;
    connection.send(head).await;
    connection.closed().await
}

#[tokio::test]
async fn unfinished_requests_are_closed_after_30_seconds() {
    let world = World::new().await;
    let (public, metrics) = (&*world.service.url, &*world.service.metrics_url);
    let half_body = format!(
        "POST /api/agent-cron/provision HTTP/1.1\r\nHost: nas\r\nAuthorization: Bearer {}\r\n\
         Content-Length: 1000\r\n\r\n{{",
        world.token
    );
    let (silent, half_head, dripped_head, metrics_silent, metrics_head, half, dripped_body) = tokio::join!(
        left(public, b""),
        left(public, HALF_HEAD),
        dripping(public, HALF_HEAD),
        left(metrics, b""),
        left(metrics, HALF_HEAD),
        left(public, half_body.as_bytes()),
        dripping(public, half_body.as_bytes()),
    );
    for (took, what) in [
        (silent, "silent"),
        (half_head, "half a head"),
        (dripped_head, "a dripping head"),
        (metrics_silent, "silent, at the metrics"),
        (metrics_head, "half a head, at the metrics"),
    ] {
        assert!(took > ALMOST, "{what}: {took:?}");
    }
    // The route's own timeout is shorter; the server's applies to routes without one.
    assert!(half < PATIENCE && dripped_body < PATIENCE);
    assert!(closed_for(&world, "public", "unfinished").await >= 3);
    assert!(closed_for(&world, "metrics", "unfinished").await >= 2);
}

#[tokio::test]
async fn unread_responses_are_aborted() {
    let world = World::new().await;
    let mut connection = Connection::open(&world.service.url).await;
    // Each response is some ten kilobytes: together they are more than the system buffers.
    let request = b"GET /openapi.json HTTP/1.1\r\nHost: nas\r\n\r\n".repeat(1_000);
    connection.send(&request).await;
    eventually("it is closed", async || {
        (closed_for(&world, "public", "slow_reader").await == 1).then_some(())
    })
    .await;
    connection.closed().await;
}

#[tokio::test]
async fn idle_connections_are_kept_for_the_configured_time() {
    let world = World::with(|settings| settings.with("NAS_CRON_CONNECTION_IDLE_TIMEOUT", "3s")).await;
    let mut connection = Connection::open(&world.service.url).await;
    for pause in [0, 1, 1] {
        tokio::time::sleep(Duration::from_secs(pause)).await;
        connection.send(b"GET /healthz HTTP/1.1\r\nHost: nas\r\n\r\n").await;
        assert_eq!(connection.status().await, Some(200));
    }
    let took = connection.closed().await;
    assert!(took > Duration::from_millis(2_500), "{took:?}");
    assert!(closed_for(&world, "public", "idle").await >= 1);
}
