//! Nothing is lost when the database is unavailable, an instance is deleted, or an outcome cannot be stored.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use nas_cron::db::migrate;
use nas_cron_dev::private_postgres::{Options, PrivatePostgres};
use nas_cron_testing::agent::Reply;
use nas_cron_testing::cluster::Cluster;
use nas_cron_testing::database::{connect, server_options};
use nas_cron_testing::time::{fire_at, lateness_ms};

fn ms(millis: u64) -> Duration {
    Duration::from_millis(millis)
}

/// Returns a separate server, and the URL of a database with the schema on it.
async fn own_server() -> (PrivatePostgres, String) {
    let server = tokio::task::spawn_blocking(|| {
        // Durable, because the test checks that a crash loses no commits.
        PrivatePostgres::start(Options { durable: true, ..server_options() })
            .unwrap_or_else(|e| panic!("{e}"))
    })
    .await
    .unwrap();
    server.create_database("faults").unwrap();
    let url = server.tcp_url("faults").unwrap();
    migrate::migrate(&connect(&url)).await.unwrap();
    (server, url)
}

/// docs/contract.md#invariants 1, 2 and 9: 20 agents keep provisioning while the server is unavailable for 5 s.
async fn outage_of_five_seconds(stop: fn(&mut PrivatePostgres)) -> Cluster {
    const AGENTS: usize = 20;
    let (mut server, url) = own_server().await;
    let cluster =
        Cluster::start_on(&url, 2, |s| s.with("NAS_CRON_LOG_FILTER", "info,nas_cron::scheduler=warn")).await;
    let mut tokens = Vec::new();
    for agent in 0..AGENTS {
        tokens.push(cluster.agent(&format!("inst-{agent}")).await);
    }
    let over = Arc::new(AtomicBool::new(false));
    let outage = {
        let over = Arc::clone(&over);
        std::thread::spawn(move || {
            std::thread::sleep(ms(2_500));
            let down = Instant::now();
            stop(&mut server);
            std::thread::sleep(ms(5_000));
            server.start_server().expect("it comes back");
            let down = down.elapsed();
            std::thread::sleep(ms(3_000));
            over.store(true, Ordering::Release);
            (server, down)
        })
    };
    let agents = tokens.iter().enumerate().map(|(agent, token)| {
        let (over, cluster) = (Arc::clone(&over), &cluster);
        let url = cluster.agents.callback(&format!("inst-{agent}"));
        async move {
            let (mut number, mut longest, mut failed) = (0, Duration::ZERO, Vec::new());
            while !over.load(Ordering::Acquire) {
                let service = &cluster.replicas[(agent + number) % 2];
                let (job, at) = (format!("job-{agent}-{number}"), fire_at(1_200));
                loop {
                    let asked = Instant::now();
                    let (status, body) = service.try_provision(token, &job, &at, &url).await;
                    longest = longest.max(asked.elapsed());
                    if status == 200 {
                        break;
                    }
                    failed.push(format!("{status} after {:?}: {body}", asked.elapsed()));
                }
                number += 1;
                tokio::time::sleep(ms(40)).await;
            }
            (number, longest, failed)
        }
    });
    let done = futures::future::join_all(agents).await;
    let (server, unavailable) = outage.join().expect("no panic");
    let armed: usize = done.iter().map(|(number, ..)| number).sum();
    let longest = done.iter().map(|(_, longest, _)| *longest).max().unwrap();
    let failed: Vec<_> = done.iter().flat_map(|(.., failed)| failed).collect();
    // A request waits for 13 s. On a busy machine a server may need longer than that to restart.
    assert!(failed.is_empty() || unavailable > ms(8_000), "unavailable for {unavailable:?}: {failed:#?}");
    assert!(longest > ms(4_000), "the outage had an effect: {longest:?}");
    cluster.all_delivered().await;
    assert_eq!(
        cluster.count("SELECT count(*) FROM one_shots").await,
        i64::try_from(armed).unwrap(),
        "durable"
    );
    let fires = cluster.agents.fires();
    for fire in &fires {
        assert!(lateness_ms(&fire.fire_at, fire.arrived) >= 0.0, "{} was early", fire.job_id);
    }
    let jobs: std::collections::BTreeSet<_> = fires.iter().map(|fire| fire.job_id.clone()).collect();
    assert_eq!(jobs.len(), armed, "all fire");
    println!("{armed} provisions, the longest took {longest:?}; {} fires", fires.len());
    for replica in &cluster.replicas {
        replica.ready().await;
    }
    // Removing the folder takes a while, so it must not happen in an async drop.
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
    cluster
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_the_database_fails_no_provision_and_loses_no_fire() {
    outage_of_five_seconds(PrivatePostgres::stop_server).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_crash_of_the_database_fails_no_provision_and_loses_no_fire() {
    outage_of_five_seconds(PrivatePostgres::kill9).await;
}

/// Responses during an outage of the database are recorded after it, and not delivered again.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn outcomes_are_recorded_after_a_database_outage_and_not_delivered_twice() {
    let (mut server, url) = own_server().await;
    let cluster = Cluster::start_on(&url, 2, |settings| {
        settings
            .with("NAS_CRON_CONNECT_TIMEOUT", "1s")
            .with("NAS_CRON_FIRE_TIMEOUT", "2s")
            .with("NAS_CRON_LEASE_MARGIN", "1s")
    })
    .await;
    let token = cluster.agent("inst-1").await;
    cluster.agents.answer(|_, _| Reply::accepted().after(ms(1_000)));
    let url = cluster.agents.callback("inst-1");
    for number in 0..10 {
        cluster.replicas[number % 2].provision(&token, &format!("job-{number}"), &fire_at(300), &url).await;
    }
    cluster.agents.wait_until("all ten", |fires| fires.len() == 10).await;
    // The outage is longer than the leases of the attempts.
    let server = tokio::task::spawn_blocking(move || {
        server.stop_server();
        std::thread::sleep(ms(4_000));
        server.start_server().unwrap();
        server
    })
    .await
    .unwrap();
    cluster.all_delivered().await;
    let attempts = cluster.attempts().await;
    assert!(attempts.iter().all(|attempt| attempt.outcome == "delivered"), "{attempts:#?}");
    assert_eq!((attempts.len(), cluster.agents.fires().len()), (10, 10), "nothing twice");
    tokio::task::spawn_blocking(move || drop(server)).await.unwrap();
}

/// The deletion of an instance during its attempt does not affect other instances' outcomes.
#[tokio::test]
async fn an_instance_deleted_during_its_attempt_affects_no_other_outcome() {
    let cluster = Cluster::start(1, |s| s).await;
    cluster.agents.answer(|_, _| Reply::accepted().after(ms(3_000)));
    let at = fire_at(1_000);
    for agent in 0..6 {
        let name = format!("inst-{agent}");
        let token = cluster.agent(&name).await;
        cluster.replicas[0].provision(&token, &name, &at, &cluster.agents.callback(&name)).await;
    }
    cluster.agents.wait_until("all six", |fires| fires.len() == 6).await;
    sqlx::query("DELETE FROM instances WHERE instance_id = 'inst-3'").execute(&cluster.pool).await.unwrap();
    cluster.all_delivered().await;
    cluster.until_none("SELECT count(*) FROM fires WHERE outcome <> 'delivered'").await;
    assert_eq!(cluster.count("SELECT count(*) FROM one_shots").await, 5);
    cluster.until_none("SELECT count(*) FROM superseded_attempts").await;
}

/// A row that the schema rejects does not affect its batch. The test adds its own constraint, because no response of an
/// agent causes this.
#[tokio::test]
async fn an_outcome_refused_by_the_database_does_not_fail_its_batch() {
    let cluster = Cluster::start(1, |settings| {
        settings
            .with("NAS_CRON_CONNECT_TIMEOUT", "1s")
            .with("NAS_CRON_FIRE_TIMEOUT", "1s")
            .with("NAS_CRON_LEASE_MARGIN", "1s")
            .with("NAS_CRON_RETRY_AMBIGUOUS_FLOOR", "500ms")
    })
    .await;
    sqlx::query("ALTER TABLE fires ADD CONSTRAINT fires_teapot CHECK (http_status <> 418)")
        .execute(&cluster.pool)
        .await
        .unwrap();
    // Postgres rejects NUL and incomplete characters in a text.
    cluster.agents.answer(|fire, before| match (fire.job_id.as_str(), before) {
        ("inst-3", 0) => Reply::status(418).after(ms(200)),
        ("inst-4", 0) => Reply { body: "a\0b\u{fffd}", ..Reply::status(500) }.after(ms(200)),
        _ => Reply::accepted().after(ms(200)),
    });
    let at = fire_at(1_000);
    for agent in 0..8 {
        let name = format!("inst-{agent}");
        let token = cluster.agent(&name).await;
        cluster.replicas[0].provision(&token, &name, &at, &cluster.agents.callback(&name)).await;
    }
    cluster.all_delivered().await;
    let attempts = cluster.attempts().await;
    assert_eq!(attempts.len(), 10, "{attempts:#?}");
    let of = |job: &str| {
        attempts.iter().filter(|a| a.job_id == job).map(|a| a.outcome.as_str()).collect::<Vec<_>>()
    };
    assert_eq!(of("inst-3"), ["lost", "delivered"], "the end of its lease recovered it");
    assert_eq!(of("inst-4"), ["failed", "delivered"]);
    assert_eq!(of("inst-5"), ["delivered"]);
}
