//! Agents that re-arm after every fire, as real ones do.

use chrono::{DateTime, FixedOffset, TimeDelta, Utc};
use nas_cron_testing::time::{fire_at, now};
use nas_cron_testing::world::World;

/// An agent with a cron expression for every `period` seconds, whose clock is `slow` seconds behind.
struct SlowAgent {
    slow: i64,
    period: i64,
}

impl SlowAgent {
    /// Returns the next instant of its cron expression by its own clock, as it writes it.
    fn next(&self, true_now: DateTime<Utc>) -> String {
        let own = (true_now - TimeDelta::seconds(self.slow)).timestamp();
        let next = own - own.rem_euclid(self.period) + self.period;
        let zone = FixedOffset::west_opt(5 * 3600).unwrap();
        DateTime::from_timestamp(next, 0)
            .unwrap()
            .with_timezone(&zone)
            .format("%Y-%m-%dT%H:%M:%S%:z")
            .to_string()
    }
}

#[tokio::test]
async fn client_4_the_job_chain_of_an_agent_with_a_slow_clock_survives_and_its_skew_is_learned() {
    // The delay of the second fire must exceed the offset of the agent's clock, as with the defaults.
    let world = World::with(|s| {
        s.with("NAS_CRON_SECOND_FIRE_DELAY", "3500ms").with("NAS_CRON_SECOND_FIRE_INTERVAL", "3500ms")
    })
    .await;
    let agent = SlowAgent { slow: 3, period: 3 };
    let began = now();
    let mut keys: Vec<String> = Vec::new();
    let mut in_order = 0;
    world.again("job", &agent.next(began)).await;
    // Runs until four consecutive fires had no second fire. Every fire ends with a re-arm.
    for count in 1.. {
        let fire = world.agents.wait_for("job", count).await;
        in_order = if keys.contains(&fire.fire_at) { 0 } else { in_order + 1 };
        keys.push(fire.fire_at);
        if in_order == 5 {
            break;
        }
        assert!(count < 15, "its skew is never learned: {keys:?}");
        world.again("job", &agent.next(now())).await;
    }
    // A storm would fire at the rate of the fire floor, once a second.
    let took = (now() - began).as_seconds_f64();
    #[expect(clippy::cast_precision_loss, reason = "a handful")]
    let pace = keys.len() as f64 / took;
    assert!(pace < 0.6, "{} fires in {took} s", keys.len());
    for key in &keys {
        assert!(keys.iter().filter(|other| *other == key).count() <= 2, "one second fire at most: {keys:?}");
    }
    let guard: i32 = sqlx::query_scalar("SELECT skew_guard_ms FROM instances WHERE instance_id = 'inst-1'")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!(guard, 4_000, "1 s, doubled until it sufficed");
    let history = world.history("job").await;
    assert!(history.iter().all(|one| one.outcome != "failed"), "{history:?}");
}

#[tokio::test]
async fn client_4_an_agent_whose_clock_is_right_never_learns_a_guard() {
    let world = World::new().await;
    let agent = SlowAgent { slow: 0, period: 1 };
    world.again("job", &agent.next(now())).await;
    for count in 1..=4 {
        world.agents.wait_for("job", count).await;
        world.again("job", &agent.next(now())).await;
    }
    let keys: std::collections::HashSet<_> =
        world.agents.fires_of("job").into_iter().map(|fire| fire.fire_at).collect();
    assert_eq!(keys.len(), 4, "no second fires");
    let guards: i32 =
        sqlx::query_scalar("SELECT max(skew_guard_ms) FROM instances").fetch_one(&world.pool).await.unwrap();
    assert_eq!(guards, 0);
}

#[tokio::test]
async fn client_7_a_job_every_0_minutes_fires_no_faster_than_the_floor() {
    let world = World::new().await;
    world.arm("job", 0).await;
    for count in 1..=4 {
        world.agents.wait_for("job", count).await;
        // Delayed, not rejected.
        world.arm("job", 0).await;
    }
    world.ended("job", 4).await;
    // `started` counts from each attempt's own `fire_at`, so the gaps come from the table itself.
    let gaps: Vec<f64> = sqlx::query_scalar(
        "SELECT extract(epoch FROM started_at - lag(started_at) OVER (ORDER BY started_at))::float8
         FROM fires WHERE job_id = 'job' ORDER BY started_at OFFSET 1",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    assert!(gaps.iter().all(|gap| *gap >= 1.0), "{gaps:?}");
}

#[tokio::test]
async fn client_5_a_job_chain_lists_only_its_next_one_shot() {
    let world = World::new().await;
    let mut at = fire_at(200);
    world.again("job", &at).await;
    for count in 1..=3 {
        assert_eq!(world.agents.wait_for("job", count).await.fire_at, at);
        at = fire_at(3_000);
        world.again("job", &at).await;
        let list = world.service.list(&world.token).await;
        let listed: Vec<_> =
            list["armed"].as_array().unwrap().iter().map(|one| one["fire_at"].clone()).collect();
        assert_eq!(listed, [at.clone()]);
    }
    world.agents.wait_for("job", 4).await;
    world.all_delivered().await;
}
