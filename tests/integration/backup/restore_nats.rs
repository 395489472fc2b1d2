//! A dump, restored and served on the stream of NATS that the lost service has used.

use nas_cron_testing::nats::NatsServers;
use nas_cron_testing::time::{instant, lateness_ms, now};
use nas_cron_testing::world::{World, eventually};
use serde_json::json;

use super::dump::{dump, serve_restored};

const AN_HOUR: i64 = 3_600_000;
/// Default of `NAS_CRON_WATCHDOG_GRACE`, in milliseconds.
const GRACE: f64 = 5_000.0;

/// Waits until NATS has so many schedules and wake-ups.
async fn until_held(nats: &NatsServers, count: usize) {
    eventually(&format!("NATS has {count} messages"), async || {
        (nats.messages("NAS_CRON").await == count).then_some(())
    })
    .await;
}

/// Waits until NATS has everything that was armed, moved and cancelled.
async fn until_sent(world: &World) {
    eventually("the outbox is empty", async || {
        let unsent = "SELECT count(*) FROM wake_ups WHERE state <> 'armed'";
        let count: i64 = sqlx::query_scalar(unsent).fetch_one(&world.pool).await.unwrap();
        (count == 0).then_some(())
    })
    .await;
}

/// Waits until a wake-up of NATS had this result.
async fn until_woken(world: &World, result: &str) {
    let result = format!("result=\"{result}\"");
    eventually(&format!("a wake-up with {result}"), async || {
        let page = world.service.metrics().await;
        let mut series = page.lines().filter(|line| line.starts_with("nas_cron_wake_ups_total{"));
        series.any(|line| line.contains(&result)).then_some(())
    })
    .await;
}

#[tokio::test]
async fn wake_ups_that_the_restored_database_does_not_know_fire_nothing_and_are_consumed() {
    let nats = NatsServers::one().await;
    let urls = nats.urls().join(",");
    let mut world =
        World::with(|s| s.with("NAS_CRON_BACKEND", "nats").with("NAS_CRON_NATS_URLS", urls)).await;
    world.arm("delivered-before", 5_000).await;
    let (due, _) = world.arm("due-while-down", 14_000).await;
    world.arm("cancelled-after", 14_000).await;
    world.arm("due-later", AN_HOUR).await;
    let (moved_from, _) = world.arm("moved-after", AN_HOUR).await;
    until_held(&nats, 5).await;
    world.delivered("delivered-before").await;
    until_woken(&world, "taken").await;
    let dump = dump(&world.url).await;
    // The dump has none of these changes.
    world.arm("armed-after", 8_000).await;
    world.arm("moved-after", 8_000).await;
    world.service.cancel(&world.token, "cancelled-after").await;
    until_sent(&world).await;
    until_held(&nats, 4).await;
    // The loss of the database. The wake-ups wait in the stream.
    world.service.kill9();
    let before = world.agents.fires_of("due-while-down").len();
    tokio::time::sleep((instant(&due) - now()).to_std().unwrap_or_default()).await;

    serve_restored(&mut world, &dump).await;
    world.agents.wait_for("due-while-down", before + 1).await;
    world.delivered("due-while-down").await;
    until_woken(&world, "gone").await;
    until_woken(&world, "superseded").await;
    // Its wake-up was withdrawn, so the Postgres loop fires it after the grace period. All others are over by then.
    let late = world.agents.wait_for("cancelled-after", 1).await;
    assert!(lateness_ms(&late.fire_at, late.arrived) >= GRACE, "{late:?}");
    world.delivered("cancelled-after").await;
    // Everything is consumed, except for the schedule of the one-shot that is due later.
    until_held(&nats, 1).await;
    let fires = |job: &str| world.agents.fires_of(job).len();
    assert_eq!(fires("delivered-before"), 1, "delivered before the dump");
    assert_eq!(fires("due-while-down"), before + 1, "overdue, and fired once");
    assert_eq!(fires("cancelled-after"), 1);
    assert_eq!((fires("armed-after"), fires("moved-after"), fires("due-later")), (0, 0, 0));
    assert_eq!(world.listed("armed-after").await, None);
    let (list, moved) = world.listed("moved-after").await.expect("it is armed as at the dump");
    assert_eq!((list, &moved["fire_at"]), ("armed", &json!(moved_from)));
}
