//! One address in front of all replicas. It stands for the load balancer that an external backend calls.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinSet;
use tokio_util::task::AbortOnDropHandle;

/// Forwards connections to the replicas in turn; skips those that refuse. Ends when it is dropped.
pub struct Balancer {
    address: SocketAddr,
    replicas: Arc<Mutex<Vec<SocketAddr>>>,
    _running: AbortOnDropHandle<()>,
}

impl Balancer {
    /// Starts a balancer without replicas.
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let replicas = Arc::new(Mutex::new(Vec::new()));
        let running = AbortOnDropHandle::new(tokio::spawn(run(listener, Arc::clone(&replicas))));
        Self { address, replicas, _running: running }
    }

    /// Returns the URL of the balancer.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Sets the replicas, by their `http://host:port`.
    pub fn serve<'a>(&self, urls: impl Iterator<Item = &'a str>) {
        let address = |url: &str| url.trim_start_matches("http://").parse().expect("an address");
        *self.replicas.lock().unwrap() = urls.map(address).collect();
    }
}

async fn run(listener: TcpListener, replicas: Arc<Mutex<Vec<SocketAddr>>>) {
    let turn = Arc::new(AtomicUsize::new(0));
    let mut connections = JoinSet::new();
    while let Ok((mut from, _)) = listener.accept().await {
        let (replicas, turn) = (Arc::clone(&replicas), Arc::clone(&turn));
        connections.spawn(async move {
            let replicas = replicas.lock().unwrap().clone();
            let first = turn.fetch_add(1, Ordering::Relaxed);
            for number in 0..replicas.len() {
                if let Ok(mut to) = TcpStream::connect(replicas[(first + number) % replicas.len()]).await {
                    let _ = copy_bidirectional(&mut from, &mut to).await;
                    return;
                }
            }
        });
    }
}
