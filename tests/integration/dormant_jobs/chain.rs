//! A chain on the real service, from its last delivery until its agent is back.

use nas_cron_testing::service::Service;
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::{World, eventually};

use super::fixture::{dormant, json, names};

/// Lets hours pass: everything that is stored becomes older.
const AGE: &str = "
    UPDATE fires SET fire_at = fire_at - interval '3 h', started_at = started_at - interval '3 h',
                     ended_at = ended_at - interval '3 h', armed_at = armed_at - interval '3 h';
    UPDATE one_shots SET fire_at = fire_at - interval '3 h', delivered_at = delivered_at - interval '3 h',
                         last_started_at = last_started_at - interval '3 h', claimed_at = claimed_at - interval '3 h',
                         created_at = created_at - interval '3 h';
    UPDATE instances SET created_at = created_at - interval '3 h';
    UPDATE rearm_watch SET examined_until = examined_until - interval '4 h'";

#[tokio::test]
async fn broken_chain_is_shown_until_its_agent_arms_it_again() {
    let world = World::new().await;
    let began: String =
        sqlx::query_scalar("SELECT clock_timestamp()::text").fetch_one(&world.pool).await.unwrap();
    for minutes in [4, 3, 2, 1] {
        world.arm("job", minutes * -60_000).await;
        world.delivered("job").await;
    }
    // An agent that re-arms while its fire is recorded: the time of the arm is that of the attempt's own one-shot.
    let armed: i64 = sqlx::query_scalar(
        "SELECT count(*) FROM fires WHERE armed_at >= $1::timestamptz AND armed_at <= started_at",
    )
    .bind(began)
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert_eq!(armed, 4);
    world.sql(AGE).await;

    // Each replica looks when it starts.
    let finder = Service::start(&world.settings).await;
    eventually("it is dormant", async || (names(&world.settings).await == ["job"]).then_some(())).await;
    eventually("it is logged", async || finder.log().contains("job became dormant").then_some(())).await;
    let listed = &dormant(&world.settings).await[0];
    assert_eq!(
        (listed["state"].as_str(), listed["dormant_reason"].as_str()),
        (Some("delivered"), Some("silent"))
    );
    let (_, table, _) = world.settings.run(&["jobs", "list", "--state", "dormant"]).await;
    assert!(table.starts_with("AGENT   JOB  REASON") && table.contains("3 h ago"), "{table}");
    let shown = json(&world.settings, &["jobs", "show", "inst-1", "job"]).await;
    let why = &shown["why"];
    assert_eq!(why["code"], "dormant", "{why}");
    assert!(why["fix"].as_str().unwrap().contains("`nas-cron jobs nudge inst-1 job`"), "{why}");
    let counter = Service::start(&world.settings).await;
    eventually("it is counted", async || {
        counter.metrics().await.contains("\nnas_cron_dormant_jobs{reason=\"silent\"} 1\n").then_some(())
    })
    .await;

    world.service.provision(&world.token, "job", &fire_at(3_600_000), &world.callback()).await;
    assert_eq!(names(&world.settings).await, [""; 0]);
    world.sql("UPDATE rearm_watch SET examined_until = examined_until - interval '1 min'").await;
    let next = Service::start(&world.settings).await;
    eventually("its return is logged", async || {
        [&next, &counter, &finder, &world.service]
            .iter()
            .any(|one| one.log().contains("dormant job was armed again"))
            .then_some(())
    })
    .await;
}
