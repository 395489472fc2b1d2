//! Provisions of a caller that the service remembers: whatever has changed about it since takes effect with its commit.

use nas_cron_testing::time::fire_at;
use serde_json::json;

use super::fixture::{LIST, World};

/// Changes of `inst-1` behind the service's back, and the error of its next provision.
const REFUSING: [(&str, u16, &str); 6] = [
    ("UPDATE instances SET enabled = false WHERE instance_id = 'inst-1'", 403, "access_denied"),
    (
        "UPDATE instances SET denied_by_portal = 'disabled', looked_up_at = now() WHERE instance_id = 'inst-1'",
        403,
        "access_denied",
    ),
    ("UPDATE instances SET org_id = 'org-9' WHERE instance_id = 'inst-1'", 503, "temporarily_unavailable"),
    (
        "UPDATE instances SET bootstrap_session_id = 'sid-9' WHERE instance_id = 'inst-1'",
        503,
        "temporarily_unavailable",
    ),
    ("DELETE FROM instances WHERE instance_id = 'inst-1'", 503, "temporarily_unavailable"),
    // Deleted, and registered again for another org.
    (
        "DELETE FROM instances WHERE instance_id = 'inst-1'; \
         INSERT INTO instances (instance_id, org_id, bootstrap_session_id) VALUES ('inst-1', 'org-9', 'sid-1')",
        503,
        "temporarily_unavailable",
    ),
];

#[tokio::test]
async fn change_of_a_remembered_caller_refuses_its_next_provision() {
    for (change, status, error) in REFUSING {
        let world = World::start().await;
        world.arm("first", 3_600_000).await;
        world.arm("second", 3_600_000).await;
        let before = world.tables().await["one_shots"].clone();
        world.sql(change).await;
        let answer = world.provision(&world.token, &world.body(&json!({"job_id": "third"}))).await;
        answer.refused(status, error);
        if !change.starts_with("DELETE") {
            assert_eq!(world.tables().await["one_shots"], before, "{change}");
        }
    }
}

#[tokio::test]
async fn session_given_to_another_instance_arms_for_that_one() {
    let world = World::start().await;
    world.arm("first", 3_600_000).await;
    // Remembered with its callback.
    world.arm("first", 3_600_000).await;
    world
        .sql(
            "UPDATE instances SET bootstrap_session_id = NULL WHERE instance_id = 'inst-1'; \
         UPDATE instances SET bootstrap_session_id = 'sid-1' WHERE instance_id = 'inst-2'",
        )
        .await;
    world.arm("second", 3_600_000).await;
    let jobs: Vec<(String, String)> = sqlx::query_as("SELECT instance_id, job_id FROM one_shots ORDER BY 1")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    assert_eq!(jobs, [("inst-1".into(), "first".into()), ("inst-2".into(), "second".into())]);
}

#[tokio::test]
async fn caller_that_was_refused_is_admitted_as_soon_as_it_is_enabled() {
    let world = World::start().await;
    world.arm("first", 3_600_000).await;
    for enabled in [false, true, false, true] {
        sqlx::query("UPDATE instances SET enabled = $1 WHERE instance_id = 'inst-1'")
            .bind(enabled)
            .execute(&world.pool)
            .await
            .unwrap();
        let answer = world.provision(&world.token, &world.body(&json!({"job_id": "next"}))).await;
        assert_eq!(answer.status, if enabled { 200 } else { 403 });
    }
}

/// The callback and the skew guard are on the instance.
#[tokio::test]
async fn remembered_caller_that_moved_takes_its_one_shots_along() {
    let world = World::start().await;
    world.arm("first", 3_600_000).await;
    world.arm("second", 3_600_000).await;
    let (old, new) = (world.callback(), world.agents.callback("elsewhere"));
    for callback in [&new, &old, &new] {
        let body = world.body(&json!({"job_id": "second", "agent_callback_url": callback}));
        world.provision(&world.token, &body).await.schedule_id();
        // Remembered with this callback.
        world.provision(&world.token, &body).await.schedule_id();
        let list = world.call("GET", LIST, Some(&world.token), "").await.body;
        for one in list["armed"].as_array().unwrap() {
            assert_eq!(one["agent_callback_url"], **callback, "{one}");
        }
    }
    let guard =
        "UPDATE instances SET skew_guard_ms = 20000, skew_learned_at = now() WHERE instance_id = 'inst-1'";
    world.sql(guard).await;
    let body = world.body(&json!({"job_id": "third", "agent_callback_url": new, "fire_at": fire_at(60_000)}));
    world.provision(&world.token, &body).await.schedule_id();
    let delay: f64 = sqlx::query_scalar(
        "SELECT extract(epoch FROM next_attempt_at - fire_at)::float8 FROM one_shots WHERE job_id = 'third'",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert!((delay - 20.0).abs() < 0.001, "{delay}");
}
