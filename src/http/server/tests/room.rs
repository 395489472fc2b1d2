//! The limit on connections.

use super::*;

#[tokio::test]
async fn new_callers_are_served_despite_many_silent_connections() {
    let running = running(8, TIMES).await;
    let mut silent = Vec::new();
    for _ in 0..10 {
        for _ in 0..20 {
            silent.push(running.connect().await);
        }
        assert!(ask(&mut running.connect().await).await);
    }
    let mut oldest = silent.remove(0);
    closed(&mut oldest).await;
}

#[tokio::test]
async fn silent_connections_do_not_close_idle_ones() {
    let running = running(16, TIMES).await;
    let mut idle = Vec::new();
    for _ in 0..4 {
        let mut stream = running.connect().await;
        assert!(ask(&mut stream).await);
        idle.push(stream);
    }
    let mut silent = Vec::new();
    for _ in 0..100 {
        silent.push(running.connect().await);
    }
    // This caller is accepted after all of them.
    assert!(ask(&mut running.connect().await).await);
    for stream in &mut idle {
        assert!(ask(stream).await);
    }
}

#[tokio::test]
async fn the_oldest_idle_connection_makes_room_first() {
    let running = running(16, TIMES).await;
    let mut idle = Vec::new();
    for _ in 0..24 {
        let mut stream = running.connect().await;
        assert!(ask(&mut stream).await);
        idle.push(stream);
    }
    closed(&mut idle[0]).await;
    assert!(ask(&mut idle[23]).await);
}

#[tokio::test]
async fn unread_responses_make_room_as_a_last_resort() {
    let mut running = running(2, TIMES).await;
    let mut slow = Vec::new();
    for _ in 0..2 {
        let mut stream = running.connect().await;
        stream.write_all(b"GET /endless HTTP/1.1\r\nHost: h\r\n\r\n").await.unwrap();
        stream.read_u8().await.unwrap();
        slow.push(stream);
    }
    assert!(ask(&mut running.connect().await).await);
    timeout(PATIENCE, running.over.recv()).await.expect("one has ended");
}

#[tokio::test]
async fn connections_with_a_handler_at_work_are_not_closed() {
    let mut running = running(2, TIMES).await;
    let mut working = Vec::new();
    for _ in 0..2 {
        let mut stream = running.connect().await;
        stream.write_all(b"GET /slow HTTP/1.1\r\nHost: h\r\nConnection: close\r\n\r\n").await.unwrap();
        timeout(PATIENCE, running.begun.recv()).await.expect("it begins");
        working.push(stream);
    }
    assert!(ask(&mut running.connect().await).await, "it is served after them");
    for mut stream in working {
        let mut response = String::new();
        timeout(PATIENCE, stream.read_to_string(&mut response)).await.unwrap().unwrap();
        assert!(response.ends_with("slow"), "{response}");
    }
}
