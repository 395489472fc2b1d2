//! The guarantees of provision and cancel.

use nas_cron_testing::service::Service;
use nas_cron_testing::time::{fire_at, instant, lateness_ms, now};
use serde_json::{Value, json};

use super::fixture::{Answer, World, until};

/// The `armed` entry of a job.
fn armed<'a>(list: &'a Value, job: &str) -> &'a Value {
    let armed = list["armed"].as_array().unwrap();
    armed.iter().find(|one| one["job_id"] == job).unwrap_or_else(|| panic!("{job} is not in {list}"))
}

#[tokio::test]
async fn invariant_1_an_acknowledged_provision_survives_sigkill() {
    let mut world = World::start().await;
    let (at, schedule) = world.arm("job-1", 1_500).await;
    let (_, far) = world.arm("job-2", 3_600_000).await;
    world.service.kill9();
    let other = Service::start(&world.settings).await;
    let list = other.list(&world.token).await;
    assert_eq!(armed(&list, "job-2")["schedule_id"], json!(far));
    let fire = world.agents.wait_for("job-1", 1).await;
    let fired: String = until("its outcome is recorded", async || {
        sqlx::query_scalar("SELECT schedule_id::text FROM fires").fetch_optional(&world.pool).await.unwrap()
    })
    .await;
    assert_eq!(fired, schedule);
    assert_eq!(fire.fire_at, at);
}

#[tokio::test]
async fn client_1_fire_at_is_echoed_byte_for_byte_in_list_and_fire() {
    let world = World::start().await;
    let soon = now() + chrono::TimeDelta::milliseconds(8_000);
    let zone = |minutes: i32| chrono::FixedOffset::east_opt(minutes * 60).unwrap();
    let forms = [
        ("python", soon.with_timezone(&zone(345)).format("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string()),
        ("west", soon.with_timezone(&zone(-210)).format("%Y-%m-%dT%H:%M:%S%.6f%:z").to_string()),
        ("zulu", soon.format("%Y-%m-%dT%H:%M:%S%.3fZ").to_string()),
        ("small", soon.format("%Y-%m-%dt%H:%M:%S%.3fz").to_string()),
        ("whole", soon.format("%Y-%m-%dT%H:%M:%S+00:00").to_string()),
        ("minus-zero", soon.format("%Y-%m-%dT%H:%M:%S%.6f-00:00").to_string()),
        ("blank", soon.format("%Y-%m-%d %H:%M:%S%.6f+00:00").to_string()),
        ("nanos", soon.format("%Y-%m-%dT%H:%M:%S%.9f+00:00").to_string()),
    ];
    for (job, at) in &forms {
        world.service.provision(&world.token, job, at, &world.callback()).await;
        let list = world.service.list(&world.token).await;
        if let Some(one) = list["armed"].as_array().unwrap().iter().find(|one| one["job_id"] == *job) {
            assert_eq!(one["fire_at"], json!(at));
        } else {
            assert!(!at.contains('.'), "only whole seconds can be in the past already: {at}");
        }
    }
    for (job, at) in &forms {
        let fire = world.agents.wait_for(job, 1).await;
        assert_eq!(fire.body, json!({"job_id": job, "fire_at": at}));
    }
}

#[tokio::test]
async fn contract_microseconds_are_kept_and_nothing_is_early() {
    let world = World::start().await;
    for (job, at, means) in [
        ("micros", "2031-01-02T03:04:05.123457+05:45", "2031-01-01T21:19:05.123457Z"),
        ("last", "2031-01-02T03:04:05.999999Z", "2031-01-02T03:04:05.999999Z"),
        // finer than a microsecond: later, never earlier
        ("nanos", "2031-01-02T03:04:05.123456001Z", "2031-01-02T03:04:05.123457Z"),
        ("over", "2031-01-02T03:04:59.9999999Z", "2031-01-02T03:05:00Z"),
        ("far", "9999-12-31T23:59:59.999999+00:00", "9999-12-31T23:59:59.999999Z"),
    ] {
        world.service.provision(&world.token, job, at, &world.callback()).await;
        let list = world.service.list(&world.token).await;
        let one = armed(&list, job);
        assert_eq!(one["fire_at"], json!(at));
        let stored: chrono::DateTime<chrono::Utc> =
            sqlx::query_scalar("SELECT fire_at FROM one_shots WHERE job_id = $1")
                .bind(job)
                .fetch_one(&world.pool)
                .await
                .unwrap();
        assert_eq!(stored, instant(means));
        assert_eq!(instant(one["next_attempt_at"].as_str().unwrap()), stored);
    }
}

#[tokio::test]
async fn contract_a_past_fire_at_fires_at_once() {
    // Without a notification, the loop would look again only after 54 s.
    let world = World::with(|s| s.with("NAS_CRON_LEASE_HORIZON", "60s")).await;
    for (job, at) in [
        ("now", fire_at(0)),
        ("hour", fire_at(-3_600_000)),
        ("epoch", "1970-01-01T00:00:00+00:00".to_owned()),
    ] {
        let asked = now();
        world.service.provision(&world.token, job, &at, &world.callback()).await;
        let fire = world.agents.wait_for(job, 1).await;
        assert_eq!(fire.fire_at, at);
        let took = (fire.arrived - asked).num_milliseconds();
        assert!(took < 30_000, "{job}: {took} ms");
    }
}

#[tokio::test]
async fn contract_the_same_key_changes_nothing_and_another_key_supersedes() {
    let world = World::start().await;
    let provision = async |changes: Value| {
        let answer = world.provision(&world.token, &world.body(&changes)).await;
        (answer.schedule_id().to_owned(), answer)
    };
    let (first_at, second_at) = (fire_at(3_600_000), fire_at(5_000));
    let (first, answer) = provision(json!({"fire_at": first_at})).await;
    assert_eq!(answer.header("content-type"), Some("application/json"));
    assert_eq!(answer.body.as_object().unwrap().keys().collect::<Vec<_>>(), ["schedule_id"]);
    // Only the key counts, even if all other fields differ.
    assert_eq!(provision(json!({"fire_at": first_at})).await.0, first);
    assert_eq!(provision(json!({"fire_at": fire_at(0)})).await.0, first);
    let list = world.service.list(&world.token).await;
    assert_eq!(armed(&list, "job-1")["fire_at"], json!(first_at), "{list}");
    // Another key supersedes: the job still has one one-shot, and the old one never fires.
    let (second, _) = provision(json!({"fire_at": second_at, "dedup_key": "key-2"})).await;
    assert_ne!(second, first);
    let list = world.service.list(&world.token).await;
    assert_eq!(list["armed"].as_array().unwrap().len(), 1, "{list}");
    assert_eq!(armed(&list, "job-1")["schedule_id"], json!(second));
    let (third, _) = provision(json!({"fire_at": fire_at(5_400), "dedup_key": "key-3"})).await;
    assert_ne!(third, second);
    let fire = world.agents.wait_for("job-1", 1).await;
    assert!(lateness_ms(&second_at, fire.arrived) > 150.0, "the second one was superseded");
    world.list_until("delivered", |list| list["armed"] == json!([])).await;
    assert_eq!(world.agents.fires_of("job-1").len(), 1);
    // The same key in another job is another one-shot.
    assert_ne!(provision(json!({"job_id": "job-2", "dedup_key": "key-3"})).await.0, third);
}

#[tokio::test]
async fn contract_callbacks_work_with_and_without_a_trailing_slash() {
    let world = World::start().await;
    let base = world.callback();
    for (job, callback) in [("bare", base.clone()), ("slash", format!("{base}/"))] {
        world.service.provision(&world.token, job, &fire_at(0), &callback).await;
        let fire = world.agents.wait_for(job, 1).await;
        assert_eq!(fire.agent, "inst-1", "it went to {{base}}/api/cron/fire");
    }
}

#[tokio::test]
async fn contract_a_new_callback_moves_all_jobs_of_the_instance() {
    let world = World::start().await;
    let callback = |name: &str| world.agents.callback(name);
    let (at, soon) = (fire_at(6_000), fire_at(5_000));
    world.service.provision(&world.token, "old-1", &at, &callback("old")).await;
    world.service.provision(&world.token, "old-2", &at, &callback("old")).await;
    // Another instance with the same callback does not move.
    let neighbour = world.portal.session_token("org-1", "sid-2");
    world.service.provision(&neighbour, "neighbour", &at, &callback("old")).await;
    world.service.provision(&world.token, "new", &soon, &callback("new")).await;
    for (job, agent) in [("new", "new"), ("old-1", "new"), ("old-2", "new"), ("neighbour", "old")] {
        assert_eq!(world.agents.wait_for(job, 1).await.agent, agent, "{job}");
    }
}

#[tokio::test]
async fn contract_a_repeated_key_with_a_new_callback_moves_the_agent() {
    let world = World::start().await;
    let at = fire_at(5_000);
    let first = world.service.provision(&world.token, "job-1", &at, &world.agents.callback("old")).await;
    let again = world.service.provision(&world.token, "job-1", &at, &world.agents.callback("new")).await;
    assert_eq!(again, first);
    assert_eq!(world.agents.wait_for("job-1", 1).await.agent, "new");
}

#[tokio::test]
async fn contract_unknown_fields_are_ignored_and_any_content_type_is_accepted() {
    let world = World::start().await;
    let body = world.body(&json!({
        "schedule_id": "mine", "state": "dead", "attempts": 9, "note": {"deep": [1, null, "é😀"]}, "timezone": "Asia/Kathmandu",
    }));
    for content_type in ["application/json", "text/plain", "application/x-www-form-urlencoded", "nonsense"] {
        let headers =
            [("authorization", format!("Bearer {}", world.token)), ("content-type", content_type.to_owned())];
        let answer = world.call_with("POST", "/api/agent-cron/provision", headers, body.to_string()).await;
        assert_ne!(answer.schedule_id(), "mine", "{content_type}");
    }
    let list = world.service.list(&world.token).await;
    let one = armed(&list, "job-1");
    assert_eq!((&one["state"], &one["attempts"]), (&json!("armed"), &json!(0)));
    for auth in [json!("claude:work"), json!(null)] {
        let answer = world.provision(&world.token, &world.body(&json!({"auth": auth}))).await;
        assert_eq!(json!(answer.schedule_id()), one["schedule_id"], "auth never supersedes");
    }
}

#[tokio::test]
async fn contract_cancel_is_ok_for_known_and_unknown_jobs_and_nothing_fires_after_it() {
    let world = World::start().await;
    world.service.cancel(&world.token, "never-was").await;
    let (_, first) = world.arm("job-1", 5_000).await;
    world.arm("control", 5_200).await;
    world.service.cancel(&world.token, "job-1").await;
    world.service.cancel(&world.token, "job-1").await;
    let list = world.service.list(&world.token).await;
    assert_eq!(list["armed"].as_array().unwrap().len(), 1, "{list}");
    world.agents.wait_for("control", 1).await;
    assert_eq!(world.agents.fires_of("job-1").len(), 0);
    // A cancelled job can be armed again, with a new schedule.
    let (_, second) = world.arm("job-1", 0).await;
    assert_ne!(second, first);
    world.agents.wait_for("job-1", 1).await;
    world.service.cancel(&world.token, "job-1").await;
}

#[tokio::test]
async fn contract_ids_of_maximum_length_are_armed_listed_and_delivered() {
    let world = World::start().await;
    // Random, so that a database cannot compress them.
    let random =
        |len: usize| -> String { (0..len).map(|_| char::from(rand::random_range(b'!'..=b'~'))).collect() };
    let (job, key) = (random(255), random(512));
    let body = world.body(&json!({"job_id": job, "dedup_key": key, "fire_at": fire_at(3_000)}));
    let answer = world.provision(&world.token, &body).await;
    let list = world.service.list(&world.token).await;
    assert_eq!(armed(&list, &job)["schedule_id"], json!(answer.schedule_id()));
    world.agents.wait_for(&job, 1).await;
    world.list_until("delivered", |list| list["armed"] == json!([])).await;
    world.service.cancel(&world.token, &job).await;
}

#[tokio::test]
async fn contract_a_callback_that_is_the_fire_url_is_taken_as_its_base_with_a_warning() {
    let world = World::start().await;
    let full = format!("{}/api/cron/fire", world.callback());
    let body = world.body(&json!({"agent_callback_url": full, "fire_at": fire_at(0)}));
    let answer = world.provision(&world.token, &body).await;
    answer.schedule_id();
    assert_eq!(answer.body["warnings"][0]["code"], "callback_is_fire_url", "{answer:?}");
    let message = answer.body["warnings"][0]["message"].as_str().unwrap();
    assert!(message.contains(&world.callback()) && !message.contains(&full), "{message}");
    let fire = world.agents.wait_for("job-1", 1).await;
    assert_eq!(fire.path, "/inst-1/api/cron/fire");

    // The base itself is no other callback.
    world.arm("job-2", 3_600_000).await;
    let list = world.service.list(&world.token).await;
    assert_eq!(armed(&list, "job-2")["agent_callback_url"], json!(world.callback()));
    let moves: bool = sqlx::query_scalar(
        "SELECT callback_moved_at IS NOT NULL FROM instances WHERE instance_id = 'inst-1'",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert!(!moves);
    let plain = world.provision(&world.token, &world.body(&json!({"dedup_key": "key-2"}))).await;
    assert_eq!(plain.body.get("warnings"), None);
}

/// The warnings of a provision: code and message.
fn warnings(answer: &Answer) -> Vec<(String, String)> {
    let found = answer.body["warnings"].as_array().into_iter().flatten();
    found.map(|one| (text(&one["code"]), text(&one["message"]))).collect()
}

fn text(value: &Value) -> String {
    value.as_str().expect("a text").to_owned()
}

#[tokio::test]
async fn contract_a_callback_that_no_fire_is_ever_sent_to_is_armed_with_a_warning() {
    let world = World::start().await;
    for (callback, why) in [
        ("http://8.8.8.8", Some("plain http is only allowed for addresses in the allow-list")),
        ("https://10.0.0.1:8080/base", Some("the address 10.0.0.1 is neither public nor in the allow-list")),
        ("https://[fd00::1]", Some("the address fd00::1 is neither public")),
        // Depends on the addresses of the host.
        ("http://agent.internal", None),
        ("https://agent.example", None),
        ("http://127.0.0.1:9", None),
    ] {
        let answer =
            world.provision(&world.token, &world.body(&json!({"agent_callback_url": callback}))).await;
        answer.schedule_id();
        let found = warnings(&answer);
        let expected = why.map(|_| "callback_not_permitted");
        assert_eq!(found.first().map(|(code, _)| code.as_str()), expected, "{callback}: {found:?}");
        assert!(why.is_none_or(|why| found[0].1.contains(why)), "{callback}: {found:?}");
    }
}

#[tokio::test]
async fn contract_a_callback_that_moves_other_jobs_warns_with_their_number() {
    let world = World::start().await;
    for job in ["job-1", "job-2", "job-3"] {
        world.arm(job, 3_600_000).await;
    }
    let moved = async |job: &str, callback: String| {
        let body = json!({"job_id": job, "dedup_key": callback, "agent_callback_url": callback});
        warnings(&world.provision(&world.token, &world.body(&body)).await)
    };
    let to = |place: &str| format!("{}/{place}", world.callback());
    let found = moved("job-1", to("b")).await;
    assert_eq!(found.len(), 1, "{found:?}");
    assert_eq!(found[0].0, "callback_moved");
    assert!(found[0].1.contains(&format!("2 other jobs follow to `{}`", to("b"))), "{found:?}");
    assert_eq!(moved("job-2", to("b")).await, [], "it is there already");
    world.service.cancel(&world.token, "job-3").await;
    assert!(moved("job-4", to("c")).await[0].1.contains("2 other jobs follow"));
    for job in ["job-1", "job-2"] {
        world.service.cancel(&world.token, job).await;
    }
    assert_eq!(moved("job-4", to("d")).await, [], "the job itself is not another one");
    assert!(moved("job-5", to("e")).await[0].1.contains("1 other job follows"));
}
