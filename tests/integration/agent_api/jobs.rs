//! State and attempts of one job: `GET /api/agent-cron/jobs/{job_id}`.

use std::time::Duration;

use chrono::{DateTime, Utc};
use nas_cron_testing::agent::Reply;
use nas_cron_testing::service::{ADMIN_TOKEN, Service};
use nas_cron_testing::time::instant;
use serde_json::{Value, json};

use super::fixture::{Answer, World, dying_within, until};

async fn ask(world: &World, token: &str, job: &str) -> Answer {
    world.call("GET", &format!("/api/agent-cron/jobs/{job}"), Some(token), "").await
}

/// Returns the job of `inst-1`.
async fn shown(world: &World, job: &str) -> Value {
    let answer = ask(world, &world.token, job).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    answer.body
}

async fn database_now(world: &World) -> DateTime<Utc> {
    sqlx::query_scalar("SELECT clock_timestamp()").fetch_one(&world.pool).await.unwrap()
}

async fn in_state(world: &World, job: &str, state: &str) -> Value {
    until(&format!("{job} is {state}"), async || {
        Some(shown(world, job).await).filter(|it| it["state"] == state)
    })
    .await
}

#[tokio::test]
async fn contract_an_armed_leased_or_firing_job_is_shown_with_the_fields_of_the_list() {
    let world = World::with(|s| s.with("NAS_CRON_LEASE_HORIZON", "60s")).await;
    world.agents.answer(|_, _| Reply::accepted().after(Duration::from_secs(30)));
    let limit = json!({"job_id": "armed", "fire_at": "2031-01-01T09:00:00+09:00", "not_after": "2031-01-02T00:00:00Z",
        "auth": "claude:work"});
    let armed = world.provision(&world.token, &world.body(&limit)).await;
    world.arm("leased", 40_000).await;
    world.arm("firing", 0).await;

    let job = shown(&world, "armed").await;
    assert_eq!(
        job,
        json!({
            "job_id": "armed", "state": "armed", "next": "the next attempt may start at 2031-01-01T00:00:00Z",
            "one_shot": {
                "job_id": "armed", "fire_at": "2031-01-01T09:00:00+09:00", "schedule_id": armed.schedule_id(),
                "agent_callback_url": world.callback(), "state": "armed", "attempts": 0,
                "next_attempt_at": "2031-01-01T00:00:00Z", "not_after": "2031-01-02T00:00:00Z", "auth": "claude:work",
                "effective_auth": {"auth": "claude:work", "source": "job"}, "warnings": job["one_shot"]["warnings"],
            },
            "attempts": [],
        })
    );
    assert_eq!(job["one_shot"]["warnings"][0]["code"], "auth_profile_unknown");
    let leased = in_state(&world, "leased", "leased").await;
    assert!(leased["next"].as_str().unwrap().starts_with("the next attempt may start at "), "{leased}");
    let firing = in_state(&world, "firing", "firing").await;
    assert_eq!(
        (&firing["next"], &firing["one_shot"]["attempts"]),
        (&json!("an attempt is in flight"), &json!(1))
    );
    assert_eq!(firing["attempts"], json!([]), "an attempt is shown when it has ended");
    // The list agrees.
    let list = world.service.list(&world.token).await;
    for entry in list["armed"].as_array().unwrap() {
        assert_eq!(&shown(&world, entry["job_id"].as_str().unwrap()).await["one_shot"], entry);
    }
}

#[tokio::test]
async fn contract_a_waiting_and_a_dead_job_are_shown_with_their_attempts() {
    let world =
        World::with(|s| dying_within(s, "2500ms", "1s").with("NAS_CRON_LEASE_HORIZON", "100ms")).await;
    world.agents.answer(|_, _| Reply { body: "no room\tat the inn", ..Reply::status(507) });
    let (at, schedule) = world.arm("job-1", 0).await;
    let waiting = in_state(&world, "job-1", "waiting").await;
    let attempt = &waiting["attempts"][0];
    assert_eq!(
        attempt,
        &json!({
            "attempt_id": attempt["attempt_id"], "schedule_id": schedule, "fire_at": attempt["fire_at"], "attempt": 1,
            "started_at": attempt["started_at"], "ended_at": attempt["ended_at"], "outcome": "failed", "http_status": 507,
            "error": "no room at the inn",
        })
    );
    let time = |name: &str| instant(attempt[name].as_str().unwrap());
    assert_eq!(time("fire_at"), instant(&at));
    assert!(time("started_at") >= time("fire_at") && time("ended_at") >= time("started_at"), "{attempt}");

    let dead = in_state(&world, "job-1", "dead").await;
    assert_eq!(
        (&dead["one_shot"]["state"], &dead["one_shot"]["dead_reason"]),
        (&json!("dead"), &json!("budget_spent"))
    );
    assert!(
        dead["one_shot"]["died_at"].is_string() && dead["one_shot"].get("next_attempt_at").is_none(),
        "{dead}"
    );
    assert!(dead["next"].as_str().unwrap().contains("provision the job again"), "{dead}");
    let numbers: Vec<_> =
        dead["attempts"].as_array().unwrap().iter().map(|one| one["attempt"].as_i64().unwrap()).collect();
    assert_eq!(numbers, (1..=dead["one_shot"]["attempts"].as_i64().unwrap()).rev().collect::<Vec<_>>());

    world.sql("UPDATE one_shots SET state = 'stuck'").await;
    let stuck = shown(&world, "job-1").await;
    assert_eq!((&stuck["state"], stuck["one_shot"].get("dead_reason")), (&json!("stuck"), None));
    assert!(stuck["next"].as_str().unwrap().contains("provision another one"), "{stuck}");
}

#[tokio::test]
async fn contract_a_job_on_hold_is_shown_with_the_reason() {
    let world = World::start().await;
    let (done, out, err) =
        world.settings.run(&["hold", "--instance", "inst-1", "--reason", "internal matter"]).await;
    assert!(done.success(), "{out}{err}");
    world.arm("held", 0).await;
    let job = until("it is parked", async || {
        Some(shown(&world, "held").await).filter(|it| it["one_shot"]["parked"] == "hold")
    })
    .await;
    assert!(job["next"].as_str().unwrap().starts_with("on hold"), "{job}");
    assert!(!job.to_string().contains("internal matter"), "the operator's reason is not for agents");
}

#[tokio::test]
async fn contract_a_delivered_job_is_shown_with_the_attempts_of_its_earlier_one_shots() {
    let world = World::with(|s| s.with("NAS_CRON_FIRE_FLOOR", "0s")).await;
    world.agents.answer(|_, before| {
        if before == 0 {
            Reply { body: r#"{"status":"queued"}"#, ..Reply::accepted() }
        } else {
            Reply::gone()
        }
    });
    let (_, first) = world.arm("job-1", -1_000).await;
    let delivered = in_state(&world, "job-1", "delivered").await;
    assert_eq!(
        (&delivered["one_shot"]["state"], &delivered["one_shot"]["schedule_id"]),
        (&json!("delivered"), &json!(first))
    );
    assert_eq!(delivered["attempts"][0]["answer"], "queued");
    assert!(delivered["next"].as_str().unwrap().starts_with("nothing is armed"), "{delivered}");

    let (_, second) = world.arm("job-1", -500).await;
    let gone = until("it fired twice", async || {
        Some(shown(&world, "job-1").await).filter(|it| it["attempts"].as_array().unwrap().len() == 2)
    })
    .await;
    let of = |index: usize| {
        (gone["attempts"][index]["outcome"].clone(), gone["attempts"][index]["schedule_id"].clone())
    };
    assert_eq!(gone["state"], "delivered");
    assert_eq!([of(0), of(1)], [(json!("gone"), json!(second)), (json!("delivered"), json!(first))]);
    // At most as many as asked for, the newest.
    let one = shown(&world, "job-1?attempts=1").await;
    assert_eq!(one["attempts"], json!([gone["attempts"][0]]));
}

#[tokio::test]
async fn contract_ten_attempts_are_shown_unless_more_are_asked_for() {
    let world = World::start().await;
    world.arm("job-1", 3_600_000).await;
    world
        .sql(
            "INSERT INTO fires (attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at, ended_at, outcome)
             SELECT gen_random_uuid(), 'inst-1', 'job-1', gen_random_uuid(), 'k', now(), n, now() + n * interval '1 ms', now(), 'failed'
             FROM generate_series(1, 120) AS n",
        )
        .await;
    for (query, count) in [("", 10), ("?attempts=11", 11), ("?attempts=100", 100)] {
        let job = shown(&world, &format!("job-1{query}")).await;
        let attempts = job["attempts"].as_array().unwrap();
        assert_eq!((attempts.len(), &attempts[0]["attempt"]), (count, &json!(120)), "{query}");
    }
}

#[tokio::test]
async fn contract_a_cancelled_job_is_shown_apart_from_one_that_was_never_armed() {
    let world = World::with(|s| dying_within(s, "1h", "1h")).await;
    world
        .agents
        .answer(|fire, _| if fire.job_id == "failed" { Reply::status(500) } else { Reply::accepted() });
    for (job, state) in [("delivered", "delivered"), ("failed", "waiting")] {
        world.arm(job, 0).await;
        in_state(&world, job, state).await;
    }
    world.arm("untried", 3_600_000).await;
    for (job, attempts) in [("delivered", 1), ("failed", 1), ("untried", 0)] {
        let before = database_now(&world).await;
        world.service.cancel(&world.token, job).await;
        let cancelled = shown(&world, job).await;
        assert_eq!(
            (&cancelled["state"], cancelled.get("one_shot")),
            (&json!("cancelled"), None),
            "{cancelled}"
        );
        let at = instant(cancelled["cancelled_at"].as_str().expect("the time of the cancel"));
        assert!(before <= at && at <= database_now(&world).await, "{before} {cancelled}");
        assert_eq!(cancelled["attempts"].as_array().unwrap().len(), attempts, "{cancelled}");
        assert_eq!(cancelled["next"], "nothing is armed: provision the job to fire it again");
        // A repeated cancel has nothing to cancel.
        world.service.cancel(&world.token, job).await;
        assert_eq!(shown(&world, job).await, cancelled);
    }

    let never = ask(&world, &world.token, "never").await;
    let text = never.refused(404, "not_found");
    assert!(text.contains("never armed") && text.contains("cancelled or ended more than 30d ago"), "{text}");
    world.service.cancel(&world.token, "never").await;
    assert_eq!(ask(&world, &world.token, "never").await.visible(), never.visible());
}

#[tokio::test]
async fn contract_a_cancelled_job_that_is_armed_again_is_as_any_other() {
    let world = World::start().await;
    world.arm("job-1", 3_600_000).await;
    world.service.cancel(&world.token, "job-1").await;
    let first = shown(&world, "job-1").await["cancelled_at"].clone();
    for (millis, state) in [(3_600_000, "armed"), (0, "delivered")] {
        world.arm("job-1", millis).await;
        let job = in_state(&world, "job-1", state).await;
        assert_eq!(job.get("cancelled_at"), None, "{job}");
    }
    let (done, out, err) = world.settings.run(&["jobs", "cancel", "inst-1", "job-1"]).await;
    assert!(done.success(), "{out}{err}");
    let again = shown(&world, "job-1").await;
    assert_eq!(again["state"], "cancelled", "by an operator");
    let time = |value: &Value| instant(value.as_str().expect("the time of the cancel"));
    assert!(time(&again["cancelled_at"]) > time(&first), "{again}");
    let marks: i64 =
        sqlx::query_scalar("SELECT count(*) FROM cancelled_jobs").fetch_one(&world.pool).await.unwrap();
    assert_eq!(marks, 1, "of the latest cancel");
}

#[tokio::test]
async fn contract_a_cancelled_job_is_forgotten_after_the_history_retention() {
    let world = World::start().await;
    for job in ["old", "recent", "again"] {
        world.arm(job, 3_600_000).await;
        world.service.cancel(&world.token, job).await;
    }
    world.sql("UPDATE cancelled_jobs SET cancelled_at = cancelled_at - interval '31 days' WHERE job_id <> 'recent'").await;
    // The time of the latest cancel counts.
    world.arm("again", 3_600_000).await;
    world.service.cancel(&world.token, "again").await;
    // A replica deletes what is too old when it starts.
    let replica = Service::start(&world.settings).await;
    until("the mark is deleted", async || {
        (ask(&world, &world.token, "old").await.status == 404).then_some(())
    })
    .await;
    replica.stop().await;
    let text = ask(&world, &world.token, "old").await.refused(404, "not_found").to_owned();
    assert!(text.contains("cancelled or ended more than 30d ago"), "{text}");
    for job in ["recent", "again"] {
        assert_eq!(shown(&world, job).await["state"], "cancelled", "{job}");
    }
}

#[tokio::test]
async fn contract_a_job_that_was_deleted_for_its_age_is_shown_as_far_as_its_history_tells() {
    let world = World::with(|s| dying_within(s, "1ms", "1ms")).await;
    world.agents.answer(|fire, _| match fire.job_id.as_str() {
        "failed" => Reply::status(500),
        "gone" => Reply::gone(),
        _ => Reply::accepted(),
    });
    for (job, state) in [("delivered", "delivered"), ("gone", "delivered"), ("failed", "dead")] {
        world.arm(job, 0).await;
        in_state(&world, job, state).await;
    }
    // A replica deletes what is too old when it starts.
    world.sql("UPDATE one_shots SET updated_at = updated_at - interval '31 days'").await;
    let replica = Service::start(&world.settings).await;
    until("the one-shots are deleted", async || {
        let left = sqlx::query_scalar::<_, i64>("SELECT count(*) FROM one_shots").fetch_one(&world.pool);
        (left.await.unwrap() == 0).then_some(())
    })
    .await;
    replica.stop().await;
    for (job, state, outcome) in [
        ("delivered", "delivered", "delivered"),
        ("gone", "delivered", "gone"),
        ("failed", "unknown", "failed"),
    ] {
        let job = shown(&world, job).await;
        assert_eq!((&job["state"], job.get("one_shot")), (&json!(state), None), "{job}");
        assert_eq!(job["attempts"][0]["outcome"], outcome, "{job}");
    }
}

#[tokio::test]
async fn invariant_6_a_job_of_another_instance_is_unknown() {
    let world = World::start().await;
    world.arm("fired", 0).await;
    world.arm("armed", 3_600_000).await;
    world.arm("cancelled", 3_600_000).await;
    world.service.cancel(&world.token, "cancelled").await;
    in_state(&world, "fired", "delivered").await;
    for (org, sid) in [("org-1", "sid-2"), ("org-2", "sid-1")] {
        let token = world.portal.session_token(org, sid);
        let never = ask(&world, &token, "never").await;
        never.refused(404, "not_found");
        for job in ["fired", "armed", "cancelled"] {
            assert_eq!(ask(&world, &token, job).await.visible(), never.visible(), "{org} {sid} {job}");
        }
    }

    // Nor are the history and the cancels of a deleted instance those of its successor with the same ID.
    let admin = async |method: &str, body: Value| {
        world.call(method, "/api/admin/agents/inst-1", Some(ADMIN_TOKEN), body.to_string()).await.status
    };
    assert!(admin("DELETE", Value::Null).await < 300);
    assert!(admin("PUT", json!({"org_id": "org-2", "bootstrap_session_id": "sid-9"})).await < 300);
    let token = world.portal.session_token("org-2", "sid-9");
    let history: i64 = sqlx::query_scalar("SELECT count(*) FROM fires").fetch_one(&world.pool).await.unwrap();
    assert_eq!(history, 1, "it is kept for operators");
    for job in ["fired", "cancelled"] {
        ask(&world, &token, job).await.refused(404, "not_found");
    }
}

#[tokio::test]
async fn contract_invalid_parameters_of_a_job_are_named() {
    let world = World::start().await;
    world.arm("job-1", 3_600_000).await;
    for (query, problem) in [
        ("attempts=0", "attempts: must be a number from 1 to 100"),
        ("attempts=101", "attempts: must be a number from 1 to 100"),
        ("attempts=-1", "attempts: must be a number from 1 to 100"),
        ("attempts=", "attempts: must be a number from 1 to 100"),
        ("attempts=99999999999", "attempts: must be a number from 1 to 100"),
        ("attempts=1&attempts=2", "attempts: must occur only once"),
        ("instance_id=inst-2", "instance_id: unknown parameter; use attempts"),
    ] {
        let answer = ask(&world, &world.token, &format!("job-1?{query}")).await;
        assert_eq!(answer.refused(400, "invalid_request"), problem, "{query}");
    }
    ask(&world, "no-token", "job-1").await.refused(401, "invalid_token");
    let page = world.service.metrics().await;
    let series = r#"nas_cron_agent_api_requests_total{endpoint="show",status_class="4xx"} 8"#;
    assert!(page.contains(series), "{page}");
}
