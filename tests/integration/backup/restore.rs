//! A dump of the database, restored into another one that is then served.

use nas_cron_testing::database::empty_database;
use nas_cron_testing::world::{World, eventually};

use super::dump::{dump, restore, serve_restored};

fn fires(world: &World, job: &str) -> usize {
    world.agents.fires_of(job).len()
}

#[tokio::test]
async fn restored_service_fires_what_is_overdue_once_and_repeats_nothing_from_before_the_dump() {
    let mut world = World::new().await;
    let (at, _) = world.arm("delivered-before", 0).await;
    world.delivered("delivered-before").await;
    world.arm("due-while-down", 6_000).await;
    world.arm("due-later", 3_600_000).await;
    // Due after the dump, and delivered before the loss of the database.
    world.arm("delivered-after", 4_000).await;
    let dump = dump(&world.url).await;
    world.agents.wait_for("delivered-after", 1).await;
    world.delivered("delivered-after").await;
    // The loss of the database.
    world.service.kill9();
    let before = fires(&world, "due-while-down");

    serve_restored(&mut world, &dump).await;
    world.agents.wait_for("due-while-down", before + 1).await;
    world.agents.wait_for("delivered-after", 2).await;
    world.delivered("due-while-down").await;
    world.delivered("delivered-after").await;
    // The delivered key is remembered: it waits for the time of a second fire.
    world.again("delivered-before", &at).await;
    eventually("the one-shots are settled", async || {
        let list = world.service.list(&world.token).await;
        let armed: Vec<_> =
            list["armed"].as_array()?.iter().filter_map(|one| one["job_id"].as_str()).collect();
        (armed == ["delivered-before", "due-later"]).then_some(())
    })
    .await;
    assert_eq!(fires(&world, "delivered-before"), 1, "delivered before the dump");
    assert_eq!(fires(&world, "due-while-down"), before + 1, "overdue, and fired once");
    // The dump does not know of it, so the fire is repeated, with the same key: agents refuse it as a duplicate.
    assert_eq!(fires(&world, "delivered-after"), 2);
    assert_eq!(fires(&world, "due-later"), 0);
}

#[tokio::test]
async fn restored_keys_sign_for_agents_as_before() {
    let mut world = World::new().await;
    let jwks = async |world: &World| world.service.get("/api/agent-cron/jwks.json").await.1;
    let before = jwks(&world).await;
    let dump = dump(&world.url).await;
    world.service.kill9();
    serve_restored(&mut world, &dump).await;
    assert_eq!(jwks(&world).await, before);
}

#[tokio::test]
async fn dump_of_a_later_release_is_refused_and_left_as_it_is() {
    let mut world = World::new().await;
    world.arm("job", 3_600_000).await;
    world.service.kill9();
    world
        .sql(
            "UPDATE schema_compatibility SET usable_from = 900;
             INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time)
             VALUES (900, 'of a later release', true, '', 0)",
        )
        .await;
    let dump = dump(&world.url).await;
    let url = empty_database().await;
    restore(&url, &dump).await;
    let settings = world.settings.clone().with("NAS_CRON_DATABASE_URL", url.clone());
    for command in [&["serve"][..], &["migrate"], &["export", "-"], &["jobs", "list"]] {
        let (status, out, error) = settings.run(command).await;
        assert!(!status.success(), "{command:?}: {out}");
        assert!(error.contains("has version 900"), "{command:?}: {error}");
    }
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    let jobs: i64 = sqlx::query_scalar("SELECT count(*) FROM one_shots").fetch_one(&pool).await.unwrap();
    assert_eq!(jobs, 1);
}
