//! Texts of agents' errors are erased after their retention.

use std::time::Duration;

use nas_cron::db::fires;
use nas_cron_testing::database::database;
use sqlx::{Connection, PgConnection};

const DAY: Duration = Duration::from_hours(24);
const RETENTION: Duration = Duration::from_hours(3 * 24);

async fn run(connection: &mut PgConnection, statements: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned())).execute(connection).await.expect(statements);
}

/// Returns the ages in days of the attempts whose text is still there.
async fn ages(connection: &mut PgConnection) -> Vec<i32> {
    let query = "SELECT DISTINCT round(extract(epoch FROM now() - started_at) / 86400)::int FROM fires
                 WHERE error IS NOT NULL ORDER BY 1";
    sqlx::query_scalar(query).fetch_all(connection).await.unwrap()
}

#[tokio::test]
async fn texts_in_the_history_are_erased_by_partition_and_each_is_read_once_a_day() {
    let (db, url) = database().await;
    let connection = &mut PgConnection::connect(&url).await.unwrap();
    // Attempts of the last 20 days, some of them on the same pages as others that are younger. Most have succeeded.
    run(
        connection,
        "SELECT maintain_history('10 years');
         INSERT INTO fires
         SELECT gen_random_uuid(), 'i', 'j' || n, gen_random_uuid(), 'k', now(), 1, now() - n % 20 * interval '1 d',
                now(), 'failed', 503, CASE WHEN n % 10 < 2 THEN 'a secret of the agent' END, NULL
         FROM generate_series(1, 20000) n",
    )
    .await;
    assert_eq!(ages(connection).await, [0, 1, 10, 11]);
    let mut steps = 0;
    while fires::erase_error_texts(&db, RETENTION, 50).await.unwrap() {
        steps += 1;
    }
    assert!(steps > 5, "large partitions take several steps: {steps}");
    assert_eq!(ages(connection).await, [0, 1], "status and outcome stay, young texts too");
    let kept: i64 = sqlx::query_scalar("SELECT count(*) FROM fires WHERE http_status = 503")
        .fetch_one(&mut *connection)
        .await
        .unwrap();
    assert_eq!(kept, 20_000);
    // Nothing is read again today, also by another replica.
    assert!(!fires::erase_error_texts(&db, RETENTION, 50).await.unwrap());

    // Tomorrow, only partitions are read that have something of that day.
    run(connection, "UPDATE erased_error_texts SET through = through - interval '1 d'").await;
    let mut read = Vec::new();
    loop {
        let more = fires::erase_error_texts(&db, RETENTION, 1_000_000).await.unwrap();
        if !more {
            break;
        }
        let done = "SELECT array_agg(partition ORDER BY partition) FROM erased_error_texts WHERE through > now() - interval '3 d 1 h'";
        read = sqlx::query_scalar::<_, Vec<String>>(done).fetch_one(&mut *connection).await.unwrap();
    }
    assert!(read.len() >= 2 && read.contains(&"fires_default".to_owned()), "{read:?}");
}

#[tokio::test]
async fn a_step_reads_only_its_pages() {
    let (_, url) = database().await;
    let connection = &mut PgConnection::connect(&url).await.unwrap();
    run(connection, "SET enable_seqscan = off").await;
    let setting =
        "SELECT 'enable_seqscan=off' = ANY (proconfig) FROM pg_proc WHERE proname = 'erase_error_texts'";
    assert!(
        sqlx::query_scalar::<_, bool>(setting).fetch_one(&mut *connection).await.unwrap(),
        "as in the function"
    );
    let plan: Vec<String> = sqlx::query_scalar(
        "EXPLAIN (COSTS OFF) UPDATE fires_default SET error = NULL
         WHERE ctid >= '(0,0)'::tid AND ctid < '(1000,0)'::tid AND error IS NOT NULL AND started_at < now()",
    )
    .fetch_all(connection)
    .await
    .unwrap();
    assert!(plan.iter().any(|line| line.contains("Tid Range Scan")), "{plan:#?}");
}

#[tokio::test]
async fn texts_of_one_shots_are_erased_and_nothing_else_of_them_changes() {
    let (db, url) = database().await;
    let connection = &mut PgConnection::connect(&url).await.unwrap();
    run(
        connection,
        "INSERT INTO instances (instance_id, org_id) VALUES ('i', 'o');
         INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                                next_attempt_at, last_started_at, last_status, last_error, dead_since)
         SELECT 'i', job, gen_random_uuid(), 'k', 't', now(), 'https://a.example', state::one_shot_state,
                CASE WHEN state = 'waiting' THEN now() + interval '1 h' END, now() - age, 503, 'a secret',
                CASE WHEN state = 'dead' THEN now() END
         FROM (VALUES ('old-dead', 'dead', interval '4 d'), ('young-dead', 'dead', interval '2 d'),
                      ('old-waiting', 'waiting', interval '4 d')) AS v (job, state, age)",
    )
    .await;
    let rest = "SELECT string_agg(concat(to_jsonb(o) - 'last_error'), ' ' ORDER BY job_id) FROM one_shots o";
    let before: String = sqlx::query_scalar(rest).fetch_one(&mut *connection).await.unwrap();
    let (next, gone) = fires::prune_ended(&db, 30 * DAY, RETENTION, None, 100).await.unwrap();
    assert_eq!((next, gone), (None, 0));
    let with_text = "SELECT job_id FROM one_shots WHERE last_error IS NOT NULL";
    let left: Vec<String> = sqlx::query_scalar(with_text).fetch_all(&mut *connection).await.unwrap();
    assert_eq!(left, ["young-dead"]);
    let after: String = sqlx::query_scalar(rest).fetch_one(&mut *connection).await.unwrap();
    assert_eq!(after, before);
}
