//! Requests and responses of the identity endpoints. An assertion is equivalent to the portal's token.

use chrono::TimeDelta;
use futures::future::join_all;
use nas_cron_testing::service::Service;
use nas_cron_testing::time::{fire_at, now};
use nas_cron_testing::world::{World, eventually};
use serde_json::{Value, json};

use super::fixture::{
    CANCEL, Identity, Key, LIST, PROVISION, REGISTER, call, list, on, register, register_task, registered,
    stamp, task,
};

#[tokio::test]
async fn an_agent_provisions_is_fired_lists_and_cancels_by_its_key() {
    let world = World::with(on).await;
    let service = &world.service;
    let agent = Identity::new(service, &world.token).await;
    let body = |job: &str, millis: i64| {
        let at = fire_at(millis);
        json!({"job_id": job, "fire_at": at, "agent_callback_url": world.callback(), "dedup_key": format!("{job}:{at}")})
    };
    let later = body("later", 3_600_000);
    let armed = call(service, "POST", PROVISION, Some(&agent.assertion()), Some(&later)).await;
    assert_eq!(armed.status, 200, "{armed:?}");
    // With the token, it is the same job of the same instance.
    let again =
        call(service, "POST", PROVISION, Some(&format!("Bearer {}", world.token)), Some(&later)).await;
    assert_eq!(again.body, armed.body);
    let soon = call(service, "POST", PROVISION, Some(&agent.assertion()), Some(&body("soon", 0))).await;
    assert_eq!(soon.status, 200, "{soon:?}");
    let fire = world.agents.wait_for("soon", 1).await;
    assert_eq!(fire.agent, "inst-1");
    let listed = list(service, &agent.assertion().replace("AgentAssertion", "agentASSERTION")).await;
    assert!(listed.body["armed"].as_array().unwrap().iter().any(|one| one["job_id"] == "later"));
    let cancel = json!({"job_id": "later"});
    let cancelled = call(service, "POST", CANCEL, Some(&agent.assertion()), Some(&cancel)).await;
    assert_eq!((cancelled.status, cancelled.body), (200, json!({"ok": true})));
    world.delivered("later").await;
}

/// docs/contract.md#retries: a call shows that the agent is awake, whatever its credential.
#[tokio::test]
async fn a_call_with_an_assertion_pulls_the_agents_retries_forward() {
    let world = World::with(on).await;
    let agent = Identity::new(&world.service, &world.token).await;
    let pulled = "SELECT pulled_at IS NOT NULL FROM instances WHERE instance_id = 'inst-1'";
    let pulled = async || sqlx::query_scalar::<_, bool>(pulled).fetch_one(&world.pool).await.unwrap();
    assert!(!pulled().await, "a registration does not pull retries forward");
    // Without a callback it has had no one-shot.
    let called_back =
        "UPDATE instances SET callback_url = 'https://agent.example' WHERE instance_id = 'inst-1'";
    sqlx::raw_sql(called_back).execute(&world.pool).await.unwrap();
    assert_eq!(list(&world.service, &agent.assertion()).await.status, 200);
    eventually("the retries are pulled forward", async || pulled().await.then_some(())).await;
}

#[tokio::test]
async fn registering_the_same_key_at_two_replicas_at_once_makes_one_identity() {
    let world = World::with(on).await;
    let other = Service::start(&world.settings).await;
    let key = Key::fresh();
    let both = [&world.service, &other];
    let ids = join_all((0..10).map(|i| {
        let (service, line) = (both[i % 2], format!("{} comment {i}", key.line()));
        let token = &world.token;
        async move { registered(service, token, &line).await }
    }))
    .await;
    assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
    // For another instance, the same key is another identity.
    let stranger = world.instance("inst-2").await;
    assert_ne!(registered(&other, &stranger, &key.line()).await, ids[0]);

    let since = now();
    let at = stamp(since);
    let tasks = join_all((0..10).map(|i| task(both[i % 2], &ids[0], &key, &at))).await;
    assert!(tasks.iter().all(|task| *task == tasks[0]), "{tasks:?}");
    assert_ne!(
        task(&other, &ids[0], &key, &stamp(since - TimeDelta::seconds(1))).await,
        tasks[0],
        "another second is another task"
    );
}

#[tokio::test]
async fn additional_registration_fields_of_real_clients_are_ignored() {
    let world = World::with(on).await;
    let body = json!({
        "abom": {"agent_version": "0.169.0", "agent_harness_id": "codex-cli", "running_location": "exec-linux"},
        "agent_public_key": Key::fresh().line(), "capabilities": ["responsesapi"], "ttl": null, "replaces": null,
    });
    let answer = register(&world.service, &world.token, &body).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(answer.body.as_object().unwrap().keys().collect::<Vec<_>>(), ["agent_runtime_id"]);
}

#[tokio::test]
async fn an_agent_lists_and_revokes_its_own_identities() {
    let world = World::with(on).await;
    let service = &world.service;
    let agent = Identity::new(service, &world.token).await;
    let stranger_token = world.instance("inst-2").await;
    let stranger = Identity::new(service, &stranger_token).await;
    let bearer = format!("Bearer {}", world.token);
    let shown =
        async |authorization: &str| call(service, "GET", "/v1/agent", Some(authorization), None).await;
    let by_key = shown(&agent.assertion()).await;
    let [identity] = &by_key.body["identities"].as_array().unwrap()[..] else { panic!("{by_key:?}") };
    assert_eq!(identity["agent_runtime_id"], agent.id);
    assert_eq!(identity["agent_public_key"], agent.key.line());
    assert_eq!(identity["revoked_at"], Value::Null);
    assert_eq!(identity["tasks"][0]["task_id"], agent.task);
    assert!(identity["tasks"][0]["expires_at"].is_string() && identity["created_at"].is_string());
    // The use is recorded after the response.
    eventually("the use is recorded", async || {
        let shown = shown(&bearer).await.body;
        let identity = &shown["identities"][0];
        (identity["last_used_at"].is_string() && identity["tasks"][0]["last_used_at"].is_string())
            .then_some(())
    })
    .await;

    // Identities and tasks of other agents are not found.
    for path in [
        format!("/v1/agent/{}", stranger.id),
        format!("/v1/agent/{}/task/{}", stranger.id, stranger.task),
        format!("/v1/agent/{}/task/{}", agent.id, stranger.task),
        format!("/v1/agent/{}/task/{}", stranger.id, agent.task),
        format!("/v1/agent/{}", agent.id.to_uppercase()),
        "/v1/agent/7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d".to_owned(),
        "/v1/agent/x".to_owned(),
        "/v1/agent/%ff".to_owned(),
        format!("/v1/agent/{}/task/x", agent.id),
    ] {
        for authorization in [&bearer, &agent.assertion()] {
            call(service, "DELETE", &path, Some(authorization), None).await.refused(404, "not_found");
        }
    }
    assert_eq!(list(service, &stranger.assertion()).await.status, 200);
    assert_eq!(list(service, &agent.assertion()).await.status, 200);

    // The key revokes its task, the token revokes the identity; revoking twice succeeds too.
    let second = agent.another_task(service, 1).await;
    let path = format!("/v1/agent/{}/task/{second}", agent.id);
    for _ in 0..2 {
        let answer = call(service, "DELETE", &path, Some(&agent.assertion()), None).await;
        assert_eq!((answer.status, answer.body), (200, json!({"ok": true})));
    }
    list(service, &agent.assertion_of(&second)).await.unasserted("unknown_task");
    for _ in 0..2 {
        let path = format!("/v1/agent/{}", agent.id);
        let answer = call(service, "DELETE", &path, Some(&bearer), None).await;
        assert_eq!((answer.status, answer.body), (200, json!({"ok": true})));
    }
    list(service, &agent.assertion()).await.unasserted("unknown_agent");
    let shown = shown(&bearer).await.body;
    assert!(shown["identities"][0]["revoked_at"].is_string(), "{shown}");
    assert!(
        shown["identities"][0]["tasks"].as_array().unwrap().iter().all(|task| task["revoked_at"].is_string())
    );
}

#[tokio::test]
async fn without_the_feature_its_routes_and_assertions_are_rejected() {
    let world = World::new().await;
    let service = &world.service;
    let bearer = format!("Bearer {}", world.token);
    let id = "7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d";
    for (method, path) in [
        ("POST", REGISTER.to_owned()),
        ("GET", "/v1/agent".to_owned()),
        ("POST", format!("/v1/agent/{id}/task/register")),
        ("DELETE", format!("/v1/agent/{id}")),
        ("DELETE", format!("/v1/agent/{id}/task/{id}")),
    ] {
        for authorization in [Some(bearer.as_str()), None, Some("AgentAssertion e30")] {
            call(service, method, &path, authorization, None).await.refused(403, "agent_identity_off");
        }
    }
    for (method, path) in [("GET", LIST), ("POST", PROVISION), ("POST", CANCEL)] {
        let answer = call(service, method, path, Some("AgentAssertion e30"), None).await;
        answer.refused(401, "scheme_not_enabled");
        assert_eq!(answer.challenges, ["Bearer"]);
        let answer = call(service, method, path, Some("Basic dTpw"), None).await;
        answer.refused(401, "invalid_token");
        assert_eq!(answer.challenges, ["Bearer"]);
    }
    assert_eq!(list(service, &bearer).await.status, 200);
}

#[tokio::test]
async fn a_task_is_renewed_by_use_and_its_last_use_is_written_sparingly() {
    let world = World::with(|s| on(s).with("NAS_CRON_AGENT_TASK_LIFETIME", "20m")).await;
    let service = &world.service;
    let agent = Identity::new(service, &world.token).await;
    let left = async || -> f64 {
        sqlx::query_scalar("SELECT extract(epoch FROM expires_at - now())::float8 FROM agent_tasks")
            .fetch_one(&world.pool)
            .await
            .unwrap()
    };
    assert!((1_100.0..=1_200.0).contains(&left().await), "the configured lifetime");
    // Nearly expired, and not used for a while: a use renews it.
    world
        .sql("UPDATE agent_tasks SET created_at = now() - interval '19 minutes', expires_at = now() + interval '1 minute'")
        .await;
    assert_eq!(list(service, &agent.assertion()).await.status, 200);
    eventually("the task is renewed", async || (left().await > 1_000.0).then_some(())).await;
    // Another use within the minute is not written.
    let version = async || -> String {
        sqlx::query_scalar("SELECT xmin::text FROM agent_tasks").fetch_one(&world.pool).await.unwrap()
    };
    let before = version().await;
    for _ in 0..20 {
        assert_eq!(list(service, &agent.assertion()).await.status, 200);
    }
    assert_eq!(version().await, before, "twenty uses, no write");
    // An expired task is rejected, and a new registration is another task.
    world.sql("UPDATE agent_tasks SET expires_at = created_at + interval '1 second'").await;
    list(service, &agent.assertion()).await.unasserted("unknown_task");
    let fresh = agent.another_task(service, 1).await;
    assert_eq!(list(service, &agent.assertion_of(&fresh)).await.status, 200);
}

#[tokio::test]
async fn a_replayed_task_registration_returns_the_same_task_until_it_expires() {
    let world = World::with(on).await;
    let agent = Identity::new(&world.service, &world.token).await;
    let at = agent.second(3);
    let first = task(&world.service, &agent.id, &agent.key, &at).await;
    assert_eq!(task(&world.service, &agent.id, &agent.key, &at).await, first);
    world
        .sql("UPDATE agent_tasks SET created_at = now() - interval '1 day', expires_at = now() - interval '1 second'")
        .await;
    register_task(&world.service, &agent.id, &agent.key, &at).await.refused(409, "task_revoked");
}
