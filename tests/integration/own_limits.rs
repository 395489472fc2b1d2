//! A shortage of the service's own resources is never treated as an agent's outage.

use std::time::Duration;

use nas_cron_testing::agent::Reply;
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::{World, eventually};

/// Descriptor limit of the process: enough to start, to serve and to make about a hundred calls at once.
const DESCRIPTORS: u64 = 160;
const INSTANCES: usize = 30;
const JOBS_OF_EACH: usize = 10;
const ONE_SHOTS: usize = INSTANCES * JOBS_OF_EACH;

/// Returns the sum of a counter over the labels that match.
async fn counted(world: &World, series: &str) -> f64 {
    let page = world.service.metrics().await;
    let values = page.lines().filter(|line| line.starts_with(series)).map(|line| {
        let (_, value) = line.rsplit_once(' ').expect("a value");
        value.parse::<f64>().expect("a number")
    });
    values.sum()
}

#[tokio::test]
async fn shortage_of_descriptors_counts_no_attempt_and_marks_no_instance_unreachable() {
    let world = World::with(|settings| settings.with_descriptors(DESCRIPTORS, DESCRIPTORS)).await;
    // The agents respond slowly, as if they booted.
    world.agents.answer(|_, _| Reply::accepted().after(Duration::from_secs(3)));
    let at = fire_at(3_600_000);
    for instance in 0..INSTANCES {
        let name = format!("agent-{instance}");
        let token = world.instance(&name).await;
        // Half of them by name: a lookup without a descriptor fails with a misleading error.
        let callback = match instance % 2 {
            0 => world.agents.callback(&name),
            _ => world.agents.callback(&name).replace("127.0.0.1", "localhost"),
        };
        for job in 0..JOBS_OF_EACH {
            world.service.provision(&token, &format!("{name}-{job}"), &at, &callback).await;
        }
    }

    // All at once, however long the provisions took.
    world.sql("UPDATE one_shots SET fire_at = now(), next_attempt_at = now()").await;

    let mut unreachable = 0;
    eventually("everything is delivered", async || {
        let (marked, delivered): (i64, i64) = sqlx::query_as(
            "SELECT (SELECT count(*) FROM instances WHERE unreachable_since IS NOT NULL),
                    (SELECT count(*) FROM one_shots WHERE state = 'delivered')",
        )
        .fetch_one(&world.pool)
        .await
        .unwrap();
        unreachable = unreachable.max(marked);
        (delivered == i64::try_from(ONE_SHOTS).unwrap()).then_some(())
    })
    .await;

    assert_eq!(unreachable, 0, "instances marked unreachable");
    let deferred = counted(&world, "nas_cron_attempts_deferred_total{reason=\"descriptors\"}").await;
    assert!(deferred >= 20.0, "descriptors did not run out: {deferred}");
    let attempts: Vec<(i32, String, i64)> =
        sqlx::query_as("SELECT attempt, outcome::text, count(*) FROM fires GROUP BY 1, 2 ORDER BY 1, 2")
            .fetch_all(&world.pool)
            .await
            .unwrap();
    assert_eq!(attempts, [(1, "delivered".to_owned(), i64::try_from(ONE_SHOTS).unwrap())]);
    assert_eq!(world.agents.fires().len(), ONE_SHOTS, "each was sent once");

    let log = world.service.log();
    let lines = log.lines().filter(|line| line.contains("delivery attempts deferred: ")).count();
    assert!((1..=20).contains(&lines), "{lines} lines for {deferred} attempts");
}
