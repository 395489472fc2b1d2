//! The file descriptor limit: raised and checked at the start.

use std::time::Duration;

use nas_cron_testing::world::{World, eventually};
use rustix::process::{Resource, Rlimit, prlimit};

use super::fixture::Connection;
use crate::doctor::fixture::reports;

/// Returns the soft and the hard limit of a running service.
fn limits(world: &World) -> (String, String) {
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", world.service.pid())).unwrap();
    let line = limits.lines().find(|line| line.starts_with("Max open files")).expect("a line");
    let mut words = line.split_whitespace().skip(3).map(str::to_owned);
    (words.next().unwrap(), words.next().unwrap())
}

#[tokio::test]
async fn the_soft_limit_is_raised_to_the_hard_one() {
    let world = World::with(|settings| settings.with_descriptors(256, 4_096)).await;
    assert_eq!(limits(&world), ("4096".to_owned(), "4096".to_owned()));
    assert!(!world.service.log().contains("file descriptor limit too low"), "everything fits");
    reports(&world.settings, "descriptors", "ok", "4096: enough for 1024 concurrent attempts", "").await;
}

#[tokio::test]
async fn low_descriptor_limit_is_reported_at_the_start_and_by_the_doctor() {
    let world = World::with(|settings| settings.with_descriptors(1_024, 1_024)).await;
    let log = world.service.log();
    assert!(log.contains("file descriptor limit too low for in_flight_max"), "{log}");
    reports(
        &world.settings,
        "descriptors",
        "warning",
        "1024: enough for 298 concurrent attempts",
        "raise the hard limit to 2484",
    )
    .await;
    // The service still works within the limit.
    world.arm("job", 0).await;
    world.agents.wait_for("job", 1).await;
}

/// Returns the number of open descriptors of a service. `/proc` shows those of another process to root only.
async fn open(world: &World) -> u64 {
    let page = world.service.metrics().await;
    let line = page.lines().find_map(|line| line.strip_prefix("process_open_fds ")).expect("a line");
    line.parse().expect("a whole number")
}

#[tokio::test]
async fn a_listener_without_descriptors_closes_the_oldest_silent_connection_and_goes_on() {
    let world = World::new().await;
    let mut silent = Vec::new();
    // New descriptors have the lowest free number, so these leave none free below them.
    let limit = eventually("all are accepted", async || {
        let before = open(&world).await;
        for _ in 0..64 {
            silent.push(Connection::open(&world.service.url).await);
        }
        tokio::time::sleep(Duration::from_millis(200)).await;
        let after = open(&world).await;
        (after == before + 64).then_some(after)
    })
    .await;
    let pid = rustix::process::Pid::from_raw(world.service.pid().cast_signed());
    prlimit(pid, Resource::Nofile, Rlimit { current: Some(limit), maximum: Some(limit) }).unwrap();
    for _ in 0..3 {
        let mut fresh = Connection::open(&world.service.url).await;
        fresh.send(b"GET /healthz HTTP/1.1\r\nHost: nas\r\n\r\n").await;
        assert_eq!(fresh.status().await, Some(200));
    }
    silent[0].closed().await;
    assert!(world.service.log().contains("accepting a connection failed"), "{}", world.service.log());
}
