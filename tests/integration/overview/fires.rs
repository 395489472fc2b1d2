//! Attempts by minute, and the load of the next hour.

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron::db::overview::load;
use nas_cron::db::{directory, fire_minutes};
use nas_cron::domain::FireOutcome;
use nas_cron::domain::fire_minutes::{FireMinute, minute_of};
use nas_cron_testing::agent::Reply;
use nas_cron_testing::database::database;
use nas_cron_testing::world::World;
use sqlx::PgPool;

/// The sums over all minutes: delivered, failed, other, and attempts whose lateness was measured.
async fn sums(pool: &PgPool) -> [i64; 4] {
    let sums: Vec<i64> = sqlx::query_scalar(
        "SELECT ARRAY[COALESCE(sum(delivered), 0), COALESCE(sum(failed), 0), COALESCE(sum(other), 0),
                      COALESCE(sum((SELECT sum(bucket) FROM unnest(lateness) AS bucket)), 0)]::int8[] FROM fire_minutes",
    )
    .fetch_one(pool)
    .await
    .unwrap();
    sums.try_into().unwrap()
}

#[tokio::test]
async fn attempts_of_a_stopped_replica_are_in_the_table_and_an_idle_one_writes_none() {
    let world = World::new().await;
    world.agents.answer(|fire, _| if fire.job_id == "fails" { Reply::broken() } else { Reply::accepted() });
    for job in ["a", "b", "fails"] {
        // Lateness is measured only of what is armed before its instant.
        world.arm(job, 2_000).await;
    }
    world.agents.wait_for("a", 1).await;
    world.agents.wait_for("b", 1).await;
    world.agents.wait_for("fails", 1).await;
    let World { service, pool, settings, .. } = world;
    assert!(service.stop().await.success());
    assert_eq!(sums(&pool).await, [2, 1, 0, 3]);
    sqlx::query("DELETE FROM fire_minutes").execute(&pool).await.unwrap();
    let idle = nas_cron_testing::service::Service::start(&settings).await;
    assert!(idle.stop().await.success());
    let rows: i64 = sqlx::query_scalar("SELECT count(*) FROM fire_minutes").fetch_one(&pool).await.unwrap();
    assert_eq!(rows, 0);
}

#[tokio::test]
async fn replicas_add_to_the_same_minute_and_old_minutes_are_deleted() {
    let (db, url) = database().await;
    let now = minute_of(directory::now(&db).await.unwrap());
    let minute = |at: DateTime<Utc>, late_ms: &[u64]| {
        let mut minute = FireMinute::empty(at);
        for late in late_ms {
            minute.count(FireOutcome::Delivered, Some(std::time::Duration::from_millis(*late)));
        }
        minute.count(FireOutcome::Failed, None);
        minute
    };
    let old = now - TimeDelta::hours(49);
    fire_minutes::add(&db, &[minute(old, &[1]), minute(now, &[1, 2])]).await.unwrap();
    fire_minutes::add(&db, &[minute(now, &[5_000]), minute(now - TimeDelta::minutes(1), &[])]).await.unwrap();
    let mut both = minute(now, &[1, 2]);
    both.add(&minute(now, &[5_000]));
    let found = fire_minutes::since(&db, now - TimeDelta::hours(72)).await.unwrap();
    assert_eq!(found, [minute(now - TimeDelta::minutes(1), &[]), both]);
    assert_eq!(fire_minutes::since(&db, now + TimeDelta::minutes(1)).await.unwrap(), []);
    drop(url);
}

/// Stores `count` armed one-shots, `per_minute` of them in each minute from `from` on.
async fn arm(url: &str, from: DateTime<Utc>, count: i32, per_minute: i32) {
    let pool = PgPool::connect(url).await.unwrap();
    sqlx::query("INSERT INTO instances (instance_id, org_id) VALUES ('inst-1', 'org-1')")
        .execute(&pool)
        .await
        .unwrap();
    sqlx::query(
        "INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                                next_attempt_at)
         SELECT 'inst-1', 'job-' || n, gen_random_uuid(), 'k', 'then', at, 'https://agent.example', 'armed', at
         FROM (SELECT n, $1::timestamptz + (n / $3) * interval '1 min' AS at FROM generate_series(0, $2 - 1) AS n) s",
    )
    .bind(from)
    .bind(count)
    .bind(per_minute)
    .execute(&pool)
    .await
    .unwrap();
}

#[tokio::test]
async fn load_is_counted_by_minute_and_estimated_when_it_is_large() {
    let (db, url) = database().await;
    let from = minute_of(directory::now(&db).await.unwrap()) + TimeDelta::minutes(5);
    arm(&url, from, 49_000, 1_000).await;
    let until = from + TimeDelta::hours(1);
    let counted = load(&db, from, until).await.unwrap();
    assert!(!counted.estimated);
    let minutes: Vec<_> = counted.minutes.iter().map(|one| (one.minute, one.due)).collect();
    let expected: Vec<_> = (0..49).map(|minute| (from + TimeDelta::minutes(minute), 1_000)).collect();
    assert_eq!(minutes, expected);
    let pool = PgPool::connect(&url).await.unwrap();
    sqlx::query(
        "INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                                next_attempt_at)
         SELECT instance_id, job_id || '-again', gen_random_uuid(), 'k', 'then', fire_at, callback_url, 'armed', fire_at
         FROM one_shots",
    )
    .execute(&pool)
    .await
    .unwrap();
    let estimated = load(&db, from, until).await.unwrap();
    assert!(estimated.estimated);
    let all: i64 = estimated.minutes.iter().map(|one| one.due).sum();
    // The sample has a part of the pages, with as many rows on each.
    assert!((80_000..120_000).contains(&all), "{all}");
}
