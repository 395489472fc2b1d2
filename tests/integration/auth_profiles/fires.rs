//! The profile that a fire carries: the job's own, otherwise the default of its instance, its org or the service.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use nas_cron_testing::agent::Reply;
use nas_cron_testing::world::{World, eventually};
use serde_json::{Value, json};

use super::fixture::{INSTANCE, ORG, SERVICE, carried, default, listed, patch, provision};

/// Arms a job that is due at once, without `auth`, like a re-arm. Returns the profile that its fire carries.
async fn fired(world: &World, job: &str) -> Option<String> {
    let before = world.agents.fires_of(job).len();
    provision(world, job, 0, &json!({})).await;
    carried(&world.agents.wait_for(job, before + 1).await)
}

#[tokio::test]
async fn jobs_with_a_profile_keep_it_and_jobs_without_follow_the_defaults() {
    let world = World::new().await;
    for (job, auth) in [("work", "claude:work"), ("budget", "openai:budget@acme.example")] {
        provision(&world, job, 0, &json!({"auth": auth})).await;
        assert_eq!(carried(&world.agents.wait_for(job, 1).await).as_deref(), Some(auth));
    }
    // The defaults are set one after the other, and removed again.
    let set = |auth: &str| json!(auth);
    let rounds: [(&str, Value, Option<&str>); 7] = [
        (SERVICE, json!(null), None),
        (SERVICE, set("claude:of-the-service"), Some("claude:of-the-service")),
        (ORG, set("claude:of-the-org"), Some("claude:of-the-org")),
        (INSTANCE, set("claude:of-the-instance"), Some("claude:of-the-instance")),
        (ORG, json!(null), Some("claude:of-the-instance")),
        (INSTANCE, json!(null), Some("claude:of-the-service")),
        (SERVICE, json!(null), None),
    ];
    for (round, (place, auth, expected)) in rounds.into_iter().enumerate() {
        default(&world, place, auth).await;
        assert_eq!(fired(&world, &format!("plain-{round}")).await.as_deref(), expected, "round {round}");
        if round == 3 {
            assert_eq!(
                fired(&world, "work").await.as_deref(),
                Some("claude:work"),
                "a re-arm without `auth` keeps it"
            );
            assert_eq!(fired(&world, "budget").await.as_deref(), Some("openai:budget@acme.example"));
        }
    }
}

#[tokio::test]
async fn a_profile_set_after_the_lease_is_carried_by_the_fire() {
    let world = World::with(|s| s.with("NAS_CRON_LEASE_HORIZON", "60s")).await;
    // On a busy machine, the first ones may be due before their profiles are set.
    for seconds in [5, 10, 20, 40] {
        let (own, plain) = (format!("own-{seconds}"), format!("plain-{seconds}"));
        provision(&world, &own, seconds * 1_000, &json!({"auth": "claude:first"})).await;
        provision(&world, &plain, seconds * 1_000, &json!({})).await;
        eventually("both are leased", async || {
            let query = "SELECT count(*) FROM one_shots WHERE state = 'armed'";
            let armed: i64 = sqlx::query_scalar(query).fetch_one(&world.pool).await.unwrap();
            (armed == 0).then_some(())
        })
        .await;
        let (second, default_profile) =
            (format!("claude:second-{seconds}"), format!("claude:default-{seconds}"));
        default(&world, INSTANCE, json!(default_profile)).await;
        let changed = patch(&world, &own, json!(second)).await;
        if [&own, &plain].into_iter().any(|job| !world.agents.fires_of(job).is_empty()) {
            continue;
        }
        assert_eq!(changed["effective_auth"], json!({"auth": second, "source": "job"}));
        assert_eq!(carried(&world.agents.wait_for(&own, 1).await), Some(second));
        assert_eq!(carried(&world.agents.wait_for(&plain, 1).await), Some(default_profile));
        return;
    }
    panic!("this machine is too slow: 40 s were not enough to set two profiles");
}

#[tokio::test]
async fn a_retry_carries_the_profile_that_is_set_at_its_attempt() {
    let world = World::new().await;
    let open = Arc::new(AtomicBool::new(false));
    let door = Arc::clone(&open);
    world.agents.answer(move |_, _| Reply::status(if door.load(Ordering::SeqCst) { 202 } else { 503 }));
    let armed = provision(&world, "job", 0, &json!({"auth": "claude:spent"})).await;
    assert_eq!(carried(&world.agents.wait_for("job", 1).await).as_deref(), Some("claude:spent"));
    patch(&world, "job", json!("claude:fresh")).await;
    assert_eq!(listed(&world, "job").await["schedule_id"], armed["schedule_id"]);
    open.store(true, Ordering::SeqCst);
    world.delivered("job").await;
    let fires = world.agents.fires_of("job");
    assert_eq!(carried(fires.last().unwrap()).as_deref(), Some("claude:fresh"), "{fires:#?}");
}
