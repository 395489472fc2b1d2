//! Jobs that a quota rejects, and jobs that it never rejects.

use nas_cron_testing::agent::Reply;
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::eventually;
use serde_json::json;

use super::{arm, armed, arms_eventually, world};

#[tokio::test]
async fn new_job_beyond_the_quota_of_its_instance_is_rejected_with_the_numbers() {
    let world = world(3, 100).await;
    for job in ["a", "b", "c"] {
        assert_eq!(arm(&world, &world.token, job).await.0, 200);
    }
    let (status, body) = arm(&world, &world.token, "d").await;
    assert_eq!(status, 429, "{body}");
    assert_eq!(
        body,
        json!({
            "error": "quota_exceeded",
            "error_description": "3 jobs of this agent are armed, and its quota is 3: cancel a job that is not needed, or ask \
                                  the operator for a higher quota",
            "scope": "instance", "quota": 3, "armed": 3,
        })
    );
    // Another agent of the org is not affected.
    let other = world.instance("inst-2").await;
    assert_eq!(arm(&world, &other, "d").await.0, 200);
    assert_eq!(armed(&world).await, 4);
    let page = world.service.metrics().await;
    assert!(page.contains("\nnas_cron_quota_refusals_total{scope=\"instance\"} 1\n"), "{page}");
    assert!(page.contains("\nnas_cron_quota_refusals_total{scope=\"org\"} 0\n"), "{page}");
}

#[tokio::test]
async fn rejected_job_changes_nothing() {
    let world = world(1, 100).await;
    assert_eq!(arm(&world, &world.token, "a").await.0, 200);
    // From another home, and with an auth profile of its own.
    let (moved, at) = (world.agents.callback("elsewhere"), fire_at(3_600_000));
    let body = json!({
        "job_id": "b", "fire_at": at, "agent_callback_url": moved, "dedup_key": "k", "auth": "claude:work",
    });
    let (status, body) = world.service.post("/api/agent-cron/provision", &world.token, &body).await;
    assert_eq!((status, &body["error"]), (429, &json!("quota_exceeded")));
    let (callback, auths): (String, i64) =
        sqlx::query_as("SELECT callback_url, (SELECT count(*) FROM job_auth) FROM instances")
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert_eq!((callback, auths), (world.callback(), 0));
}

#[tokio::test]
async fn known_jobs_are_armed_again_however_far_beyond_the_quota() {
    let world = world(3, 3).await;
    for job in ["fires", "waits", "dies"] {
        assert_eq!(arm(&world, &world.token, job).await.0, 200);
    }
    world.sql("UPDATE one_shots SET state = 'dead', dead_since = now(), next_attempt_at = NULL WHERE job_id = 'dies'").await;
    let (at, _) = world.arm("fires", 0).await;
    world.agents.wait_for("fires", 1).await;
    eventually("it is delivered", async || world.listed("fires").await.is_none().then_some(())).await;
    // Two more jobs take the room of the delivered and of the dead one.
    for job in ["d", "e"] {
        arms_eventually(&world, &world.token, job).await;
    }
    assert_eq!(arm(&world, &world.token, "f").await.0, 429);
    // The same key again, a new key for an armed job, for a delivered one and for a dead letter.
    world.again("fires", &at).await;
    for job in ["waits", "fires", "dies"] {
        let (status, body) = arm(&world, &world.token, job).await;
        assert_eq!(status, 200, "{job}: {body}");
    }
    assert_eq!(armed(&world).await, 5, "more than the quota");
    // Also for a caller that this replica does not know yet, with another callback.
    let moved = world.agents.callback("elsewhere");
    let replica = nas_cron_testing::service::Service::start(&world.settings).await;
    let (status, body) = replica.try_provision(&world.token, "waits", &fire_at(7_200_000), &moved).await;
    assert_eq!(status, 200, "{body}");
}

#[tokio::test]
async fn job_that_ends_makes_room() {
    let world = world(2, 100).await;
    world.agents.answer(|_, _| Reply::gone());
    for job in ["a", "b"] {
        assert_eq!(arm(&world, &world.token, job).await.0, 200);
    }
    assert_eq!(arm(&world, &world.token, "c").await.0, 429);
    world.service.cancel(&world.token, "a").await;
    arms_eventually(&world, &world.token, "c").await;
    assert_eq!(arm(&world, &world.token, "d").await.0, 429);
    world.arm("b", 0).await;
    world.agents.wait_for("b", 1).await;
    arms_eventually(&world, &world.token, "d").await;
}

#[tokio::test]
async fn quota_of_an_org_limits_all_its_agents_together() {
    let world = world(100, 4).await;
    let second = world.instance("inst-2").await;
    world.sql("INSERT INTO instances (instance_id, org_id) VALUES ('other', 'org-2')").await;
    for (token, job) in [(&world.token, "a"), (&second, "a"), (&world.token, "b"), (&second, "b")] {
        assert_eq!(arm(&world, token, job).await.0, 200);
    }
    for token in [&world.token, &second] {
        let (status, body) = arm(&world, token, "c").await;
        assert_eq!(
            (status, &body["scope"], &body["quota"], &body["armed"]),
            (429, &json!("org"), &json!(4), &json!(4))
        );
    }
    let other = world.portal.client_token("org-2", "other");
    assert_eq!(arm(&world, &other, "c").await.0, 200);
}

#[tokio::test]
async fn concurrent_new_jobs_fill_the_quota_exactly() {
    let world = world(20, 1_000).await;
    let provisions = (0..60).map(|number| {
        let (world, token) = (&world, &world.token);
        async move { arm(world, token, &format!("job-{number}")).await.0 }
    });
    let statuses = futures::future::join_all(provisions).await;
    assert_eq!(statuses.iter().filter(|status| **status == 200).count(), 20, "{statuses:?}");
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    assert_eq!(armed(&world).await, 20);
}
