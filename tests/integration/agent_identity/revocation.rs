//! Revoked tasks, keys and instances are rejected by every replica from the commit on.

use chrono::TimeDelta;
use nas_cron_testing::service::Service;
use nas_cron_testing::time::now;
use nas_cron_testing::world::{World, eventually};
use serde_json::json;

use super::fixture::{
    Identity, Key, call, list, on, register, register_task, registered, stamp, tables, task,
    waiting_for_locks,
};

#[tokio::test]
async fn a_revocation_holds_at_once_on_every_replica() {
    let world = World::with(on).await;
    let other = Service::start(&world.settings).await;
    let both = [&world.service, &other];
    for round in 0..10 {
        let (one, another) = (both[round % 2], both[(round + 1) % 2]);
        let agent = Identity::new(one, &world.token).await;
        let assertion = agent.assertion();
        let second = agent.another_task(another, 1).await;
        // Both replicas have just accepted the assertion, so any cache holds it.
        for service in both {
            assert_eq!(list(service, &assertion).await.status, 200);
        }
        let path = format!("/v1/agent/{}/task/{}", agent.id, agent.task);
        let bearer = format!("Bearer {}", world.token);
        assert_eq!(call(one, "DELETE", &path, Some(&bearer), None).await.status, 200);
        list(another, &assertion).await.unasserted("unknown_task");
        list(one, &assertion).await.unasserted("unknown_task");
        assert_eq!(
            list(another, &agent.assertion_of(&second)).await.status,
            200,
            "the other task is still valid"
        );
        let path = format!("/v1/agent/{}", agent.id);
        assert_eq!(call(one, "DELETE", &path, Some(&bearer), None).await.status, 200);
        list(another, &agent.assertion_of(&second)).await.unasserted("unknown_agent");
        register_task(another, &agent.id, &agent.key, &agent.second(2)).await.unasserted("unknown_agent");
    }
}

#[tokio::test]
async fn a_replayed_registration_revives_nothing_that_was_revoked() {
    let world = World::with(on).await;
    let service = &world.service;
    let bearer = format!("Bearer {}", world.token);
    let key = Key::fresh();
    let id = registered(service, &world.token, &key.line()).await;
    let since = now();
    let at = stamp(since);
    let first = task(service, &id, &key, &at).await;
    let path = format!("/v1/agent/{id}/task/{first}");
    assert_eq!(call(service, "DELETE", &path, Some(&bearer), None).await.status, 200);
    let before = tables(&world).await;
    register_task(service, &id, &key, &at).await.refused(409, "task_revoked");
    assert_eq!(tables(&world).await, before);
    // Another second is another task.
    assert_ne!(task(service, &id, &key, &stamp(since - TimeDelta::seconds(1))).await, first);

    let path = format!("/v1/agent/{id}");
    assert_eq!(call(service, "DELETE", &path, Some(&bearer), None).await.status, 200);
    let before = tables(&world).await;
    for _ in 0..2 {
        let answer = register(service, &world.token, &json!({"agent_public_key": key.line()})).await;
        answer.refused(409, "key_revoked");
    }
    register_task(service, &id, &key, &stamp(since - TimeDelta::seconds(2)))
        .await
        .unasserted("unknown_agent");
    assert_eq!(tables(&world).await, before);
}

#[tokio::test]
async fn a_task_registered_concurrently_with_its_identitys_revocation_is_revoked() {
    let world = World::with(|s| on(s).with("NAS_CRON_LOG_FILTER", "info,nas_cron::db=debug")).await;
    let service = &world.service;
    for replaced in [false, true] {
        let agent = Identity::new(service, &world.token).await;
        // The statements of another replica, up to its commit.
        let mut registering = world.pool.begin().await.unwrap();
        for sql in [
            "SELECT FROM agent_identities WHERE agent_runtime_id = $1::uuid FOR NO KEY UPDATE",
            "INSERT INTO agent_tasks (task_id, agent_runtime_id, signed_at, expires_at)
             VALUES (gen_random_uuid(), $1::uuid, now() - interval '1 minute', now() + interval '1 day')",
        ] {
            sqlx::query(sql).bind(&agent.id).execute(&mut *registering).await.unwrap();
        }
        let asked_again = || service.log().matches("database statement failed; retrying").count();
        let before = asked_again();
        let ended = async {
            if replaced {
                let body = json!({"agent_public_key": Key::fresh().line(), "replaces": agent.id});
                register(service, &world.token, &body).await
            } else {
                let path = format!("/v1/agent/{}", agent.id);
                call(service, "DELETE", &path, Some(&format!("Bearer {}", world.token)), None).await
            }
        };
        let committed = async {
            eventually("the revocation waits", async || {
                (asked_again() > before || waiting_for_locks(&world).await > 0).then_some(())
            })
            .await;
            registering.commit().await.unwrap();
        };
        let (answer, ()) = tokio::join!(ended, committed);
        assert_eq!(answer.status, 200, "{answer:?}");
        let active =
            "SELECT count(*) FROM agent_tasks WHERE agent_runtime_id = $1::uuid AND revoked_at IS NULL";
        let active: i64 = sqlx::query_scalar(active).bind(&agent.id).fetch_one(&world.pool).await.unwrap();
        assert_eq!(active, 0, "replaced: {replaced}");
    }
}

#[tokio::test]
async fn a_key_is_rotated_in_one_commit() {
    let world = World::with(on).await;
    let service = &world.service;
    let old = Identity::new(service, &world.token).await;
    let key = Key::fresh();
    let body = json!({"agent_public_key": key.line(), "replaces": old.id});
    let answer = register(service, &world.token, &body).await;
    let id = answer.body["agent_runtime_id"].as_str().expect("an ID").to_owned();
    list(service, &old.assertion()).await.unasserted("unknown_agent");
    let since = now();
    let new = Identity { task: task(service, &id, &key, &stamp(since)).await, id, key, since };
    assert_eq!(list(service, &new.assertion()).await.status, 200);
    // If the response was lost, repeating the request returns the same.
    assert_eq!(register(service, &world.token, &body).await.body, answer.body);

    let stranger_token = world.instance("inst-2").await;
    let stranger = Identity::new(service, &stranger_token).await;
    let before = tables(&world).await;
    for (replaces, problem) in [
        (json!(stranger.id), "must be an identity of this agent"),
        (json!("7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d"), "must be an identity of this agent"),
        (json!("x"), "must be one that a registration returned"),
        (json!(new.id.to_uppercase()), "must be one that a registration returned"),
        (json!(7), "invalid type"),
    ] {
        let body = json!({"agent_public_key": Key::fresh().line(), "replaces": replaces});
        let answer = register(service, &world.token, &body).await;
        let said = answer.refused(400, "invalid_request");
        assert!(said.starts_with("replaces: ") && said.contains(problem), "{said}");
    }
    let itself = json!({"agent_public_key": new.key.line(), "replaces": new.id});
    let answer = register(service, &world.token, &itself).await;
    assert!(answer.refused(400, "invalid_request").contains("the same key"));
    assert_eq!(tables(&world).await, before, "a rejected rotation changes nothing");
    assert_eq!(list(service, &stranger.assertion()).await.status, 200);
}

#[tokio::test]
async fn keys_of_a_disabled_moved_or_removed_instance_are_refused() {
    let world = World::with(on).await;
    let service = &world.service;
    let agent = Identity::new(service, &world.token).await;
    let assertion = agent.assertion();
    world.sql("UPDATE instances SET enabled = false").await;
    let answer = list(service, &assertion).await;
    answer.refused(403, "access_denied");
    assert_eq!(answer.challenges, [""; 0]);
    register_task(service, &agent.id, &agent.key, &agent.second(1)).await.refused(403, "access_denied");
    world.sql("UPDATE instances SET enabled = true").await;
    assert_eq!(list(service, &assertion).await.status, 200);

    // An instance that moves to another org loses its keys; there, the same key is another identity.
    world.sql("UPDATE instances SET org_id = 'org-2'").await;
    list(service, &assertion).await.unasserted("unknown_agent");
    register_task(service, &agent.id, &agent.key, &agent.second(1)).await.unasserted("unknown_agent");
    let token = world.portal.session_token("org-2", "sid-1");
    let bearer = format!("Bearer {token}");
    let shown = call(service, "GET", "/v1/agent", Some(&bearer), None).await.body;
    assert_eq!(shown, json!({"identities": []}), "another org's keys are not shown");
    let path = format!("/v1/agent/{}", agent.id);
    call(service, "DELETE", &path, Some(&bearer), None).await.refused(404, "not_found");
    assert_ne!(registered(service, &token, &agent.key.line()).await, agent.id);

    world.sql("UPDATE instances SET org_id = 'org-1'").await;
    assert_eq!(list(service, &assertion).await.status, 200);
    world.sql("DELETE FROM instances").await;
    list(service, &assertion).await.unasserted("unknown_agent");
    assert_eq!(tables(&world).await["tasks"], json!(null), "tasks are deleted with their instance");
}
