//! The move of a running service to another database, with the commands of docs/backup.md.

use nas_cron_testing::database::database;
use nas_cron_testing::service::{Service, Settings};
use nas_cron_testing::world::{World, eventually};
use sqlx::PgPool;

use super::files::{Scratch, count};
use super::page::commands;

/// Runs commands that select a database by their `--config`.
async fn run(settings: &Settings, script: &str) {
    let settings = settings.clone().without("NAS_CRON_DATABASE_URL");
    let mut bash = tokio::process::Command::from(settings.bash(script));
    let ended = bash.kill_on_drop(true).output().await.expect("bash is installed");
    let (out, error) = (String::from_utf8_lossy(&ended.stdout), String::from_utf8_lossy(&ended.stderr));
    assert!(ended.status.success(), "{script}\n{out}{error}");
}

#[tokio::test]
async fn moved_service_fires_the_last_one_shot_of_each_job_and_none_that_was_cancelled_meanwhile() {
    let old = World::new().await;
    let (_, url) = database().await;
    let new = Service::start(&old.settings.clone().with("NAS_CRON_DATABASE_URL", &url)).await;
    let there = PgPool::connect(&url).await.unwrap();
    old.arm("delivered", 0).await;
    old.delivered("delivered").await;
    old.arm("cancelled", 6_000).await;
    old.arm("moved", 6_000).await;
    let (kept_at, _) = old.arm("kept", 3_600_000).await;

    let file = |name: &str, url: &str| Scratch::file(name, &format!("database_url = {url:?}\n"));
    let files = [file("old", &old.url), file("new", &url)];
    let block = commands("--config new.toml");
    let block = block.replace("old.toml", files[0].path()).replace("new.toml", files[1].path());
    // The comment between the two passes.
    let (first, second) = block.split_once("\n# Lead the agents").expect(&block);
    run(&old.settings, first).await;
    assert_eq!((count(&there, "instances").await, count(&there, "one_shots").await), (1, 0));

    let (moved_to, _) = old.arm("moved", 8_000).await;
    old.service.cancel(&old.token, "cancelled").await;
    run(&old.settings, &format!("#{second}")).await;
    let keys: Vec<String> = sqlx::query_scalar("SELECT dedup_key FROM one_shots ORDER BY job_id")
        .fetch_all(&there)
        .await
        .unwrap();
    assert_eq!(keys, [format!("kept:{kept_at}"), format!("moved:{moved_to}")]);

    // It fires after the instants that it and the cancelled job had at first.
    assert_eq!(old.agents.wait_for("moved", 1).await.fire_at, moved_to);
    eventually("only the later job is armed", async || {
        let list = new.list(&old.token).await;
        let armed = list["armed"].as_array()?;
        (armed.len() == 1 && armed[0]["job_id"] == "kept").then_some(())
    })
    .await;
    let counts = ["delivered", "cancelled", "moved", "kept"].map(|job| old.agents.fires_of(job).len());
    assert_eq!(counts, [1, 0, 1, 0]);
}
