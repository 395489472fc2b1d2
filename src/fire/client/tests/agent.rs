//! An agent on a bare socket, which can violate the protocol in any way.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll, Waker};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

pub(super) struct Agent(TcpListener);

pub(super) struct Connection(TcpStream);

/// Number of connections that an agent has accepted.
pub(super) struct Connections(Arc<AtomicUsize>);

impl Agent {
    pub(super) async fn listen() -> Self {
        Self(TcpListener::bind("127.0.0.1:0").await.expect("a port"))
    }

    /// Starts an agent that runs `play` on every connection.
    pub(super) async fn plays<P>(play: impl Fn(Connection) -> P + Send + 'static) -> (String, Connections)
    where
        P: Future<Output = ()> + Send + 'static,
    {
        let agent = Self::listen().await;
        let base = agent.base("");
        let count = Arc::new(AtomicUsize::new(0));
        let connections = Connections(Arc::clone(&count));
        tokio::spawn(async move {
            loop {
                let connection = agent.accept().await;
                count.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(play(connection));
            }
        });
        (base, connections)
    }

    pub(super) fn port(&self) -> u16 {
        self.0.local_addr().expect("an address").port()
    }

    pub(super) fn base(&self, path: &str) -> String {
        format!("http://127.0.0.1:{}{path}", self.port())
    }

    pub(super) async fn accept(&self) -> Connection {
        Connection(self.accept_raw().await)
    }

    pub(super) async fn accept_raw(&self) -> TcpStream {
        self.0.accept().await.expect("a connection").0
    }

    /// Returns true if no client has connected.
    pub(super) fn is_untouched(&self) -> bool {
        matches!(self.0.poll_accept(&mut Context::from_waker(Waker::noop())), Poll::Pending)
    }
}

impl Connection {
    /// Reads a request with its body, as text.
    pub(super) async fn read_request(&mut self) -> String {
        let mut request = Vec::new();
        loop {
            let text = String::from_utf8_lossy(&request);
            if let Some((head, body)) = text.split_once("\r\n\r\n") {
                let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
                if body.len() >= length.map_or(0, |length| length.parse().expect(length)) {
                    return text.into_owned();
                }
            }
            let read = self.0.read_buf(&mut request).await.expect("a readable socket");
            assert!(read > 0, "the client hung up in the middle of its request");
        }
    }

    pub(super) async fn write(&mut self, answer: &str) {
        self.0.write_all(answer.as_bytes()).await.expect("a writable socket");
    }

    pub(super) async fn try_write(&mut self, answer: &str) -> std::io::Result<()> {
        self.0.write_all(answer.as_bytes()).await
    }

    /// Reads until the client closes the connection.
    pub(super) async fn read_to_end(&mut self) {
        // A reset is an end as well.
        let _ = self.0.read_to_end(&mut Vec::new()).await;
    }

    /// Ends the connection with an RST.
    pub(super) fn reset(self) {
        self.0.set_zero_linger().expect("a socket");
    }
}

impl Connections {
    pub(super) fn count(&self) -> usize {
        self.0.load(Ordering::SeqCst)
    }
}
