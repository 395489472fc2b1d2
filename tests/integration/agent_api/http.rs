//! HTTP: methods, paths, connections.

use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fixture::{CANCEL, LIST, PROVISION, World};

/// One connection, used with raw bytes.
struct Connection(TcpStream);

impl Connection {
    async fn open(world: &World) -> Self {
        let address = world.service.url.strip_prefix("http://").unwrap();
        Self(TcpStream::connect(address).await.unwrap())
    }

    /// Sends a request and reads the response: status, head, body.
    async fn ask(&mut self, line: &str, token: &str, extra: &str, body: &[u8]) -> (u16, String, Vec<u8>) {
        let head = format!(
            "{line} HTTP/1.1\r\nHost: nas\r\nAuthorization: Bearer {token}\r\nContent-Length: {}\r\n{extra}\r\n",
            body.len()
        );
        self.0.write_all(head.as_bytes()).await.unwrap();
        self.0.write_all(body).await.unwrap();
        self.answer().await
    }

    async fn answer(&mut self) -> (u16, String, Vec<u8>) {
        let mut head = Vec::new();
        while !head.ends_with(b"\r\n\r\n") {
            head.push(self.0.read_u8().await.expect("the connection stays open"));
        }
        let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
        let status = head[9..12].parse().unwrap();
        let length = head.split("content-length: ").nth(1).and_then(|rest| rest.split("\r\n").next());
        let mut body = vec![0; length.expect("a length").parse().unwrap()];
        self.0.read_exact(&mut body).await.unwrap();
        (status, head, body)
    }
}

#[tokio::test]
async fn contract_wrong_methods_are_405_and_unknown_paths_404_in_json() {
    let world = World::start().await;
    let token = Some(world.token.as_str());
    for (path, allowed) in [(PROVISION, "POST"), (CANCEL, "POST"), (LIST, "GET,HEAD")] {
        for method in ["GET", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "BREW"] {
            if allowed.contains(method) {
                continue;
            }
            for token in [token, None] {
                let answer = world.call(method, path, token, "").await;
                answer.refused(405, "method_not_allowed");
                assert_eq!(answer.header("allow"), Some(allowed), "{method} {path}");
            }
        }
    }
    for path in [
        "/",
        "/api",
        "/api/agent-cron",
        "/api/agent-cron/",
        "/api/agent-cron/provision/",
        "/api/agent-cron/provision/x",
        "/api/agent-cron/Provision",
        "/api//agent-cron/list",
        "/api/agent-cron/%6cist/x",
        "/api/cron/fire",
        "/api/agent-cron/..%2f..%2fadmin",
    ] {
        for method in ["GET", "POST"] {
            let answer = world.call(method, path, token, "{}").await;
            if path.starts_with("/api/agent-cron") {
                answer.refused(404, "not_found");
                continue;
            }
            // No agent calls it.
            assert_eq!((answer.status, &answer.body["error"]), (404, &json!("not_found")), "{path}");
            assert_eq!(answer.header("content-type"), Some("application/problem+json"), "{path}");
        }
    }
}

#[tokio::test]
async fn contract_a_connection_is_kept_alive_after_successes_and_errors() {
    let world = World::start().await;
    let mut connection = Connection::open(&world).await;
    let good = world.body(&json!({})).to_string();
    let long = world.body(&json!({"note": "x".repeat(1 << 20)})).to_string();
    let mut schedules = Vec::new();
    for _ in 0..3 {
        for (line, token, body, expected) in [
            ("POST /api/agent-cron/provision", &*world.token, &*good, 200),
            ("POST /api/agent-cron/provision", &*world.token, "{", 400),
            ("POST /api/agent-cron/provision", &*world.token, &*long, 413),
            ("GET /api/agent-cron/provision", &*world.token, "", 405),
            ("POST /api/agent-cron/provision", "bad", &*good, 401),
            ("GET /nowhere", &*world.token, "", 404),
            ("GET /api/agent-cron/list", &*world.token, "", 200),
            ("POST /api/agent-cron/cancel", &*world.token, r#"{"job_id":"unknown"}"#, 200),
        ] {
            let (status, head, answer) = connection.ask(line, token, "", body.as_bytes()).await;
            assert_eq!(status, expected, "{line}: {head}");
            assert!(head.contains("x-request-id: "), "{head}");
            if expected == 200 && line.ends_with("provision") {
                schedules.push(answer);
            }
        }
    }
    assert!(schedules.iter().all(|one| *one == schedules[0]), "the same key, the same schedule");
    // Like Python's urllib: one request per connection.
    let (status, _, _) =
        connection.ask("GET /api/agent-cron/list", &world.token, "Connection: close\r\n", b"").await;
    assert_eq!((status, connection.0.read_u8().await.is_err()), (200, true));
}

#[tokio::test]
async fn contract_expect_100_continue_is_answered() {
    let world = World::start().await;
    let ask = async |length: usize| {
        let mut connection = Connection::open(&world).await;
        let head = format!(
            "POST {PROVISION} HTTP/1.1\r\nHost: nas\r\nAuthorization: Bearer {}\r\nContent-Length: {length}\r\n\
             Expect: 100-continue\r\n\r\n",
            world.token
        );
        connection.0.write_all(head.as_bytes()).await.unwrap();
        connection
    };
    let (status, ..) = ask(1 << 20).await.answer().await;
    assert_eq!(status, 413, "rejected before the body was sent");
    let body = world.body(&json!({})).to_string();
    let mut connection = ask(body.len()).await;
    let mut head = [0; 25];
    connection.0.read_exact(&mut head).await.unwrap();
    assert_eq!(&head, b"HTTP/1.1 100 Continue\r\n\r\n");
    connection.0.write_all(body.as_bytes()).await.unwrap();
    assert_eq!(connection.answer().await.0, 200);
}

#[tokio::test]
async fn contract_a_chunked_request_body_is_accepted() {
    let world = World::start().await;
    let body = world.body(&json!({})).to_string();
    let chunks: Vec<_> =
        body.as_bytes().chunks(7).map(|chunk| Ok::<_, std::io::Error>(chunk.to_vec())).collect();
    let stream = reqwest::Body::wrap_stream(futures::stream::iter(chunks));
    world.call("POST", PROVISION, Some(&world.token), stream).await.schedule_id();
    let endless = futures::stream::iter((0..1024).map(|_| Ok::<_, std::io::Error>(vec![b' '; 1024])));
    let answer = world.call("POST", PROVISION, Some(&world.token), reqwest::Body::wrap_stream(endless)).await;
    answer.refused(413, "invalid_request");
}
