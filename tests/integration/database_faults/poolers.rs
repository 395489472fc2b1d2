//! A real `PgBouncer` between the service and its database.

use nas_cron_testing::cluster::Cluster;
use nas_cron_testing::database::database;
use nas_cron_testing::pgbouncer::{PgBouncer, PoolMode};
use nas_cron_testing::portal::Portal;
use nas_cron_testing::service::Settings;
use nas_cron_testing::time::fire_at;

use super::causes::reports;

/// Claims and notifications belong to a session, so transaction pooling is rejected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn transaction_pooling_is_refused_with_its_name_and_the_fix() {
    let (_db, url) = database().await;
    let (bouncer, portal) = (PgBouncer::start(PoolMode::Transaction, &url).await, Portal::start().await);
    let settings = Settings::new(&bouncer.url(&url), &portal).with("NAS_CRON_MIGRATE", "false");
    for command in [&["serve"][..], &["doctor"], &["jobs", "list"], &["migrate"]] {
        let output = reports(&settings, command, &["PgBouncer"]).await;
        assert!(output.contains("transaction"), "{command:?}: {output}");
        assert!(output.contains("session"), "{command:?} names the fix: {output}");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn session_pooling_provisions_and_fires() {
    let (_db, url) = database().await;
    let bouncer = PgBouncer::start(PoolMode::Session, &url).await;
    let through = bouncer.url(&url);
    let cluster = Cluster::start_on(&url, 1, |s| s.with("NAS_CRON_DATABASE_URL", through)).await;
    let token = cluster.agent("inst-1").await;
    let callback = cluster.agents.callback("inst-1");
    cluster.replicas[0].provision(&token, "job", &fire_at(500), &callback).await;
    cluster.agents.wait_for("job", 1).await;
}
