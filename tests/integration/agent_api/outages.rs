//! Provisions do not fail during a short database outage, a burst, or the drain of a replica.

use futures::future::join_all;
use nas_cron_testing::proxy::Proxy;
use nas_cron_testing::time::fire_at;
use serde_json::json;

use super::fixture::{World, until};

/// A world whose service reaches the database through a proxy that can be cut.
async fn behind_a_proxy() -> (World, Proxy) {
    let mut proxy = None;
    let world = World::with(|s| {
        let mut url: url::Url = s.get("NAS_CRON_DATABASE_URL").parse().unwrap();
        let to = url.socket_addrs(|| None).unwrap()[0];
        let started =
            tokio::task::block_in_place(|| tokio::runtime::Handle::current().block_on(Proxy::start(to)));
        url.set_port(Some(started.address().port())).unwrap();
        proxy = Some(started);
        s.with("NAS_CRON_DATABASE_URL", url).with("NAS_CRON_LOG_FILTER", "info,nas_cron::db=debug")
    })
    .await;
    (world, proxy.unwrap())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn client_2_no_provision_list_or_cancel_fails_while_the_database_is_unavailable() {
    let (world, proxy) = behind_a_proxy().await;
    world.arm("before", 3_600_000).await;
    let asked_again = || world.service.log().matches("database statement failed; retrying").count();
    let agents = async {
        join_all((0..10).map(|agent| {
            let world = &world;
            async move {
                for i in 0..10 {
                    world.arm(&format!("job-{agent}-{i}"), 3_600_000).await;
                }
            }
        }))
        .await;
    };
    let outages = async {
        // A short interruption that breaks statements in flight, and a longer outage.
        for requests in [3, 20] {
            let before = asked_again();
            proxy.cut().await;
            let calls = async {
                tokio::join!(
                    world.arm("during", 3_600_000),
                    world.service.list(&world.token),
                    world.service.cancel(&world.token, "unknown"),
                );
            };
            let back = async {
                until("requests ride it out", async || (asked_again() >= before + requests).then_some(()))
                    .await;
                proxy.restore().await;
            };
            tokio::join!(calls, back);
        }
    };
    tokio::join!(agents, outages);
    let list = world.service.list(&world.token).await;
    assert_eq!(list["armed"].as_array().unwrap().len(), 102, "before, during, and ten times ten");
    assert_eq!(world.service.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn client_2_a_burst_of_300_provisions_is_queued_and_never_refused() {
    let world = World::start().await;
    let answers = join_all((0..300).map(|i| {
        let body = world.body(&json!({"job_id": format!("job-{i}"), "dedup_key": format!("key-{i}")}));
        let world = &world;
        async move { world.provision(&world.token, &body).await.status }
    }))
    .await;
    assert!(answers.iter().all(|status| *status == 200), "{answers:?}");
}

#[tokio::test]
async fn client_2_the_agent_api_is_served_while_a_replica_drains() {
    let mut world = World::with(|s| s.with("NAS_CRON_DRAIN_DELAY", "10s")).await;
    world.arm("before", 3_600_000).await;
    world.service.signal(rustix::process::Signal::TERM);
    until("it is unready", async || (world.service.get("/readyz").await.0 == 503).then_some(())).await;
    for i in 0..5 {
        world
            .service
            .provision(&world.token, &format!("job-{i}"), &fire_at(3_600_000), &world.callback())
            .await;
    }
    assert_eq!(world.service.list(&world.token).await["armed"].as_array().unwrap().len(), 6);
    world.service.cancel(&world.token, "before").await;
    assert_eq!(world.service.get("/healthz").await.0, 200);
    assert!(world.service.wait().await.success());
}
