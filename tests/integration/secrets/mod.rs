//! Secrets: none leaves the process where it does not belong, and what is written is its owner's only (docs/security.md).

mod leaks;
mod nats;
#[cfg(target_os = "linux")]
mod panics;
mod search;
mod verbose;

use nas_cron_testing::world::World;

#[tokio::test]
async fn service_leaves_no_core_dump() {
    let world = World::new().await;
    let limits = std::fs::read_to_string(format!("/proc/{}/limits", world.service.pid())).unwrap();
    let line = limits.lines().find_map(|line| line.strip_prefix("Max core file size")).expect("a line");
    assert_eq!(line.split_whitespace().take(2).collect::<Vec<_>>(), ["0", "0"], "soft and hard");
}
