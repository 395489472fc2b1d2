//! `nas-cron migrate`, and the schema check of `nas-cron serve`.

use nas_cron_testing::database::{database, empty_database};
use nas_cron_testing::portal::Portal;
use nas_cron_testing::service::Settings;
use serde_json::{Value, json};
use sqlx::PgPool;

/// Settings for `url` without automatic migration.
async fn settings(url: &str) -> Settings {
    Settings::new(url, &Portal::start().await).without("NAS_CRON_MIGRATE")
}

async fn sql(url: &str, statement: &'static str) {
    sqlx::raw_sql(statement).execute(&PgPool::connect(url).await.unwrap()).await.expect(statement);
}

/// Returns all relations of the schema, and the recorded migrations.
async fn shape(url: &str) -> (Vec<String>, Option<String>) {
    let pool = PgPool::connect(url).await.unwrap();
    let relations = sqlx::query_scalar(
        "SELECT relkind::text || ' ' || relname FROM pg_class WHERE relnamespace = 'public'::regnamespace ORDER BY 1",
    );
    let relations = relations.fetch_all(&pool).await.unwrap();
    let noted = "SELECT string_agg(m::text, E'\n' ORDER BY m.version) FROM _sqlx_migrations m";
    (relations, sqlx::query_scalar(noted).fetch_one(&pool).await.unwrap_or_default())
}

/// Checks that `serve` refuses to start, that its error contains all `words`, and that the schema is unchanged.
async fn refuses(url: &str, words: &[&str]) {
    let before = shape(url).await;
    let (status, _, output) = settings(url).await.run(&["serve"]).await;
    assert_eq!(status.code(), Some(1), "{output}");
    for word in words {
        assert!(output.contains(word), "{word:?} is not in: {output}");
    }
    assert_eq!(shape(url).await, before);
}

#[tokio::test]
async fn serve_refuses_a_missing_schema_and_names_the_command_that_fixes_it() {
    let url = empty_database().await;
    refuses(&url, &["nas-cron migrate"]).await;
    let (status, output, _) = settings(&url).await.run(&["migrate"]).await;
    assert!(status.success() && output.starts_with("Applied "), "{output}");
}

#[tokio::test]
async fn serve_refuses_an_older_schema_and_names_the_command_that_fixes_it() {
    let (_, url) = database().await;
    sql(&url, "DELETE FROM _sqlx_migrations WHERE version = (SELECT max(version) FROM _sqlx_migrations)")
        .await;
    refuses(&url, &["1 step", "nas-cron migrate"]).await;
}

#[tokio::test]
async fn serve_and_migrate_refuse_a_newer_schema() {
    let (_, url) = database().await;
    sql(
        &url,
        "INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
         VALUES (9999, 'from the future', true, 'x', 0)",
    )
    .await;
    refuses(&url, &["9999", "a later one", "nas-cron migrate --dry-run"]).await;
    let (status, _, output) = settings(&url).await.run(&["migrate"]).await;
    assert!(status.code() == Some(1) && output.contains("9999"), "{output}");
}

#[tokio::test]
async fn serve_and_migrate_refuse_a_diverged_schema() {
    for change in [
        "UPDATE _sqlx_migrations SET checksum = 'another' WHERE version = 1",
        "UPDATE _sqlx_migrations SET success = false WHERE version = 1",
    ] {
        let (_, url) = database().await;
        sql(&url, change).await;
        refuses(&url, &["step 1", "nas-cron migrate --dry-run"]).await;
        for arguments in [&["migrate"][..], &["migrate", "--dry-run"]] {
            let before = shape(&url).await;
            let (status, _, output) = settings(&url).await.run(arguments).await;
            assert!(status.code() == Some(1) && output.contains("nothing was changed"), "{output}");
            assert_eq!(shape(&url).await, before);
        }
    }
}

#[tokio::test]
async fn migrate_is_idempotent_and_its_dry_run_changes_nothing() {
    let url = empty_database().await;
    let settings = settings(&url).await;
    let run = async |arguments: &[&str]| {
        let (status, out, output) = settings.run(arguments).await;
        assert!(status.success(), "{output}");
        out
    };
    let nothing = shape(&url).await;
    let pending: Value = serde_json::from_str(&run(&["migrate", "--dry-run", "--json"]).await).unwrap();
    assert_eq!(pending["status"], "pending");
    assert_eq!(shape(&url).await, nothing, "a dry run");

    let migrated: Value = serde_json::from_str(&run(&["migrate", "--json"]).await).unwrap();
    assert_eq!(
        migrated,
        json!({"status": "migrated", "steps": pending["steps"]}),
        "the steps of the dry run"
    );
    let done = shape(&url).await;
    assert_ne!(done, nothing);
    for _ in 0..2 {
        assert_eq!(run(&["migrate"]).await, "The schema is up to date: nothing to do.\n");
    }
    assert_eq!(run(&["migrate", "--dry-run", "--json"]).await.trim(), r#"{"status":"current","steps":[]}"#);
    assert_eq!(shape(&url).await, done);
}

#[tokio::test]
async fn five_migrations_at_once_do_the_work_once() {
    let url = empty_database().await;
    let settings = settings(&url).await;
    let all = futures::future::join_all((0..5).map(|_| settings.run(&["migrate", "--json"]))).await;
    let mut output: Vec<String> = Vec::new();
    for (status, out, err) in all {
        assert!(status.success(), "{err}");
        output.push(serde_json::from_str::<Value>(&out).unwrap()["status"].as_str().unwrap().to_owned());
    }
    output.sort();
    assert_eq!(output, ["current", "current", "current", "current", "migrated"]);
}

#[tokio::test]
async fn migrate_reports_an_unreachable_database_without_its_password() {
    let settings = settings("postgres://user:hunter2hunter2@127.0.0.1:1/none").await;
    let (status, out, output) = settings.run(&["migrate"]).await;
    assert_eq!(status.code(), Some(1));
    assert!(
        output.contains("database_url") && output.contains("127.0.0.1:1: Connection refused"),
        "{output}"
    );
    assert!(!output.contains("hunter2") && !out.contains("hunter2"));
}
