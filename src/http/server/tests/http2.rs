//! HTTP/2 without TLS, as proxies use it internally.

use super::*;

fn client() -> reqwest::Client {
    let _ = rustls::crypto::ring::default_provider().install_default();
    reqwest::Client::builder().no_proxy().http2_prior_knowledge().build().unwrap()
}

#[tokio::test]
async fn http2_is_served_and_closed_when_idle() {
    let idle = Duration::from_secs(1);
    let running = running(64, Times { idle, ..TIMES }).await;
    let client = client();
    for _ in 0..3 {
        let response = client.get(format!("http://{}/", running.address)).send().await.unwrap();
        assert_eq!(response.version(), reqwest::Version::HTTP_2);
        assert_eq!(response.text().await.unwrap(), "ok");
    }
    running.stopping.cancel();
    timeout(PATIENCE, running.serving).await.expect("it ends").unwrap();
}

#[tokio::test]
async fn http2_without_a_request_is_closed() {
    let running = running(64, Times { request: Duration::from_secs(1), ..TIMES }).await;
    let mut stream = running.connect().await;
    // The preface and an empty SETTINGS frame.
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await.unwrap();
    closed(&mut stream).await;
}

#[tokio::test]
async fn http2_connections_are_closed_when_idle() {
    let running = running(64, Times { idle: Duration::from_secs(1), ..TIMES }).await;
    let stream = running.connect().await;
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = axum::http::Request::get(format!("http://{}/", running.address)).body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    assert_eq!(response.await.unwrap().status(), 200);
    timeout(PATIENCE, connection).await.expect("it is closed").unwrap().unwrap();
}

#[tokio::test]
async fn http2_response_that_is_not_read_is_aborted() {
    let mut running = running(64, Times { stall: Duration::from_secs(1), ..TIMES }).await;
    let stream = running.connect().await;
    let (mut sender, connection) = h2::client::handshake(stream).await.unwrap();
    let connection = tokio::spawn(connection);
    let request = axum::http::Request::get(format!("http://{}/endless", running.address)).body(()).unwrap();
    let (response, _) = sender.send_request(request, true).unwrap();
    // Received data is not acknowledged, so the flow-control window stays closed.
    let _kept = response.await.unwrap();
    timeout(PATIENCE, running.over.recv()).await.expect("it ends");
    let _ = timeout(PATIENCE, connection).await.expect("it is closed");
}
