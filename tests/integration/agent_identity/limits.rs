//! Limits on keys, tasks and concurrent calls.

use chrono::TimeDelta;
use futures::future::join_all;
use nas_cron_testing::service::Service;
use nas_cron_testing::time::now;
use nas_cron_testing::world::{World, eventually};
use serde_json::json;

use super::fixture::{
    Identity, Key, call, list, on, register, register_task, registered, stamp, task, waiting_for_locks,
};

#[tokio::test]
async fn the_17th_active_key_of_an_instance_is_refused() {
    let world = World::with(on).await;
    let other = Service::start(&world.settings).await;
    let both = [&world.service, &other];
    let keys: Vec<Key> = (0..24).map(|_| Key::fresh()).collect();
    let answers = join_all(keys.iter().enumerate().map(|(i, key)| {
        let (service, token, body) = (both[i % 2], &world.token, json!({"agent_public_key": key.line()}));
        async move { register(service, token, &body).await }
    }))
    .await;
    let taken: Vec<usize> = (0..24).filter(|i| answers[*i].status == 200).collect();
    assert_eq!(taken.len(), 16, "{answers:?}");
    let refused = (0..24).find(|i| answers[*i].status != 200).unwrap();
    let said = answers[refused].refused(409, "too_many_identities");
    assert!(said.contains("16") && said.contains("DELETE") && said.contains("replaces"), "{said}");
    // Registering an existing key again still succeeds, and replacing or revoking a key frees a place.
    registered(&world.service, &world.token, &keys[taken[3]].line()).await;
    let id = |i: usize| answers[i].body["agent_runtime_id"].as_str().unwrap().to_owned();
    let body = json!({"agent_public_key": keys[refused].line(), "replaces": id(taken[0])});
    assert_eq!(register(&world.service, &world.token, &body).await.status, 200);
    let body = json!({"agent_public_key": Key::fresh().line()});
    register(&other, &world.token, &body).await.refused(409, "too_many_identities");
    let path = format!("/v1/agent/{}", id(taken[1]));
    let bearer = format!("Bearer {}", world.token);
    assert_eq!(call(&other, "DELETE", &path, Some(&bearer), None).await.status, 200);
    assert_eq!(register(&other, &world.token, &body).await.status, 200);
    // Another instance has its own limit.
    let stranger = world.instance("inst-2").await;
    registered(&other, &stranger, &Key::fresh().line()).await;
}

#[tokio::test]
async fn the_65th_task_of_an_identity_replaces_the_least_recently_used() {
    let world = World::with(on).await;
    let service = &world.service;
    let key = Key::fresh();
    let id = registered(service, &world.token, &key.line()).await;
    let since = now();
    let mut tasks = Vec::new();
    for i in 0..64 {
        tasks.push(task(service, &id, &key, &stamp(since - TimeDelta::seconds(i))).await);
    }
    let agent = Identity { key, id, task: tasks[0].clone(), since };
    // The oldest task was used, so the second one is replaced.
    world.sql("UPDATE agent_tasks SET created_at = created_at - interval '1 hour'").await;
    assert_eq!(list(service, &agent.assertion_of(&tasks[0])).await.status, 200);
    eventually("the use is recorded", async || {
        let used = "SELECT count(*) FROM agent_tasks WHERE last_used_at IS NOT NULL";
        (sqlx::query_scalar::<_, i64>(used).fetch_one(&world.pool).await.unwrap() == 1).then_some(())
    })
    .await;
    let one_more = agent.another_task(service, 100).await;
    list(service, &agent.assertion_of(&tasks[1])).await.unasserted("unknown_task");
    for valid in [&tasks[0], &tasks[2], &tasks[63], &one_more] {
        assert_eq!(list(service, &agent.assertion_of(valid)).await.status, 200, "{valid}");
    }
    let active = "SELECT count(*) FROM agent_tasks WHERE revoked_at IS NULL";
    assert_eq!(sqlx::query_scalar::<_, i64>(active).fetch_one(&world.pool).await.unwrap(), 64);
}

#[tokio::test]
async fn expired_tasks_are_pruned_once_their_registration_cannot_be_replayed() {
    let world = World::with(on).await;
    let key = Key::fresh();
    let id = registered(&world.service, &world.token, &key.line()).await;
    let since = now();
    let mut tasks = Vec::new();
    for i in 0..5 {
        tasks.push(task(&world.service, &id, &key, &stamp(since - TimeDelta::seconds(i))).await);
    }
    for (task, change) in tasks.iter().zip([
        "expires_at = now() - interval '61 minutes'",
        "expires_at = now() - interval '59 minutes'",
        "revoked_at = now(), signed_at = now() - interval '16 minutes'",
        "revoked_at = now() - interval '1 day', signed_at = now() - interval '14 minutes'",
    ]) {
        world
            .sql(&format!(
                "UPDATE agent_tasks SET created_at = now() - interval '2 days', {change} WHERE task_id = '{task}'"
            ))
            .await;
    }
    // Add more tasks than one statement prunes.
    world
        .sql(
            "INSERT INTO agent_tasks (task_id, agent_runtime_id, signed_at, expires_at, revoked_at)
             SELECT gen_random_uuid(), agent_runtime_id, now() - interval '1 hour' - n * interval '1 second',
                    now() + interval '1 day', now()
             FROM agent_identities, generate_series(1, 5000) n",
        )
        .await;
    // A replica prunes when it starts.
    let _other = Service::start(&world.settings).await;
    eventually("the tasks are pruned", async || {
        let left: Vec<String> =
            sqlx::query_scalar("SELECT task_id::text FROM agent_tasks").fetch_all(&world.pool).await.unwrap();
        (left.len() == 3).then(|| assert!([1, 3, 4].iter().all(|i| left.contains(&tasks[*i])), "{left:?}"))
    })
    .await;
}

#[tokio::test]
async fn the_last_thousand_revoked_keys_are_remembered() {
    let world = World::with(on).await;
    world
        .sql(
            "INSERT INTO agent_identities (agent_runtime_id, instance_id, org_id, public_key, revoked_at)
             SELECT gen_random_uuid(), 'inst-1', 'org-1', decode(lpad(to_hex(n), 64, '0'), 'hex'), now() - n * interval '1 minute'
             FROM generate_series(1, 1100) n",
        )
        .await;
    registered(&world.service, &world.token, &Key::fresh().line()).await;
    let left: (i64, i64) = sqlx::query_as(
        "SELECT count(*) FILTER (WHERE revoked_at IS NOT NULL), count(*) FILTER (WHERE revoked_at IS NULL) FROM agent_identities",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert_eq!(left, (1_000, 1));
    let oldest = "SELECT max(now() - revoked_at) < interval '1001 minutes' FROM agent_identities";
    assert!(
        sqlx::query_scalar::<_, bool>(oldest).fetch_one(&world.pool).await.unwrap(),
        "the oldest keys are forgotten"
    );
}

/// A service with the smallest pool. Its log shows repeated statements.
async fn narrow() -> World {
    World::with(|s| {
        on(s)
            .with("NAS_CRON_DATABASE_MAX_CONNECTIONS", "4")
            .with("NAS_CRON_LOG_FILTER", "info,nas_cron::db=debug")
    })
    .await
}

#[tokio::test]
async fn calls_with_unknown_keys_do_not_exhaust_the_connection_pool() {
    let world = narrow().await;
    let service = &world.service;
    let agent = Identity::new(service, &world.token).await;
    let name = "7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d";
    let stranger = Identity { key: Key::fresh(), id: name.into(), task: name.into(), since: now() };
    let mut slow = world.pool.begin().await.unwrap();
    sqlx::query("LOCK agent_identities").execute(&mut *slow).await.unwrap();
    let strangers = join_all((0..20).map(|_| async { list(service, &stranger.assertion()).await }));
    let herd = join_all((0..200).map(|_| async { list(service, &agent.assertion()).await }));
    let known = async {
        eventually("the look-ups are waiting", async || (waiting_for_locks(&world).await > 0).then_some(()))
            .await;
        for _ in 0..10 {
            let answer = list(service, &format!("Bearer {}", world.token)).await;
            assert_eq!(answer.status, 200, "{answer:?}");
        }
        slow.rollback().await.unwrap();
    };
    let (strangers, herd, ()) = tokio::join!(strangers, herd, known);
    for answer in strangers {
        answer.unasserted("unknown_agent");
    }
    assert!(herd.iter().all(|answer| answer.status == 200), "every call with a registered key succeeds");
}

#[tokio::test]
async fn waiting_registrations_do_not_exhaust_the_connection_pool() {
    let world = narrow().await;
    let service = &world.service;
    let other = format!("Bearer {}", world.instance("inst-2").await);
    let agent = Identity::new(service, &world.token).await;
    let (key, second) = (Key::fresh(), agent.second(1));
    for (what, lock) in [
        ("a key", "SELECT FROM instances WHERE instance_id = 'inst-1' FOR NO KEY UPDATE"),
        ("a task", "SELECT FROM agent_identities FOR NO KEY UPDATE"),
    ] {
        let before = service.log().matches("database statement failed; retrying").count();
        let mut held = world.pool.begin().await.unwrap();
        sqlx::query(lock).execute(&mut *held).await.unwrap();
        let body = json!({"agent_public_key": key.line()});
        let registering = join_all((0..20).map(|_| async {
            match what {
                "a key" => register(service, &world.token, &body).await,
                _ => register_task(service, &agent.id, &agent.key, &second).await,
            }
        }));
        let others = async {
            eventually("they try", async || {
                let asked_again =
                    service.log().matches("database statement failed; retrying").count() - before;
                (asked_again >= 20 || waiting_for_locks(&world).await >= 4).then_some(())
            })
            .await;
            for _ in 0..10 {
                let answer = list(service, &other).await;
                assert_eq!(answer.status, 200, "{what}: {answer:?}");
            }
            held.rollback().await.unwrap();
        };
        let (mut registered, ()) = tokio::join!(registering, others);
        // On a busy machine the lock may be held longer than a request waits.
        registered.retain(|answer| answer.status != 503);
        registered.push(match what {
            "a key" => register(service, &world.token, &body).await,
            _ => register_task(service, &agent.id, &agent.key, &second).await,
        });
        assert!(registered.iter().all(|answer| answer.status == 200), "{what}: {registered:?}");
        assert!(registered.iter().all(|answer| answer.body == registered[0].body), "{what}: {registered:?}");
    }
}
