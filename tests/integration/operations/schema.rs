//! `nas-cron migrate`, and the schema check of `nas-cron serve`.

use std::time::Duration;

use nas_cron_testing::database::{database, empty_database};
use nas_cron_testing::portal::Portal;
use nas_cron_testing::service::{Service, Settings};
use nas_cron_testing::world::World;
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

/// A later release has migrated: it added a column and a table.
const LATER: &str = "\
ALTER TABLE one_shots ADD COLUMN of_a_later_release text NOT NULL DEFAULT 'x';
ALTER TABLE instances ADD COLUMN of_a_later_release text;
CREATE TABLE things_of_a_later_release (thing text PRIMARY KEY);
INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
VALUES (9999, 'from the future', true, 'x', 0)";

#[tokio::test]
async fn rollback_to_this_release_works_on_the_schema_of_a_later_one() {
    let mut world = World::new().await;
    world.sql(LATER).await;
    let before = shape(&world.url).await;
    let (status, out, output) = world.settings.run(&["migrate"]).await;
    assert!(status.success(), "{output}");
    assert!(out.contains("9999") && out.contains("nothing to do"), "{out}");
    let (_, out, _) = world.settings.run(&["migrate", "--dry-run", "--json"]).await;
    assert_eq!(out.trim(), r#"{"status":"newer","steps":[]}"#);

    assert_eq!(
        std::mem::replace(&mut world.service, Service::start(&world.settings).await).stop().await.code(),
        Some(0)
    );
    assert_eq!(
        world.service.log().matches("database schema is newer than this release").count(),
        1,
        "{}",
        world.service.log()
    );
    world.arm("job", 0).await;
    world.agents.wait_for("job", 1).await;
    world.ended("job", 1).await;
    let (at, schedule) = world.arm("later", 3_600_000).await;
    assert_eq!(world.again("later", &at).await, schedule);
    world.service.cancel(&world.token, "later").await;
    world.all_delivered().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    assert_eq!(world.service.get("/readyz").await.0, 200);

    let (status, _, output) = world.settings.run(&["agents", "list"]).await;
    assert!(status.success() && output.contains("database schema is newer than this release"), "{output}");
    assert_eq!(shape(&world.url).await, before);
}

#[tokio::test]
async fn rollback_beyond_the_releases_that_may_use_the_schema_is_refused() {
    let (_, url) = database().await;
    sql(&url, LATER).await;
    sql(&url, "UPDATE schema_compatibility SET usable_from = 9999").await;
    refuses(&url, &["9999", "a later one", "nas-cron migrate --dry-run"]).await;
    let settings = settings(&url).await;
    for arguments in [&["migrate"][..], &["migrate", "--dry-run"], &["agents", "list"]] {
        let before = shape(&url).await;
        let (status, _, output) = settings.run(arguments).await;
        assert!(
            status.code() == Some(1) && output.contains("9999") && output.contains("a later one"),
            "{output}"
        );
        assert_eq!(shape(&url).await, before);
    }
}

#[tokio::test]
async fn diverged_step_is_found_on_a_newer_schema() {
    let (_, url) = database().await;
    sql(&url, LATER).await;
    sql(&url, "UPDATE _sqlx_migrations SET checksum = 'another' WHERE version = 1").await;
    refuses(&url, &["step 1", "nas-cron migrate --dry-run"]).await;
    sql(&url, "DELETE FROM _sqlx_migrations WHERE version = 1").await;
    refuses(&url, &["9999", "a later one"]).await;
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
async fn index_of_an_interrupted_migration_is_built_again() {
    let url = empty_database().await;
    let settings = settings(&url).await;
    assert!(settings.run(&["migrate"]).await.0.success());
    let pool = PgPool::connect(&url).await.unwrap();
    // As a killed `CREATE INDEX CONCURRENTLY` leaves them.
    let interrupted =
        "UPDATE pg_index SET indisvalid = false WHERE indexrelid = 'instances_by_org'::regclass;
                       DELETE FROM _sqlx_migrations WHERE version = 10";
    sqlx::raw_sql(interrupted).execute(&pool).await.unwrap();
    let (status, _, error) = settings.run(&["migrate"]).await;
    assert!(status.success(), "{error}");
    let valid = "SELECT indisvalid FROM pg_index WHERE indexrelid = 'instances_by_org'::regclass";
    assert!(sqlx::query_scalar::<_, bool>(valid).fetch_one(&pool).await.unwrap());
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
