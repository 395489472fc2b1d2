//! A flood of silent connections at a low descriptor limit.

use std::net::SocketAddr;
use std::time::Duration;

use nas_cron_testing::service::client;
use nas_cron_testing::world::{World, eventually};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::io::AsyncReadExt;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use super::fixture::{Connection, closed_for, provision};

/// Silent connections to each listener: more than the service may have descriptors.
const FLOOD: usize = 700;
const DESCRIPTORS: u64 = 512;

/// Keeps a silent connection to `address`: opens the next one when the other side has closed it.
async fn keep_silent(address: SocketAddr) {
    loop {
        if let Ok(mut stream) = TcpStream::connect(address).await {
            let _ = stream.read(&mut [0]).await;
        }
        // Hundreds of them together are still a hundred a second.
        tokio::time::sleep(Duration::from_secs(5)).await;
    }
}

fn address(url: &str) -> SocketAddr {
    url.trim_start_matches("http://").split('/').next().unwrap().parse().unwrap()
}

#[tokio::test]
async fn a_flood_of_silent_connections_shuts_out_nobody() {
    let Rlimit { maximum, .. } = getrlimit(Resource::Nofile);
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).unwrap();
    let world = World::with(|settings| settings.with_descriptors(DESCRIPTORS, DESCRIPTORS)).await;
    let mut kept = Connection::open(&world.service.url).await;
    kept.send(&provision(&world, "kept-0")).await;
    assert_eq!(kept.status().await, Some(200));

    let mut flood = JoinSet::new();
    for url in [&world.service.url, &world.service.metrics_url] {
        let address = address(url);
        for _ in 0..FLOOD {
            flood.spawn(keep_silent(address));
        }
    }
    // It has begun when connections have to make room.
    eventually("it is a flood", async || {
        let of = async |listener| closed_for(&world, listener, "displaced").await;
        (of("public").await > 0 && of("metrics").await > 0).then_some(())
    })
    .await;
    for number in 0..20 {
        // Each on a connection of its own.
        let mut fresh = Connection::open(&world.service.url).await;
        fresh.send(&provision(&world, &format!("fresh-{number}"))).await;
        assert_eq!(fresh.status().await, Some(200));
        for url in [format!("{}/readyz", world.service.url), world.service.metrics_url.clone()] {
            let response = client().get(&url).send().await.unwrap_or_else(|error| panic!("{url}: {error:?}"));
            assert_eq!(response.status(), 200, "{url}");
        }
    }
    kept.send(&provision(&world, "kept-1")).await;
    assert_eq!(kept.status().await, Some(200), "a connection that was served before is kept");
    // Fires need descriptors, too.
    world.arm("job", 0).await;
    world.agents.wait_for("job", 1).await;
    assert!(!world.service.log().contains("accepting a connection failed"), "{}", world.service.log());
}
