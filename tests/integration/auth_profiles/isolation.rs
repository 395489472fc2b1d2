//! Invariant 6: an instance sees and changes only its own profiles, whatever it sends.

use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::World;
use serde_json::{Value, json};

use super::fixture::{ORG, REGISTRY, admin, call, carried, done, listed, provision};

/// Arms a job of another instance than `inst-1`.
async fn arm(world: &World, token: &str, agent: &str, job: &str, millis: i64, changes: &Value) -> Value {
    let at = fire_at(millis);
    let mut body = json!({
        "job_id": job, "fire_at": at, "agent_callback_url": world.agents.callback(agent),
        "dedup_key": format!("{job}:{at}"),
    });
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    done(world, "POST", "/api/agent-cron/provision", token, Some(&body)).await
}

#[tokio::test]
async fn jobs_of_the_same_name_in_two_instances_have_separate_profiles() {
    let world = World::new().await;
    let sibling = world.instance("inst-2").await;
    world.service.register("inst-3", "org-2", None).await;
    let foreign = world.portal.client_token("org-2", "inst-3");
    provision(&world, "shared", 3_600_000, &json!({"auth": "claude:of-1"})).await;
    provision(&world, "mine", 3_600_000, &json!({"auth": "claude:of-1"})).await;
    let registry = json!({"profiles": ["claude:of-1"], "default": "claude:default-of-1"});
    done(&world, "PUT", REGISTRY, &world.token, Some(&registry)).await;
    admin(&world, "PUT", ORG, Some(&json!({"profiles": ["claude:org-1"], "default": "claude:org-1"}))).await;

    for (token, agent, scope) in [(&sibling, "inst-2", "org"), (&foreign, "inst-3", "none")] {
        // The other instance sees none of its profiles.
        let seen = done(&world, "GET", REGISTRY, token, None).await;
        let names: Vec<_> = seen["profiles"].as_array().unwrap().iter().map(|one| &one["auth"]).collect();
        let expected = if scope == "org" { vec![json!("claude:org-1")] } else { vec![] };
        assert_eq!(names, expected.iter().collect::<Vec<_>>(), "{agent}");
        assert_eq!(seen["defaults"]["instance"], json!(null));
        let change = json!({"auth": "claude:of-another"});
        let path = "/api/agent-cron/jobs/mine";
        let (status, _) = call(&world, "PATCH", path, token, Some(&change)).await;
        assert_eq!(status, 404, "{agent} has no such job");

        // The other instance changes only its own.
        let armed = arm(&world, token, agent, "shared", 3_600_000, &json!({})).await;
        assert_eq!(armed.get("warnings"), None, "{agent}'s job has no profile of its own");
        let armed = arm(&world, token, agent, "shared", 3_600_000, &json!({"auth": "claude:of-1"})).await;
        assert!(armed["warnings"].is_array(), "known to another is not known to {agent}");
        done(&world, "PATCH", "/api/agent-cron/jobs/shared", token, Some(&change)).await;
        done(
            &world,
            "PUT",
            REGISTRY,
            token,
            Some(&json!({"profiles": ["claude:of-another"], "default": null})),
        )
        .await;
        done(&world, "DELETE", REGISTRY, token, None).await;
        world.service.cancel(token, "shared").await;
        arm(&world, token, agent, "shared", 3_600_000, &json!({"auth": null})).await;
    }

    for job in ["shared", "mine"] {
        let one = listed(&world, job).await;
        assert_eq!((&one["auth"], one.get("warnings")), (&json!("claude:of-1"), None), "{one}");
    }
    let seen = done(&world, "GET", REGISTRY, &world.token, None).await;
    assert_eq!(seen["profiles"][0], json!({"auth": "claude:of-1", "scope": "instance"}));
    assert_eq!(seen["defaults"]["instance"], "claude:default-of-1");

    // The fires of the jobs with the same ID carry their own profiles.
    provision(&world, "shared", 0, &json!({})).await;
    arm(&world, &sibling, "inst-2", "shared", 0, &json!({})).await;
    arm(&world, &foreign, "inst-3", "shared", 0, &json!({})).await;
    let fires = world.agents.wait_until("three fires", |fires| fires.len() == 3).await;
    for (agent, auth) in [("inst-1", Some("claude:of-1")), ("inst-2", Some("claude:org-1")), ("inst-3", None)]
    {
        let fire = fires.iter().find(|fire| fire.agent == agent).unwrap();
        assert_eq!(carried(fire).as_deref(), auth, "{agent}");
    }
}
