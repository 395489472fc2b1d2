//! Deliveries are examined once, in bounded steps, and none is left out.

use std::fs::OpenOptions;
use std::time::Duration;

use futures::future::join_all;
use nas_cron::db::rearms;
use nas_cron_testing::service::Service;
use nas_cron_testing::world::eventually;

use super::fixture::{Chains, DAY, HOUR, MINUTE, dormant, json, names};

#[tokio::test]
async fn every_recurrence_is_dormant_after_its_expected_fire() {
    let chains = Chains::new().await;
    let ago = |days: &[i64], rest: i64| days.iter().map(|day| day * DAY + rest).collect::<Vec<_>>();
    for (kind, fires) in [
        ("interval", (1..6).rev().map(|n| n * HOUR + HOUR).collect::<Vec<_>>()),
        ("daily", ago(&[5, 4, 3, 2, 1], HOUR)),
        // Two days of the week, one after the other.
        ("weekdays", ago(&[21, 20, 14, 13, 7, 6], HOUR)),
        ("irregular", [64, 56, 40, 32, 16].map(|hours| hours * HOUR + HOUR).to_vec()),
    ] {
        chains.fired(kind, &fires, "delivered").await;
        // Expected a few minutes ago: not yet dormant.
        let later: Vec<_> = fires.iter().map(|ago| ago - 55 * MINUTE).collect();
        chains.fired(&format!("{kind} in time"), &later, "delivered").await;
    }
    chains.round().await;
    let found = dormant(&chains.settings).await;
    let found: Vec<_> = found.iter().map(|job| job["job_id"].as_str().unwrap()).collect();
    assert_eq!(found, ["daily", "interval", "irregular", "weekdays"]);
    let expected: Vec<(String, i64)> = sqlx::query_as(
        "SELECT recurrence::text, round(extract(epoch FROM now() - expected_at) / 60)::int8 FROM awaited_rearms ORDER BY job_id",
    )
    .fetch_all(&chains.pool)
    .await
    .unwrap();
    let kinds = ["daily", "interval", "irregular", "weekdays"];
    let minutes_ago = kinds.iter().flat_map(|kind| [60, 5].map(|minutes| ((*kind).to_owned(), minutes)));
    assert_eq!(expected, minutes_ago.collect::<Vec<_>>());
    let shown = json(&chains.settings, &["jobs", "show", "inst-1", "daily in time"]).await;
    let why = shown["why"]["text"].as_str().unwrap();
    assert!(why.contains("has not armed the next one, which was expected"), "{why}");
}

#[tokio::test]
async fn job_that_was_armed_again_in_time_is_not_stored() {
    let chains = Chains::new().await;
    chains.hourly("job", 3).await;
    chains.arms_again("job").await;
    chains.round().await;
    assert_eq!(chains.one::<i64>("SELECT count(*) FROM awaited_rearms").await, 0);
}

#[tokio::test]
async fn late_re_arm_ends_the_wait_without_a_report() {
    let chains = Chains::new().await;
    chains.fired("job", &[5 * HOUR, 4 * HOUR, 3 * HOUR, 2 * HOUR, HOUR], "delivered").await;
    chains.round().await;
    assert_eq!(chains.one::<i64>("SELECT count(*) FROM awaited_rearms WHERE dormant_since IS NULL").await, 1);
    chains.arms_again("job").await;
    chains.sql("UPDATE awaited_rearms SET expected_at = now() - interval '1 h', check_at = now()").await;
    let (checked, reported) = rearms::check_awaited(&chains.db).await.unwrap();
    assert_eq!((checked, reported.len()), (1, 0));
    assert_eq!(chains.one::<i64>("SELECT count(*) FROM awaited_rearms").await, 0);
}

#[tokio::test]
async fn job_with_fewer_than_three_re_arms_is_never_dormant() {
    let chains = Chains::new().await;
    chains.fired("new", &[12 * HOUR, 11 * HOUR, 10 * HOUR], "delivered").await;
    chains.fired("old", &[12 * HOUR, 11 * HOUR, 10 * HOUR, 9 * HOUR], "delivered").await;
    // A retry is not a re-arm.
    chains
        .sql(
            "INSERT INTO fires SELECT gen_random_uuid(), instance_id, job_id, schedule_id, dedup_key, fire_at, 2,
                 started_at + interval '1 s', ended_at + interval '1 s', outcome, http_status, error, answer, armed_at FROM fires",
        )
        .await;
    chains.round().await;
    assert_eq!(names(&chains.settings).await, ["old"]);
}

#[tokio::test]
async fn history_of_a_deleted_instance_is_not_considered() {
    let chains = Chains::new().await;
    chains.hourly("job", 3).await;
    chains.sql("UPDATE instances SET created_at = now() - interval '4 h 30 min'").await;
    chains.round().await;
    assert_eq!(chains.one::<i64>("SELECT count(*) FROM awaited_rearms").await, 0);
}

#[tokio::test]
async fn every_delivery_is_examined_in_bounded_steps() {
    let chains = Chains::new().await;
    for job in 0..7 {
        chains.hourly(&format!("job-{job}"), 3).await;
    }
    let mut found = Vec::new();
    let step = async || {
        let window = Duration::from_hours(1);
        rearms::examine(&chains.db, Duration::from_mins(5), window, 3).await.unwrap()
    };
    while let Some(examined) = step().await {
        assert!(examined.read <= 3 && examined.until > examined.from, "{examined:?}");
        found.extend(examined.unanswered.iter().map(|one| one.job_id.to_string()));
        assert!(rearms::store(&chains.db, &examined, &[]).await.unwrap());
    }
    found.sort();
    // The last one of a step is read again.
    found.dedup();
    assert_eq!(found, (0..7).map(|job| format!("job-{job}")).collect::<Vec<_>>());
}

#[tokio::test]
async fn two_replicas_report_each_job_once() {
    let chains = Chains::new().await;
    for job in 0..40 {
        chains.hourly(&format!("job-{job}"), 3).await;
    }
    let examined = rearms::examine(&chains.db, Duration::from_mins(5), Duration::from_mins(10), 100)
        .await
        .unwrap()
        .unwrap();
    assert!(rearms::store(&chains.db, &examined, &[]).await.unwrap());
    assert!(!rearms::store(&chains.db, &examined, &[]).await.unwrap(), "another replica was faster");
    chains.sql("UPDATE rearm_watch SET examined_until = now() - interval '4 h'").await;
    join_all((0..4).map(|_| chains.round())).await;
    assert_eq!(names(&chains.settings).await.len(), 40);
    chains.sql("UPDATE awaited_rearms SET dormant_since = NULL, reported = false").await;
    let reports = join_all((0..4).map(|_| rearms::check_awaited(&chains.db))).await;
    let mut reported: Vec<_> =
        reports.into_iter().flat_map(|report| report.unwrap().1).map(|one| one.job_id.to_string()).collect();
    let count = reported.len();
    reported.sort();
    reported.dedup();
    assert_eq!((count, reported.len()), (40, 40));
}

#[tokio::test]
async fn stopped_fleet_catches_up_when_it_starts() {
    let chains = Chains::new().await;
    // Delivered before the stop. The replica has days of deliveries to examine.
    chains.fired("daily", &[9, 8, 7, 6].map(|day| day * DAY), "delivered").await;
    chains.hourly("hourly", 3).await;
    let _service = Service::start(&chains.settings).await;
    eventually("both are found", async || {
        (names(&chains.settings).await == ["daily", "hourly"]).then_some(())
    })
    .await;
}

/// Step 8 of the schema indexes small partitions only, because it locks the table meanwhile.
#[tokio::test]
async fn deliveries_in_a_partition_that_was_too_large_to_index_are_not_examined() {
    let chains = Chains::new().await;
    chains.hourly("hourly", 3).await;
    chains.sql("DROP INDEX fires_ended_at; DELETE FROM rearm_watch").await;
    let (week, file): (String, String) = sqlx::query_as(
        "SELECT week, current_setting('data_directory') || '/' || pg_relation_filepath(week::regclass)
         FROM to_char(date_trunc('week', now() AT TIME ZONE 'UTC'), '\"fires_\"YYYYMMDD') week",
    )
    .fetch_one(&chains.pool)
    .await
    .unwrap();
    // A hole in the file, which reads as empty pages.
    OpenOptions::new().write(true).open(file).unwrap().set_len(300 << 20).unwrap();
    chains.sql(include_str!("../../../migrations/0008_recent_deliveries.sql")).await;
    assert_eq!(chains.one::<Vec<String>>(WITHOUT_INDEX).await, std::slice::from_ref(&week));
    let begins = format!(
        "SELECT examined_until = (to_date('{}', 'YYYYMMDD') + 8)::timestamp AT TIME ZONE 'UTC' FROM rearm_watch",
        week.trim_start_matches("fires_"),
    );
    assert!(chains.one::<bool>(&begins).await, "a day after the end of the week");
    chains.round().await;
    assert!(names(&chains.settings).await.is_empty());
    // Without the index, the answer is the same, only slower.
    chains.sql("UPDATE rearm_watch SET examined_until = now() - interval '4 h'").await;
    chains.round().await;
    assert_eq!(names(&chains.settings).await, ["hourly"]);
}

/// The partitions without the index.
const WITHOUT_INDEX: &str = "
    SELECT COALESCE(array_agg(inhrelid::regclass::text), '{}') FROM pg_inherits p
    WHERE inhparent = 'fires'::regclass AND NOT EXISTS (
        SELECT FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid JOIN pg_am a ON a.oid = c.relam
        WHERE i.indrelid = p.inhrelid AND a.amname = 'brin')";

#[tokio::test]
async fn partitions_of_coming_weeks_have_the_index_of_recent_deliveries() {
    let chains = Chains::new().await;
    assert!(chains.one::<Vec<String>>(WITHOUT_INDEX).await.is_empty());
    let last = "SELECT max(inhrelid::regclass::text) FROM pg_inherits
                WHERE inhparent = 'fires'::regclass AND inhrelid::regclass::text ~ '\\d'";
    let last: String = chains.one(last).await;
    chains.sql(&format!("DROP TABLE {last}; SELECT maintain_history('30 days')")).await;
    assert_eq!(
        chains.one::<Option<String>>(&format!("SELECT to_regclass('{last}')::text")).await,
        Some(last)
    );
    assert!(chains.one::<Vec<String>>(WITHOUT_INDEX).await.is_empty());
}
