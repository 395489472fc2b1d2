//! The client against real sockets. Deadlines are triggered by events at the agent, not by the clock, except where the
//! agent sees nothing (a connection that is never established).

use std::net::IpAddr;

use nas_cron_base::clock::{ManualClock, steady};
use tokio::net::TcpSocket;
use tokio::sync::oneshot;

use self::agent::{Agent, Connection};
use super::*;

mod agent;
mod tls;

const TOKEN: &str = "eyJhbGciOiJFUzI1NiJ9.eyJhdWQiOiJhZ2VudDp4In0.c2lnbmF0dXJl";
const BODY: &str = r#"{"job_id":"abc","fire_at":"2026-06-18T12:34:56+00:00","auth":{"key":"agent-secret"}}"#;
/// Longer than any test may take: a test that reaches it fails.
const LONG: Duration = Duration::from_mins(1);
const ATTEMPT: Uuid = Uuid::from_u128(0x7f3f_0c5e_0d5a_4f0a_9d1a_3f8f_5f0c_5e0d);

fn fire(token: &str) -> Fire<'_> {
    let body = Bytes::from_static(BODY.as_bytes());
    Fire { token, body, attempt_id: ATTEMPT, trace: TraceContext::of_callback(ATTEMPT, true) }
}

fn client_with(allow: &[&str], config: &ClientConfig) -> AgentClient {
    client_with_clock(allow, config, ManualClock::at("2026-06-18T12:00:00Z".parse().expect("an instant")))
}

fn client_with_clock(allow: &[&str], config: &ClientConfig, clock: impl Clock) -> AgentClient {
    let ip = |text: &str| text.parse::<IpAddr>().expect(text);
    let names = [
        ("agent.test", vec![ip("127.0.0.1")]),
        ("rebound.test", vec![ip("169.254.169.254"), ip("10.0.0.1"), ip("127.0.0.1")]),
        ("public.test", vec![ip("8.8.8.8")]),
    ];
    let names = Names::Table(names.map(|(name, ips)| (name.to_owned(), ips)).into());
    let allow = allow.iter().map(|network| network.parse().expect(network)).collect();
    AgentClient::with_names(AddressPolicy::new(allow), config, Arc::new(clock), &names).expect("a client")
}

fn client() -> AgentClient {
    client_with(&["127.0.0.0/8"], &ClientConfig::default())
}

fn membership() -> Membership {
    Membership::new(1, steady() + LONG)
}

fn permit_until(not_after: Instant) -> Permit {
    Permit { not_after, membership: membership() }
}

/// Posts a fire, and checks that the result contains no secret of the request.
async fn post(client: &AgentClient, base: &str, deadline: impl Future<Output = ()>) -> Answer {
    let url = base.parse().expect(base);
    let permit = permit_until(Instant::now() + Duration::from_mins(1));
    let answer = client.post_until(&url, fire(TOKEN), permit, deadline).await.expect("no shortage");
    let shown = format!("{answer:?} {client:?}");
    assert!(!shown.contains(TOKEN) && !shown.contains("agent-secret"), "{shown}");
    answer
}

#[tokio::test]
async fn nothing_is_written_after_the_deadline_by_the_monotonic_clock() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let seen = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut seen).await;
        String::from_utf8_lossy(&seen).into_owned()
    });
    let client = client();
    // As after a SIGSTOP: the timer has not fired yet, the clock has moved on.
    let late = Instant::now().checked_sub(Duration::from_millis(1)).unwrap();
    let permit = permit_until(late);
    let answer =
        client.post_until(&url, fire(TOKEN), permit, std::future::pending()).await.expect("an answer");
    assert!(matches!(answer, Answer::Refused(_)), "{answer:?}");
    drop(client);
    assert!(!seen.await.unwrap().contains(BODY));
}

#[tokio::test]
async fn nothing_is_written_without_a_valid_membership() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let membership = membership();
    // The connection is open when the membership ends.
    let (accepted, ended) = (listener.accept(), membership.clone());
    let seen = async {
        let (mut stream, _) = accepted.await.unwrap();
        ended.end();
        let mut seen = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut seen).await;
        String::from_utf8_lossy(&seen).into_owned()
    };
    let client = client();
    let post = async move { client.post_fire(&url, fire(TOKEN), LONG, &membership).await };
    let (answer, seen) = tokio::join!(post, seen);
    assert_eq!(answer.expect_err("nothing was sent").reason, Deferral::Database);
    assert!(!seen.contains(BODY), "{seen}");
}

#[tokio::test]
async fn request_in_flight_is_aborted_as_ambiguous_when_the_membership_lapses() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap()).parse().unwrap();
    let membership = membership();
    let ended = membership.clone();
    let seen = async {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut seen = Vec::new();
        while !String::from_utf8_lossy(&seen).contains(BODY) {
            tokio::io::AsyncReadExt::read_buf(&mut stream, &mut seen).await.unwrap();
        }
        ended.end();
        let mut rest = Vec::new();
        let _ = tokio::io::AsyncReadExt::read_to_end(&mut stream, &mut rest).await;
    };
    let client = client();
    let post = async move { client.post_fire(&url, fire(TOKEN), LONG, &membership).await };
    // The agent sees the end of the connection.
    let (answer, ()) = tokio::join!(post, seen);
    assert_eq!(answer.expect("it was sent"), Answer::Ambiguous(Ambiguous::Aborted));
}

async fn post_patiently(client: &AgentClient, base: &str) -> Answer {
    post(client, base, tokio::time::sleep(LONG)).await
}

fn response(status: u16, retry_after: Option<u64>, body: &str) -> Answer {
    Answer::Response { status, retry_after: retry_after.map(Duration::from_secs), body: body.to_owned() }
}

/// A port without a listener.
async fn closed_port() -> u16 {
    Agent::listen().await.port()
}

#[test]
fn fire_endpoint_is_below_the_base_url() {
    for (base, url) in [
        ("https://agent.example", "https://agent.example/api/cron/fire"),
        ("https://agent.example/", "https://agent.example/api/cron/fire"),
        ("https://agent.example:8443/a/b", "https://agent.example:8443/a/b/api/cron/fire"),
        ("https://agent.example/a%2Fb//", "https://agent.example/a%2Fb/api/cron/fire"),
        ("https://agent.example/a#fragment", "https://agent.example/a/api/cron/fire"),
    ] {
        assert_eq!(fire_url(&base.parse().expect(base)).as_str(), url);
    }
}

#[tokio::test]
async fn request_follows_the_contract() {
    let agent = Agent::listen().await;
    let base = agent.base("/prefix/");
    let seen = tokio::spawn(async move {
        let mut connection = agent.accept().await;
        let request = connection.read_request().await;
        connection.write("HTTP/1.1 202 Accepted\r\ncontent-length: 2\r\n\r\nok").await;
        request
    });
    assert_eq!(post_patiently(&client(), &base).await, response(202, None, "ok"));
    let request = seen.await.expect("the agent");
    let (head, body) = request.split_once("\r\n\r\n").expect("a head");
    assert_eq!(body, BODY);
    assert!(head.starts_with("POST /prefix/api/cron/fire HTTP/1.1\r\n"), "{head}");
    let head = head.to_lowercase();
    for header in [
        &format!("authorization: bearer {}", TOKEN.to_lowercase()),
        "content-type: application/json",
        &format!("content-length: {}", BODY.len()),
        concat!("user-agent: nas-cron/", env!("CARGO_PKG_VERSION")),
    ] {
        assert!(head.lines().any(|line| line == header), "{header}: {head}");
    }
}

#[tokio::test]
async fn every_status_is_a_response() {
    for (answer, expected) in [
        ("HTTP/1.1 204 No Content\r\n\r\n", response(204, None, "")),
        ("HTTP/1.1 200 OK\r\n\r\n{\"status\":\"gone\"}", response(200, None, r#"{"status":"gone"}"#)),
        ("HTTP/1.0 401 Unauthorized\r\n\r\nno\u{fffd}", response(401, None, "no\u{fffd}")),
        ("HTTP/1.1 503 No\r\nretry-after: 60\r\ncontent-length: 0\r\n\r\n", response(503, Some(60), "")),
        // By the client's clock …
        (
            "HTTP/1.1 503 No\r\nretry-after: Thu, 18 Jun 2026 12:01:30 GMT\r\n\r\n",
            response(503, Some(90), ""),
        ),
        // … or by the agent's, if it sends a `Date`.
        (
            "HTTP/1.1 429 No\r\ndate: Thu, 18 Jun 2026 15:00:00 GMT\r\nretry-after: Thu, 18 Jun 2026 15:00:05 GMT\r\n\r\n",
            response(429, Some(5), ""),
        ),
        (
            "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\n\r\nHTTP/1.1 202 Yes\r\n\r\n",
            response(202, None, ""),
        ),
        // A body that ends too early does not change the result.
        ("HTTP/1.1 202 Yes\r\ncontent-length: 10\r\n\r\ncut", response(202, None, "cut")),
        (
            "HTTP/1.1 200 Yes\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\nnonsense",
            response(200, None, "abc"),
        ),
    ] {
        let (base, _) = Agent::plays(async move |mut connection: Connection| {
            connection.read_request().await;
            connection.write(answer).await;
        })
        .await;
        assert_eq!(post_patiently(&client(), &base).await, expected, "{answer}");
    }
}

#[tokio::test]
async fn echoed_secrets_are_redacted() {
    let (base, _) = Agent::plays(async |mut connection: Connection| {
        let request = connection.read_request().await;
        connection.write(&format!("HTTP/1.1 422 No\r\n\r\n{request}")).await;
    })
    .await;
    let Answer::Response { status: 422, body, .. } = post_patiently(&client(), &base).await else {
        panic!("no 422");
    };
    assert!(body.contains("Bearer [redacted]") && body.contains(r#""key":"[redacted]""#), "{body}");
}

#[tokio::test]
async fn redirects_are_not_followed() {
    // With the body, and, as it would be after a 303, without.
    for status in [301, 302, 303, 307, 308] {
        let elsewhere = Agent::listen().await;
        let location = elsewhere.base("/");
        let answer = format!("HTTP/1.1 {status} Over there\r\nlocation: {location}\r\n\r\n");
        let (base, _) = Agent::plays(move |mut connection: Connection| {
            let answer = answer.clone();
            async move {
                connection.read_request().await;
                connection.write(&answer).await;
            }
        })
        .await;
        // A client that follows the redirect gets no response; the deadline keeps the failure fast.
        let deadline = async { drop(elsewhere.accept().await) };
        assert_eq!(post(&client(), &base, deadline).await, response(status, None, ""));
        assert!(elsewhere.is_untouched());
    }
}

#[tokio::test]
async fn forbidden_addresses_are_not_dialled() {
    use crate::fire::address_policy::AddressError::{NameNotPermitted, NotPermitted, PlainHttp};
    let agent = Agent::listen().await;
    let port = agent.port();
    let refused = |ip: &str| Answer::Refused(Refused::Address(NotPermitted(ip.parse().expect(ip))));
    let plain = || Answer::Refused(Refused::Address(PlainHttp));
    let name = || Answer::Refused(Refused::Address(NameNotPermitted));
    let (nothing, private) = (Vec::new(), vec!["10.0.0.0/8"]);
    for (allow, base, expected) in [
        (&nothing, format!("https://127.0.0.1:{port}"), refused("127.0.0.1")),
        (&nothing, format!("https://0x7f.1:{port}"), refused("127.0.0.1")),
        (&nothing, format!("https://[::ffff:127.0.0.1]:{port}"), refused("::ffff:127.0.0.1")),
        (&nothing, format!("https://agent.test:{port}"), name()),
        (&nothing, format!("http://agent.test:{port}"), plain()),
        (&nothing, "https://rebound.test".to_owned(), name()),
        // Plain http to a name needs every address in the allow-list, also a public one.
        (&private, "http://public.test".to_owned(), plain()),
        (&private, format!("http://agent.test:{port}"), name()),
    ] {
        let client = client_with(allow, &ClientConfig::default());
        assert_eq!(post_patiently(&client, &base).await, expected, "{base}");
    }
    assert!(agent.is_untouched());
}

#[tokio::test]
async fn checked_address_is_the_dialled_one() {
    let (base, _) = Agent::plays(async |mut connection: Connection| {
        connection.read_request().await;
        connection.write("HTTP/1.1 202 Yes\r\n\r\n").await;
    })
    .await;
    // The name has two more addresses, which come first and must be skipped.
    let base = base.replace("127.0.0.1", "rebound.test");
    assert_eq!(post_patiently(&client(), &base).await, response(202, None, ""));
}

#[tokio::test]
async fn failed_connection_is_a_refusal() {
    let port = closed_port().await;
    for base in [format!("http://127.0.0.1:{port}"), format!("https://agent.test:{port}")] {
        match post_patiently(&client(), &base).await {
            Answer::Refused(Refused::Connect(why)) => assert!(why.contains("refused"), "{why}"),
            other => panic!("{other:?}"),
        }
    }
    match post_patiently(&client(), "https://unknown.test").await {
        Answer::Refused(Refused::Dns(why)) => assert_eq!(why, "no such name"),
        other => panic!("{other:?}"),
    }
    let url = "https://agent.test".parse().expect("a URL");
    let answer = client().post_fire(&url, fire("line\nbreak"), LONG, &membership()).await.expect("an answer");
    assert!(matches!(answer, Answer::Refused(Refused::Request(_))), "{answer:?}");
}

#[tokio::test]
async fn timeout_while_connecting_is_a_refusal() {
    // A full accept queue: the kernel drops every further SYN.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.bind("127.0.0.1:0".parse().expect("an address")).expect("bound");
    let listener = socket.listen(0).expect("a listener");
    let address = listener.local_addr().expect("an address");
    let _fills_the_queue = tokio::net::TcpStream::connect(address).await.expect("a connection");

    let base = format!("http://{address}");
    let short = Duration::from_millis(50);
    assert_eq!(post(&client(), &base, tokio::time::sleep(short)).await, Answer::Refused(Refused::Timeout));
    let hasty = ClientConfig { connect_timeout: short, ..ClientConfig::default() };
    let hasty = client_with(&["127.0.0.0/8"], &hasty);
    assert_eq!(post_patiently(&hasty, &base).await, Answer::Refused(Refused::Timeout));
    // A TLS handshake that hangs is a refusal, too.
    let listener = Agent::listen().await;
    let base = listener.base("").replace("http:", "https:");
    assert_eq!(post_patiently(&hasty, &base).await, Answer::Refused(Refused::Timeout));
}

#[tokio::test]
async fn timeout_after_sending_is_ambiguous() {
    let agent = Agent::listen().await;
    let base = agent.base("");
    let (seen, deadline) = oneshot::channel();
    let silent = tokio::spawn(async move {
        let mut connection = agent.accept().await;
        connection.read_request().await;
        seen.send(()).expect("the client waits");
        // The client closes the connection.
        connection.read_to_end().await;
    });
    let answer = post(&client(), &base, async { deadline.await.expect("the agent") }).await;
    assert_eq!(answer, Answer::Ambiguous(Ambiguous::Timeout));
    silent.await.expect("the agent");
}

#[tokio::test]
async fn broken_connection_after_sending_is_ambiguous() {
    type Play = fn(Connection) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send>>;
    let reset: Play = |mut connection| {
        Box::pin(async move {
            connection.read_request().await;
            connection.reset();
        })
    };
    let close: Play = |mut connection| {
        Box::pin(async move {
            connection.read_request().await;
        })
    };
    let half_a_head: Play = |mut connection| {
        Box::pin(async move {
            connection.read_request().await;
            connection.write("HTTP/1.1 202 Acc").await;
        })
    };
    for play in [reset, close, half_a_head] {
        let (base, connections) = Agent::plays(play).await;
        let answer = post_patiently(&client(), &base).await;
        assert!(matches!(answer, Answer::Ambiguous(Ambiguous::Broken(_))), "{answer:?}");
        assert_eq!(connections.count(), 1, "it was not sent again");
    }
}

#[tokio::test]
async fn response_that_is_not_http_is_ambiguous() {
    for garbage in [
        "SSH-2.0-OpenSSH_9.2\r\n\r\n",
        "HTTP/1.1 abc\r\n\r\n",
        "HTTP/1.1 200 OK\r\ncontent-length: x\r\n\r\n",
    ] {
        let (base, connections) = Agent::plays(async move |mut connection: Connection| {
            connection.read_request().await;
            connection.write(garbage).await;
        })
        .await;
        let answer = post_patiently(&client(), &base).await;
        assert!(matches!(answer, Answer::Ambiguous(Ambiguous::Malformed(_))), "{garbage}: {answer:?}");
        assert_eq!(connections.count(), 1, "it was not sent again");
    }
}

/// A clock that reports its use: the client reads it when a status has arrived.
#[derive(Debug)]
struct ReportingClock(std::sync::Mutex<Option<oneshot::Sender<()>>>);

impl Clock for ReportingClock {
    fn now(&self) -> chrono::DateTime<chrono::Utc> {
        self.0.lock().expect("no panic").take().expect("used once").send(()).expect("the test waits");
        chrono::DateTime::UNIX_EPOCH
    }
}

#[tokio::test]
async fn slow_body_does_not_change_the_result() {
    let agent = Agent::listen().await;
    let base = agent.base("");
    let drip = tokio::spawn(async move {
        let mut connection = agent.accept().await;
        connection.read_request().await;
        connection.write("HTTP/1.1 202 Yes\r\ncontent-length: 100\r\n\r\n").await;
        connection.read_to_end().await;
    });
    let (reported, deadline) = oneshot::channel();
    let clock = ReportingClock(std::sync::Mutex::new(Some(reported)));
    let client = client_with_clock(&["127.0.0.0/8"], &ClientConfig::default(), clock);
    let answer = post(&client, &base, async { deadline.await.expect("the clock") }).await;
    assert_eq!(answer, response(202, None, ""));
    drip.await.expect("the client hung up");

    // The same when the body's own timeout passes, long before the deadline.
    let config = ClientConfig { body_timeout: Duration::from_millis(50), ..ClientConfig::default() };
    let (base, _) = Agent::plays(async |mut connection: Connection| {
        connection.read_request().await;
        connection.write("HTTP/1.1 500 No\r\ncontent-length: 100\r\n\r\ndrip").await;
        connection.read_to_end().await;
    })
    .await;
    assert_eq!(
        post_patiently(&client_with(&["127.0.0.0/8"], &config), &base).await,
        response(500, None, "drip")
    );
}

#[tokio::test]
async fn huge_body_is_cut_and_its_connection_closed() {
    for head in ["content-length: 1000000000", "transfer-encoding: chunked"] {
        let agent = Agent::listen().await;
        let base = agent.base("");
        let flood = tokio::spawn(async move {
            let mut connection = agent.accept().await;
            connection.read_request().await;
            connection.write(&format!("HTTP/1.1 500 No\r\n{head}\r\n\r\n")).await;
            let chunk = format!("1000\r\n{}\r\n", "x".repeat(0x1000));
            let mut written = 0u64;
            while connection.try_write(&chunk).await.is_ok() {
                written += 0x1000;
            }
            written
        });
        let Answer::Response { status: 500, body, .. } = post_patiently(&client(), &base).await else {
            panic!("no 500");
        };
        assert_eq!(body.len(), MAX_BODY_BYTES);
        // It ends because the client closed the connection: the buffers of two sockets hold far less than was announced.
        assert!(flood.await.expect("the agent") < 100_000_000);
    }
}

#[tokio::test]
async fn connections_are_reused() {
    let (base, connections) = Agent::plays(async |mut connection: Connection| {
        for _ in 0..3 {
            connection.read_request().await;
            connection.write("HTTP/1.1 202 Yes\r\ncontent-length: 0\r\n\r\n").await;
        }
    })
    .await;
    let client = client();
    for _ in 0..3 {
        assert_eq!(post_patiently(&client, &base).await, response(202, None, ""));
    }
    assert_eq!(connections.count(), 1);
}

#[tokio::test]
async fn idle_connection_that_the_agent_closed_is_not_a_failure() {
    for _ in 0..20 {
        let agent = Agent::listen().await;
        let base = agent.base("");
        let (closed, is_closed) = oneshot::channel();
        let agent = tokio::spawn(async move {
            let mut first = agent.accept().await;
            first.read_request().await;
            first.write("HTTP/1.1 202 Yes\r\ncontent-length: 0\r\n\r\n").await;
            drop(first);
            closed.send(()).expect("the test waits");
            let mut second = agent.accept().await;
            second.read_request().await;
            second.write("HTTP/1.1 202 Yes\r\ncontent-length: 0\r\n\r\n").await;
        });
        let client = client();
        assert_eq!(post_patiently(&client, &base).await, response(202, None, ""));
        is_closed.await.expect("the agent");
        // Lets the runtime poll its sockets once, so that it knows of the close.
        tokio::task::yield_now().await;
        assert_eq!(post_patiently(&client, &base).await, response(202, None, ""));
        agent.await.expect("the agent");
    }
}

#[tokio::test]
async fn reused_connection_that_breaks_after_sending_is_ambiguous() {
    let (base, connections) = Agent::plays(async |mut connection: Connection| {
        connection.read_request().await;
        connection.write("HTTP/1.1 202 Yes\r\ncontent-length: 0\r\n\r\n").await;
        connection.read_request().await;
        connection.reset();
    })
    .await;
    let client = client();
    assert_eq!(post_patiently(&client, &base).await, response(202, None, ""));
    let answer = post_patiently(&client, &base).await;
    assert!(matches!(answer, Answer::Ambiguous(Ambiguous::Broken(_))), "{answer:?}");
    assert_eq!(connections.count(), 1, "the second request was not sent again on a new connection");
}
