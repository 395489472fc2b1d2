//! Calls of the agent API and the admin API that concern auth profiles.

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

/// Calls the agent API. Returns status and body.
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

/// Calls the agent API, and requires a 200.
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

/// Calls the admin API, and requires a 200.
pub(crate) async fn admin(world: &World, method: &str, path: &str, body: Option<&Value>) -> Value {
    let (status, answer) = world.service.admin(method, path, body).await;
    assert_eq!(status, 200, "{method} {path}: {answer}");
    answer
}

/// Sets a default with the admin API; `null` removes it.
pub(crate) async fn default(world: &World, path: &str, auth: Value) {
    admin(world, "PUT", path, Some(&json!({"profiles": [], "default": auth}))).await;
}

/// Provisions a job of `inst-1` in `millis`, with these changes. Returns the whole response.
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

/// Changes the profile of a job of `inst-1`. Returns the whole response.
pub(crate) async fn patch(world: &World, job: &str, auth: Value) -> Value {
    done(world, "PATCH", &format!("/api/agent-cron/jobs/{job}"), &world.token, Some(&json!({"auth": auth})))
        .await
}

/// Returns the job's entry in the list of `inst-1`.
pub(crate) async fn listed(world: &World, job: &str) -> Value {
    world.listed(job).await.unwrap_or_else(|| panic!("{job} is listed")).1
}

/// Returns the profile that a fire carries.
pub(crate) fn carried(fire: &Fire) -> Option<String> {
    carried_auth(fire).map(|auth| auth.as_str().expect("a string").to_owned())
}

/// Returns the `auth` that a fire carries. Body and token must agree, and without it the body has no other field.
pub(crate) fn carried_auth(fire: &Fire) -> Option<Value> {
    let claims = fire.token.split('.').nth(1).expect("a JWT");
    let claims: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(claims).unwrap()).unwrap();
    assert_eq!(claims.get("auth"), fire.body.get("auth"), "the token agrees with the body");
    let auth = fire.body.get("auth").cloned();
    if auth.is_none() {
        assert_eq!(
            fire.body,
            json!({"job_id": fire.job_id, "fire_at": fire.fire_at}),
            "only the usual fields"
        );
    }
    auth
}
