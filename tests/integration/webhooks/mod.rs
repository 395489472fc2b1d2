//! Events and webhooks: docs/events.md. The real service, and receivers on real sockets.

mod delivery;
mod events;
mod grouping;
mod manage;
pub(crate) mod receiver;

use nas_cron_testing::service::Settings;
use nas_cron_testing::world::World;
use serde_json::{Value, json};

/// Settings that report every fact at once.
fn at_once(settings: Settings) -> Settings {
    settings.with("NAS_CRON_EVENT_GROUP_WAIT", "0s").with("NAS_CRON_EVENT_GROUP_INTERVAL", "0s")
}

/// Creates a webhook. Returns its ID and its secret.
async fn add(world: &World, url: &str, more: Value) -> (String, String) {
    let mut body = json!({ "url": url });
    body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, created) = world.service.admin("POST", "/api/admin/webhooks", Some(&body)).await;
    assert_eq!(status, 201, "{created}");
    let text = |name: &str| created[name].as_str().unwrap().to_owned();
    (text("webhook_id"), text("secret"))
}

/// Writes facts of a type that no test causes otherwise, each in its own commit, and so in its own event if the service
/// reports every fact at once.
async fn note(world: &World, instance_id: Option<&str>, mark: &str) {
    sqlx::query("INSERT INTO event_facts (type, instance_id, data) VALUES ('dead_letter.created', $1, $2)")
        .bind(instance_id)
        .bind(json!({ "mark": mark }))
        .execute(&world.pool)
        .await
        .unwrap();
}

/// Returns a webhook.
async fn webhook(world: &World, id: &str) -> Value {
    let (status, found) = world.service.admin("GET", &format!("/api/admin/webhooks/{id}"), None).await;
    assert_eq!(status, 200, "{found}");
    found
}
