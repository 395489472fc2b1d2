//! A TCP proxy that can be cut, in the middle of whatever is under way.

use std::net::SocketAddr;
use std::sync::Mutex;

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};

/// A running proxy to one address.
pub struct Proxy {
    address: SocketAddr,
    to: SocketAddr,
    running: Mutex<JoinHandle<()>>,
}

impl Proxy {
    /// Starts one.
    pub async fn start(to: SocketAddr) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        Self { address, to, running: Mutex::new(run(listener, to)) }
    }

    /// Where it listens.
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Breaks every connection, and refuses new ones when this returns.
    pub async fn cut(&self) {
        let running = std::mem::replace(&mut *self.running.lock().unwrap(), tokio::spawn(async {}));
        running.abort();
        let _ = running.await;
    }

    /// Lets connections through again.
    pub async fn restore(&self) {
        let listener = TcpListener::bind(self.address).await.unwrap();
        *self.running.lock().unwrap() = run(listener, self.to);
    }
}

fn run(listener: TcpListener, to: SocketAddr) -> JoinHandle<()> {
    tokio::spawn(async move {
        // Dropped with the task, and all connections with it.
        let mut connections = JoinSet::new();
        while let Ok((mut from, _)) = listener.accept().await {
            connections.spawn(async move {
                if let Ok(mut to) = TcpStream::connect(to).await {
                    let _ = from.set_nodelay(true).and(to.set_nodelay(true));
                    let _ = copy_bidirectional(&mut from, &mut to).await;
                }
            });
        }
    })
}
