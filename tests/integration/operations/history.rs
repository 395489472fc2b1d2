//! The history of attempts, and holds.

use std::time::Duration;

use nas_cron_testing::agent::Reply;
use nas_cron_testing::world::{World, eventually};
use serde_json::json;

#[tokio::test]
async fn every_attempt_has_a_row_of_history() {
    let world =
        World::with(|s| s.with("NAS_CRON_RETRY_DEFINITE_BASE", "100ms").with("NAS_CRON_FIRE_FLOOR", "0s"))
            .await;
    world.agents.answer(|_, before| match before {
        0 => Reply { body: "not now", ..Reply::status(503) },
        1 => Reply { body: "", ..Reply::status(500) },
        2 => Reply::accepted(),
        _ => Reply::gone(),
    });
    let (_, first) = world.arm("job", -1_000).await;
    world.delivered("job").await;
    let (_, second) = world.arm("job", -1_000).await;
    world.delivered("job").await;

    let history = world.history("job").await;
    let rows: Vec<_> = history
        .iter()
        .map(|one| {
            (one.schedule_id.as_str(), one.number, one.outcome.as_str(), one.status, one.error.as_deref())
        })
        .collect();
    assert_eq!(
        rows,
        [
            (first.as_str(), 1, "failed", Some(503), Some("not now")),
            (first.as_str(), 2, "failed", Some(500), Some("HTTP 500 without a body")),
            (first.as_str(), 3, "delivered", Some(202), None),
            (second.as_str(), 1, "gone", Some(200), None),
        ]
    );
    assert!(history.iter().all(|one| one.ended.is_some_and(|ended| ended >= one.started)), "{history:?}");
}

#[tokio::test]
async fn an_attempt_has_its_row_when_it_has_ended() {
    let world = World::new().await;
    world.agents.answer(|_, _| Reply::accepted().after(Duration::from_millis(600)));
    world.arm("job", -1_000).await;
    world.agents.wait_for("job", 1).await;
    assert_eq!(world.history("job").await.len(), 0);
    let (_, entry) = world.listed("job").await.unwrap();
    assert_eq!((&entry["state"], &entry["attempts"]), (&json!("firing"), &json!(1)));
    assert_eq!(world.ended("job", 1).await[0].outcome, "delivered");
}

/// Runs an operator's command on the database of the service.
async fn operate(world: &World, arguments: &[&str]) {
    let (status, out, output) = world.settings.run(arguments).await;
    assert!(status.success(), "{arguments:?}: {out}{output}");
}

/// Puts `scope` on hold, checks that `inst-1` gets no fire and that `inst-2` gets one unless `stops_the_other_org`, and
/// releases the hold.
async fn holds(scope: &[&str], stops_the_other_org: bool) {
    let world = World::with(|s| s.with("NAS_CRON_LEASE_HORIZON", "60s")).await;
    world.sql("INSERT INTO instances (instance_id, org_id) VALUES ('inst-2', 'org-2')").await;
    let other = world.portal.client_token("org-2", "inst-2");
    let arm_other = async |job: &str, millis| {
        let at = nas_cron_testing::time::fire_at(millis);
        world.service.provision(&other, job, &at, &world.agents.callback("inst-2")).await
    };
    // One one-shot is leased before the hold, one is armed during the hold.
    world.arm("leased", 8_000).await;
    eventually("the one-shot is leased", async || {
        world.listed("leased").await.filter(|(_, entry)| entry["state"] == "leased")
    })
    .await;
    operate(&world, &[&["hold"], scope].concat()).await;
    world.arm("armed", 0).await;
    arm_other("marker", 8_400).await;
    let parked = eventually("both one-shots are parked", async || {
        let both = [world.listed("leased").await, world.listed("armed").await];
        let count = both
            .iter()
            .flatten()
            .filter(|(half, entry)| *half == "armed" && entry["parked"] == "hold")
            .count();
        (count == 2).then_some(both)
    })
    .await;
    assert!(parked.iter().flatten().all(|(_, entry)| entry["attempts"] == 0), "{parked:?}");
    if stops_the_other_org {
        assert_eq!(world.agents.fires().len(), 0);
    } else {
        world.agents.wait_for("marker", 1).await;
        assert_eq!(world.agents.fires().len(), 1, "only the other org's one-shot");
    }
    operate(&world, &[&["release"], scope].concat()).await;
    for job in ["leased", "armed", "marker"] {
        world.agents.wait_for(job, 1).await;
    }
    world.all_delivered().await;
    assert_eq!(world.agents.fires().len(), 3, "each one-shot fires once");
}

#[tokio::test]
async fn contract_states_a_hold_of_an_instance_stops_its_fires_and_a_release_resumes_them() {
    holds(&["--instance", "inst-1"], false).await;
}

#[tokio::test]
async fn contract_states_a_hold_of_an_org_stops_its_fires_and_a_release_resumes_them() {
    holds(&["--org", "org-1"], false).await;
}

#[tokio::test]
async fn contract_states_a_hold_of_the_service_stops_all_fires_and_a_release_resumes_them() {
    holds(&["--all"], true).await;
}
