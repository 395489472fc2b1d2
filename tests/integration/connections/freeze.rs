//! A replica that is frozen for a while.

use std::time::Duration;

use nas_cron_testing::world::{World, eventually};
use rustix::process::Signal;

use super::fixture::{Connection, closed_for, provision};

const FREEZE: Duration = Duration::from_secs(8);
const HEALTH: &[u8] = b"GET /healthz HTTP/1.1\r\nHost: nas\r\n\r\n";

/// Returns a connection that has been served once.
async fn served(world: &World) -> Connection {
    let mut connection = Connection::open(&world.service.url).await;
    connection.send(HEALTH).await;
    assert_eq!(connection.status().await, Some(200));
    connection
}

/// Returns the number of freezes that the public listener has logged.
fn logged(world: &World) -> usize {
    let log = world.service.log();
    let lines = log.lines().filter(|line| line.contains("process was frozen"));
    lines.filter(|line| line.contains("\"public\"")).count()
}

#[tokio::test]
async fn calls_that_waited_during_a_freeze_are_not_executed() {
    let world = World::new().await;
    let mut idle = served(&world).await;
    for round in 1..=2 {
        let mut unread = Vec::new();
        for _ in 0..4 {
            unread.push(served(&world).await);
        }
        // A request whose head has arrived, and whose body has not.
        let halved = provision(&world, "old-halved");
        let mut half = Connection::open(&world.service.url).await;
        half.send(&halved[..halved.len() - 10]).await;
        let mut silent = Connection::open(&world.service.url).await;
        tokio::time::sleep(Duration::from_millis(500)).await;

        world.service.signal(Signal::STOP);
        // SIGSTOP takes effect with a short delay; a request sent right away could still be served.
        tokio::time::sleep(Duration::from_millis(500)).await;
        for (number, connection) in unread.iter_mut().enumerate() {
            connection.send(&provision(&world, &format!("old-unread-{number}"))).await;
        }
        half.send(&halved[halved.len() - 10..]).await;
        silent.send(&provision(&world, "old-silent")).await;
        let mut queued = Vec::new();
        for number in 0..16 {
            let mut connection = Connection::open(&world.service.url).await;
            connection.send(&provision(&world, &format!("old-queued-{number}"))).await;
            queued.push(connection);
        }
        tokio::time::sleep(FREEZE).await;
        world.service.signal(Signal::CONT);
        for connection in unread.iter_mut().chain(&mut queued).chain([&mut silent]) {
            assert_eq!(connection.status().await, None, "it is closed without a response");
        }
        eventually("the waiting calls are dropped", async || (logged(&world) >= round).then_some(())).await;
        let mut new = Connection::open(&world.service.url).await;
        new.send(&provision(&world, &format!("new-{round}"))).await;
        assert_eq!(new.status().await, Some(200));
        assert_ne!(half.status().await, Some(200));
        // A connection without a waiting call still works.
        idle.send(HEALTH).await;
        assert_eq!(idle.status().await, Some(200));

        let list = world.service.list(&world.token).await;
        let jobs: Vec<_> =
            list["armed"].as_array().unwrap().iter().map(|one| one["job_id"].as_str().unwrap()).collect();
        assert!(jobs.iter().all(|job| job.starts_with("new-")), "{jobs:?}");
        assert_eq!(jobs.len(), round);
    }
    assert!(closed_for(&world, "public", "stale").await >= 2 * 21);
}
