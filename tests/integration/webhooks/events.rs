//! Every type of event, caused by what it reports.

use nas_cron_testing::agent::{Agents, Reply};
use nas_cron_testing::ports::free_address;
use nas_cron_testing::service::Settings;
use nas_cron_testing::time::{fire_at, instant};
use nas_cron_testing::world::World;
use serde_json::{Value, json};

use super::receiver::Receiver;
use super::{add, at_once};

/// A service that reports every fact at once, with a webhook.
async fn world(change: impl FnOnce(Settings) -> Settings) -> (World, Receiver) {
    let world = World::with(|settings| change(at_once(settings))).await;
    let receiver = Receiver::start().await;
    add(&world, &receiver.url, json!({})).await;
    (world, receiver)
}

fn only_item(event: &Value) -> &Value {
    assert_eq!(event["data"]["count"], 1, "{event}");
    let items = event["data"]["items"].as_array().unwrap();
    assert_eq!(items.len(), 1);
    &items[0]
}

#[tokio::test]
async fn dead_letter_is_an_event_with_its_job_and_its_reason() {
    let (world, receiver) = world(|settings| settings).await;
    world.agents.answer(|_, _| Reply::status(500));
    let body = json!({
        "job_id": "job", "fire_at": fire_at(0), "not_after": fire_at(900), "dedup_key": "key",
        "agent_callback_url": world.callback(),
    });
    let (status, answer) = world.service.post("/api/agent-cron/provision", &world.token, &body).await;
    assert_eq!(status, 200, "{answer}");

    let call = receiver.wait_for_type("dead_letter.created").await;
    let event = &call.event;
    assert_eq!((event["id"].as_str(), &event["org_id"]), (Some(call.id()), &Value::Null));
    let item = only_item(event);
    assert_eq!(
        (&item["instance_id"], &item["job_id"], &item["org_id"]),
        (&json!("inst-1"), &json!("job"), &json!("org-1"))
    );
    assert_eq!((&item["reason"], &item["schedule_id"]), (&json!("expired"), &answer["schedule_id"]));
    assert_eq!((&item["last_status"], &item["attempts"]), (&json!(500), &json!(1)));
    assert!(instant(event["timestamp"].as_str().unwrap()) <= nas_cron_testing::time::now());
}

#[tokio::test]
async fn stuck_one_shot_is_an_event() {
    let (world, receiver) = world(|settings| settings.with("NAS_CRON_SECOND_FIRES_MAX", "0")).await;
    let (at, schedule) = world.arm("job", 0).await;
    world.delivered("job").await;
    world.again("job", &at).await;
    let event = receiver.wait_for_type("one_shot.stuck").await.event;
    let item = only_item(&event);
    assert_eq!((&item["job_id"], &item["schedule_id"]), (&json!("job"), &json!(schedule)));
    assert_eq!(item.get("reason"), None);
}

#[tokio::test]
async fn outage_of_an_instance_and_its_end_are_events() {
    let (world, receiver) = world(|settings| settings.with("NAS_CRON_RETRY_DEFINITE_BASE", "200ms")).await;
    let address = free_address();
    let callback = format!("http://{address}/inst-1");
    world.service.provision(&world.token, "job", &fire_at(0), &callback).await;
    let lost = receiver.wait_for_type("instance.became_unreachable").await.event;
    assert_eq!(
        (&only_item(&lost)["instance_id"], &only_item(&lost)["job_id"]),
        (&json!("inst-1"), &json!("job"))
    );

    let agents = Agents::start_at(address).await;
    agents.wait_for("job", 1).await;
    let back = receiver.wait_for_type("instance.became_reachable").await.event;
    let item = only_item(&back);
    assert_eq!(item["instance_id"], "inst-1");
    let since = instant(item["unreachable_since"].as_str().unwrap());
    assert_eq!(since, instant(lost["timestamp"].as_str().unwrap()), "{item}");
}

#[tokio::test]
async fn outage_that_ends_without_a_response_is_not_reported_as_over() {
    let (world, receiver) = world(|settings| settings).await;
    let callback = format!("http://{}/inst-1", free_address());
    world.service.provision(&world.token, "job", &fire_at(0), &callback).await;
    receiver.wait_for_type("instance.became_unreachable").await;
    // Nothing is left to probe, so maintenance forgets the outage.
    world.service.cancel(&world.token, "job").await;
    let db = nas_cron::db::Db::new(&nas_cron::db::DbOptions {
        url: world.url.clone().into(),
        max_connections: 2,
        acquire_timeout: nas_cron_testing::time::PATIENCE,
    });
    nas_cron::db::outages::tidy_parked(&db.unwrap(), std::time::Duration::from_hours(72), 100).await.unwrap();
    world.sql("INSERT INTO event_facts (type) VALUES ('one_shot.stuck')").await;
    receiver.wait_for_type("one_shot.stuck").await;
    assert!(receiver.calls().iter().all(|call| call.event["type"] != "instance.became_reachable"));
}

#[tokio::test]
async fn missed_wake_up_is_an_event() {
    let nowhere = format!("http://{}", free_address());
    let (world, receiver) = world(|settings| {
        settings
            .with("NAS_CRON_BACKEND", "qstash")
            .with("NAS_CRON_QSTASH_URL", nowhere)
            .with("NAS_CRON_QSTASH_TOKEN", "token")
            .with("NAS_CRON_QSTASH_CURRENT_SIGNING_KEY", "sig_1")
            .with("NAS_CRON_RELAY_URL", "http://127.0.0.1:1/api/agent-cron/relay")
            .with("NAS_CRON_WATCHDOG_GRACE", "500ms")
    })
    .await;
    let (_, schedule) = world.arm("job", 5_000).await;
    let event = receiver.wait_for_type("wake_up.missed").await.event;
    let item = only_item(&event);
    assert_eq!((&item["backend"], &item["job_id"]), (&json!("qstash"), &json!("job")));
    assert_eq!(item["schedule_id"], json!(schedule));
}

#[cfg(target_os = "linux")]
#[tokio::test]
async fn large_clock_offset_and_its_end_are_events() {
    let (world, receiver) = world(|settings| settings).await;
    let clock = std::env::temp_dir().join(format!("nas-cron-clock-{}", uuid::Uuid::new_v4()));
    std::fs::write(&clock, "+90\n").unwrap();
    let skewed =
        nas_cron_testing::service::Service::start(&world.settings.clone().with_clock_of(&clock)).await;
    let event = receiver.wait_for_type("clock.drifted").await.event;
    let item = only_item(&event);
    let offset = item["offset_s"].as_f64().unwrap();
    assert!((offset + 90.0).abs() < 5.0, "{item}");
    assert!(item["replica"].as_str().is_some_and(|name| !name.is_empty()), "{item}");
    // The clock is set.
    std::fs::write(&clock, "+0\n").unwrap();
    let event = receiver.wait_for_type("clock.corrected").await.event;
    let corrected = only_item(&event);
    assert!(corrected["offset_s"].as_f64().unwrap().abs() < 5.0, "{corrected}");
    assert_eq!(corrected["replica"], item["replica"]);
    drop(skewed);
    std::fs::remove_file(&clock).unwrap();
}

#[tokio::test]
async fn steps_of_a_key_rotation_are_events() {
    let (world, receiver) = world(|settings| settings).await;
    let (status, out, error) = world.settings.run(&["keys", "rotate"]).await;
    assert!(status.success(), "{out}{error}");
    let published = receiver.wait_for_type("signing_key.published").await.event;
    let kid = only_item(&published)["kid"].clone();
    assert_eq!(only_item(&published)["alg"], "ES256");

    world.sql("UPDATE signing_keys SET published_at = published_at - interval '911 s'").await;
    let activated = receiver.wait_for_type("signing_key.activated").await.event;
    assert_eq!(only_item(&activated)["kid"], kid);
    let retired = receiver.wait_for_type("signing_key.retired").await.event;
    assert_ne!(only_item(&retired)["kid"], kid);

    world
        .sql("UPDATE signing_keys SET retired_at = retired_at - interval '320 s' WHERE state = 'retired'")
        .await;
    let removed = receiver.wait_for_type("signing_key.removed").await.event;
    assert_eq!(only_item(&removed)["kid"], only_item(&retired)["kid"]);
    for call in receiver.calls() {
        assert!(!call.event.to_string().contains("private"), "{}", call.event);
    }
}
