//! Invariant 9 for calls with assertions: a short outage of the database.

use std::time::Instant;

use nas_cron_testing::proxy::Proxy;
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::{World, eventually};
use serde_json::json;

use super::fixture::{Identity, Key, PROVISION, call, list, on, register, register_task};

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_call_with_an_assertion_fails_during_a_database_outage() {
    let mut proxy = None;
    let world = World::with(|s| {
        let mut url: url::Url = s.get("NAS_CRON_DATABASE_URL").parse().unwrap();
        let to = url.socket_addrs(|| None).unwrap()[0];
        let started =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(Proxy::start(to)));
        url.set_port(Some(started.address().port())).unwrap();
        proxy = Some(started);
        on(s).with("NAS_CRON_DATABASE_URL", url).with("NAS_CRON_LOG_FILTER", "info,nas_cron::db=debug")
    })
    .await;
    let proxy = proxy.unwrap();
    let service = &world.service;
    let agent = Identity::new(service, &world.token).await;
    let at = fire_at(3_600_000);
    let body =
        json!({"job_id": "job", "fire_at": at, "agent_callback_url": world.callback(), "dedup_key": "key"});
    let key = Key::fresh();
    let new = json!({"agent_public_key": key.line()});
    let (assertion, asked_again) =
        (agent.assertion(), || service.log().matches("database statement failed; retrying").count());
    proxy.cut().await;
    let cut = Instant::now();
    let second = agent.second(1);
    let calls = async {
        tokio::join!(
            call(service, "POST", PROVISION, Some(&assertion), Some(&body)),
            list(service, &assertion),
            register_task(service, &agent.id, &agent.key, &second),
            register(service, &world.token, &new),
            call(service, "GET", "/v1/agent", Some(&assertion), None),
        )
    };
    let back = async {
        eventually("requests wait for the database", async || (asked_again() >= 3).then_some(())).await;
        proxy.restore().await;
    };
    let ((provisioned, listed, task, identity, shown), ()) = tokio::join!(calls, back);
    for answer in [&provisioned, &listed, &task, &identity, &shown] {
        assert_eq!(answer.status, 200, "{answer:?} after {:?}", cut.elapsed());
    }
    // Repeating a registration returns the same result.
    let again = register_task(service, &agent.id, &agent.key, &second).await;
    assert_eq!(again.body, task.body);
    assert_eq!(register(service, &world.token, &new).await.body, identity.body);
}

/// Unit tests, with a shorter budget, cover the 503 in a longer outage.
#[tokio::test]
async fn an_internal_error_reveals_nothing_internal() {
    let world = World::with(on).await;
    let agent = Identity::new(&world.service, &world.token).await;
    world.sql("ALTER TABLE agent_identities RENAME TO elsewhere").await;
    let answer = list(&world.service, &agent.assertion()).await;
    assert!(!answer.refused(500, "server_error").contains("agent_identities"));
}
