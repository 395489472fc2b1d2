//! A flood of silent connections at a low descriptor limit.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use nas_cron_testing::world::{World, eventually};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::fixture::{Connection, closed_for, provision};

/// Number of silent connections to each listener: more than the service's descriptor limit.
const FLOOD: usize = 700;
const DESCRIPTORS: u64 = 512;

/// Keeps a silent connection to `address`, and replaces it when the server closes it.
async fn keep_silent(address: SocketAddr, connected: Arc<AtomicUsize>) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            connected.fetch_add(1, Ordering::SeqCst);
            let _ = stream.read(&mut [0]).await;
        }
        // Hundreds of these tasks still open a hundred connections a second.
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

/// The flood, on its own thread. It ends on drop.
struct Flood {
    over: CancellationToken,
    connected: Arc<AtomicUsize>,
}

impl Flood {
    fn start(targets: Vec<SocketAddr>) -> Self {
        let over = CancellationToken::new();
        let connected = Arc::new(AtomicUsize::new(0));
        let (until, count) = (over.clone(), Arc::clone(&connected));
        std::thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            runtime.block_on(until.run_until_cancelled(async {
                let mut silent = JoinSet::new();
                for target in targets {
                    for _ in 0..FLOOD {
                        silent.spawn(keep_silent(target, Arc::clone(&count)));
                    }
                }
                silent.join_all().await;
            }));
        });
        Self { over, connected }
    }
}

impl Drop for Flood {
    fn drop(&mut self) {
        self.over.cancel();
    }
}

/// Sends a request on a new connection, and returns the status of its response. Retries, because on a busy machine a flood
/// may displace a caller between its connection and its request.
async fn asked(url: &str, request: &[u8]) -> u16 {
    for _ in 0..5 {
        let mut fresh = Connection::open(url).await;
        if let Ok(()) = fresh.0.write_all(request).await
            && let Some(status) = fresh.status().await
        {
            return status;
        }
    }
    panic!("no response from {url}");
}

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").split('/').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn flood_of_silent_connections_blocks_no_caller() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let world = World::with(|settings| settings.with_descriptors(DESCRIPTORS, DESCRIPTORS)).await;
    let mut kept = Connection::open(&world.service.url).await;
    kept.send(&provision(&world, "kept-0")).await;
    assert_eq!(kept.status().await, Some(200));

    // As a scraper does, on a persistent connection.
    world.service.metrics().await;

    let flood = Flood::start(vec![address(&world.service.url), address(&world.service.metrics_url)]);
    eventually("the flood has begun", async || {
        (flood.connected.load(Ordering::SeqCst) >= 2 * FLOOD).then_some(())
    })
    .await;
    for number in 0..20 {
        let request = provision(&world, &format!("fresh-{number}"));
        assert_eq!(asked(&world.service.url, &request).await, 200);
        assert_eq!(asked(&world.service.url, b"GET /readyz HTTP/1.1\r\nHost: nas\r\n\r\n").await, 200);
        assert_eq!(
            asked(&world.service.metrics_url, b"GET /metrics HTTP/1.1\r\nHost: nas\r\n\r\n").await,
            200
        );
        world.service.metrics().await;
    }
    kept.send(&provision(&world, "kept-1")).await;
    assert_eq!(kept.status().await, Some(200), "a connection that was served before is kept");
    // Fires need descriptors, too.
    world.arm("job", 0).await;
    world.agents.wait_for("job", 1).await;
    assert!(!world.service.log().contains("accepting a connection failed"), "{}", world.service.log());
    for listener in ["public", "metrics"] {
        assert!(closed_for(&world, listener, "displaced").await > 0, "{listener}");
    }
}
