//! Agents that move, and homes that share an identity: docs/contract.md#provision, docs/contract.md#outcomes.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::sync::mpsc;
use std::thread;

use nas_cron_testing::agent::{Fire, Reply};
use nas_cron_testing::ports::free_address;
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::{Attempt, World, eventually};
use serde_json::{Value, json};

/// Arms the job `job` from the callback `own`, and lets the agent move to `home-b` before the fire.
async fn moved_before_the_fire(world: &World, own: &str) -> (String, String) {
    operate(world, &["hold", "--all"]).await;
    let at = fire_at(0);
    let schedule = world.service.provision(&world.token, "job", &at, own).await;
    provision(world, "other", &world.agents.callback("home-b")).await;
    let listed = world.listed("job").await.expect("it is listed").1;
    assert_eq!(listed["agent_callback_url"], json!(world.agents.callback("home-b")));
    (at, schedule)
}

async fn operate(world: &World, arguments: &[&str]) -> String {
    let (status, out, error) = world.settings.run(arguments).await;
    assert!(status.success(), "{arguments:?}: {error}");
    out
}

/// Provisions a job that is due in an hour.
async fn provision(world: &World, job: &str, callback: &str) {
    world.service.provision(&world.token, job, &fire_at(3_600_000), callback).await;
}

fn homes(fires: &[Fire]) -> Vec<&str> {
    fires.iter().map(|fire| fire.agent.as_str()).collect()
}

fn outcomes(history: &[Attempt]) -> Vec<&str> {
    history.iter().map(|attempt| attempt.outcome.as_str()).collect()
}

#[tokio::test]
async fn gone_from_the_callback_of_a_move_is_followed_up_at_the_callback_of_the_jobs_own_provision() {
    let world = World::new().await;
    world.agents.answer(|fire, _| if fire.agent == "home-b" { Reply::gone() } else { Reply::accepted() });
    let own = world.agents.callback("home-a");
    let (_, schedule) = moved_before_the_fire(&world, &own).await;
    let shown = operate(&world, &["jobs", "show", "inst-1", "job"]).await;
    assert!(shown.contains(&format!("it was armed from {own}")), "{shown}");
    operate(&world, &["release", "--all"]).await;
    let history = world.ended("job", 2).await;
    assert_eq!(outcomes(&history), ["gone", "delivered"]);
    assert!(history.iter().all(|attempt| attempt.schedule_id == schedule));
    assert_eq!(homes(&world.agents.fires_of("job")), ["home-b", "home-a"]);
    world.delivered("job").await;
}

#[tokio::test]
async fn gone_stands_if_the_jobs_own_callback_cannot_be_reached() {
    let world = World::new().await;
    world.agents.answer(|_, _| Reply::gone());
    let closed = free_address();
    let (at, schedule) = moved_before_the_fire(&world, &format!("http://{closed}")).await;
    operate(&world, &["release", "--all"]).await;
    world.delivered("job").await;
    let history = world.history("job").await;
    assert_eq!(outcomes(&history), ["gone", "gone"]);
    assert!(
        history[1].error.as_ref().is_some_and(|error| error.contains("connecting failed")),
        "{history:?}"
    );
    assert_eq!(homes(&world.agents.fires_of("job")), ["home-b"]);
    // The home that is left says nothing about the one in use, and the key is forgotten.
    let unreachable: bool = sqlx::query_scalar("SELECT unreachable_since IS NOT NULL FROM instances")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert!(!unreachable, "no outage begins");
    let again = world.service.provision(&world.token, "job", &at, &world.agents.callback("home-b")).await;
    assert_ne!(again, schedule);
}

#[tokio::test]
async fn gone_stands_if_the_jobs_own_callback_answers_the_same() {
    let world = World::new().await;
    world.agents.answer(|_, _| Reply::gone());
    moved_before_the_fire(&world, &world.agents.callback("home-a")).await;
    operate(&world, &["release", "--all"]).await;
    world.delivered("job").await;
    assert_eq!(outcomes(&world.history("job").await), ["gone", "gone"]);
    assert_eq!(homes(&world.agents.fires_of("job")), ["home-b", "home-a"]);
}

#[tokio::test]
async fn own_callback_that_answers_is_retried_by_the_usual_rules() {
    let world = World::with(|settings| settings.with("NAS_CRON_RETRY_DEFINITE_BASE", "100ms")).await;
    world.agents.answer(|fire, before| match (fire.agent.as_str(), before) {
        ("home-b", _) => Reply::gone(),
        (_, 1) => Reply::status(503),
        _ => Reply::accepted(),
    });
    moved_before_the_fire(&world, &world.agents.callback("home-a")).await;
    operate(&world, &["release", "--all"]).await;
    assert_eq!(outcomes(&world.ended("job", 3).await), ["gone", "failed", "delivered"]);
    assert_eq!(homes(&world.agents.fires_of("job")), ["home-b", "home-a", "home-a"]);
}

#[tokio::test]
async fn gone_from_the_callback_of_the_jobs_own_provision_stands() {
    let world = World::new().await;
    world.agents.answer(|_, _| Reply::gone());
    let (at, schedule) = moved_before_the_fire(&world, &world.agents.callback("home-a")).await;
    // The same key, now from the new callback: it is the job's own from here on.
    let again = world.service.provision(&world.token, "job", &at, &world.agents.callback("home-b")).await;
    assert_eq!(again, schedule);
    operate(&world, &["release", "--all"]).await;
    world.delivered("job").await;
    assert_eq!(outcomes(&world.history("job").await), ["gone"]);
}

#[tokio::test]
async fn callback_that_an_operator_set_replaces_the_jobs_own() {
    let world = World::new().await;
    world.agents.answer(|_, _| Reply::gone());
    moved_before_the_fire(&world, &world.agents.callback("home-a")).await;
    operate(&world, &["agents", "set-callback", "inst-1", &world.agents.callback("home-b")]).await;
    operate(&world, &["release", "--all"]).await;
    world.delivered("job").await;
    assert_eq!(
        homes(&world.agents.fires_of("job")),
        ["home-b"],
        "no token goes to the callback that was left"
    );
}

/// The field of `agents show` that names the other callback.
async fn alternates_with(world: &World) -> Value {
    let shown: Value =
        serde_json::from_str(&operate(world, &["agents", "show", "inst-1", "--json"]).await).unwrap();
    shown["alternating_callback_url"].clone()
}

#[tokio::test]
async fn two_homes_of_one_identity_are_noticed_and_logged_once() {
    const LINE: &str = "callback moved back and forth";
    let world = World::new().await;
    let [a, b] = ["home-a", "home-b"].map(|home| world.agents.callback(home));
    // A deployment and its rollback.
    for home in [&a, &b, &a, &b] {
        provision(&world, "job", home).await;
        assert_eq!(alternates_with(&world).await, Value::Null);
    }
    assert!(!world.service.log().contains(LINE));
    for (home, other) in [(&a, &b), (&b, &a), (&a, &b)] {
        provision(&world, "job", home).await;
        assert_eq!(alternates_with(&world).await, json!(other));
        provision(&world, "more", home).await;
    }
    eventually("it is logged", async || world.service.log().contains(LINE).then_some(())).await;
    assert_eq!(world.service.log().matches(LINE).count(), 1, "{}", world.service.log());
    let shown = operate(&world, &["agents", "show", "inst-1"]).await;
    assert!(shown.contains(&format!("its callback alternates with {b}")), "{shown}");
    let (_, report, _) = world.settings.run(&["doctor", "--json"]).await;
    let report: Value = serde_json::from_str(&report).unwrap();
    let homes = report["checks"].as_array().unwrap().iter().find(|line| line["check"] == "homes").unwrap();
    assert_eq!(homes["status"], "warning", "{homes}");
    assert!(homes["found"].as_str().unwrap().ends_with("inst-1"), "{homes}");

    // One home is stopped.
    world.sql("UPDATE instances SET callback_moved_at = callback_moved_at - interval '1 day'").await;
    provision(&world, "job", &a).await;
    assert_eq!(alternates_with(&world).await, Value::Null);
    provision(&world, "job", &b).await;
    assert_eq!(alternates_with(&world).await, Value::Null, "an earlier run of moves does not count");
}

#[tokio::test]
async fn callback_that_moves_to_new_places_only_does_not_alternate() {
    let world = World::new().await;
    for place in 0..8 {
        provision(&world, "job", &world.agents.callback(&format!("tunnel-{place}"))).await;
    }
    assert_eq!(alternates_with(&world).await, Value::Null);
    let (earlier, returns): (Vec<String>, i32) =
        sqlx::query_as("SELECT earlier_callbacks, callback_returns FROM instances")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    let expected = [6, 5, 4, 3].map(|place| world.agents.callback(&format!("tunnel-{place}")));
    assert_eq!((earlier.as_slice(), returns), (expected.as_slice(), 0));
}

/// A home that answers its only fire with `gone` after a message to the sender.
fn gone_on_signal() -> (String, mpsc::Sender<()>, thread::JoinHandle<()>) {
    let gate = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", gate.local_addr().unwrap());
    let (answer, signal) = mpsc::channel();
    let home = thread::spawn(move || {
        let (mut connection, _) = gate.accept().unwrap();
        let mut seen = [0; 4_096];
        assert!(connection.read(&mut seen).unwrap() > 0);
        signal.recv().unwrap();
        let body = r#"{"status":"gone"}"#;
        let head = format!("HTTP/1.1 200 OK\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
        connection.write_all(format!("{head}{body}").as_bytes()).unwrap();
    });
    (url, answer, home)
}

/// Arms the job `job` from the callback `own`, and waits until its attempt at `elsewhere` is in flight.
async fn in_flight_elsewhere(world: &World, own: &str, elsewhere: &str) {
    operate(world, &["hold", "--all"]).await;
    world.service.provision(&world.token, "job", &fire_at(0), own).await;
    provision(world, "other", elsewhere).await;
    operate(world, &["release", "--all"]).await;
    eventually("the attempt is in flight", async || {
        let (_, listed) = world.listed("job").await?;
        (listed["state"] == "firing").then_some(())
    })
    .await;
}

#[tokio::test]
async fn late_gone_from_another_home_does_not_end_a_one_shot_that_returned_to_its_own() {
    let world = World::new().await;
    let (elsewhere, answer, home) = gone_on_signal();
    let own = world.agents.callback("home-a");
    in_flight_elsewhere(&world, &own, &elsewhere).await;
    // The first home calls before the other one answers.
    provision(&world, "more", &own).await;
    answer.send(()).unwrap();
    assert_eq!(outcomes(&world.ended("job", 2).await), ["gone", "delivered"]);
    assert_eq!(homes(&world.agents.fires_of("job")), ["home-a"]);
    home.join().unwrap();
}

#[tokio::test]
async fn gone_does_not_stand_if_the_agent_has_returned_to_the_jobs_own_callback() {
    let world = World::new().await;
    let (elsewhere, answer, home) = gone_on_signal();
    let own = format!("http://{}", free_address());
    in_flight_elsewhere(&world, &own, &elsewhere).await;
    operate(&world, &["hold", "--all"]).await;
    answer.send(()).unwrap();
    assert_eq!(outcomes(&world.ended("job", 1).await), ["gone"]);
    // It calls from there, so it is alive, and only its own answer counts.
    provision(&world, "more", &own).await;
    operate(&world, &["release", "--all"]).await;
    assert_eq!(outcomes(&world.ended("job", 2).await), ["gone", "failed"]);
    home.join().unwrap();
}
