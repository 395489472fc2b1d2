//! Attempts of a replica that dies are recovered soon, and those of a replica that lives never: docs/contract.md#leases.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use futures::future::join_all;
use nas_cron::db::replicas::{Registration, Seen, declare_dead};
use nas_cron_testing::agent::Reply;
use nas_cron_testing::cluster::Cluster;
use nas_cron_testing::database::database;
use nas_cron_testing::proxy::Proxy;
use nas_cron_testing::service::Service;
use nas_cron_testing::time::{fire_at, now};
use nas_cron_testing::world::eventually;
use rustix::process::Signal;
use sqlx::{Connection, PgConnection};

use crate::database_faults::fixture::{address_of, at};

const NEVER: Duration = Duration::from_mins(10);

fn seconds(count: u64) -> Duration {
    Duration::from_secs(count)
}

/// Lets agents hold each job's first fire for `length`, and accept the others at once.
fn hold_first_fire(cluster: &Cluster, length: Duration) {
    cluster.agents.answer(move |_, before| match before {
        0 => Reply::accepted().after(length),
        _ => Reply::accepted(),
    });
}

/// Arms a job at a replica, due now, and waits for its first fire.
async fn in_flight(cluster: &Cluster, replica: &Service, token: &str, job: &str) {
    replica.provision(token, job, &fire_at(0), &cluster.agents.callback("inst")).await;
    cluster.agents.wait_for(job, 1).await;
}

async fn registered(cluster: &Cluster) -> Vec<i32> {
    sqlx::query_scalar("SELECT replica_id FROM replicas ORDER BY replica_id")
        .fetch_all(&cluster.pool)
        .await
        .unwrap()
}

/// Waits until all replicas are registered, and returns their numbers. A replica serves requests before.
async fn all_registered(cluster: &Cluster) -> Vec<i32> {
    eventually("all registrations", async || {
        Some(registered(cluster).await).filter(|replicas| replicas.len() == cluster.replicas.len())
    })
    .await
}

/// Returns the outcomes of a job's attempts, and when they were recorded.
async fn history(cluster: &Cluster, job: &str) -> Vec<(String, DateTime<Utc>)> {
    let attempts = cluster.attempts().await.into_iter().filter(|attempt| attempt.job_id == job);
    attempts.map(|attempt| (attempt.outcome, attempt.ended_at.unwrap())).collect()
}

/// Waits until an attempt of the job is recorded as lost, and returns when that was.
async fn lost(cluster: &Cluster, job: &str) -> DateTime<Utc> {
    eventually(&format!("a lost attempt of {job}"), async || {
        history(cluster, job).await.into_iter().find(|(outcome, _)| outcome == "lost").map(|(_, at)| at)
    })
    .await
}

#[tokio::test]
async fn attempts_of_a_killed_replica_are_taken_back_in_about_fifteen_seconds() {
    let mut cluster = Cluster::start(1, |settings| settings).await;
    hold_first_fire(&cluster, NEVER);
    let token = cluster.agent("inst").await;
    in_flight(&cluster, &cluster.replicas[0], &token, "pending").await;
    in_flight(&cluster, &cluster.replicas[0], &token, "superseded").await;
    let callback = cluster.agents.callback("inst");
    cluster.replicas[0].provision(&token, "superseded", &fire_at(3_600_000), &callback).await;
    cluster.grow().await;
    all_registered(&cluster).await;
    let killed = now();
    cluster.replicas[0].kill9();
    for job in ["pending", "superseded"] {
        let after = (lost(&cluster, job).await - killed).as_seconds_f64();
        println!("{job}: taken back after {after:.1} s");
        // A lease would end 40 s after the start. The upper limit leaves time for a busy machine.
        assert!((12.0..30.0).contains(&after), "{job}: {after}");
    }
    cluster.agents.wait_for("pending", 2).await;
    eventually("the delivery", async || {
        history(&cluster, "pending").await.last().filter(|(outcome, _)| outcome == "delivered").cloned()
    })
    .await;
    assert_eq!(registered(&cluster).await.len(), 1);
    assert!(cluster.replicas[1].metrics().await.contains("nas_cron_dead_replicas_total 1"));
}

#[tokio::test]
async fn frozen_replica_is_not_declared_dead() {
    let cluster = Cluster::start(2, |settings| settings).await;
    hold_first_fire(&cluster, NEVER);
    let token = cluster.agent("inst").await;
    in_flight(&cluster, &cluster.replicas[0], &token, "job").await;
    let before = all_registered(&cluster).await;
    let maker: i32 = sqlx::query_scalar("SELECT replica_id FROM one_shots WHERE job_id = 'job'")
        .fetch_one(&cluster.pool)
        .await
        .unwrap();
    let is_maker = |replica: &&Service| replica.log().contains(&format!("\"replica\":{maker},"));
    let frozen = cluster.replicas.iter().find(is_maker).unwrap();
    frozen.signal(Signal::STOP);
    tokio::time::sleep(seconds(20)).await;
    assert_eq!(registered(&cluster).await, before);
    assert_eq!(history(&cluster, "job").await, [], "its attempt is still in flight");
    frozen.signal(Signal::CONT);
    // It may go on with the attempt or abort it. The agent never has two.
    let second = cluster.agents.wait_for("job", 2).await;
    let first = &cluster.agents.fires_of("job")[0];
    assert!(first.ended.is_some_and(|ended| ended <= second.arrived), "{first:?} {second:?}");
    assert_eq!(registered(&cluster).await, before);
}

#[tokio::test]
async fn replica_whose_sessions_were_terminated_is_not_declared_dead() {
    let cluster = Cluster::start(2, |settings| settings).await;
    hold_first_fire(&cluster, seconds(20));
    let token = cluster.agent("inst").await;
    in_flight(&cluster, &cluster.replicas[0], &token, "job").await;
    let before = all_registered(&cluster).await;
    sqlx::query(
        "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
         WHERE datname = current_database() AND application_name = 'nas-cron'",
    )
    .execute(&cluster.pool)
    .await
    .unwrap();
    cluster.all_delivered().await;
    assert_eq!(cluster.agents.fires_of("job").len(), 1);
    assert_eq!(registered(&cluster).await, before);
}

#[tokio::test]
async fn replica_cut_off_from_the_database_aborts_its_attempts_before_another_takes_over() {
    let (_db, url) = database().await;
    let proxy = Proxy::start(address_of(&url)).await;
    let through = at(&url, proxy.address());
    // Only the replica behind the proxy is there when the fire is due.
    let mut cluster =
        Cluster::start_on(&url, 1, |settings| settings.with("NAS_CRON_DATABASE_URL", through)).await;
    hold_first_fire(&cluster, NEVER);
    let token = cluster.agent("inst").await;
    in_flight(&cluster, &cluster.replicas[0], &token, "job").await;
    let direct = cluster.settings.clone().with("NAS_CRON_DATABASE_URL", url);
    cluster.replicas.push(Service::start(&direct).await);
    let before = all_registered(&cluster).await;
    proxy.cut().await;
    let cut = now();
    let taken_back = lost(&cluster, "job").await;
    let fires =
        cluster.agents.wait_until("the end of the first attempt", |fires| fires[0].ended.is_some()).await;
    let aborted = fires[0].ended.unwrap();
    let [aborted_after, taken_back_after] = [aborted, taken_back].map(|at| (at - cut).as_seconds_f64());
    println!("aborted after {aborted_after:.1} s, taken back after {taken_back_after:.1} s");
    assert!(aborted_after >= 11.0, "not before 13 s without a renewal: {aborted_after}");
    // The agent notices the abort later than the replica makes it, and this process may be busy.
    assert!(aborted_after < taken_back_after + 5.0, "aborted {aborted_after}, taken back {taken_back_after}");
    let second = cluster.agents.wait_for("job", 2).await;
    assert!(aborted < second.arrived);
    proxy.restore().await;
    eventually("a new registration", async || {
        let now = registered(&cluster).await;
        (now.len() == 2 && now[0] == before[1] && now[1] > before[1]).then_some(())
    })
    .await;
    // The outcome of its aborted attempt is late and changes nothing.
    cluster.all_delivered().await;
    assert_eq!(cluster.agents.fires_of("job").len(), 2);
}

/// Checks that attempts in flight outlive a fault of this length, which ends with `heal`.
async fn aborts_nothing(fault: impl AsyncFn(&Proxy), heal: impl AsyncFn(&Proxy)) {
    let (_db, url) = database().await;
    let proxy = Proxy::start(address_of(&url)).await;
    let through = at(&url, proxy.address());
    let cluster =
        Cluster::start_on(&url, 2, |settings| settings.with("NAS_CRON_DATABASE_URL", through)).await;
    hold_first_fire(&cluster, seconds(20));
    let token = cluster.agent("inst").await;
    let jobs = ["a", "b", "c"];
    join_all(jobs.map(|job| in_flight(&cluster, &cluster.replicas[0], &token, job))).await;
    let before = all_registered(&cluster).await;
    fault(&proxy).await;
    tokio::time::sleep(seconds(10)).await;
    heal(&proxy).await;
    cluster.all_delivered().await;
    for job in jobs {
        assert_eq!(cluster.agents.fires_of(job).len(), 1, "{job}");
        assert!(history(&cluster, job).await.iter().all(|(outcome, _)| outcome == "delivered"), "{job}");
    }
    assert_eq!(registered(&cluster).await, before);
}

#[tokio::test]
async fn outage_of_ten_seconds_aborts_no_attempt() {
    aborts_nothing(Proxy::cut, Proxy::restore).await;
}

#[tokio::test]
async fn black_hole_of_ten_seconds_aborts_no_attempt() {
    aborts_nothing(async |proxy| proxy.black_hole(), async |proxy| proxy.heal()).await;
}

#[tokio::test]
async fn replica_that_stops_leaves_at_once() {
    let mut cluster = Cluster::start(2, |settings| settings).await;
    all_registered(&cluster).await;
    assert!(cluster.replicas.pop().unwrap().stop().await.success());
    assert_eq!(registered(&cluster).await.len(), 1);
}

/// A renewal and the declaration of death lock the same row, so one of them sees the other.
#[tokio::test]
async fn renewal_and_declaration_of_death_exclude_each_other() {
    let (db, url) = database().await;
    let mut replica = Registration::new(&db, "host", "0.0.0", TimeDelta::zero()).await.unwrap();
    let replica_id = replica.replica_id();
    let seen = Seen { replica_id, renewals: 0 };
    assert_eq!(declare_dead(&db, seen, true).await.unwrap(), None, "its session exists");

    let mut other = PgConnection::connect(&url).await.unwrap();
    // A renewal that has not committed.
    let mut renewal = other.begin().await.unwrap();
    sqlx::query("UPDATE replicas SET renewals = renewals + 1").execute(&mut *renewal).await.unwrap();
    let declaration = tokio::spawn({
        let db = db.clone();
        async move { declare_dead(&db, seen, false).await.unwrap() }
    });
    waits_for_a_lock(&url, "DELETE FROM replicas").await;
    renewal.commit().await.unwrap();
    assert_eq!(declaration.await.unwrap(), None, "it was renewed meanwhile");
    assert_eq!(
        replica.renew(TimeDelta::milliseconds(7)).await.unwrap(),
        Some(vec![Seen { replica_id, renewals: 1 }])
    );

    // A declaration of death that has not committed.
    let mut declaration = other.begin().await.unwrap();
    sqlx::query("DELETE FROM replicas WHERE renewals = 2").execute(&mut *declaration).await.unwrap();
    let renewal = tokio::spawn(async move { replica.renew(TimeDelta::milliseconds(7)).await.unwrap() });
    waits_for_a_lock(&url, "UPDATE replicas").await;
    declaration.commit().await.unwrap();
    assert_eq!(renewal.await.unwrap(), None, "it was declared dead meanwhile");
}

/// Waits until a statement with this text waits for a lock.
async fn waits_for_a_lock(url: &str, text: &str) {
    let mut connection = PgConnection::connect(url).await.unwrap();
    eventually(text, async || {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock' AND strpos(query, $1) > 0",
        )
        .bind(text)
        .fetch_one(&mut connection)
        .await
        .unwrap();
        (waiting > 0).then_some(())
    })
    .await;
}
