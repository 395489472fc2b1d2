//! The meaning of agents' responses.

use std::time::Duration;

use nas_cron_testing::agent::Reply;
use nas_cron_testing::raw_agent::{RawAgent, Step};
use nas_cron_testing::service::Settings;
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::{World, eventually};
use serde_json::json;

/// Settings for retries after tenths of seconds instead of seconds.
fn quick(settings: Settings) -> Settings {
    settings
        .with("NAS_CRON_RETRY_DEFINITE_BASE", "200ms")
        .with("NAS_CRON_RETRY_AMBIGUOUS_FLOOR", "800ms")
        .with("NAS_CRON_FIRE_FLOOR", "100ms")
}

#[tokio::test]
async fn contract_fire_any_2xx_is_accepted_and_never_delivered_again() {
    const STATUSES: [u16; 7] = [200, 201, 202, 203, 204, 226, 299];
    let world = World::with(quick).await;
    world.agents.answer(|fire, _| Reply::status(fire.job_id.parse().unwrap_or(202)));
    for status in STATUSES {
        world.arm(&status.to_string(), -1_000).await;
    }
    world.all_delivered().await;
    // Longer than any retry delay.
    world.arm("marker", 1_500).await;
    world.agents.wait_for("marker", 1).await;
    for status in STATUSES.map(|status| status.to_string()) {
        assert_eq!(world.agents.fires_of(&status).len(), 1, "{status}");
        let history = world.history(&status).await;
        let outcomes: Vec<_> =
            history.iter().map(|one| (one.outcome.as_str(), one.status, &one.error)).collect();
        assert_eq!(outcomes, [("delivered", Some(status.parse().unwrap()), &None)]);
    }
}

#[tokio::test]
async fn client_6_a_2xx_with_a_truncated_body_is_a_delivery() {
    const STEPS: &[Step] =
        &[Step::Read, Step::Send("HTTP/1.1 202 Accepted\r\ncontent-length: 100\r\n\r\n{\"status\":")];
    let world = World::with(quick).await;
    let agent = RawAgent::start("127.0.0.1:0", STEPS).await.unwrap();
    world.service.provision(&world.token, "job", &fire_at(-1_000), &agent.url()).await;
    let history = world.ended("job", 1).await;
    assert_eq!((history[0].outcome.as_str(), history[0].status), ("delivered", Some(202)));
    world.delivered("job").await;
    world.arm("marker", 1_500).await;
    world.agents.wait_for("marker", 1).await;
    assert_eq!(agent.connections(), 1);
}

#[tokio::test]
async fn contract_fire_gone_is_a_delivery_that_forgets_the_key() {
    let world = World::with(|s| quick(s).with("NAS_CRON_SECOND_FIRE_DELAY", "1s")).await;
    world.agents.answer(|_, before| if before == 0 { Reply::accepted() } else { Reply::gone() });
    let (at, first) = world.arm("job", -1_000).await;
    world.delivered("job").await;
    // Delivered once; then the second fire of the same key is answered with `gone`.
    assert_eq!(world.again("job", &at).await, first);
    world.agents.wait_for("job", 2).await;
    world.delivered("job").await;
    let history = world.history("job").await;
    assert_eq!((history[1].outcome.as_str(), history[1].status, history.len()), ("gone", Some(200), 2));

    // The key is forgotten: the same key fires at once, not minutes after its delivery.
    let third = world.again("job", &at).await;
    assert_ne!(first, third);
    world.agents.wait_for("job", 3).await;
    world.delivered("job").await;
    // Any other status text is a delivery, and so is `gone` with another HTTP status.
    world.agents.answer(|fire, _| match fire.job_id.as_str() {
        "paused" => Reply { body: r#"{"status":"paused"}"#, ..Reply::status(200) },
        _ => Reply { status: 202, ..Reply::gone() },
    });
    for job in ["paused", "odd"] {
        world.arm(job, -1_000).await;
        assert_eq!(world.ended(job, 1).await[0].outcome, "delivered");
    }
}

#[tokio::test]
async fn contract_fire_redirects_are_never_followed_and_every_other_status_is_retried() {
    const REDIRECTS: [u16; 5] = [301, 302, 303, 307, 308];
    const OTHERS: [u16; 12] = [300, 304, 400, 401, 403, 404, 409, 410, 418, 429, 500, 501];
    // The delay after an ambiguous failure is longer than this test.
    let world = World::with(|s| quick(s).with("NAS_CRON_RETRY_AMBIGUOUS_FLOOR", "10m")).await;
    let elsewhere = world.agents.callback("elsewhere") + "/api/cron/fire";
    let stray = world.agents.callback("stray");
    world.agents.answer(move |fire, before| {
        let status = fire.job_id.parse().unwrap();
        let location =
            REDIRECTS.contains(&status).then(|| if status < 303 { stray.clone() } else { elsewhere.clone() });
        if before == 0 { Reply { location, ..Reply::status(status) } } else { Reply::accepted() }
    });
    let jobs: Vec<u16> = REDIRECTS.into_iter().chain(OTHERS).collect();
    for job in &jobs {
        world.arm(&job.to_string(), -1_000).await;
    }
    for job in &jobs {
        let history = world.ended(&job.to_string(), 2).await;
        let outcomes: Vec<_> =
            history.iter().map(|one| (one.number, one.outcome.as_str(), one.status)).collect();
        let refused = i16::try_from(*job).unwrap();
        assert_eq!(outcomes, [(1, "failed", Some(refused)), (2, "delivered", Some(202))]);
        assert!(history[0].error.is_some(), "{job} has an error text");
        let waited = history[1].started - history[0].ended.unwrap();
        assert!(waited >= 0.199, "{job}: waited {waited} s");
    }
    assert_eq!(world.agents.strays(), [""; 0], "no redirect was followed");
    assert!(world.agents.fires().iter().all(|fire| fire.agent == "inst-1"));
    world.all_delivered().await;
}

#[tokio::test]
async fn client_8_gateway_statuses_are_retried_too() {
    let world = World::with(quick).await;
    for status in [502, 503, 504] {
        world.agents.answer(move |_, before| Reply::status(if before == 0 { status } else { 202 }));
        let job = status.to_string();
        world.arm(&job, -1_000).await;
        world.agents.wait_for(&job, 2).await;
        world.delivered(&job).await;
        assert_eq!(world.history(&job).await[0].status, Some(i16::try_from(status).unwrap()));
    }
}

#[tokio::test]
async fn contract_fire_one_deadline_covers_headers_and_body() {
    // The agent keeps sending bytes, but the attempt ends at its deadline.
    const HEADERS: &[Step] =
        &[Step::Read, Step::Send("HTTP/1.1 202 Accepted\r\nx: "), Step::Drip("x", Duration::from_millis(50))];
    const BODY: &[Step] = &[
        Step::Read,
        Step::Pause(Duration::from_millis(600)),
        Step::Send("HTTP/1.1 202 Accepted\r\ncontent-length: 10000\r\n\r\n"),
        Step::Drip(" ", Duration::from_millis(50)),
    ];
    const FAILED_BODY: &[Step] = &[
        Step::Read,
        Step::Send("HTTP/1.1 500 Oh\r\ncontent-length: 10000\r\n\r\nbroken "),
        Step::Drip(" ", Duration::from_millis(50)),
    ];
    const SILENCE: &[Step] = &[Step::Read, Step::Pause(Duration::from_mins(10))];
    let world = World::with(|s| {
        quick(s).with("NAS_CRON_FIRE_TIMEOUT", "1s").with("NAS_CRON_CONNECT_TIMEOUT", "500ms")
    })
    .await;
    for (name, steps, outcome, status) in [
        ("headers", HEADERS, "failed", None),
        ("silence", SILENCE, "failed", None),
        ("body", BODY, "delivered", Some(202)),
        ("failed-body", FAILED_BODY, "failed", Some(500)),
    ] {
        let agent = RawAgent::start("127.0.0.1:0", steps).await.unwrap();
        let token = world.instance(name).await;
        world.service.provision(&token, name, &fire_at(-1_000), &agent.url()).await;
        let first = world.ended(name, 1).await.swap_remove(0);
        assert_eq!((first.outcome.as_str(), first.status), (outcome, status), "{name}: {first:?}");
        let took = first.ended.unwrap() - first.started;
        assert!(took >= 0.95, "{name} took {took} s");
        world.service.cancel(&token, name).await;
    }
}

#[tokio::test]
async fn contract_states_a_response_larger_than_16_kib_is_truncated() {
    const STEPS: &[Step] = &[
        Step::Read,
        Step::Send("HTTP/1.1 500 Oh\r\ncontent-length: 100000000\r\n\r\nwhat went wrong: "),
        Step::Drip(concat!("0123456789abcdef", "0123456789abcdef"), Duration::from_micros(10)),
    ];
    let world = World::with(|s| quick(s).with("NAS_CRON_FIRE_TIMEOUT", "90s")).await;
    let agent = RawAgent::start("127.0.0.1:0", STEPS).await.unwrap();
    world.service.provision(&world.token, "job", &fire_at(-1_000), &agent.url()).await;
    let first = world.ended("job", 1).await.swap_remove(0);
    assert!(first.ended.unwrap() - first.started < 80.0, "cut off, not timed out: {first:?}");
    let error = first.error.unwrap();
    assert!(error.starts_with("what went wrong: 0123") && error.len() <= 1_000, "kept truncated: {error}");
}

#[tokio::test]
async fn invariant_8_an_echoed_token_is_redacted_in_the_stored_error() {
    let world = World::with(quick).await;
    // Some frameworks return the whole request in the body of a 422, as this one does.
    let echo = std::sync::Arc::new(std::sync::Mutex::new(String::new()));
    let seen = std::sync::Arc::clone(&echo);
    world.agents.answer(move |fire, before| {
        *seen.lock().unwrap() = fire.token.clone();
        let body = Box::leak(format!("invalid: Bearer {}", fire.token).into_boxed_str());
        if before == 0 { Reply { body, ..Reply::status(422) } } else { Reply::accepted() }
    });
    world.arm("job", -1_000).await;
    world.agents.wait_for("job", 1).await;
    let error = world.ended("job", 1).await[0].error.clone().unwrap();
    assert_eq!(error, "invalid: Bearer [redacted]");
    assert!(!echo.lock().unwrap().is_empty());
}

#[tokio::test]
async fn contract_agent_api_waiting_retries_go_to_a_new_callback() {
    let world = World::with(quick).await;
    world.agents.answer(|fire, _| Reply::status(if fire.agent == "old" { 500 } else { 202 }));
    for job in ["one", "two"] {
        let old = world.agents.callback("old");
        world.service.provision(&world.token, job, &fire_at(-1_000), &old).await;
        world.agents.wait_for(job, 1).await;
    }
    world.arm("three", 60_000).await;
    for job in ["one", "two"] {
        world
            .agents
            .wait_until("the retry goes to the new address", |fires| {
                fires.iter().any(|fire| fire.job_id == job && fire.agent == "inst-1")
            })
            .await;
    }
    eventually("only the third is left", async || {
        let list = world.service.list(&world.token).await;
        (list["armed"].as_array().unwrap().len() == 1 && list["dead"] == json!([])).then_some(())
    })
    .await;
}
