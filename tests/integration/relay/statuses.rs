//! The relay's responses to signed requests.

use std::time::Duration;

use nas_cron_testing::agent::Reply;
use nas_cron_testing::time::{instant, lateness_ms, now};
use nas_cron_testing::world::eventually;
use serde_json::json;

use super::caller::{Caller, FAR};

#[tokio::test]
async fn a_delivery_is_200_and_a_replay_of_its_wake_up_too() {
    let caller = Caller::new().await;
    let wake_up = caller.due("job", 0.0).await;
    let answer = caller.wake(&wake_up).await;
    assert_eq!(answer.said(), (200, "delivered"));
    assert_eq!((&answer.body, answer.retry_after()), (&json!({"status": "delivered"}), None));
    assert_eq!(answer.headers["cache-control"], "no-store");
    let fire = &caller.world.agents.fires_of("job")[0];
    assert!(fire.answered.is_some(), "not before the agent has accepted");
    for _ in 0..3 {
        assert_eq!(caller.wake(&wake_up).await.said(), (200, "delivered"));
    }
    // The agent has re-armed the job: the new one-shot still awaits its own wake-up.
    let next = caller.due("job", 0.0).await;
    assert_eq!(caller.wake(&wake_up).await.said(), (200, "delivered"));
    assert_eq!(caller.world.agents.fires_of("job").len(), 1);
    assert_eq!(caller.wake(&next).await.said(), (200, "delivered"));
    // Only the job's latest delivery is remembered. There is nothing to retry either way.
    assert_eq!(caller.wake(&wake_up).await.said(), (200, "superseded"));
    assert_eq!(caller.world.agents.fires_of("job").len(), 2);
    assert_eq!(caller.counted("nas_cron_backend_misses_total", &[]).await, 0);
    let delivered =
        caller.counted("nas_cron_wake_ups_total", &[r#"backend="qstash""#, r#"result="delivered""#]).await;
    assert_eq!(delivered, 4);
}

#[tokio::test]
async fn a_wake_up_for_a_cancelled_job_is_gone() {
    let caller = Caller::new().await;
    let cancelled = caller.due("cancelled", 0.0).await;
    caller.world.service.cancel(&caller.world.token, "cancelled").await;
    let dead = caller.due("dead", 0.0).await;
    caller
        .world
        .sql("UPDATE one_shots SET state = 'dead', dead_since = now(), awaits = NULL, next_attempt_at = NULL WHERE job_id = 'dead'")
        .await;
    let unknown = Caller::body("unknown", "0190a5e4-7c1e-7000-8000-000000000000", "2026-06-18T12:00:00Z");
    let foreign = String::from_utf8(caller.due("job", 0.0).await).unwrap().replace("inst-1", "inst-2");
    for wake_up in [&cancelled, &dead, &unknown, &foreign.into_bytes()] {
        let answer = caller.wake(wake_up).await;
        assert_eq!((answer.said(), answer.retry_after()), ((200, "gone"), None), "{answer:?}");
    }
    assert_eq!(caller.world.agents.fires().len(), 0);
}

#[tokio::test]
async fn a_wake_up_for_an_expired_one_shot_is_expired() {
    let caller = Caller::new().await;
    let (at, schedule_id) = caller.world.arm("job", FAR).await;
    caller.world.sql("UPDATE one_shots SET not_after = now()").await;
    eventually("it has expired", async || {
        let (half, entry) = caller.world.listed("job").await?;
        (half == "dead" && entry["dead_reason"] == "expired").then_some(())
    })
    .await;
    let answer = caller.wake(&Caller::body("job", &schedule_id, &at)).await;
    assert_eq!((answer.said(), answer.retry_after()), ((200, "expired"), None), "{answer:?}");
    assert_eq!(caller.world.agents.fires().len(), 0);
}

#[tokio::test]
async fn a_wake_up_for_a_superseded_one_shot_is_superseded() {
    let caller = Caller::new().await;
    let old = caller.due("job", 0.0).await;
    let (_, new) = caller.world.arm("job", FAR + 1_000).await;
    assert_eq!(caller.wake(&old).await.said(), (200, "superseded"));
    let (half, entry) = caller.world.listed("job").await.unwrap();
    assert_eq!((half, entry["schedule_id"].as_str()), ("armed", Some(new.as_str())));
    assert_eq!(caller.world.agents.fires().len(), 0);
}

#[tokio::test]
async fn a_wake_up_during_an_attempt_is_under_way() {
    let caller = Caller::new().await;
    caller.world.agents.answer(|_, _| Reply::accepted().after(Duration::from_secs(25)));
    let wake_up = caller.due("job", 0.0).await;
    let second = async {
        caller.world.agents.wait_for("job", 1).await;
        caller.wake(&wake_up).await
    };
    tokio::select! {
        answer = second => {
            assert_eq!((answer.said(), answer.retry_after()), ((409, "under_way"), Some(1)), "{answer:?}");
        }
        answer = caller.wake(&wake_up) => panic!("before the agent answered: {answer:?}"),
    }
    assert_eq!(caller.world.agents.fires_of("job").len(), 1);
}

#[tokio::test]
async fn the_agents_retry_after_is_passed_on_and_a_waiting_retry_is_under_way() {
    let caller = Caller::new().await;
    caller.world.agents.answer(|_, _| Reply::busy("50"));
    let wake_up = caller.due("job", 0.0).await;
    let answer = caller.wake(&wake_up).await;
    assert_eq!((answer.said(), answer.retry_after()), ((502, "not_accepted"), Some(50)), "{answer:?}");
    let answer = caller.wake(&wake_up).await;
    assert_eq!(answer.said(), (409, "under_way"));
    assert!(answer.retry_after().is_some_and(|seconds| (1..=60).contains(&seconds)), "{answer:?}");
    assert_eq!(caller.world.agents.fires_of("job").len(), 1);
}

#[tokio::test]
async fn a_wake_up_whose_retry_would_be_too_late_is_expired() {
    let caller = Caller::new().await;
    caller.world.agents.answer(|_, _| Reply::busy("50"));
    let wake_up = caller.due("job", 0.0).await;
    caller.world.sql("UPDATE one_shots SET not_after = now() + interval '45 s'").await;
    for _ in 0..2 {
        let answer = caller.wake(&wake_up).await;
        assert_eq!((answer.said(), answer.retry_after()), ((200, "expired"), None), "{answer:?}");
    }
    assert_eq!(caller.world.agents.fires_of("job").len(), 1);
}

/// The built-in loop makes the retry, whatever the backend does.
#[tokio::test]
async fn a_failing_agent_is_502_and_retried_by_the_built_in_loop() {
    let caller = Caller::with(|s| s.with("NAS_CRON_RETRY_DEFINITE_BASE", "500ms")).await;
    for (job, reply) in [("failing", Reply::status(500)), ("breaking", Reply::broken())] {
        let first = reply.clone();
        caller
            .world
            .agents
            .answer(move |_, before| if before == 0 { first.clone() } else { Reply::accepted() });
        let wake_up = caller.due(job, 0.0).await;
        let answer = caller.wake(&wake_up).await;
        assert_eq!(answer.said(), (502, "not_accepted"), "{job}: {answer:?}");
        assert!(answer.retry_after().is_some_and(|seconds| seconds >= 1), "{job}: {answer:?}");
        if job == "failing" {
            caller.world.delivered(job).await;
            assert_eq!(caller.wake(&wake_up).await.said(), (200, "delivered"));
            assert_eq!(caller.world.agents.fires_of(job).len(), 2);
        }
    }
}

#[tokio::test]
async fn a_wake_up_for_a_held_one_shot_is_under_way() {
    let caller = Caller::new().await;
    let wake_up = caller.due("job", 0.0).await;
    let (status, _, said) = caller.world.settings.run(&["hold", "--all"]).await;
    assert!(status.success(), "{said}");
    let answer = caller.wake(&wake_up).await;
    assert_eq!((answer.said(), answer.retry_after()), ((409, "under_way"), Some(60)), "{answer:?}");
    assert_eq!(caller.world.agents.fires().len(), 0);
    let (status, _, said) = caller.world.settings.run(&["release", "--all"]).await;
    assert!(status.success(), "{said}");
    caller.world.agents.wait_for("job", 1).await;
    caller.world.delivered("job").await;
    assert_eq!(caller.wake(&wake_up).await.said(), (200, "delivered"));
}

#[tokio::test]
async fn an_early_wake_up_is_answered_at_once_and_the_built_in_loop_fires_on_time() {
    let caller = Caller::new().await;
    let (at, id) = caller.world.arm("job", 8_000).await;
    let far = caller.due("far", 1_800.0).await;
    let answer = caller.wake(&far).await;
    assert_eq!(answer.said(), (503, "early"), "{answer:?}");
    assert!(answer.retry_after().is_some_and(|seconds| (1_500..=1_800).contains(&seconds)), "{answer:?}");
    let answer = caller.wake(&Caller::body("job", &id, &at)).await;
    // On a very slow machine, it is due by then.
    assert!(matches!(answer.said(), (503, "early") | (200, "delivered")), "{answer:?}");
    let fire = caller.world.agents.wait_for("job", 1).await;
    let late = lateness_ms(&at, fire.arrived);
    assert!(late >= 0.0, "{late} ms");
    assert_eq!(caller.counted("nas_cron_backend_misses_total", &[]).await, 0);
}

/// The backend's resolution is one second: the built-in loop's timer covers the rest.
#[tokio::test]
async fn a_wake_up_shortly_before_the_instant_is_held_until_it() {
    let caller = Caller::new().await;
    let mut all = Vec::new();
    for (job, millis) in [("a", 7_000), ("b", 7_333), ("c", 7_999)] {
        all.push((job, caller.world.arm(job, millis).await));
    }
    let held = all.iter().map(async |(job, (at, id))| {
        let before =
            (instant(at) - now()).to_std().unwrap_or_default().saturating_sub(Duration::from_millis(1_900));
        tokio::time::sleep(before).await;
        let answer = caller.wake(&Caller::body(job, id, at)).await;
        let answered = now();
        assert_eq!(answer.said(), (200, "delivered"), "{answer:?}");
        let fires = caller.world.agents.fires_of(job);
        let late = lateness_ms(at, fires[0].arrived);
        assert!(late >= 0.0, "{late} ms");
        assert_eq!(fires.len(), 1);
        assert!(answered >= instant(at), "answered after the delivery");
    });
    futures::future::join_all(held).await;
    let early: i64 = sqlx::query_scalar("SELECT count(*) FROM fires WHERE started_at < fire_at")
        .fetch_one(&caller.world.pool)
        .await
        .unwrap();
    assert_eq!(early, 0, "by the database's clock");
}

/// The wake-up was processed before its caller hung up.
#[tokio::test]
async fn a_wake_up_whose_caller_hangs_up_still_fires() {
    let caller = Caller::new().await;
    let body = caller.due("job", 1.5).await;
    let taken_in = async {
        eventually("it is leased", async || {
            let awaits: Option<String> = sqlx::query_scalar("SELECT awaits::text FROM one_shots")
                .fetch_one(&caller.world.pool)
                .await
                .unwrap();
            awaits.is_none().then_some(())
        })
        .await;
    };
    tokio::select! {
        () = taken_in => {}
        _ = caller.wake(&body) => {}
    }
    caller.world.agents.wait_for("job", 1).await;
    caller.world.delivered("job").await;
    assert_eq!(caller.world.agents.fires_of("job").len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_wake_up_during_a_database_outage_is_503_and_the_next_one_delivers() {
    let (caller, proxy) = Caller::behind_a_proxy().await;
    let wake_up = caller.due("job", 0.0).await;
    proxy.cut().await;
    let answer = caller.wake(&wake_up).await;
    assert_eq!(
        (answer.status, answer.body["error"].as_str()),
        (503, Some("temporarily_unavailable")),
        "{answer:?}"
    );
    assert!(answer.retry_after().is_some_and(|seconds| seconds >= 1), "{answer:?}");
    assert!(answer.took < Duration::from_mins(1), "it waited for the database: {answer:?}");
    proxy.restore().await;
    let answer = eventually("it is woken", async || {
        Some(caller.wake(&wake_up).await).filter(|answer| answer.status != 503)
    })
    .await;
    assert_eq!(answer.said(), (200, "delivered"));
    assert_eq!(caller.world.agents.fires_of("job").len(), 1);
}

#[tokio::test]
async fn a_signed_body_that_is_not_a_wake_up_is_400() {
    let caller = Caller::new().await;
    let good = json!({
        "instance_id": "inst-1", "job_id": "job", "schedule_id": "0190a5e4-7c1e-7000-8000-000000000000",
        "fire_at": "2026-06-18T12:00:00Z",
    });
    let without = |name: &str| {
        let mut body = good.clone();
        body.as_object_mut().unwrap().remove(name);
        body.to_string()
    };
    let with = |name: &str, value: serde_json::Value| {
        let mut body = good.clone();
        body[name] = value;
        body.to_string()
    };
    let twice = good.to_string().replace('{', r#"{"job_id": "other", "#);
    for body in [
        String::new(),
        "{}".to_owned(),
        "null".to_owned(),
        "[]".to_owned(),
        "<html>".to_owned(),
        format!("{good}{good}"),
        twice,
        without("instance_id"),
        without("job_id"),
        without("schedule_id"),
        without("fire_at"),
        with("schedule_id", json!("no-uuid")),
        with("schedule_id", json!(7)),
        with("job_id", json!("")),
        with("job_id", json!("a\u{0}b")),
        with("instance_id", json!("x".repeat(300))),
        with("job_id", json!({"$ne": null})),
        format!("{}1{}", "[".repeat(10_000), "]".repeat(10_000)),
    ] {
        let answer = caller.wake(body.as_bytes()).await;
        let shown: String = body.chars().take(100).collect();
        assert_eq!(answer.status, 400, "{shown}: {answer:?}");
        assert_eq!(answer.body["error"], "invalid_request", "{shown}: {answer:?}");
        assert_eq!(answer.headers["content-type"], "application/problem+json", "{shown}");
    }
    // Unknown members are ignored.
    let answer = caller.wake(with("added_later", json!([1])).as_bytes()).await;
    assert_eq!(answer.said(), (200, "gone"));
}

#[tokio::test]
async fn an_agents_answer_that_ends_a_one_shot_is_the_status_also_of_a_repeated_wake_up() {
    let caller = Caller::new().await;
    for (said, status) in [("gateway_stopped", "dropped"), ("duplicate", "duplicate"), ("gone", "gone")] {
        let body: &'static str = format!(r#"{{"status":"{said}"}}"#).leak();
        caller.world.agents.answer(move |_, _| Reply { body, ..Reply::status(200) });
        let wake_up = caller.due(said, 0.0).await;
        for _ in 0..2 {
            assert_eq!(caller.wake(&wake_up).await.said(), (200, status));
        }
        assert_eq!(caller.world.agents.fires_of(said).len(), 1);
        let labels = [r#"backend="qstash""#.to_owned(), format!(r#"result="{status}""#)];
        let repeated =
            caller.counted("nas_cron_wake_ups_total", &labels.each_ref().map(String::as_str)).await;
        assert_eq!(repeated, 1);
    }
}
