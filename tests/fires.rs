//! From provision to the agent's answer, over real sockets and the real binary.

mod support;

use std::time::Duration;

use serde_json::json;
use support::agent::Agents;
use support::database::database;
use support::portal::Portal;
use support::service::{Service, Settings};
use support::time::{fire_at, lateness_ms};

struct World {
    portal: Portal,
    agents: Agents,
    service: Service,
    token: String,
}

async fn world(change: impl FnOnce(Settings) -> Settings) -> World {
    let (db, url) = database().await;
    let (portal, agents) = (Portal::start().await, Agents::start().await);
    let service = Service::start(&change(Settings::new(&url, &portal))).await;
    sqlx::query("INSERT INTO instances (instance_id, org_id, bootstrap_session_id) VALUES ('inst-1', 'org-1', 'sid-1')")
        .execute(&sqlx::PgPool::connect(&url).await.unwrap())
        .await
        .unwrap();
    drop(db);
    let token = portal.session_token("org-1", "sid-1");
    World { portal, agents, service, token }
}

#[tokio::test]
async fn a_one_shot_fires_on_time_with_a_token_and_the_bytes_of_its_fire_at() {
    let World { portal: _portal, agents, service, token } = world(|s| s).await;
    let at = fire_at(1_500);
    let schedule = service.provision(&token, "job-1", &at, &agents.callback("inst-1")).await;
    let listed = service.list(&token).await;
    assert_eq!(listed["armed"][0]["fire_at"], json!(at), "byte for byte");
    assert_eq!(listed["armed"][0]["schedule_id"], json!(schedule));
    let fire = agents.wait_for("job-1", 1, Duration::from_secs(5)).await;
    let late = lateness_ms(&at, fire.arrived);
    assert!((0.0..100.0).contains(&late), "{late} ms late");
    assert_eq!(fire.body, json!({"job_id": "job-1", "fire_at": at}));
    assert!(!fire.token.is_empty());
}
