//! What the tests do to a service: the agent API and the admin API, as they are about auth profiles.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nas_cron_testing::agent::Fire;
use nas_cron_testing::service::client;
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::World;
use reqwest::Method;
use serde_json::{Value, json};

pub(crate) const REGISTRY: &str = "/api/agent-cron/auth-profiles";
pub(crate) const SERVICE: &str = "/api/admin/auth-profiles/service";
pub(crate) const ORG: &str = "/api/admin/auth-profiles/orgs/org-1";
pub(crate) const INSTANCE: &str = "/api/admin/auth-profiles/instances/inst-1";

/// Any call of the agent API: status and body.
pub(crate) async fn call(
    world: &World,
    method: &str,
    path: &str,
    token: &str,
    body: Option<&Value>,
) -> (u16, Value) {
    let method = Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = client().request(method, format!("{}{path}", world.service.url)).bearer_auth(token);
    if let Some(body) = body {
        request = request.json(body);
    }
    let answer = request.send().await.expect("an answer");
    let status = answer.status().as_u16();
    (status, answer.json().await.expect("JSON"))
}

/// A call that must do.
pub(crate) async fn done(
    world: &World,
    method: &str,
    path: &str,
    token: &str,
    body: Option<&Value>,
) -> Value {
    let (status, answer) = call(world, method, path, token, body).await;
    assert_eq!(status, 200, "{method} {path}: {answer}");
    answer
}

/// A call of the admin API that must do.
pub(crate) async fn admin(world: &World, method: &str, path: &str, body: Option<&Value>) -> Value {
    let (status, answer) = world.service.admin(method, path, body).await;
    assert_eq!(status, 200, "{method} {path}: {answer}");
    answer
}

/// Sets a default of the admin API's, or with `null` takes it away.
pub(crate) async fn default(world: &World, path: &str, auth: Value) {
    admin(world, "PUT", path, Some(&json!({"profiles": [], "default": auth}))).await;
}

/// A provision of `inst-1`'s in `millis`, with `changes` on top: the whole answer.
pub(crate) async fn provision(world: &World, job: &str, millis: i64, changes: &Value) -> Value {
    let at = fire_at(millis);
    let mut body = json!({
        "job_id": job, "fire_at": at, "agent_callback_url": world.callback(), "dedup_key": format!("{job}:{at}"),
    });
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    done(world, "POST", "/api/agent-cron/provision", &world.token, Some(&body)).await
}

/// Changes the profile of a job of `inst-1`: the whole answer.
pub(crate) async fn patch(world: &World, job: &str, auth: Value) -> Value {
    done(world, "PATCH", &format!("/api/agent-cron/jobs/{job}"), &world.token, Some(&json!({"auth": auth})))
        .await
}

/// The job's entry in `inst-1`'s list.
pub(crate) async fn listed(world: &World, job: &str) -> Value {
    world.listed(job).await.unwrap_or_else(|| panic!("{job} is listed")).1
}

/// The profile that a fire carries; its body and its token must agree, and without one nothing may be there.
pub(crate) fn carried(fire: &Fire) -> Option<String> {
    let claims = fire.token.split('.').nth(1).expect("a JWT");
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!(claims.get("auth"), fire.body.get("auth"), "the token's is the body's");
    let auth = fire.body.get("auth").map(|auth| auth.as_str().expect("a string").to_owned());
    if auth.is_none() {
        assert_eq!(fire.body, json!({"job_id": fire.job_id, "fire_at": fire.fire_at}), "as ever");
    }
    auth
}
