//! Deadlines of one connection.

use super::*;

const SHORT: Duration = Duration::from_secs(1);
const HALF_HEAD: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\nX: ";
const HALF_BODY: &[u8] = b"POST /read HTTP/1.1\r\nHost: h\r\nContent-Length: 1000\r\n\r\nhalf";

/// A little less than `SHORT`, because the deadline may start before the test's own clock.
const ALMOST: Duration = Duration::from_millis(800);

#[tokio::test]
async fn silent_connections_and_unfinished_requests_are_closed() {
    let running = running(64, Times { request: SHORT, ..TIMES }).await;
    for sent in [&b""[..], HALF_HEAD, HALF_BODY, b"PRI * HT"] {
        let mut stream = running.connect().await;
        stream.write_all(sent).await.unwrap();
        let took = closed(&mut stream).await;
        assert!(took > ALMOST, "{took:?}: {sent:?}");
    }
}

#[tokio::test]
async fn slow_bytes_do_not_extend_a_request() {
    let running = running(64, Times { request: SHORT, ..TIMES }).await;
    for sent in [HALF_HEAD, HALF_BODY] {
        let mut stream = running.connect().await;
        stream.write_all(sent).await.unwrap();
        let began = Instant::now();
        while stream.write_all(b"x").await.is_ok() {
            tokio::time::sleep(Duration::from_millis(50)).await;
            assert!(began.elapsed() < PATIENCE, "still open: {sent:?}");
        }
        assert!(began.elapsed() > ALMOST);
    }
}

#[tokio::test]
async fn a_second_request_has_its_own_deadline() {
    let running = running(64, Times { request: SHORT, ..TIMES }).await;
    let mut stream = running.connect().await;
    assert!(ask(&mut stream).await);
    tokio::time::sleep(SHORT * 2).await;
    assert!(ask(&mut stream).await, "an idle connection has no unfinished request");
    stream.write_all(HALF_HEAD).await.unwrap();
    assert!(closed(&mut stream).await > ALMOST);
}

#[tokio::test]
async fn idle_connections_are_closed_after_the_idle_time() {
    let running = running(64, Times { idle: SHORT, ..TIMES }).await;
    let mut stream = running.connect().await;
    tokio::time::sleep(SHORT * 2).await;
    assert!(ask(&mut stream).await, "a connection without a request is unfinished, not idle");
    assert!(closed(&mut stream).await > ALMOST);
}

#[tokio::test]
async fn response_that_is_not_read_is_aborted() {
    let mut running = running(64, Times { stall: SHORT, ..TIMES }).await;
    let mut stream = running.connect().await;
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    timeout(PATIENCE, running.over.recv()).await.expect("it ends");
    closed(&mut stream).await;
}

#[tokio::test]
async fn response_that_is_read_too_slowly_is_aborted() {
    let mut running = running(64, Times { response: SHORT, ..TIMES }).await;
    let mut stream = running.connect().await;
    stream.write_all(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    // The client reads all the time, but the response never ends.
    assert!(closed(&mut stream).await > ALMOST);
    timeout(PATIENCE, running.over.recv()).await.expect("it ends");
}

#[tokio::test]
async fn handler_has_no_deadline() {
    let short = Duration::from_millis(300);
    let running = running(64, Times { request: short, idle: short, stall: short, response: short }).await;
    let mut stream = running.connect().await;
    stream.write_all(b"GET /slow HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut response = String::new();
    timeout(PATIENCE, stream.read_to_string(&mut response)).await.unwrap().unwrap();
    assert!(response.ends_with("slow"), "{response}");
}
