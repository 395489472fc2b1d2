//! Check of the running replicas.

use super::fixture::{bare, reports, served};

#[tokio::test]
async fn a_service_without_a_running_replica_is_reported() {
    let (settings, _portal, _) = bare().await;
    reports(&settings, "replicas", "skipped", "none has run on this database yet", "").await;

    let (mut world, settings) = served(|settings| settings).await;
    reports(&settings, "replicas", "ok", "1 replica running: ", "").await;
    world.service.kill9();
    world.sql("UPDATE replicas SET renewed_at = now() - interval '2 min'").await;
    let fix = "start `nas-cron serve`";
    reports(&settings, "replicas", "wrong", "was seen 2 min ago", fix).await;
    // As after a regular stop.
    world.sql("DELETE FROM replicas").await;
    reports(&settings, "replicas", "wrong", "none is running, so nothing fires", fix).await;
}
