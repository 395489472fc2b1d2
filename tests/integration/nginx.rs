//! The nginx configuration of docs/deployment.md, with a real nginx in front of two replicas.

use futures::future::join_all;
use nas_cron_testing::nginx::Nginx;
use nas_cron_testing::service::{Service, client};
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::{World, eventually};
use serde_json::json;
use sqlx::{Connection, Executor};

const CALLS: usize = 16;

/// Returns the page's nginx blocks: the upstream, and the location.
fn example() -> (String, String) {
    let page = include_str!("../../docs/deployment.md");
    let mut blocks =
        page.split("```nginx\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned());
    (blocks.next().expect("the upstream"), blocks.next().expect("the location"))
}

fn address(service: &Service) -> &str {
    service.url.trim_start_matches("http://")
}

async fn provision(url: &str, token: &str, job: &str, callback: &str) -> u16 {
    let body = json!({"job_id": job, "fire_at": fire_at(3_600_000), "agent_callback_url": callback, "dedup_key": job});
    let url = format!("{url}/api/agent-cron/provision");
    let response = client().post(url).bearer_auth(token).json(&body).send().await.expect("nginx answers");
    response.status().as_u16()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_provision_behind_nginx_fails_when_a_replica_is_killed_during_it() {
    let world = World::new().await;
    let mut other = Service::start(&world.settings).await;
    let (upstream, location) = example();
    let upstream = upstream
        .replace("nas-cron-1:8080", address(&world.service))
        .replace("nas-cron-2:8080", address(&other));
    let nginx = Nginx::start(&upstream, &location).await;
    assert_eq!(provision(&nginx.url(), &world.token, "warm-up", &world.callback()).await, 200);

    // Provisions wait for this lock, so that the replica is killed during some of them.
    let mut lock = sqlx::PgConnection::connect(&world.url).await.unwrap();
    lock.execute("BEGIN; LOCK TABLE one_shots IN SHARE MODE").await.unwrap();
    let (url, callback) = (nginx.url(), world.callback());
    let calls = join_all((0..CALLS).map(|call| {
        let (url, token, callback) = (url.clone(), world.token.clone(), callback.clone());
        async move { provision(&url, &token, &format!("job-{call}"), &callback).await }
    }));
    let killing = async {
        let waiting = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'";
        eventually("provisions wait at both replicas", async || {
            let count: i64 = sqlx::query_scalar(waiting).fetch_one(&world.pool).await.unwrap();
            // One replica has at most two statements for provisions in flight.
            (count >= 3).then_some(())
        })
        .await;
        other.kill9();
        lock.execute("COMMIT").await.unwrap();
    };
    let (statuses, ()) = tokio::join!(calls, killing);
    assert_eq!(statuses, vec![200; CALLS], "{}", nginx.requests());
    let stored: i64 = sqlx::query_scalar("SELECT count(*) FROM one_shots WHERE job_id LIKE 'job-%'")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(usize::try_from(stored).unwrap(), CALLS);
    let log = nginx.requests();
    assert!(log.lines().any(|line| line.contains(',')), "a call was repeated at the other replica: {log}");
}
