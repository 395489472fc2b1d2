//! Resolution of a valid token to the calling instance, in the contract's order, and the errors for other callers.

use nas_cron_testing::time::{fire_at, now};
use serde_json::{Value, json};

use super::fixture::{LIST, PROVISION, World};

const VPS: &str = "hermes-cli-vps";

/// Arms a job for each instance, with the instance's ID as its name, so that `list` identifies the caller.
async fn mark(world: &World) {
    for instance in ["inst-1", "inst-2", "inst-3"] {
        let token = world.portal.sign(json!({"client_id": format!("agent:{instance}")}));
        let callback = world.agents.callback(instance);
        world.service.provision(&token, instance, &fire_at(3_600_000), &callback).await;
    }
}

async fn caller(world: &World, claims: Value) -> String {
    let list = world.service.list(&world.portal.sign(claims)).await;
    assert_eq!(list["armed"].as_array().unwrap().len(), 1, "{list}");
    list["armed"][0]["job_id"].as_str().unwrap().to_owned()
}

/// Returns the `iat` of a token of this age, in seconds.
fn issued(ago: i64) -> i64 {
    now().timestamp() - ago
}

#[tokio::test]
async fn contract_the_caller_is_resolved_from_the_claims_in_order() {
    let world = World::start().await;
    mark(&world).await;
    for (claims, instance) in [
        // 1. agent:<id>, by client_id or azp; other claims must agree if present
        (json!({"client_id": "agent:inst-1"}), "inst-1"),
        (json!({"azp": "agent:inst-1"}), "inst-1"),
        (json!({"client_id": "agent:inst-1", "azp": "agent:inst-2"}), "inst-1"),
        (json!({"client_id": "agent:inst-1", "org_id": "org-1"}), "inst-1"),
        (json!({"azp": "agent:inst-3", "org_id": "org-2", "agent_instance_id": "inst-3"}), "inst-3"),
        // the client takes precedence over the session
        (json!({"client_id": "agent:inst-1", "org_id": "org-1", "sid": "sid-2"}), "inst-1"),
        (json!({"client_id": "agent:inst-1", "org_id": "org-1", "sid": "sid-none"}), "inst-1"),
        // 2. the session, in its org only
        (json!({"client_id": VPS, "org_id": "org-1", "sid": "sid-1"}), "inst-1"),
        (json!({"client_id": VPS, "org_id": "org-1", "sid": "sid-2"}), "inst-2"),
        (json!({"client_id": VPS, "org_id": "org-2", "sid": "sid-1"}), "inst-3"),
        (json!({"azp": VPS, "org_id": "org-2", "sid": "sid-1"}), "inst-3"),
        (json!({"org_id": "org-1", "sid": "sid-1"}), "inst-1"),
        (json!({"client_id": "agent:", "org_id": "org-1", "sid": "sid-1"}), "inst-1"),
    ] {
        assert_eq!(caller(&world, claims.clone()).await, instance, "{claims}");
    }
}

#[tokio::test]
async fn client_11_invalid_client_is_returned_only_to_callers_that_can_never_provision() {
    let world = World::start().await;
    // Neither an agent's client nor a session: the age of the token does not matter.
    for claims in [
        json!({"client_id": VPS}),
        json!({"client_id": VPS, "org_id": "org-1"}),
        json!({"client_id": VPS, "sid": "sid-1"}),
        json!({"client_id": VPS, "org_id": "org-1", "agent_instance_id": "inst-1"}),
        json!({"client_id": "agent:"}),
        json!({}),
    ] {
        for iat in [json!(issued(0)), json!(issued(700)), Value::Null] {
            let mut claims = claims.clone();
            claims["iat"] = iat;
            let token = world.portal.sign(claims.clone());
            world.call("GET", LIST, Some(&token), "").await.refused(403, "invalid_client");
            let answer = world.provision(&token, &world.body(&json!({}))).await;
            answer.refused(403, "invalid_client");
            assert_eq!(answer.header("retry-after"), None, "{claims}");
        }
    }
    assert_eq!(world.tables().await["one_shots"], Value::Null, "nothing was stored");
}

#[tokio::test]
async fn contract_unknown_deleted_and_foreign_instances_get_the_same_answer() {
    let world = World::start().await;
    world
        .sql("INSERT INTO instances (instance_id, org_id, bootstrap_session_id) VALUES ('gone', 'org-1', 'sid-gone')")
        .await;
    mark(&world).await;
    world.sql("DELETE FROM instances WHERE instance_id = 'gone'").await;
    world.sql("INSERT INTO instances (instance_id, org_id, bootstrap_session_id, enabled) VALUES ('off', 'org-2', 'sid-off', false)").await;
    let unresolved = [
        json!({"client_id": "agent:unknown", "org_id": "org-1"}),
        json!({"client_id": "agent:gone", "org_id": "org-1"}),
        json!({"client_id": "agent:inst-3", "org_id": "org-1"}),
        json!({"azp": "agent:inst-3", "org_id": "org-1"}),
        json!({"client_id": "agent:off", "org_id": "org-1"}),
        json!({"client_id": "agent:inst-1", "org_id": "org-1", "agent_instance_id": "inst-2"}),
        json!({"client_id": "agent:inst-1", "org_id": "org-1", "agent_instance_id": ""}),
        json!({"client_id": "agent:inst-1", "org_id": ""}),
        // the session is not used if there is an agent's client
        json!({"client_id": "agent:unknown", "org_id": "org-1", "sid": "sid-1"}),
        json!({"client_id": "agent:inst-1\n", "org_id": "org-1"}),
        json!({"client_id": "agent:a\u{1}b", "org_id": "org-1"}),
        json!({"client_id": format!("agent:{}", "x".repeat(3000)), "org_id": "org-1"}),
        json!({"client_id": VPS, "org_id": "org-1", "sid": "unknown"}),
        json!({"client_id": VPS, "org_id": "org-1", "sid": "sid-gone"}),
        json!({"client_id": VPS, "org_id": "org-1", "sid": "sid-off"}),
        json!({"client_id": VPS, "org_id": "org-2", "sid": "sid-2"}),
        json!({"client_id": VPS, "org_id": "org-1", "sid": ""}),
        json!({"client_id": VPS, "org_id": "org-1", "sid": "a\u{1}b"}),
        json!({"client_id": VPS, "org_id": "org-9", "sid": "sid-1"}),
    ];
    let answer_to = async |claims: &Value, iat: &Value| {
        let mut claims = claims.clone();
        claims["iat"] = iat.clone();
        world.call("GET", LIST, Some(&world.portal.sign(claims)), "").await
    };
    // With a token younger than ten minutes or of unknown age, the portal may still be registering the instance.
    for iat in [json!(issued(0)), json!(issued(590)), Value::Null] {
        let first = answer_to(&unresolved[0], &iat).await;
        first.not_now();
        for claims in &unresolved {
            let answer = answer_to(claims, &iat).await;
            assert_eq!(answer.visible(), first.visible(), "{claims} at {iat}");
        }
    }
    for iat in [json!(issued(601)), json!(issued(86_400))] {
        let first = answer_to(&unresolved[0], &iat).await;
        first.refused(403, "invalid_client");
        for claims in &unresolved {
            let answer = answer_to(claims, &iat).await;
            assert_eq!(answer.visible(), first.visible(), "{claims} at {iat}");
        }
    }
}

#[tokio::test]
async fn contract_a_young_token_waits_for_its_instance_to_be_registered() {
    let world = World::start().await;
    let token = world.portal.session_token("org-1", "sid-new");
    let body = world.body(&json!({}));
    world.provision(&token, &body).await.not_now();
    world
        .sql("INSERT INTO instances (instance_id, org_id, bootstrap_session_id) VALUES ('new', 'org-1', 'sid-new')")
        .await;
    world.provision(&token, &body).await.schedule_id();
}

#[tokio::test]
async fn contract_a_disabled_instance_is_access_denied_and_its_fires_are_held() {
    let world = World::start().await;
    let (_, schedule) = world.arm("held", 4_000).await;
    world.sql("UPDATE instances SET enabled = false WHERE instance_id = 'inst-1'").await;
    for iat in [issued(0), issued(700)] {
        for claims in [
            json!({"client_id": VPS, "org_id": "org-1", "sid": "sid-1", "iat": iat}),
            json!({"client_id": "agent:inst-1", "iat": iat}),
        ] {
            let token = world.portal.sign(claims);
            world.call("GET", LIST, Some(&token), "").await.refused(403, "access_denied");
            world.provision(&token, &world.body(&json!({}))).await.refused(403, "access_denied");
            let cancel = json!({"job_id": "held"}).to_string();
            world
                .call("POST", "/api/agent-cron/cancel", Some(&token), cancel)
                .await
                .refused(403, "access_denied");
        }
    }
    // A job of another instance at about the same instant fires, so this one is due, too.
    let at = fire_at(4_200);
    let neighbour = world.portal.session_token("org-1", "sid-2");
    world.service.provision(&neighbour, "free", &at, &world.agents.callback("inst-2")).await;
    world.agents.wait_for("free", 1).await;
    assert_eq!(world.agents.fires_of("held").len(), 0);
    world.sql("UPDATE instances SET enabled = true WHERE instance_id = 'inst-1'").await;
    let list = world.service.list(&world.token).await;
    assert_eq!(list["armed"][0]["schedule_id"], json!(schedule), "{list}");
}

#[tokio::test]
async fn contract_identity_fields_in_the_request_are_ignored() {
    let world = World::start().await;
    mark(&world).await;
    let body = world.body(&json!({
        "instance_id": "inst-3", "agent_instance_id": "inst-3", "org_id": "org-2", "sid": "sid-1",
        "client_id": "agent:inst-3",
    }));
    let headers = [
        ("authorization", format!("Bearer {}", world.token)),
        ("x-agent-instance-id", "inst-3".to_owned()),
        ("x-org-id", "org-2".to_owned()),
    ];
    let path = format!("{PROVISION}?instance_id=inst-3&org_id=org-2");
    world.call_with("POST", &path, headers, body.to_string()).await.schedule_id();
    let owner: String = sqlx::query_scalar("SELECT instance_id FROM one_shots WHERE job_id = 'job-1'")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(owner, "inst-1");
}
