//! TLS and HTTP/2.

use axum::http;
use rcgen::{CertifiedKey, KeyPair};
use rustls::pki_types::PrivateKeyDer;
use tokio::net::TcpStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;

use super::*;

struct Tls {
    acceptor: TlsAcceptor,
    root: reqwest::Certificate,
}

impl Tls {
    /// Returns a server for `agent.test` with its own certificate and the given ALPN protocols.
    fn new(protocols: &[&str]) -> Self {
        let CertifiedKey::<KeyPair> { cert, signing_key } =
            rcgen::generate_simple_self_signed(["agent.test".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let mut config = rustls::ServerConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("TLS versions")
            .with_no_client_auth()
            .with_single_cert(vec![cert.der().clone()], key)
            .expect("a usable certificate");
        config.alpn_protocols = protocols.iter().map(|protocol| protocol.as_bytes().to_vec()).collect();
        let root = reqwest::Certificate::from_der(cert.der()).expect("a certificate");
        Self { acceptor: TlsAcceptor::from(Arc::new(config)), root }
    }

    /// Returns a client that trusts this server.
    fn client(&self) -> AgentClient {
        let config = ClientConfig { extra_roots: vec![self.root.clone()], ..ClientConfig::default() };
        client_with(&["127.0.0.0/8"], &config)
    }
}

async fn h2(tls: &TlsAcceptor, agent: &Agent) -> h2::server::Connection<TlsStream<TcpStream>, Bytes> {
    let stream = tls.accept(agent.accept_raw().await).await.expect("a TLS session");
    h2::server::handshake(stream).await.expect("HTTP/2")
}

fn base_of(agent: &Agent) -> String {
    format!("https://agent.test:{}", agent.port())
}

fn accepted() -> http::Response<()> {
    http::Response::builder().status(202).body(()).expect("a response")
}

#[tokio::test]
async fn http_1_1_is_used_if_the_server_offers_nothing_else() {
    use tokio::io::{AsyncReadExt, AsyncWriteExt};
    let tls = Tls::new(&[]);
    let (agent, client) = (Agent::listen().await, tls.client());
    let base = base_of(&agent);
    tokio::spawn(async move {
        let mut stream = tls.acceptor.accept(agent.accept_raw().await).await.expect("a TLS session");
        let mut request = Vec::new();
        while !request.ends_with(BODY.as_bytes()) {
            stream.read_buf(&mut request).await.expect("a readable socket");
        }
        stream.write_all(b"HTTP/1.1 202 Yes\r\ncontent-length: 0\r\n\r\n").await.expect("a writable socket");
    });
    assert_eq!(post_patiently(&client, &base).await, response(202, None, ""));
}

#[tokio::test]
async fn http_2_is_used_if_the_server_offers_it() {
    let tls = Tls::new(&["h2", "http/1.1"]);
    let (agent, client) = (Agent::listen().await, tls.client());
    let base = base_of(&agent);
    let server = tokio::spawn(async move {
        let mut connection = h2(&tls.acceptor, &agent).await;
        let (mut request, mut respond) = connection.accept().await.expect("a stream").expect("a request");
        let head = (request.method().clone(), request.uri().path().to_owned());
        tokio::spawn(async move { while connection.accept().await.is_some() {} });
        let body = request.body_mut().data().await.expect("a body").expect("data");
        respond.send_response(accepted(), true).expect("an open stream");
        (head, body)
    });
    assert_eq!(post_patiently(&client, &base).await, response(202, None, ""));
    let ((method, path), body) = server.await.expect("the agent");
    assert_eq!((method.as_str(), path.as_str(), &body[..]), ("POST", "/api/cron/fire", BODY.as_bytes()));
}

#[tokio::test]
async fn failed_tls_handshake_is_a_refusal() {
    let (trusted, untrusted) = (Tls::new(&[]), Tls::new(&[]));
    let client = trusted.client();
    let is_tls = |answer: Answer| match answer {
        Answer::Refused(Refused::Tls(why)) => why,
        other => panic!("{other:?}"),
    };

    let agent = Agent::listen().await;
    let base = base_of(&agent);
    tokio::spawn(async move { untrusted.acceptor.accept(agent.accept_raw().await).await.map(drop) });
    let why = is_tls(post_patiently(&client, &base).await);
    assert!(why.contains("certificate"), "{why}");

    // A certificate for another name.
    let agent = Agent::listen().await;
    let base = base_of(&agent).replace("agent.test", "127.0.0.1");
    tokio::spawn(async move { trusted.acceptor.accept(agent.accept_raw().await).await.map(drop) });
    is_tls(post_patiently(&client, &base).await);

    for greeting in ["HTTP/1.1 400 Bad Request\r\n\r\n", ""] {
        let agent = Agent::listen().await;
        let base = base_of(&agent);
        tokio::spawn(async move {
            let mut connection = agent.accept().await;
            connection.write(greeting).await;
        });
        is_tls(post_patiently(&client, &base).await);
    }
}

#[tokio::test]
async fn refused_stream_is_sent_once_more() {
    for refusals in [1, 2] {
        let tls = Tls::new(&["h2"]);
        let (agent, client) = (Agent::listen().await, tls.client());
        let base = base_of(&agent);
        let server = tokio::spawn(async move {
            let mut connection = h2(&tls.acceptor, &agent).await;
            let mut seen = 0;
            while let Some(Ok((mut request, mut respond))) = connection.accept().await {
                seen += 1;
                if seen <= refusals {
                    respond.send_reset(h2::Reason::REFUSED_STREAM);
                } else {
                    tokio::spawn(async move {
                        while request.body_mut().data().await.is_some() {}
                        respond.send_response(accepted(), true).expect("an open stream");
                    });
                }
            }
            seen
        });
        let answer = post_patiently(&client, &base).await;
        if refusals == 1 {
            assert_eq!(answer, response(202, None, ""));
        } else {
            assert!(matches!(answer, Answer::Refused(Refused::Unprocessed(_))), "{answer:?}");
        }
        drop(client);
        assert_eq!(server.await.expect("the agent"), 2, "twice at most");
    }
}

#[tokio::test]
async fn stream_reset_for_another_reason_is_ambiguous_and_sent_once() {
    let tls = Tls::new(&["h2"]);
    let (agent, client) = (Agent::listen().await, tls.client());
    let base = base_of(&agent);
    let server = tokio::spawn(async move {
        let mut connection = h2(&tls.acceptor, &agent).await;
        let mut seen = 0;
        while let Some(Ok((mut request, mut respond))) = connection.accept().await {
            seen += 1;
            tokio::spawn(async move {
                while request.body_mut().data().await.is_some() {}
                respond.send_reset(h2::Reason::INTERNAL_ERROR);
            });
        }
        seen
    });
    let answer = post_patiently(&client, &base).await;
    assert!(matches!(answer, Answer::Ambiguous(Ambiguous::Broken(_))), "{answer:?}");
    drop(client);
    assert_eq!(server.await.expect("the agent"), 1);
}

#[tokio::test]
async fn request_not_covered_by_goaway_is_sent_on_a_new_connection() {
    let tls = Tls::new(&["h2"]);
    let (agent, client) = (Agent::listen().await, tls.client());
    let base = base_of(&agent);
    let server = tokio::spawn(async move {
        // A GOAWAY that covers no stream, by hand: after the preface, SETTINGS, and the client's HEADERS.
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        const SETTINGS: &[u8] = &[0, 0, 0, 4, 0, 0, 0, 0, 0];
        const GOAWAY: &[u8] = &[0, 0, 8, 7, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
        let mut stream = tls.acceptor.accept(agent.accept_raw().await).await.expect("a TLS session");
        stream.write_all(SETTINGS).await.expect("a writable socket");
        let mut received = Vec::new();
        while !received.ends_with(BODY.as_bytes()) {
            stream.read_buf(&mut received).await.expect("a readable socket");
        }
        stream.write_all(GOAWAY).await.expect("a writable socket");

        let mut connection = h2(&tls.acceptor, &agent).await;
        let (mut request, mut respond) = connection.accept().await.expect("a stream").expect("a request");
        tokio::spawn(async move {
            while request.body_mut().data().await.is_some() {}
            respond.send_response(accepted(), true).expect("an open stream");
        });
        while connection.accept().await.is_some() {}
        drop(stream);
    });
    assert_eq!(post_patiently(&client, &base).await, response(202, None, ""));
    drop(client);
    server.await.expect("the agent");
}
