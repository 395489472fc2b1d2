//! The contents of `list`.

use std::time::Duration;

use nas_cron_testing::agent::Reply;
use nas_cron_testing::time::{fire_at, instant, now};
use serde_json::{Value, json};

use super::fixture::{World, dying_within};

fn of<'a>(list: &'a Value, part: &str, job: &str) -> &'a Value {
    list[part].as_array().unwrap().iter().find(|one| one["job_id"] == job).unwrap_or(&Value::Null)
}

#[tokio::test]
async fn client_3_list_is_always_armed_and_dead_soonest_first() {
    let world = World::start().await;
    let empty = world.service.list(&world.token).await;
    assert_eq!(empty, json!({"armed": [], "dead": []}), "an agent takes anything else for a failure");
    // Sorted by instant, not by text: each is in another time zone.
    for (job, at) in [
        ("third", "2031-01-01T00:00:02.000001+00:00"),
        ("first", "2031-01-01T09:00:00+09:00"),
        ("second", "2030-12-31T12:00:02-12:00"),
        ("last", "2031-01-01T00:00:03Z"),
    ] {
        world.service.provision(&world.token, job, at, &world.callback()).await;
    }
    let list = world.service.list(&world.token).await;
    let jobs: Vec<_> =
        list["armed"].as_array().unwrap().iter().map(|one| one["job_id"].as_str().unwrap()).collect();
    assert_eq!(jobs, ["first", "second", "third", "last"]);
    assert_eq!(list["dead"], json!([]));
    let first = &list["armed"][0];
    assert_eq!(
        first,
        &json!({
            "job_id": "first", "fire_at": "2031-01-01T09:00:00+09:00", "schedule_id": first["schedule_id"],
            "agent_callback_url": world.callback(), "state": "armed", "attempts": 0, "next_attempt_at": "2031-01-01T00:00:00Z",
        })
    );
}

#[tokio::test]
async fn contract_armed_contains_armed_leased_and_firing_one_shots() {
    let world = World::with(|s| s.with("NAS_CRON_LEASE_HORIZON", "60s")).await;
    world.agents.answer(|_, _| Reply::accepted().after(Duration::from_secs(30)));
    world.arm("armed", 3_600_000).await;
    world.arm("leased", 30_000).await;
    world.arm("firing", 0).await;
    let list = world
        .list_until("each in its state", |list| {
            ["armed", "leased", "firing"].iter().all(|job| of(list, "armed", job)["state"] == **job)
        })
        .await;
    assert_eq!(list["dead"], json!([]));
    assert_eq!(of(&list, "armed", "firing")["attempts"], 1);
    assert_eq!(of(&list, "armed", "leased")["attempts"], 0);
    for job in ["armed", "leased", "firing"] {
        let one = of(&list, "armed", job);
        assert!(one["next_attempt_at"].is_string() && one["schedule_id"].is_string(), "{one}");
    }
}

#[tokio::test]
async fn contract_waiting_and_dead_one_shots_show_their_last_status_and_error() {
    // Within the lease horizon, a retry is leased at once, so `waiting` would be too short to observe.
    let world =
        World::with(|s| dying_within(s, "2500ms", "1s").with("NAS_CRON_LEASE_HORIZON", "100ms")).await;
    world.agents.answer(|_, _| Reply { body: "no room\tat the inn", ..Reply::status(507) });
    let (at, schedule) = world.arm("job-1", 0).await;
    let waiting = world.list_until("it waits", |list| of(list, "armed", "job-1")["state"] == "waiting").await;
    let one = of(&waiting, "armed", "job-1");
    assert_eq!((&one["attempts"], &one["last_status"]), (&json!(1), &json!(507)), "{one}");
    assert_eq!(one["last_error"], "no room at the inn");
    assert!(instant(one["next_attempt_at"].as_str().unwrap()) > instant(&at), "{one}");

    let list = world.list_until("it is dead", |list| list["dead"] != json!([])).await;
    assert_eq!(list["armed"], json!([]));
    let dead = &list["dead"][0];
    let died_at = instant(dead["died_at"].as_str().unwrap());
    assert!(died_at > instant(&at) && died_at <= now(), "{dead}");
    assert_eq!(
        dead,
        &json!({
            "job_id": "job-1", "fire_at": at, "schedule_id": schedule, "agent_callback_url": world.callback(),
            "state": "dead", "dead_reason": "budget_spent", "attempts": dead["attempts"],
            "last_status": 507, "last_error": "no room at the inn", "died_at": dead["died_at"],
        })
    );
    assert!(dead["attempts"].as_i64().unwrap() >= 2, "{dead}");

    // The same key gets the same schedule and a new retry budget, and is due now.
    world.agents.answer(|_, _| Reply::accepted());
    let fires = world.agents.fires_of("job-1").len();
    let again = world.service.provision(&world.token, "job-1", &at, &world.callback()).await;
    assert_eq!(again, schedule);
    world.agents.wait_for("job-1", fires + 1).await;
    world.list_until("delivered", |list| list == &json!({"armed": [], "dead": []})).await;
}

#[tokio::test]
async fn contract_a_new_key_replaces_a_dead_letter() {
    let world = World::with(|s| dying_within(s, "1ms", "1ms")).await;
    world.agents.answer(|_, _| Reply::status(500));
    let (_, dead) = world.arm("job-1", 0).await;
    world.arm("job-2", 0).await;
    world.list_until("both are dead", |list| list["dead"].as_array().unwrap().len() == 2).await;
    let (_, fresh) = world.arm("job-1", 3_600_000).await;
    assert_ne!(fresh, dead);
    world.service.cancel(&world.token, "job-2").await;
    let list = world.service.list(&world.token).await;
    assert_eq!((&list["dead"], &list["armed"][0]["schedule_id"]), (&json!([]), &json!(fresh)), "{list}");
    assert_eq!(list["armed"][0]["attempts"], 0);
}

#[tokio::test]
async fn client_5_delivered_one_shots_leave_the_list() {
    let world = World::start().await;
    world.agents.answer(|fire, _| if fire.job_id == "gone" { Reply::gone() } else { Reply::accepted() });
    world.arm("delivered", 0).await;
    world.arm("gone", 0).await;
    world.arm("stays", 3_600_000).await;
    for job in ["delivered", "gone"] {
        world.agents.wait_for(job, 1).await;
    }
    let list = world.list_until("one is left", |list| list["armed"].as_array().unwrap().len() == 1).await;
    assert_eq!((&list["armed"][0]["job_id"], &list["dead"]), (&json!("stays"), &json!([])));
    // Real agents cancel listed jobs that they do not know.
    world.service.cancel(&world.token, "stays").await;
    assert_eq!(world.service.list(&world.token).await, json!({"armed": [], "dead": []}));
    let at = fire_at(3_600_000);
    world.service.provision(&world.token, "stays", &at, &world.callback()).await;
}
