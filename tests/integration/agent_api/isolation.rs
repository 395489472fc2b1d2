//! An instance sees and changes only its own rows, whatever it sends.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nas_cron_testing::time::fire_at;
use serde_json::{Value, json};

use super::fixture::World;

struct Caller {
    instance: &'static str,
    token: String,
    schedule: String,
}

/// All three instances, each with a job of the same ID, key and instant.
async fn neighbours(world: &World, at: &str) -> Vec<Caller> {
    let mut callers = Vec::new();
    for (instance, org, sid) in
        [("inst-1", "org-1", "sid-1"), ("inst-2", "org-1", "sid-2"), ("inst-3", "org-2", "sid-1")]
    {
        let token = world.portal.session_token(org, sid);
        let callback = world.agents.callback(instance);
        let schedule = world.service.provision(&token, "shared", at, &callback).await;
        callers.push(Caller { instance, token, schedule });
    }
    callers
}

async fn assert_unchanged(world: &World, caller: &Caller, at: &str) {
    let list = world.service.list(&caller.token).await;
    assert_eq!(list["armed"].as_array().unwrap().len(), 1, "{}: {list}", caller.instance);
    assert_eq!(list["armed"][0]["schedule_id"], json!(caller.schedule), "{}", caller.instance);
    assert_eq!(list["armed"][0]["fire_at"], json!(at));
}

#[tokio::test]
async fn invariant_6_the_same_job_id_in_three_instances_of_two_orgs_is_three_jobs() {
    let world = World::start().await;
    let at = fire_at(3_600_000);
    let callers = neighbours(&world, &at).await;
    for one in &callers {
        assert_unchanged(&world, one, &at).await;
        assert_eq!(callers.iter().filter(|other| other.schedule == one.schedule).count(), 1);
    }
    for one in &callers {
        let callback = world.agents.callback(one.instance);
        let again = world.service.provision(&one.token, "shared", &at, &callback).await;
        assert_eq!(again, one.schedule, "the same key returns the instance's own schedule");
    }
    // One instance supersedes, moves and cancels: the others' one-shots do not change.
    let first = &callers[0];
    let elsewhere = world.agents.callback("elsewhere");
    world.service.provision(&first.token, "shared", &fire_at(7_200_000), &elsewhere).await;
    world.service.provision(&first.token, "shared", &at, &elsewhere).await;
    world.service.cancel(&first.token, "shared").await;
    // Nor does it help to know another instance's schedule.
    let body = json!({"job_id": "shared", "schedule_id": callers[1].schedule, "instance_id": "inst-2", "org_id": "org-2"});
    let (status, _) = world.service.post("/api/agent-cron/cancel", &first.token, &body).await;
    assert_eq!(status, 200);
    world.service.cancel(&first.token, &callers[1].schedule).await;
    assert_eq!(world.service.list(&first.token).await["armed"], json!([]));
    for other in &callers[1..] {
        assert_unchanged(&world, other, &at).await;
    }
    let callbacks: Vec<String> =
        sqlx::query_scalar("SELECT callback_url FROM one_shots ORDER BY instance_id")
            .fetch_all(&world.pool)
            .await
            .unwrap();
    assert_eq!(callbacks, [world.agents.callback("inst-2"), world.agents.callback("inst-3")]);
}

#[tokio::test]
async fn invariant_6_each_instance_is_fired_at_its_own_callback_with_its_own_audience() {
    let world = World::start().await;
    let at = fire_at(1_200);
    neighbours(&world, &at).await;
    let fires = world.agents.wait_until("three fires", |fires| fires.len() == 3).await;
    for instance in ["inst-1", "inst-2", "inst-3"] {
        let [fire] = &fires.iter().filter(|fire| fire.agent == instance).collect::<Vec<_>>()[..] else {
            panic!("not one fire of {instance}: {fires:#?}")
        };
        let claims = URL_SAFE_NO_PAD.decode(fire.token.split('.').nth(1).unwrap()).unwrap();
        let claims: Value = serde_json::from_slice(&claims).unwrap();
        assert_eq!(claims["aud"], json!(format!("agent:{instance}")));
    }
}

#[tokio::test]
async fn invariant_6_delivered_keys_and_dead_letters_are_per_instance() {
    let world = World::start().await;
    let at = fire_at(0);
    let callers = neighbours(&world, &at).await;
    world.agents.wait_until("three fires", |fires| fires.len() == 3).await;
    for caller in &callers {
        super::fixture::until("delivered", async || {
            (world.service.list(&caller.token).await["armed"] == json!([])).then_some(())
        })
        .await;
    }
    // A cancel forgets the delivered key of its own instance only.
    world.service.cancel(&callers[0].token, "shared").await;
    for caller in &callers {
        let callback = world.agents.callback(caller.instance);
        let again = world.service.provision(&caller.token, "shared", &at, &callback).await;
        assert_eq!(again == caller.schedule, caller.instance != "inst-1", "{}", caller.instance);
    }
}
