//! Checks of pending work. No service runs in these tests: it would do the work.

use nas_cron_testing::service::Settings;

use super::fixture::{NOTHING_LISTENS, bare, reports};

/// A database with an agent, without a service.
async fn idle() -> (Settings, sqlx::PgPool, nas_cron_testing::portal::Portal) {
    let (settings, portal, url) = bare().await;
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    run(&pool, "INSERT INTO instances (instance_id, org_id) VALUES ('inst-1', 'org-1')").await;
    (settings, pool, portal)
}

async fn run(pool: &sqlx::PgPool, statements: &str) {
    sqlx::raw_sql(sqlx::AssertSqlSafe(statements.to_owned())).execute(pool).await.expect(statements);
}

/// Inserts a one-shot in this state, due at this SQL expression.
async fn one_shot(pool: &sqlx::PgPool, job: &str, state: &str, next_attempt_at: &str) {
    run(
        pool,
        &format!(
            "INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                                    next_attempt_at, due_since, dead_since)
             VALUES ('inst-1', '{job}', gen_random_uuid(), 'key', 'then', COALESCE({next_attempt_at}, now()), 'https://agent.example', '{state}',
                     {next_attempt_at}, {next_attempt_at}, CASE WHEN '{state}' IN ('dead', 'stuck') THEN now() END)"
        ),
    )
    .await;
}

#[tokio::test]
async fn overdue_one_shots_and_dead_letters_are_reported() {
    let (settings, pool, _portal) = idle().await;
    let report = reports(&settings, "overdue", "ok", "nothing", "").await;
    assert_eq!(report.line("dead letters").1, "none");
    one_shot(&pool, "late", "armed", "now() - interval '3 h'").await;
    one_shot(&pool, "dead", "dead", "NULL").await;
    let report = reports(&settings, "overdue", "wrong", "due for 3 h", "nas-cron jobs list --overdue").await;
    let (status, found, fix) = report.line("dead letters");
    assert_eq!((status, found), ("warning", "1 dead letter, 0 stuck: these jobs do not run"));
    assert!(fix.contains("nas-cron jobs redrive"), "{fix}");
}

#[tokio::test]
async fn one_shots_within_the_watchdog_grace_are_not_overdue() {
    let (settings, pool, _portal) = idle().await;
    // In direct mode QStash calls the agents, and its log may be behind.
    run(&pool, "INSERT INTO active_backend (backend) VALUES ('qstash_direct')").await;
    one_shot(&pool, "late", "armed", "now() - interval '5 min'").await;
    let slow = settings.clone().with("NAS_CRON_QSTASH_DIRECT_GRACE", "1h");
    reports(&slow, "overdue", "ok", "at most", "").await;
    reports(
        &settings.with("NAS_CRON_QSTASH_DIRECT_GRACE", "60s"),
        "overdue",
        "wrong",
        "without an attempt",
        "",
    )
    .await;
}

#[tokio::test]
async fn holds_are_reported_by_name() {
    let (settings, pool, _portal) = idle().await;
    let report = reports(&settings, "holds", "ok", "none", "").await;
    assert_eq!(report.line("move").1, "no unfinished switch");
    run(&pool, "INSERT INTO holds (scope, scope_id, reason) VALUES ('all', '', 'upgrade of the database')")
        .await;
    let found = "the whole service has been on hold for";
    let report = reports(&settings, "holds", "warning", found, "nas-cron release").await;
    assert!(report.line("holds").1.ends_with(": upgrade of the database"), "{report:#?}");
}

#[tokio::test]
async fn stuck_outbox_rows_and_an_unfinished_switch_are_reported() {
    let (settings, pool, _portal) = idle().await;
    let settings = settings.with("NAS_CRON_NATS_URLS", format!("nats://{NOTHING_LISTENS}"));
    run(&pool, "INSERT INTO active_backend (backend) VALUES ('nats')").await;
    // A one-shot of the Postgres loop: it has yet to move.
    one_shot(&pool, "far", "armed", "now() + interval '1 day'").await;
    let report = reports(
        &settings,
        "move",
        "warning",
        "switch to nats is unfinished: 1 one-shot to move",
        "backend switch nats",
    )
    .await;
    assert_eq!(report.line("wake-ups").0, "ok", "{report:#?}");

    run(
        &pool,
        "UPDATE one_shots SET awaits = 'nats';
         INSERT INTO wake_ups (schedule_id, generation, backend, instance_id, job_id, due_at, next_try_at)
         SELECT schedule_id, 1, 'nats', instance_id, job_id, next_attempt_at, now() - interval '5 min' FROM one_shots",
    )
    .await;
    let found = "nats: 1 wake-up pending in the outbox for more than a minute";
    reports(&settings, "wake-ups", "warning", found, "check that a replica").await;
    run(&pool, "UPDATE wake_ups SET next_try_at = now() + interval '1 min', tries = 3, last_error = 'did not answer in time'").await;
    let found = "nats: 1 wake-up pending in the outbox; last error: did not answer in time";
    reports(&settings, "wake-ups", "warning", found, "replicas keep retrying").await;
}
