//! Listing and revoking identities as the portal's backend and as an operator, also with the feature off.

use nas_cron_testing::service::Service;
use nas_cron_testing::world::World;
use serde_json::{Value, json};

use super::fixture::{Identity, call, list, on};

#[tokio::test]
async fn the_admin_api_lists_and_revokes_identities() {
    let world = World::with(on).await;
    let service = &world.service;
    let agent = Identity::new(service, &world.token).await;
    let second = agent.another_task(service, 1).await;
    let base = "/api/admin/agents/inst-1/identities";
    let (status, shown) = service.admin("GET", base, None).await;
    assert_eq!((status, &shown["identities"][0]["agent_runtime_id"]), (200, &json!(agent.id)));
    assert_eq!(shown["identities"][0]["tasks"].as_array().unwrap().len(), 2);

    // The admin API accepts only its own token: no assertion and no token of the portal.
    let path = format!("{base}/{}", agent.id);
    for authorization in [agent.assertion(), format!("Bearer {}", world.token)] {
        for (method, path) in [("GET", base), ("DELETE", &path)] {
            let answer = call(service, method, path, Some(&authorization), None).await;
            assert_problem(&answer.body, 401, "invalid_token");
        }
    }
    for (method, path) in [
        ("GET", "/api/admin/agents/nobody/identities".to_owned()),
        ("DELETE", format!("/api/admin/agents/nobody/identities/{}", agent.id)),
        ("DELETE", format!("{base}/7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d")),
        ("DELETE", format!("{base}/x")),
        ("DELETE", format!("{path}/tasks/7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d")),
        ("DELETE", format!("{path}/tasks/x")),
    ] {
        let (status, body) = service.admin(method, &path, None).await;
        assert_eq!(status, 404, "{method} {path}: {body}");
        assert_problem(&body, 404, "not_found");
    }
    assert_eq!(list(service, &agent.assertion()).await.status, 200);

    for _ in 0..2 {
        assert_eq!(service.admin("DELETE", &format!("{path}/tasks/{second}"), None).await.0, 204);
    }
    list(service, &agent.assertion_of(&second)).await.unasserted("unknown_task");
    for _ in 0..2 {
        assert_eq!(service.admin("DELETE", &path, None).await.0, 204);
    }
    list(service, &agent.assertion()).await.unasserted("unknown_agent");
}

#[track_caller]
fn assert_problem(body: &Value, status: u16, error: &str) {
    assert_eq!((&body["status"], &body["error"]), (&json!(status), &json!(error)), "{body}");
}

#[tokio::test]
async fn operators_list_and_revoke_identities_by_commands() {
    let world = World::with(on).await;
    let service = &world.service;
    let agent = Identity::new(service, &world.token).await;
    let second = agent.another_task(service, 1).await;
    let run = async |arguments: &[&str]| {
        let (status, out, err) = world.settings.run(arguments).await;
        (status.success(), out, err)
    };
    let (_, shown, _) = run(&["agents", "identities", "inst-1"]).await;
    for part in [agent.id.as_str(), &agent.task, &second, "ok"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let (_, json, _) = run(&["agents", "identities", "inst-1", "--json"]).await;
    let json: Value = serde_json::from_str(&json).unwrap();
    assert_eq!(json["identities"][0]["agent_public_key"], agent.key.line());

    let (good, _, err) = run(&["agents", "revoke", "inst-1"]).await;
    assert!(!good && err.contains("--identity") && err.contains("--all"), "{err}");
    let (good, _, err) = run(&["agents", "revoke", "inst-1", "--all", "--task", &second]).await;
    assert!(!good && err.contains("cannot be used with"), "{err}");
    let (good, _, err) = run(&["agents", "revoke", "nobody", "--all"]).await;
    assert!(!good && err.contains("no agent `nobody`"), "{err}");
    let (good, _, err) = run(&["agents", "revoke", "inst-1", "--task", &agent.id]).await;
    assert!(!good && err.contains("has no task") && err.contains("agents identities"), "{err}");
    let (good, _, err) = run(&["agents", "revoke", "inst-1", "--identity", "x"]).await;
    assert!(!good && err.contains("must be one that a registration returned"), "{err}");
    assert_eq!(list(service, &agent.assertion()).await.status, 200);

    let (_, said, _) = run(&["agents", "revoke", "inst-1", "--task", &second]).await;
    assert_eq!(said, format!("Task {second} of agent inst-1 is revoked.\n"));
    list(service, &agent.assertion_of(&second)).await.unasserted("unknown_task");
    let (_, said, _) = run(&["agents", "revoke", "inst-1", "--identity", &agent.id]).await;
    assert_eq!(said, format!("Key {} of agent inst-1 is revoked.\n", agent.id));
    let (_, said, _) = run(&["agents", "revoke", "inst-1", "--identity", &agent.id]).await;
    assert_eq!(said, format!("Key {} of agent inst-1 is already revoked.\n", agent.id));
    list(service, &agent.assertion()).await.unasserted("unknown_agent");
    let all = Identity::new(service, &world.token).await;
    let (_, said, _) = run(&["agents", "revoke", "inst-1", "--all"]).await;
    assert_eq!(said, "1 key of agent inst-1 revoked.\n");
    list(service, &all.assertion()).await.unasserted("unknown_agent");
    let (_, said, _) = run(&["agents", "revoke", "inst-1", "--all", "--json"]).await;
    assert_eq!(serde_json::from_str::<Value>(&said).unwrap(), json!({"instance_id": "inst-1", "revoked": 0}));
}

/// While the feature is off, keys are rejected, but can be listed and revoked. Once it is on again, the others are valid.
#[tokio::test]
async fn switching_the_feature_off_revokes_nothing() {
    let world = World::with(on).await;
    let agent = Identity::new(&world.service, &world.token).await;
    let off = Service::start(&world.settings.clone().without("NAS_CRON_AGENT_IDENTITY")).await;
    list(&off, &agent.assertion()).await.refused(401, "scheme_not_enabled");
    let (status, shown) = off.admin("GET", "/api/admin/agents/inst-1/identities", None).await;
    assert_eq!((status, shown["identities"].as_array().unwrap().len()), (200, 1));
    assert_eq!(list(&world.service, &agent.assertion()).await.status, 200);
    let path = format!("/api/admin/agents/inst-1/identities/{}", agent.id);
    assert_eq!(off.admin("DELETE", &path, None).await.0, 204);
    list(&world.service, &agent.assertion()).await.unasserted("unknown_agent");
}
