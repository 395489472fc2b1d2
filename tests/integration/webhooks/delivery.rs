//! Deliveries: signatures, order, retries, and receivers that fail in any way.

use std::collections::HashSet;
use std::process::Stdio;
use std::sync::Arc;

use axum::http::StatusCode;
use axum::response::IntoResponse;
use nas_cron_testing::in_target;
use nas_cron_testing::ports::free_address;
use nas_cron_testing::service::Service;
use nas_cron_testing::time::PATIENCE;
use nas_cron_testing::world::{World, eventually};
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt, BufReader, Lines};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::Semaphore;

use super::receiver::{Call, Receiver, endless};
use super::{add, at_once, note, webhook};

/// The receiver that verifies with the official library. `make webhooks` installs it.
struct Official {
    lines: Lines<BufReader<ChildStdout>>,
    url: String,
    _child: Child,
}

impl Official {
    async fn start(secrets: &[&str]) -> Self {
        let python = in_target("webhooks-venv/bin/python");
        assert!(python.exists(), "the library is not installed: run `make webhooks` (`make test` does)");
        let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/external/webhooks/receive.py");
        let mut command = Command::new(python);
        command.arg(script).args(secrets).stdout(Stdio::piped()).kill_on_drop(true);
        let mut child = command.spawn().expect("it starts");
        let mut lines = BufReader::new(child.stdout.take().expect("piped")).lines();
        let port = lines.next_line().await.expect("it runs").expect("a port");
        Self { lines, url: format!("http://127.0.0.1:{port}/hook"), _child: child }
    }

    async fn next(&mut self) -> Value {
        let line = tokio::time::timeout(PATIENCE, self.lines.next_line()).await.expect("a delivery in time");
        serde_json::from_str(&line.expect("it runs").expect("a line")).expect("JSON")
    }
}

async fn set_url(world: &World, id: &str, url: &str) {
    let path = format!("/api/admin/webhooks/{id}");
    let (status, answer) = world.service.admin("PATCH", &path, Some(&json!({ "url": url }))).await;
    assert_eq!(status, 200, "{answer}");
}

#[tokio::test]
async fn official_library_verifies_deliveries_also_while_the_secret_changes() {
    let world = World::with(at_once).await;
    let nowhere = format!("http://{}", free_address());
    let (id, old) = add(&world, &nowhere, json!({})).await;
    let path = format!("/api/admin/webhooks/{id}/rotate-secret");
    let other = add(&world, &nowhere, json!({ "org_id": "nobody" })).await.1;

    let mut official = Official::start(&[&old, &other]).await;
    set_url(&world, &id, &official.url).await;
    note(&world, Some("inst-1"), "é \u{1F600} \"quoted\"").await;
    let delivery = official.next().await;
    assert_eq!(delivery["verified"][0], true, "{delivery}");
    assert_ne!(delivery["verified"][1], true, "the secret of another webhook");
    assert_eq!(delivery["event"]["data"]["items"][0]["mark"], "é \u{1F600} \"quoted\"");
    assert_eq!(delivery["event"]["id"], delivery["id"]);

    let (status, rotated) = world.service.admin("POST", &path, None).await;
    assert_eq!(status, 200, "{rotated}");
    let new = rotated["secret"].as_str().unwrap();
    let mut official = Official::start(&[new, &old]).await;
    set_url(&world, &id, &official.url).await;
    note(&world, Some("inst-1"), "both").await;
    assert_eq!(official.next().await["verified"], json!([true, true]));

    world.sql("UPDATE webhooks SET old_secret_until = now() WHERE old_secret_until IS NOT NULL").await;
    note(&world, Some("inst-1"), "new only").await;
    let delivery = official.next().await;
    assert_eq!(delivery["verified"][0], true, "{delivery}");
    assert_ne!(delivery["verified"][1], true, "{delivery}");
}

#[tokio::test]
async fn crash_between_event_and_delivery_loses_nothing() {
    let mut world = World::with(at_once).await;
    let receiver = Receiver::start().await;
    add(&world, &receiver.url, json!({})).await;
    // The receiver gets the first event and never answers: the service dies in the attempt.
    receiver.answer(|_| std::future::pending());
    note(&world, Some("inst-1"), "first").await;
    let first = receiver.wait_for(1).await.remove(0);
    note(&world, Some("inst-1"), "second").await;
    world.service.kill9();
    note(&world, Some("inst-1"), "third").await;
    receiver.answer_status(204);
    world.sql("UPDATE webhooks SET lease_until = now()").await;
    world.service = Service::start(&world.settings).await;
    // The last two may be one event.
    let is_third = |call: &Call| call.marks().any(|mark| mark == "third");
    let calls = receiver.wait_until("third fact", |calls| calls.iter().any(is_third)).await;
    assert_eq!(calls[1].id(), first.id(), "a repeated delivery has the same id");
    let marks: Vec<_> = calls[1..].iter().flat_map(Call::marks).collect();
    assert_eq!(marks, ["first", "second", "third"]);
    let ids: HashSet<_> = calls[1..].iter().map(Call::id).collect();
    assert_eq!(ids.len(), calls.len() - 1);
}

#[tokio::test]
async fn receiver_that_is_down_gets_the_events_in_their_order_when_it_is_back() {
    let world = World::with(at_once).await;
    let address = free_address();
    let (id, _) = add(&world, &format!("http://{address}/hook"), json!({})).await;
    for mark in ["1", "2", "3"] {
        note(&world, Some("inst-1"), mark).await;
        let events = format!("SELECT count(*) = {mark} FROM events");
        eventually("the event", async || {
            let done: bool =
                sqlx::query_scalar(sqlx::AssertSqlSafe(events.clone())).fetch_one(&world.pool).await.unwrap();
            done.then_some(())
        })
        .await;
    }
    let failing = eventually("a failed attempt", async || {
        Some(webhook(&world, &id).await).filter(|webhook| webhook["failures"].as_i64() > Some(0))
    })
    .await;
    assert_eq!((&failing["state"], &failing["pending"]), (&json!("enabled"), &json!(3)));
    assert!(failing["last_error"].as_str().unwrap().contains("refused"), "{failing}");
    assert!(failing["next_attempt_at"].is_string() && failing["failing_since"].is_string(), "{failing}");

    let receiver = Receiver::start_at(address).await;
    let calls = receiver.wait_for(3).await;
    assert_eq!(calls.iter().map(Call::mark).collect::<Vec<_>>(), ["1", "2", "3"]);
    let healthy = eventually("the outcome", async || {
        Some(webhook(&world, &id).await).filter(|webhook| webhook["pending"] == 0)
    })
    .await;
    assert_eq!((&healthy["failures"], &healthy["failing_since"]), (&json!(0), &Value::Null));
    let metrics = world.service.metrics().await;
    assert!(metrics.contains("nas_cron_webhook_attempts_total{outcome=\"delivered\"} 3"), "{metrics}");
    assert!(metrics.contains("nas_cron_events_total{type=\"dead_letter.created\"} 3"), "{metrics}");
}

#[tokio::test]
async fn slow_receiver_delays_no_other_and_is_not_called_twice_at_once() {
    let world = World::with(at_once).await;
    let [slow, quick] = [Receiver::start().await, Receiver::start().await];
    let gate = Arc::new(Semaphore::new(0));
    let waits = Arc::clone(&gate);
    slow.answer(move |_| {
        let gate = Arc::clone(&waits);
        async move {
            gate.acquire().await.unwrap().forget();
            StatusCode::OK.into_response()
        }
    });
    add(&world, &slow.url, json!({})).await;
    add(&world, &quick.url, json!({})).await;
    let second = Service::start(&world.settings).await;
    note(&world, Some("inst-1"), "1").await;
    slow.wait_for(1).await;
    for mark in 2..=4 {
        note(&world, Some("inst-1"), &mark.to_string()).await;
        quick.wait_for(mark).await;
    }
    assert_eq!(slow.calls().len(), 1, "the next event waits for the outcome of the first");
    gate.add_permits(4);
    let calls = slow.wait_for(4).await;
    assert_eq!(calls.iter().map(Call::mark).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
    drop(second);
}

/// Returns the only attempt of the only delivery.
async fn only_attempt(world: &World, id: &str) -> Value {
    let path = format!("/api/admin/webhooks/{id}/deliveries");
    eventually("an attempt", async || {
        let (status, page) = world.service.admin("GET", &path, None).await;
        assert_eq!(status, 200, "{page}");
        Some(page["deliveries"][0]["attempts"][0].clone()).filter(|attempt| !attempt.is_null())
    })
    .await
}

#[tokio::test]
async fn endless_response_ends_and_redirects_are_not_followed() {
    let world = World::with(at_once).await;
    let [endless_one, redirecting, target] =
        [Receiver::start().await, Receiver::start().await, Receiver::start().await];
    endless_one.answer(|_| async { endless(500) });
    let location = target.url.clone();
    redirecting.answer(move |_| {
        let location = location.clone();
        async move { (StatusCode::TEMPORARY_REDIRECT, [("location", location)]).into_response() }
    });
    let (endless_id, _) = add(&world, &endless_one.url, json!({})).await;
    let (redirecting_id, _) = add(&world, &redirecting.url, json!({})).await;
    note(&world, Some("inst-1"), "x").await;
    let attempt = only_attempt(&world, &endless_id).await;
    let error = attempt["error"].as_str().unwrap();
    assert!(
        attempt["status"] == 500 && error.starts_with("status 500: xxx") && error.len() < 600,
        "{attempt}"
    );
    let attempt = only_attempt(&world, &redirecting_id).await;
    assert_eq!((&attempt["status"], &attempt["error"]), (&json!(307), &json!("status 307")));
    assert!(target.calls().is_empty());
}

#[tokio::test]
async fn address_that_is_not_public_is_rejected_at_once_and_at_every_attempt() {
    let world = World::with(at_once).await;
    for (url, problem) in [
        ("https://10.0.0.1/hook", "url: the address 10.0.0.1 is neither public nor in the allow-list"),
        ("https://[::1]/hook", "url: the address ::1 is neither public"),
        ("http://192.0.2.1/hook", "url: the address 192.0.2.1 is neither public"),
        ("http://8.8.8.8/hook", "url: plain http is only allowed for addresses in the allow-list"),
        ("https://0177.0.0.1/hook", "url: must write an IPv4 address in decimal"),
        ("https://127.0.0.1./hook", "url: must not have a dot at the end of an IPv4 address"),
    ] {
        let (status, answer) =
            world.service.admin("POST", "/api/admin/webhooks", Some(&json!({ "url": url }))).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer["detail"].as_str().unwrap().starts_with(problem), "{answer}");
    }
    // A name is resolved at each attempt, so that the checked address is the one that is called.
    let receiver = Receiver::start().await;
    let url = receiver.url.replace("127.0.0.1", "localhost").replace("http:", "https:");
    let (id, _) = add(&world, &url, json!({})).await;
    let strict = world.settings.clone().without("NAS_CRON_CALLBACK_ALLOW");
    let (status, _, error) = strict.run(&["webhooks", "test", &id]).await;
    assert!(
        !status.success() && error.contains("the host name resolves to no address that is public"),
        "{error}"
    );
    assert!(receiver.calls().is_empty());
}

#[tokio::test]
async fn receiver_that_is_gone_disables_its_webhook() {
    let world = World::with(at_once).await;
    let receiver = Receiver::start().await;
    receiver.answer_status(410);
    let (id, _) = add(&world, &receiver.url, json!({})).await;
    note(&world, Some("inst-1"), "1").await;
    let gone = eventually("the end of the webhook", async || {
        Some(webhook(&world, &id).await).filter(|webhook| webhook["state"] != "enabled")
    })
    .await;
    assert_eq!((&gone["state"], &gone["pending"]), (&json!("gone"), &json!(1)));
    // It gets no event of this time; deliveries that waited are sent once it is enabled.
    note(&world, Some("inst-1"), "2").await;
    eventually("the second event", async || {
        let count: i64 =
            sqlx::query_scalar("SELECT count(*) FROM events").fetch_one(&world.pool).await.unwrap();
        (count == 2).then_some(())
    })
    .await;
    receiver.answer_status(204);
    let path = format!("/api/admin/webhooks/{id}");
    let (_, enabled) = world.service.admin("PATCH", &path, Some(&json!({ "enabled": true }))).await;
    assert_eq!(enabled["state"], "enabled");
    note(&world, Some("inst-1"), "3").await;
    let calls = receiver.wait_for(3).await;
    assert_eq!(calls.iter().map(Call::mark).collect::<Vec<_>>(), ["1", "1", "3"]);
}

#[tokio::test]
async fn rejected_event_makes_room_for_the_next_one_and_can_be_delivered_again() {
    let world = World::with(at_once).await;
    let receiver = Receiver::start().await;
    receiver.answer_status(422);
    let (id, _) = add(&world, &receiver.url, json!({})).await;
    note(&world, Some("inst-1"), "1").await;
    let poison = receiver.wait_for(1).await[0].id().to_owned();
    eventually("the outcome", async || (webhook(&world, &id).await["failures"] == 1).then_some(())).await;
    note(&world, Some("inst-1"), "2").await;
    world
        .sql(
            "UPDATE webhook_deliveries SET tried_since = now() - interval '1 h' WHERE tried_since IS NOT NULL;
             UPDATE webhooks SET next_attempt_at = now()",
        )
        .await;
    receiver.answer(|before| async move {
        if before < 2 {
            StatusCode::UNPROCESSABLE_ENTITY.into_response()
        } else {
            StatusCode::OK.into_response()
        }
    });
    let calls = receiver.wait_for(3).await;
    assert_eq!(calls.iter().map(Call::mark).collect::<Vec<_>>(), ["1", "1", "2"]);
    let path = format!("/api/admin/webhooks/{id}/deliveries");
    let page = eventually("both outcomes", async || {
        let page = world.service.admin("GET", &path, None).await.1;
        (page["deliveries"][0]["state"] == "delivered").then_some(page)
    })
    .await;
    assert_eq!(page["deliveries"][1]["state"], "refused", "{page}");
    assert_eq!(page["deliveries"][1]["attempts"].as_array().unwrap().len(), 2, "{page}");

    let (status, answer) = world.service.admin("POST", &format!("{path}/{poison}/redeliver"), None).await;
    assert_eq!(status, 202, "{answer}");
    let calls = receiver.wait_for(4).await;
    assert_eq!((calls[3].id(), calls[3].mark()), (poison.as_str(), "1"));
}

#[tokio::test]
async fn webhook_fails_after_three_days_is_visible_and_continues_when_it_is_enabled() {
    let world = World::with(at_once).await;
    let receiver = Receiver::start().await;
    receiver.answer_status(500);
    let (id, _) = add(&world, &receiver.url, json!({})).await;
    note(&world, Some("inst-1"), "1").await;
    eventually("a failure", async || (webhook(&world, &id).await["failures"] == 1).then_some(())).await;
    world.sql("UPDATE webhooks SET failing_since = now() - interval '72 h', next_attempt_at = now()").await;
    eventually("the end of the webhook", async || {
        (webhook(&world, &id).await["state"] == "failed").then_some(())
    })
    .await;
    let log = world.service.log();
    assert!(log.contains("webhook failed: it accepted nothing for three days"), "{log}");
    let (_, report, _) = world.settings.run(&["doctor", "--json"]).await;
    let report: Value = serde_json::from_str(&report).expect("JSON");
    let checks = report["checks"].as_array().expect("checks");
    let check = checks.iter().find(|check| check["check"] == "webhooks").expect("it is checked");
    assert_eq!(check["status"], "warning", "{check}");
    assert!(check["found"].as_str().unwrap().contains(&id), "{check}");
    // Its events wait.
    note(&world, Some("inst-1"), "2").await;
    eventually("the second event", async || (webhook(&world, &id).await["pending"] == 2).then_some(())).await;
    let before = receiver.calls().len();
    receiver.answer_status(204);
    let (status, out, error) = world.settings.run(&["webhooks", "enable", &id]).await;
    assert!(status.success(), "{out}{error}");
    let calls = receiver.wait_for(before + 2).await;
    assert_eq!(calls[before..].iter().map(Call::mark).collect::<Vec<_>>(), ["1", "2"]);
}
