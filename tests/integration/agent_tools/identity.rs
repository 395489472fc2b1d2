//! The agent identity in the tools: registered, shared and renewed, without ever failing a call.

use futures::future::join_all;
use nas_cron_testing::world::World;
use serde_json::{Value, json};

use super::fixture::Tools;

/// A service with agent identities, and a logged-in agent with `identity on`.
async fn world() -> (World, Tools) {
    world_with(&[]).await
}

async fn world_with(more: &[(&'static str, &str)]) -> (World, Tools) {
    let world = World::with(|settings| {
        let on = settings.with("NAS_CRON_AGENT_IDENTITY", "true");
        more.iter().fold(on, |settings, (name, value)| settings.with(name, *value))
    })
    .await;
    let tools = Tools::logged_in(&world.service.url, &world.token).await;
    tools.run("identity on").await.ok();
    (world, tools)
}

/// Returns the server's identities of the agent and their tasks, without revoked ones.
async fn known(world: &World) -> (Vec<String>, Vec<String>) {
    let (status, body) = world.service.admin("GET", "/api/admin/agents/inst-1/identities", None).await;
    assert_eq!(status, 200, "{body}");
    let active = |of: &Value| -> Vec<Value> {
        of.as_array().unwrap().iter().filter(|one| one["revoked_at"].is_null()).cloned().collect()
    };
    let name = |one: &Value, field: &str| one[field].as_str().unwrap().to_owned();
    let identities = active(&body["identities"]);
    let tasks = identities.iter().flat_map(|identity| active(&identity["tasks"]));
    let tasks = tasks.map(|task| name(&task, "task_id")).collect();
    (identities.iter().map(|one| name(one, "agent_runtime_id")).collect(), tasks)
}

/// Returns the identity in the agent's store.
fn stored(world: &World, tools: &Tools) -> Value {
    tools.stored()["servers"][&world.service.url]["agent_identity"].clone()
}

fn as_stored(identity: &Value) -> (Vec<String>, Vec<String>) {
    let field = |name: &str| vec![identity[name].as_str().unwrap().to_owned()];
    (field("agent_runtime_id"), field("background_task_id"))
}

#[tokio::test]
async fn eight_processes_at_once_register_one_task_and_keep_it() {
    let (world, tools) = world().await;
    join_all((0..8).map(async |_| tools.run("list").await.ok())).await;
    let identity = stored(&world, &tools);
    assert_eq!(known(&world).await, as_stored(&identity));

    // A later process: without an access token, so that only the identity can authenticate the call.
    tools.run("login --without-token").await.ok();
    tools.run(&format!("add report --in 1h --callback-url {}", world.callback())).await.ok();
    assert_eq!(world.listed("report").await.unwrap().0, "armed", "for the same instance");
    tools.run("cancel report").await.ok();
    assert_eq!(known(&world).await, as_stored(&identity));
    assert_eq!(stored(&world, &tools), identity);

    let private_key = identity["private_key"].as_str().unwrap();
    assert!(!world.service.log().contains(private_key));
    for line in ["identity show", "identity show --json"] {
        let shown = tools.run(line).await.ok();
        assert!(!shown.contains(private_key) && shown.contains("ssh-ed25519 "), "{shown}");
    }
}

#[tokio::test]
async fn a_sealed_task_is_opened() {
    let (world, tools) = world_with(&[("NAS_CRON_AGENT_TASK_IDS_ENCRYPTED", "true")]).await;
    tools.run("list").await.ok();
    assert_eq!(known(&world).await, as_stored(&stored(&world, &tools)));
    tools.run("login --without-token").await.ok();
    tools.run("list").await.ok();
}

#[tokio::test]
async fn revoked_tasks_and_keys_are_registered_again() {
    let (world, tools) = world().await;
    tools.run("list").await.ok();
    let first = stored(&world, &tools);
    let path = format!("/api/admin/agents/inst-1/identities/{}", first["agent_runtime_id"].as_str().unwrap());
    let task = format!("{path}/tasks/{}", first["background_task_id"].as_str().unwrap());
    let (status, body) = world.service.admin("DELETE", &task, None).await;
    assert!((200..300).contains(&status), "{status} {body}");
    // Within the same second the signature would be the same, and its task is revoked.
    tokio::time::sleep(std::time::Duration::from_millis(1_100)).await;
    tools.run("list").await.ok();
    let second = stored(&world, &tools);
    assert_eq!(second["agent_runtime_id"], first["agent_runtime_id"]);
    assert_ne!(second["background_task_id"], first["background_task_id"]);
    assert_eq!(known(&world).await, as_stored(&second));

    let (status, body) = world.service.admin("DELETE", &path, None).await;
    assert!((200..300).contains(&status), "{status} {body}");
    tools.run("list").await.ok();
    let third = stored(&world, &tools);
    assert_ne!(third["agent_runtime_id"], first["agent_runtime_id"]);
    assert_ne!(third["private_key"], first["private_key"]);
    assert_eq!(known(&world).await, as_stored(&third));

    // Without a token to register with, the stored identity stays, and the error contains the fix.
    tools.run("login --without-token").await.ok();
    let path = format!("/api/admin/agents/inst-1/identities/{}", third["agent_runtime_id"].as_str().unwrap());
    world.service.admin("DELETE", &path, None).await;
    let done = tools.run("list").await;
    assert!(done.code == Some(2) && done.err.contains("nas-cron cron login"), "{done:?}");
    assert_eq!(stored(&world, &tools), third);
}

#[tokio::test]
async fn without_a_usable_identity_the_token_is_used_with_one_warning() {
    let world = World::new().await;
    let tools = Tools::logged_in(&world.service.url, &world.token).await;
    tools.run("identity on").await.ok();
    let (out, err) = tools.run("list").await.warned();
    assert!(out.contains("No one-shots are armed") && err.contains("agent identities are off"), "{err}");
    tools.run("list --use-agent-identity off").await.ok();
    let line = format!("update nothing --in 1h --callback-url {}", world.callback());
    let done = tools.run(&line).await;
    assert_eq!((done.code, done.err.matches("warning: ").count()), (Some(3), 1), "{done:?}");
    tools.run("identity off").await.ok();
    tools.run("list").await.ok();

    let stranger = Tools::at(&world.service.url);
    let mut command = stranger.command("list");
    command.env("NAS_CRON_ACCESS_TOKEN", &world.token).env("NAS_CRON_USE_AGENT_IDENTITY", "on");
    let (_, err) = super::fixture::run(command, "").await.warned();
    assert!(err.contains("has no entry for") && err.contains("nas-cron cron login"), "{err}");
    assert!(!stranger.auth_store().exists(), "nothing is stored for the stranger");
}

#[tokio::test]
async fn a_key_is_rotated_and_forgotten() {
    let (world, tools) = world().await;
    tools.run("list").await.ok();
    let first = stored(&world, &tools);
    let said = tools.run("identity rotate").await.ok();
    let second = stored(&world, &tools);
    assert!(said.contains(second["agent_runtime_id"].as_str().unwrap()), "{said}");
    assert_ne!(second["private_key"], first["private_key"]);
    let (identities, tasks) = known(&world).await;
    assert_eq!(
        (json!(identities), tasks),
        (json!([second["agent_runtime_id"]]), vec![]),
        "the old identity is revoked"
    );
    tools.run("list").await.ok();
    assert_eq!(known(&world).await, as_stored(&stored(&world, &tools)));

    tools.run("identity forget").await.ok();
    assert_eq!(known(&world).await, (vec![], vec![]));
    assert_eq!(stored(&world, &tools), Value::Null);
    tools.run("list").await.ok();
    let shown = tools.run("identity show --json").await.json();
    assert_eq!((&shown["use_agent_identity"], &shown["access_token"]), (&json!("off"), &json!("kept")));
    assert!(tools.run("identity forget").await.ok().contains("No identity is stored"));
}
