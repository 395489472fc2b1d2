//! The metrics that operators alert on: what is late by this service's fault shows in them, and nothing else.

use std::time::Duration;

use nas_cron_testing::agent::Reply;
use nas_cron_testing::service::Service;
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::{World, eventually};

const OVERDUE: &str = "nas_cron_oldest_overdue_seconds";
const LATENESS_COUNT: &str = "nas_cron_fire_lateness_seconds_count";
const LATENESS_SUM: &str = "nas_cron_fire_lateness_seconds_sum";
const A_DAY_AGO: i64 = -86_400_000;

/// Returns the value of a series, `None` if it is missing.
fn value(page: &str, series: &str) -> Option<f64> {
    let line = page.lines().find_map(|line| line.strip_prefix(series)?.strip_prefix(' '));
    line.map(|value| value.parse().expect("a number"))
}

/// Waits until a gauge is at least `least`, and returns the page. Gauges follow within a round of maintenance.
async fn reaches(service: &Service, series: &str, least: f64) -> String {
    eventually(&format!("{series} reaches {least}"), async || {
        let page = service.metrics().await;
        value(&page, series).is_some_and(|now| now >= least).then_some(page)
    })
    .await
}

#[tokio::test]
async fn provisions_of_yesterday_are_neither_late_nor_overdue() {
    // One agent that is slow, and all of its one-shots in the past: most of them wait.
    let world = World::with(|s| s.with("NAS_CRON_IN_FLIGHT_PER_INSTANCE", "1")).await;
    world.agents.answer(|_, _| Reply::accepted().after(Duration::from_secs(2)));
    for job in 0..20 {
        world.arm(&format!("job-{job}"), A_DAY_AGO).await;
    }
    let page = reaches(&world.service, "nas_cron_fires_total{outcome=\"delivered\"}", 1.0).await;
    assert!(value(&page, LATENESS_COUNT).is_none_or(|count| count < 1.0), "{page}");
    let page = reaches(&world.service, "nas_cron_due_one_shots{kind=\"armed_late\"}", 1.0).await;
    assert_eq!(value(&page, OVERDUE), Some(0.0), "{page}");
}

#[tokio::test]
async fn hold_of_the_whole_service_shows_and_its_release_is_not_lateness() {
    let world = World::new().await;
    let operate = async |arguments: &[&str]| {
        let (status, _, error) = world.settings.run(arguments).await;
        assert!(status.success(), "{error}");
    };
    operate(&["hold", "--all", "--reason", "forgotten"]).await;
    world.arm("job", 200).await;
    reaches(&world.service, "nas_cron_holds{scope=\"all\"}", 1.0).await;
    let page = reaches(&world.service, "nas_cron_parked_one_shots{reason=\"hold\"}", 1.0).await;
    assert_eq!(value(&page, OVERDUE), Some(0.0), "{page}");
    operate(&["release", "--all"]).await;
    world.delivered("job").await;
    let page = world.service.metrics().await;
    assert!(value(&page, LATENESS_COUNT).is_none_or(|count| count < 1.0), "{page}");
}

#[tokio::test]
async fn unreachable_agents_show_and_their_return_is_not_lateness() {
    let world = World::with(|s| s.with("NAS_CRON_RETRY_DEFINITE_BASE", "200ms")).await;
    // A response of the gateway, not of the agent: the agent is unreachable.
    world.agents.answer(|_, _| Reply::status(502));
    world.arm("probe", 3_000).await;
    world.ended("probe", 1).await;
    eventually("its outage is known", async || {
        let query = "SELECT count(*) FROM instances WHERE unreachable_since IS NOT NULL";
        let known: i64 = sqlx::query_scalar(query).fetch_one(&world.pool).await.unwrap();
        (known == 1).then_some(())
    })
    .await;
    world.arm("waits", 200).await;
    reaches(&world.service, "nas_cron_withheld_instances{reason=\"unreachable\"}", 1.0).await;
    let page = reaches(&world.service, "nas_cron_parked_one_shots{reason=\"unreachable\"}", 1.0).await;
    assert_eq!(value(&page, OVERDUE), Some(0.0), "{page}");
    world.agents.answer(|_, _| Reply::accepted());
    world.all_delivered().await;
    let page = world.service.metrics().await;
    assert_eq!(value(&page, LATENESS_COUNT), Some(1.0), "the first attempt of the probe alone: {page}");
}

#[tokio::test]
async fn unclaimed_one_shot_is_overdue_and_late() {
    let world = World::new().await;
    world.service.provision(&world.token, "job", &fire_at(8_000), &world.callback()).await;
    // Claims skip a row that another session has locked.
    let mut blocker = world.pool.begin().await.unwrap();
    sqlx::raw_sql("SELECT FROM one_shots FOR UPDATE").execute(&mut *blocker).await.unwrap();
    let page = reaches(&world.service, OVERDUE, 1.0).await;
    assert_eq!(value(&page, "nas_cron_due_one_shots{kind=\"punctual\"}"), Some(1.0), "{page}");
    blocker.rollback().await.unwrap();
    world.delivered("job").await;
    let page = world.service.metrics().await;
    assert_eq!(value(&page, LATENESS_COUNT), Some(1.0));
    assert!(value(&page, LATENESS_SUM).is_some_and(|late| late >= 1.0), "{page}");
}

#[tokio::test]
async fn fire_is_counted_when_its_outcome_is_durable() {
    let world = World::new().await;
    // Only outcomes write the history.
    let mut blocker = world.pool.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE fires IN EXCLUSIVE MODE").execute(&mut *blocker).await.unwrap();
    world.arm("job", 0).await;
    world.agents.wait_for("job", 1).await;
    eventually("the outcome waits", async || {
        let waiting: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND wait_event_type = 'Lock' AND strpos(query, 'WITH ended') > 0",
        )
        .fetch_one(&world.pool)
        .await
        .unwrap();
        (waiting == 1).then_some(())
    })
    .await;
    let delivered = "nas_cron_fires_total{outcome=\"delivered\"}";
    assert_eq!(value(&world.service.metrics().await, delivered), Some(0.0));
    blocker.rollback().await.unwrap();
    reaches(&world.service, delivered, 1.0).await;
}

#[tokio::test]
async fn attempt_without_a_recorded_outcome_is_counted_as_lost() {
    let world = World::with(|s| s.with("NAS_CRON_RETRY_AMBIGUOUS_FLOOR", "200ms")).await;
    world
        .agents
        .answer(|_, before| Reply::accepted().after(Duration::from_secs(if before == 0 { 20 } else { 0 })));
    // Its answer comes later than the search for expired leases, which may pause for 5 s.
    world.arm("job", 0).await;
    world.agents.wait_for("job", 1).await;
    // As if its replica had died long ago.
    world.sql("UPDATE one_shots SET claim_expires_at = now(), attempt_expires_at = now() WHERE state = 'firing'").await;
    reaches(&world.service, "nas_cron_fires_total{outcome=\"lost\"}", 1.0).await;
}
