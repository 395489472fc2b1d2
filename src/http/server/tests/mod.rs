//! The server with short deadlines, over real sockets.

mod deadlines;
mod http2;
mod room;
mod stopping;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::body::{Body, Bytes};
use axum::routing::{get, post};
use futures::StreamExt;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;
use tokio::time::timeout;

use super::*;

/// Timeout of every step, generous for a busy machine.
const PATIENCE: Duration = Duration::from_mins(1);
/// Longer than any test.
const NEVER: Duration = Duration::from_hours(1);
const TIMES: Times = Times { request: NEVER, idle: NEVER, stall: NEVER, response: NEVER };
const GET: &[u8] = b"GET / HTTP/1.1\r\nHost: h\r\n\r\n";

struct Running {
    address: SocketAddr,
    stopping: CancellationToken,
    serving: JoinHandle<()>,
    /// A message for each request of `/slow` that has begun.
    begun: mpsc::UnboundedReceiver<()>,
    /// A message for each response of `/endless` that has ended.
    over: mpsc::UnboundedReceiver<()>,
}

/// Sends a message when it is dropped.
struct Over(mpsc::UnboundedSender<()>);

impl Drop for Over {
    fn drop(&mut self) {
        let _ = self.0.send(());
    }
}

async fn running(connections: usize, times: Times) -> Running {
    let (sender, over) = mpsc::unbounded_channel();
    let endless = move || {
        let over = Over(sender.clone());
        let chunks = futures::stream::repeat(Bytes::from(vec![b'x'; 1 << 16]));
        let body = chunks.map(move |chunk| {
            let _ = &over;
            Ok::<_, Infallible>(chunk)
        });
        std::future::ready(Body::from_stream(body))
    };
    let (sender, begun) = mpsc::unbounded_channel();
    let slow = async move || {
        let _ = sender.send(());
        tokio::time::sleep(Duration::from_secs(2)).await;
        "slow"
    };
    let router = Router::new()
        .route("/", get(async || "ok"))
        .route("/read", post(async |body: Bytes| body.len().to_string()))
        .route("/slow", get(slow))
        .route("/endless", get(endless));
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let stopping = CancellationToken::new();
    let until = stopping.clone().cancelled_owned();
    let serving =
        tokio::spawn(serve(listener, router, Listener::Public, Bounds { connections, times }, until));
    Running { address, stopping, serving, begun, over }
}

impl Running {
    async fn connect(&self) -> TcpStream {
        TcpStream::connect(self.address).await.unwrap()
    }
}

/// Sends a request, and returns true if the response is `ok`.
async fn ask(stream: &mut TcpStream) -> bool {
    let mut response = [0; 1024];
    let mut length = 0;
    if stream.write_all(GET).await.is_err() {
        return false;
    }
    while !response[..length].ends_with(b"\r\n\r\nok") {
        match timeout(PATIENCE, stream.read(&mut response[length..])).await.expect("an end") {
            Ok(0) | Err(_) => return false,
            Ok(count) => length += count,
        }
    }
    true
}

/// Waits until the server closes the connection, and returns the time that it took.
async fn closed(stream: &mut TcpStream) -> Duration {
    let began = Instant::now();
    let closing = async {
        let mut bytes = vec![0; 1 << 16];
        while !matches!(stream.read(&mut bytes).await, Ok(0) | Err(_)) {}
    };
    timeout(PATIENCE, closing).await.expect("it is closed");
    began.elapsed()
}
