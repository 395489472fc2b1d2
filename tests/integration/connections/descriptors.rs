//! The descriptor limit: raised at the start, and looked at.

use nas_cron_testing::world::World;

use crate::doctor::fixture::says;

/// The soft and the hard limit of a running service.
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
    assert!(!world.service.log().contains("the descriptor limit is too low"), "everything fits");
    says(&world.settings, "descriptors", "ok", "4096: 1024 attempts", "").await;
}

#[tokio::test]
async fn a_limit_that_is_too_low_is_told_at_the_start_and_by_the_doctor() {
    let world = World::with(|settings| settings.with_descriptors(1_024, 1_024)).await;
    let log = world.service.log();
    assert!(log.contains("the descriptor limit is too low for in_flight_max"), "{log}");
    says(&world.settings, "descriptors", "warning", "1024: 298 attempts", "raise the hard limit to 2484")
        .await;
    // It works all the same, with what there is.
    world.arm("job", 0).await;
    world.agents.wait_for("job", 1).await;
}
