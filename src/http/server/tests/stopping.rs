//! Shutdown of the server.

use super::*;

#[tokio::test]
async fn shutdown_finishes_requests_in_flight_and_closes_other_connections() {
    let mut running = running(64, TIMES).await;
    let mut idle = running.connect().await;
    assert!(ask(&mut idle).await);
    let mut silent = running.connect().await;
    let mut working = running.connect().await;
    working.write_all(b"GET /slow HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
    timeout(PATIENCE, running.begun.recv()).await.expect("it begins");

    running.stopping.cancel();
    let mut response = String::new();
    timeout(PATIENCE, working.read_to_string(&mut response)).await.unwrap().unwrap();
    assert!(response.ends_with("slow"), "{response}");
    closed(&mut idle).await;
    closed(&mut silent).await;
    timeout(PATIENCE, running.serving).await.expect("it ends").unwrap();
    assert!(TcpStream::connect(running.address).await.is_err(), "the listener is closed");
}
