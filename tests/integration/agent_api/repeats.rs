//! Repeated keys, and jobs that re-arm too fast.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_testing::agent::Reply;
use nas_cron_testing::time::{fire_at, instant, now};
use serde_json::json;

use super::fixture::{World, until};

#[tokio::test]
async fn client_4_the_same_key_after_its_delivery_fires_once_more_later_and_is_stuck_in_the_end() {
    let world = World::with(|s| {
        s.with("NAS_CRON_SECOND_FIRE_DELAY", "1500ms")
            .with("NAS_CRON_SECOND_FIRE_INTERVAL", "300s")
            .with("NAS_CRON_SECOND_FIRES_MAX", "2")
    })
    .await;
    let again = async |at: &str| world.service.provision(&world.token, "job-1", at, &world.callback()).await;
    let (at, schedule) = world.arm("job-1", 0).await;
    let first = world.agents.wait_for("job-1", 1).await;
    world.list_until("delivered", |list| list["armed"] == json!([])).await;
    // At once and repeatedly, as with a slow clock or a reconcile.
    for _ in 0..3 {
        assert_eq!(again(&at).await, schedule);
    }
    let list = world.service.list(&world.token).await;
    assert_eq!(list["armed"][0]["fire_at"], json!(at), "it is listed: {list}");
    let second = world.agents.wait_for("job-1", 2).await;
    assert_eq!(second.fire_at, at);
    let apart = (second.arrived - first.arrived).num_milliseconds();
    assert!(apart >= 1_400, "{apart} ms");
    world.list_until("delivered", |list| list["armed"] == json!([])).await;
    // The next second fire waits for the interval.
    assert_eq!(again(&at).await, schedule);
    let list = world.service.list(&world.token).await;
    let ahead = instant(list["armed"][0]["next_attempt_at"].as_str().unwrap()) - now();
    assert!((250..=300).contains(&ahead.num_seconds()), "{list}");
    // Two second fires are allowed; the third time, the job is listed as stuck, but the provision still succeeds.
    world.sql("UPDATE one_shots SET next_attempt_at = now()").await;
    world.agents.wait_for("job-1", 3).await;
    world.list_until("delivered", |list| list["armed"] == json!([])).await;
    assert_eq!(again(&at).await, schedule);
    let list = world.service.list(&world.token).await;
    assert_eq!((&list["dead"][0]["state"], &list["armed"]), (&json!("stuck"), &json!([])), "{list}");
    // A cancel forgets the key, so it arms afresh.
    world.service.cancel(&world.token, "job-1").await;
    assert_ne!(again(&at).await, schedule);
    world.agents.wait_for("job-1", 4).await;
}

#[tokio::test]
async fn client_4_an_undelivered_key_that_is_provisioned_again_in_the_past_fires_at_once() {
    let world = World::start().await;
    world.agents.answer(|_, _| Reply::gone());
    let (at, _) = world.arm("job-1", -5_000).await;
    world.agents.wait_for("job-1", 1).await;
    world.list_until("gone", |list| list["armed"] == json!([])).await;
    // `gone` forgets the key; only the fire floor of one second separates the two fires.
    world.service.provision(&world.token, "job-1", &at, &world.callback()).await;
    world.agents.wait_for("job-1", 2).await;
}

#[tokio::test]
async fn client_4_a_key_repeated_during_its_attempt_fires_again_after_the_delivery() {
    let world = World::with(|s| s.with("NAS_CRON_SECOND_FIRE_DELAY", "1s")).await;
    world.agents.answer(|_, before| {
        Reply::accepted().after(Duration::from_millis(if before == 0 { 600 } else { 0 }))
    });
    let (at, schedule) = world.arm("job-1", 0).await;
    let first = world.agents.wait_for("job-1", 1).await;
    let during = world.service.provision(&world.token, "job-1", &at, &world.callback()).await;
    assert_eq!((during, first.answered), (schedule, None));
    world.agents.wait_for("job-1", 2).await;
    let first = &world.agents.fires_of("job-1")[0];
    let second = &world.agents.fires_of("job-1")[1];
    assert!(second.arrived > first.answered.unwrap(), "no two at once");
}

#[tokio::test]
async fn client_6_a_job_that_re_arms_before_its_202_is_recorded_fires_once_per_arm() {
    let world = World::start().await;
    world
        .agents
        .answer(|_, before| Reply::accepted().after(Duration::from_secs(if before == 0 { 3 } else { 0 })));
    let (first_at, first) = world.arm("job-1", 0).await;
    world.agents.wait_for("job-1", 1).await;
    // The job re-arms while its fire is in flight.
    let (second_at, second) = world.arm("job-1", 5_000).await;
    assert_ne!(first, second);
    let list = world.service.list(&world.token).await;
    assert_eq!(list["armed"][0]["schedule_id"], json!(second));
    world.agents.wait_for("job-1", 2).await;
    world.list_until("delivered", |list| list["armed"] == json!([])).await;
    let fires: Vec<_> = world.agents.fires_of("job-1").into_iter().map(|fire| fire.fire_at).collect();
    assert_eq!(fires, [first_at, second_at]);
    let outcomes = until("both attempts are recorded", async || {
        let outcomes: Vec<String> = sqlx::query_scalar("SELECT outcome::text FROM fires ORDER BY started_at")
            .fetch_all(&world.pool)
            .await
            .unwrap();
        (outcomes.len() == 2).then_some(outcomes)
    })
    .await;
    assert_eq!(outcomes, ["delivered", "delivered"], "also of the superseded one");
}

#[tokio::test]
async fn client_7_a_looping_job_is_delayed_to_the_fire_floor_and_never_refused() {
    let world = World::start().await;
    for round in 1..=3 {
        // `every 0m`: due now, each time under a new key.
        world.service.provision(&world.token, "job-1", &fire_at(0), &world.callback()).await;
        world.agents.wait_for("job-1", round).await;
    }
    let started = until("all attempts are recorded", async || {
        let started: Vec<DateTime<Utc>> =
            sqlx::query_scalar("SELECT started_at FROM fires ORDER BY started_at")
                .fetch_all(&world.pool)
                .await
                .unwrap();
        (started.len() == 3).then_some(started)
    })
    .await;
    for pair in started.windows(2) {
        assert!((pair[1] - pair[0]).num_milliseconds() >= 1_000, "{started:?}");
    }
}

#[tokio::test]
async fn contract_a_call_of_the_agent_pulls_its_retries_forward() {
    let world = World::with(|s| s.with("NAS_CRON_RETRY_DEFINITE_BASE", "1h")).await;
    world.agents.answer(|_, before| Reply::status(if before == 0 { 500 } else { 202 }));
    // The provision itself counts as this minute's call, so the next one must come later.
    world.arm("job-1", 0).await;
    world.agents.wait_for("job-1", 1).await;
    world.list_until("it waits", |list| list["armed"][0]["state"] == "waiting").await;
    world.sql("UPDATE instances SET pulled_at = now() - interval '61 s'").await;
    world.service.list(&world.token).await;
    world.agents.wait_for("job-1", 2).await;
    let attempts = until("both attempts are recorded", async || {
        let attempts: Vec<i32> = sqlx::query_scalar("SELECT attempt FROM fires ORDER BY attempt")
            .fetch_all(&world.pool)
            .await
            .unwrap();
        (attempts.len() == 2).then_some(attempts)
    })
    .await;
    assert_eq!(attempts, [1, 2], "attempt counts are kept");
}
