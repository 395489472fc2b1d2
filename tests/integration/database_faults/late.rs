//! A statement may reach the server long after the service has given up its session. By then it must have no effect.

use std::time::Duration;

use nas_cron::db::ride_out;
use nas_cron::domain::arm_rules::ArmRules;
use nas_cron::oneshot::{self, Provision};
use nas_cron_protocol::{InstanceId, JobId};
use nas_cron_testing::database::{connect, database};
use nas_cron_testing::proxy::Proxy;
use nas_cron_testing::time::{PATIENCE, fire_at};
use nas_cron_testing::world::eventually;
use tokio::time::Instant;

use super::fixture::{address_of, at};

const CALLBACK: &str = "https://agent.example";
const RULES: ArmRules = ArmRules {
    fire_floor: Duration::from_secs(1),
    second_fire_delay: Duration::from_mins(1),
    second_fire_interval: Duration::from_mins(5),
    second_fires_max: 3,
    claim_lifetime: Duration::from_mins(5),
    duplicate_delay: Duration::from_secs(330),
};

/// A cancel is sent on a session that stalls, and repeated on another one. A new provision follows. Then the bytes of the
/// first session arrive.
#[tokio::test]
async fn late_statement_does_not_undo_newer_changes() {
    let (_direct, url) = database().await;
    let pool = sqlx::PgPool::connect(&url).await.unwrap();
    sqlx::query("INSERT INTO instances (instance_id, org_id, callback_url) VALUES ('inst-1', 'org-1', $1)")
        .bind(CALLBACK)
        .execute(&pool)
        .await
        .unwrap();
    let proxy = Proxy::start(address_of(&url)).await;
    let db = connect(&at(&url, proxy.address()));
    let (instance, job) = (InstanceId::new("inst-1").unwrap(), JobId::new("job").unwrap());
    let provision = async |minutes: i64| {
        let fire_at = fire_at(minutes * 60_000);
        let wanted = Provision::new("job", &fire_at, CALLBACK, &format!("job:{fire_at}")).unwrap();
        oneshot::provision(&db, &instance, Some(CALLBACK), &wanted, &RULES).await.unwrap();
    };
    // Both statements are prepared on the session, so that each is a single message from then on.
    oneshot::cancel(&db, &instance, &job).await.unwrap();
    provision(10).await;
    proxy.hold_existing();
    ride_out(Instant::now() + PATIENCE, || oneshot::cancel(&db, &instance, &job)).await.unwrap();
    provision(20).await;
    proxy.heal();
    eventually("the stalled session has ended", async || {
        let sessions: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM pg_stat_activity
             WHERE datname = current_database() AND application_name = 'nas-cron'",
        )
        .fetch_one(&pool)
        .await
        .unwrap();
        (sessions <= 1).then_some(())
    })
    .await;
    let listing = oneshot::list(&db, &instance).await.unwrap();
    assert_eq!(listing.armed.len(), 1, "the new one-shot stands");
}
