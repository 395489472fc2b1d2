//! The same key again, and other keys in the meantime: docs/contract.md#same-key-again,
//! docs/clients.md#consequences-for-a-server (4 and 6).

use std::time::Duration;

use nas_cron_testing::agent::Reply;
use nas_cron_testing::service::Settings;
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::{World, eventually};
use serde_json::json;

/// Settings for second fires after a second or two instead of minutes.
fn quick(settings: Settings) -> Settings {
    settings
        .with("NAS_CRON_SECOND_FIRE_DELAY", "1s")
        .with("NAS_CRON_SECOND_FIRE_INTERVAL", "1500ms")
        .with("NAS_CRON_RETRY_DEFINITE_BASE", "200ms")
        .with("NAS_CRON_FIRE_FLOOR", "100ms")
}

/// Settings for second fires that come later than any test waits.
fn no_second_fires(settings: Settings) -> Settings {
    settings.with("NAS_CRON_SECOND_FIRE_DELAY", "10m").with("NAS_CRON_SECOND_FIRE_INTERVAL", "10m")
}

/// Returns the seconds from the end of each attempt to the start of the next.
async fn gaps(world: &World, job: &str) -> Vec<f64> {
    let history = world.history(job).await;
    history.windows(2).map(|pair| pair[1].started - pair[0].ended.unwrap()).collect()
}

/// Returns true if a listed one-shot waits for its next fire; it is leased already if that is soon.
fn waits(entry: &serde_json::Value) -> bool {
    entry["state"] == "waiting" || entry["state"] == "leased"
}

#[tokio::test]
async fn contract_states_the_same_key_before_its_fire_changes_nothing() {
    let world = World::with(quick).await;
    let (at, schedule) = world.arm("job", 5_000).await;
    for _ in 0..3 {
        assert_eq!(world.again("job", &at).await, schedule);
    }
    world.arm("marker", 7_000).await;
    world.agents.wait_for("marker", 1).await;
    assert_eq!(world.agents.fires_of("job").len(), 1);
}

#[tokio::test]
async fn contract_states_another_key_supersedes_and_no_attempt_of_the_old_one_starts() {
    // Leased already: both are inside the horizon.
    let world = World::with(|s| quick(s).with("NAS_CRON_LEASE_HORIZON", "60s")).await;
    let (_, first) = world.arm("job", 5_000).await;
    let (at, second) = world.arm("job", 6_000).await;
    assert_ne!(first, second);
    let fire = world.agents.wait_for("job", 1).await;
    assert_eq!(fire.fire_at, at);
    world.delivered("job").await;
    let history = world.history("job").await;
    assert_eq!(history.iter().map(|one| &one.schedule_id).collect::<Vec<_>>(), [&second]);
}

#[tokio::test]
async fn client_6_a_job_that_re_provisions_before_its_202_is_recorded_is_superseded_not_repeated() {
    // One-shots are leased as soon as they are armed.
    let world = World::with(|s| quick(s).with("NAS_CRON_LEASE_HORIZON", "60s")).await;
    // The agent responds only after its re-arm, as a fast script does.
    world.agents.answer(|_, before| {
        let slow = Duration::from_secs(if before == 0 { 3 } else { 0 });
        Reply::accepted().after(slow)
    });
    let (first_at, first) = world.arm("job", 100).await;
    world.agents.wait_for("job", 1).await;
    let (second_at, second) = world.arm("job", 8_000).await;
    let (half, entry) = world.listed("job").await.unwrap();
    assert_eq!(
        (half, &entry["schedule_id"], &entry["fire_at"]),
        ("armed", &json!(second), &json!(second_at))
    );
    assert_eq!((&entry["attempts"], &entry["last_error"]), (&json!(0), &json!(null)), "it starts anew");

    let history = world.ended("job", 1).await;
    assert_eq!(
        (history[0].outcome.as_str(), history[0].status),
        ("delivered", Some(202)),
        "recorded all the same"
    );
    assert_eq!(history[0].schedule_id, first);
    assert!(world.agents.fires_of("job")[0].answered.is_some());
    let (_, entry) = world.listed("job").await.expect("the old outcome does not affect the new one-shot");
    assert_eq!((&entry["schedule_id"], entry["state"].as_str()), (&json!(second), Some("leased")));

    assert_eq!(world.agents.wait_for("job", 2).await.fire_at, second_at);
    world.delivered("job").await;
    world.arm("marker", 1_200).await;
    world.agents.wait_for("marker", 1).await;
    let fired: Vec<_> = world.agents.fires_of("job").into_iter().map(|fire| fire.fire_at).collect();
    assert_eq!(fired, [first_at.clone(), second_at], "no second fire of either");

    // Only the job's latest delivered key is remembered: an older one arms anew.
    assert_ne!(world.again("job", &first_at).await, first);
}

#[tokio::test]
async fn contract_states_a_failure_of_a_superseded_attempt_is_recorded_and_not_retried() {
    let world = World::with(quick).await;
    world.agents.answer(|_, before| match before {
        0 => Reply::status(500).after(Duration::from_secs(3)),
        _ => Reply::accepted(),
    });
    let (_, first) = world.arm("job", 0).await;
    world.agents.wait_for("job", 1).await;
    let (at, second) = world.arm("job", 6_000).await;
    let history = world.ended("job", 1).await;
    assert_eq!((history[0].outcome.as_str(), history[0].schedule_id.as_str()), ("failed", first.as_str()));
    assert_eq!(world.agents.wait_for("job", 2).await.fire_at, at);
    world.delivered("job").await;
    assert_eq!(
        world.history("job").await.iter().map(|one| &one.schedule_id).collect::<Vec<_>>(),
        [&first, &second]
    );
}

#[tokio::test]
async fn contract_states_a_cancel_during_an_attempt_keeps_only_its_outcome() {
    let world = World::with(quick).await;
    world.agents.answer(|_, _| Reply::status(500).after(Duration::from_secs(3)));
    let (at, first) = world.arm("job", 0).await;
    world.agents.wait_for("job", 1).await;
    world.service.cancel(&world.token, "job").await;
    assert_eq!(world.listed("job").await, None);
    assert_eq!(world.ended("job", 1).await[0].outcome, "failed");
    world.arm("marker", 1_000).await;
    world.agents.wait_for("marker", 1).await;
    assert_eq!(world.agents.fires_of("job").len(), 1, "no retry");
    // The key is forgotten: the same key arms anew and fires at once.
    world.agents.answer(|_, _| Reply::accepted());
    assert_ne!(world.again("job", &at).await, first);
    world.agents.wait_for("job", 2).await;
}

#[tokio::test]
async fn contract_states_the_same_key_during_firing_fires_once_more_after_the_delay() {
    let world = World::with(quick).await;
    world
        .agents
        .answer(|_, before| Reply::accepted().after(Duration::from_secs(if before == 0 { 3 } else { 0 })));
    let (at, schedule) = world.arm("job", 0).await;
    world.agents.wait_for("job", 1).await;
    for _ in 0..2 {
        assert_eq!(world.again("job", &at).await, schedule);
    }
    assert_eq!(world.listed("job").await.unwrap().1["state"], "firing");
    world.ended("job", 1).await;
    let (half, entry) = world.listed("job").await.expect("it waits for its second fire");
    assert_eq!((half, waits(&entry), &entry["schedule_id"]), ("armed", true, &json!(schedule)), "{entry}");
    world.ended("job", 2).await;
    let gaps = gaps(&world, "job").await;
    assert!(gaps[0] >= 1.0, "{gaps:?}");
    world.delivered("job").await;
    let history = world.history("job").await;
    assert!(
        history.iter().all(|one| one.schedule_id == schedule && one.outcome == "delivered"),
        "{history:?}"
    );
}

#[tokio::test]
async fn contract_states_the_same_key_during_a_failing_attempt_is_only_retried() {
    let world = World::with(quick).await;
    world.agents.answer(|_, before| match before {
        0 => Reply::status(503).after(Duration::from_secs(3)),
        _ => Reply::accepted(),
    });
    let (at, schedule) = world.arm("job", 0).await;
    world.agents.wait_for("job", 1).await;
    assert_eq!(world.again("job", &at).await, schedule);
    world.agents.wait_for("job", 2).await;
    world.delivered("job").await;
    world.arm("marker", 1_300).await;
    world.agents.wait_for("marker", 1).await;
    assert_eq!(world.agents.fires_of("job").len(), 2, "the retry served the repeated key, too");
}

#[tokio::test]
async fn client_4_a_delivered_key_that_is_provisioned_again_fires_later_each_time_until_it_is_stuck() {
    let world = World::with(|s| quick(s).with("NAS_CRON_SECOND_FIRES_MAX", "2")).await;
    let (at, schedule) = world.arm("job", -1_000).await;
    world.delivered("job").await;
    for fires in 2..=3 {
        assert_eq!(world.again("job", &at).await, schedule, "the same schedule");
        let (half, entry) = world.listed("job").await.expect("listed until it has fired");
        assert_eq!((half, waits(&entry)), ("armed", true), "{entry}");
        world.agents.wait_for("job", fires).await;
        world.delivered("job").await;
    }
    let gaps = gaps(&world, "job").await;
    assert!(gaps[0] >= 1.0, "the first one a second after the delivery: {gaps:?}");
    assert!(gaps[1] >= 1.5, "the next one not before the interval: {gaps:?}");

    assert_eq!(world.again("job", &at).await, schedule);
    let (half, entry) = world.listed("job").await.expect("it is shown");
    assert_eq!((half, &entry["state"], &entry["fire_at"]), ("dead", &json!("stuck"), &json!(at)));
    world.arm("marker", 2_000).await;
    world.agents.wait_for("marker", 1).await;
    assert_eq!(world.agents.fires_of("job").len(), 3, "no further fire");

    // Only this key is stuck, not the job.
    let (new, _) = world.arm("job", 0).await;
    assert_eq!(world.agents.wait_for("job", 4).await.fire_at, new);
    world.delivered("job").await;
}

#[tokio::test]
async fn client_4_an_undelivered_key_that_is_provisioned_again_in_the_past_fires_at_once() {
    let world = World::with(no_second_fires).await;
    let (at, first) = world.arm("job", 3_600_000).await;
    let (_, other) = world.arm("job", 3_630_000).await;
    let past = fire_at(-30_000);
    let never_delivered = world.again("job", &past).await;
    assert!(![first.clone(), other].contains(&never_delivered));
    assert_eq!(world.agents.wait_for("job", 1).await.fire_at, past);
    world.delivered("job").await;
    assert_ne!(world.again("job", &at).await, first, "superseded before it was delivered: a new arm");
    eventually("it is armed", async || world.listed("job").await.filter(|(half, _)| *half == "armed")).await;
}

#[tokio::test]
async fn contract_agent_api_a_cancel_forgets_the_delivered_key() {
    let world = World::with(no_second_fires).await;
    let (at, first) = world.arm("job", -1_000).await;
    world.delivered("job").await;
    world.service.cancel(&world.token, "job").await;
    assert_ne!(world.again("job", &at).await, first);
    world.agents.wait_for("job", 2).await;
}
