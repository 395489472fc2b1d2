//! Quotas of armed jobs (docs/contract.md#quotas), and the pace of one agent's calls.

mod abuse;
mod limits;
mod operators;
mod pace;
mod replicas;
mod wire;

use nas_cron_testing::service::Settings;
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::World;
use serde_json::Value;

/// A world with these default quotas of an instance and of an org.
async fn world(instance: u32, org: u32) -> World {
    World::with(|settings| with_quotas(settings, instance, org)).await
}

fn with_quotas(settings: Settings, instance: u32, org: u32) -> Settings {
    settings
        .with("NAS_CRON_JOBS_PER_INSTANCE", instance.to_string())
        .with("NAS_CRON_JOBS_PER_ORG", org.to_string())
}

/// Provisions a job an hour ahead. Returns status and body.
async fn arm(world: &World, token: &str, job: &str) -> (u16, Value) {
    let callback = world.agents.callback("inst-1");
    world.service.try_provision(token, job, &fire_at(3_600_000), &callback).await
}

/// Provisions a job until it is accepted: a count is used again for some time.
async fn arms_eventually(world: &World, token: &str, job: &str) {
    nas_cron_testing::world::eventually(&format!("{job} is armed"), async || {
        (arm(world, token, job).await.0 == 200).then_some(())
    })
    .await;
}

/// Returns the number of stored jobs that are armed.
async fn armed(world: &World) -> i64 {
    sqlx::query_scalar("SELECT count(*) FROM one_shots WHERE next_attempt_at IS NOT NULL")
        .fetch_one(&world.pool)
        .await
        .unwrap()
}
