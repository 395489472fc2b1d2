//! A database that is recovered to a point in time and then served.

use nas_cron_testing::service::Service;
use nas_cron_testing::world::World;

use super::archived::Archived;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn recovered_service_fires_what_was_pending_at_that_time_and_repeats_nothing_from_before() {
    let mut archived = Archived::start().await;
    let mut world = World::on(archived.url(), |settings| settings).await;
    archived.back_up().await;
    world.arm("delivered-before", 0).await;
    world.delivered("delivered-before").await;
    let (pending_at, _) = world.arm("pending", 4_000).await;
    world.arm("due-later", 3_600_000).await;
    let now = "SELECT clock_timestamp()::text";
    let time: String = sqlx::query_scalar(now).fetch_one(&world.pool).await.unwrap();
    world.agents.wait_for("pending", 1).await;
    world.delivered("pending").await;
    // The mistakes.
    world.service.cancel(&world.token, "due-later").await;
    world.arm("armed-after", 3_600_000).await;
    world.service.kill9();
    world.pool.close().await;

    let url = archived.recover(&time).await;
    let settings =
        world.settings.clone().with("NAS_CRON_DATABASE_URL", url).with("NAS_CRON_MIGRATE", "false");
    world.service = Service::start(&settings).await;
    // It was delivered after that time, so it is fired again, once.
    assert_eq!(world.agents.wait_for("pending", 2).await.fire_at, pending_at);
    world.delivered("pending").await;
    assert_eq!(world.listed("due-later").await.expect("a job").0, "armed");
    assert_eq!(world.listed("armed-after").await, None);
    let fires = ["delivered-before", "pending", "due-later"].map(|job| world.agents.fires_of(job).len());
    assert_eq!(fires, [1, 2, 0]);
    // The service ends before its database.
    world.service.kill9();
    tokio::task::spawn_blocking(move || drop(archived)).await.unwrap();
}
