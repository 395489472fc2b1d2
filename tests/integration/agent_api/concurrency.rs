//! Concurrent requests.

use std::collections::{HashMap, HashSet};
use std::time::Duration;

use chrono::{DateTime, Utc};
use futures::future::join_all;
use nas_cron_testing::time::{fire_at, instant, now};
use serde_json::json;

use super::fixture::{CANCEL, World};

#[tokio::test]
async fn contract_32_concurrent_provisions_with_the_same_key_make_one_schedule() {
    let world = World::start().await;
    let body = world.body(&json!({}));
    let answers = join_all((0..32).map(|_| world.provision(&world.token, &body))).await;
    let schedules: HashSet<_> = answers.iter().map(|answer| answer.schedule_id()).collect();
    assert_eq!(schedules.len(), 1);
    let list = world.service.list(&world.token).await;
    assert_eq!(list["armed"].as_array().unwrap().len(), 1);
    assert!(schedules.contains(list["armed"][0]["schedule_id"].as_str().unwrap()));
}

#[tokio::test]
async fn contract_32_concurrent_keys_for_one_job_leave_one_acknowledged_arm_and_only_it_fires() {
    let world = World::start().await;
    let times: Vec<_> = (0..32).map(|i| fire_at(8_000 + i)).collect();
    let callback = world.callback();
    let schedules =
        join_all(times.iter().map(|at| world.service.provision(&world.token, "job-1", at, &callback))).await;
    let acknowledged: HashMap<_, _> = schedules.iter().zip(&times).collect();
    assert_eq!(acknowledged.len(), 32, "each arm has its own schedule_id");
    let list = world.service.list(&world.token).await;
    let [one] = &list["armed"].as_array().unwrap()[..] else { panic!("{list}") };
    let at = acknowledged[&one["schedule_id"].as_str().unwrap().to_owned()];
    assert_eq!(one["fire_at"], json!(at), "schedule and instant belong together");
    let fire = world.agents.wait_for("job-1", 1).await;
    assert_eq!(&fire.fire_at, at);
    world.list_until("delivered", |list| list["armed"] == json!([])).await;
    assert_eq!(world.agents.fires().len(), 1);
}

#[tokio::test]
async fn contract_concurrent_provisions_and_cancels_of_one_job_all_succeed_and_the_last_one_wins() {
    let world = World::start().await;
    for round in 0..5 {
        let at = fire_at(3_600_000 + round);
        let callback = world.callback();
        let provisions =
            join_all((0..16).map(|_| world.service.provision(&world.token, "job-1", &at, &callback)));
        let cancels = join_all((0..16).map(|_| world.service.cancel(&world.token, "job-1")));
        tokio::join!(provisions, cancels);
        assert!(world.service.list(&world.token).await["armed"].as_array().unwrap().len() <= 1);
        let (at, schedule) = world.arm("job-1", 7_200_000 + round).await;
        let list = world.service.list(&world.token).await;
        assert_eq!(
            (&list["armed"][0]["schedule_id"], &list["armed"][0]["fire_at"]),
            (&json!(schedule), &json!(at))
        );
        world.service.cancel(&world.token, "job-1").await;
        assert_eq!(world.service.list(&world.token).await["armed"], json!([]));
    }
}

#[tokio::test]
async fn contract_all_32_jobs_of_an_agent_that_moves_while_it_arms_them_get_the_new_callback() {
    let world = World::start().await;
    for round in 0..3 {
        let (old, new) =
            (world.agents.callback(&format!("old-{round}")), world.agents.callback(&format!("new-{round}")));
        world.service.provision(&world.token, "first", &fire_at(3_600_000 + round), &old).await;
        let jobs: Vec<_> = (0..32).map(|i| format!("job-{i}")).collect();
        join_all(jobs.iter().map(|job| {
            let at = fire_at(3_600_000);
            let (world, old) = (&world, &old);
            async move { world.service.provision(&world.token, job, &at, old).await }
        }))
        .await;
        join_all(jobs[..16].iter().map(|job| {
            let at = fire_at(3_600_000);
            let (world, new) = (&world, &new);
            async move { world.service.provision(&world.token, job, &at, new).await }
        }))
        .await;
        let callbacks: Vec<String> = sqlx::query_scalar("SELECT DISTINCT callback_url FROM one_shots")
            .fetch_all(&world.pool)
            .await
            .unwrap();
        assert_eq!(callbacks, [new]);
    }
}

#[tokio::test]
async fn invariant_4_no_attempt_starts_after_a_cancel_or_a_supersede_has_answered() {
    let world = World::start().await;
    // A slow machine gets more time to arm them.
    let mut armed_in_time = None;
    for lead in [3_500, 10_000, 30_000] {
        let due = fire_at(lead);
        let jobs: Vec<_> = (0..60).map(|i| format!("job-{lead}-{i}")).collect();
        let control = format!("control-{lead}");
        world.arm(&control, lead + 500).await;
        join_all(jobs.iter().map(|job| {
            let (world, due) = (&world, &due);
            async move { world.service.provision(&world.token, job, due, &world.callback()).await }
        }))
        .await;
        if let Ok(until_due) = (instant(&due) - now()).to_std()
            && until_due > Duration::from_millis(500)
        {
            armed_in_time = Some((jobs, control, until_due));
            break;
        }
    }
    let (jobs, control, until_due) = armed_in_time.expect("60 provisions within 30 s");
    // From 25 ms before the instant to 5 ms after it.
    let start = tokio::time::Instant::now() + until_due.saturating_sub(Duration::from_millis(25));
    let ended = join_all(jobs.iter().zip(0_u32..).map(|(job, i)| {
        let world = &world;
        async move {
            tokio::time::sleep_until(start + Duration::from_micros(500) * i).await;
            if i % 2 == 0 {
                let body = json!({"job_id": job}).to_string();
                assert_eq!(world.call("POST", CANCEL, Some(&world.token), body).await.status, 200);
            } else {
                world.service.provision(&world.token, job, &fire_at(3_600_000), &world.callback()).await;
            }
            (job.clone(), now())
        }
    }))
    .await;
    world.agents.wait_for(&control, 1).await;
    let started: Vec<(String, DateTime<Utc>)> = sqlx::query_as(
        "SELECT job_id, started_at FROM fires UNION ALL SELECT job_id, started_at FROM superseded_attempts",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    let ended: HashMap<_, _> = ended.into_iter().collect();
    let mut before = 0;
    for (job, started) in started {
        if let Some(answered) = ended.get(&job) {
            assert!(started <= *answered, "{job} started {started}, after {answered}");
            before += 1;
        }
    }
    assert!(before < 60, "some were cancelled or superseded before they started");
}
