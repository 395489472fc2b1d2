//! Logins that an operator lists and revokes.

use nas_cron_testing::service::{ADMIN_TOKEN, client};
use serde_json::{Value, json};

use super::fixture::{World, refresh, refresh_token};

/// Calls the admin API. Returns the status and the body.
async fn call(world: &World, method: reqwest::Method, path: &str) -> (u16, Value) {
    let request = client().request(method, format!("{}/api/admin/{path}", world.service.url));
    let response = request.bearer_auth(ADMIN_TOKEN).send().await.expect("a response");
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

#[tokio::test]
async fn revoked_login_gets_no_tokens_and_its_access_tokens_are_rejected() {
    let world = World::new().await;
    let revoke =
        async |agent: &str| call(&world, reqwest::Method::DELETE, &format!("agents/{agent}/login")).await;
    let first = world.enroll("agent-1").await;
    let answer = refresh(&world.service, &first).await;
    let (access_token, second) = (answer.field("access_token"), answer.field("refresh_token"));
    world.service.list(&access_token).await;

    let done = json!({"instance_id": "agent-1", "revoked": true});
    assert_eq!(revoke("agent-1").await, (200, done));
    let ended = refresh(&world.service, &second).await;
    assert_eq!(ended.error(), (400, "invalid_grant".to_owned()));
    assert!(ended.field("error_description").contains("revoked by an operator"), "{ended:?}");
    let (status, body) =
        world.service.post("/api/agent-cron/cancel", &access_token, &json!({"job_id": "x"})).await;
    assert_eq!(status, 401, "the session has ended: {body}");
    assert_eq!(revoke("agent-1").await.1["revoked"], false, "it had ended already");
    let (status, problem) = revoke("none").await;
    assert_eq!((status, &problem["error"]), (404, &json!("not_found")), "{problem}");

    // The next enrollment begins anew.
    let enrolled = world.enroll_with("agent-1", &[]).await;
    assert_eq!(enrolled["login"], "begun");
    let answer = refresh(&world.service, &refresh_token(&enrolled)).await;
    world.service.list(&answer.field("access_token")).await;
    let (status, _) =
        world.service.post("/api/agent-cron/cancel", &access_token, &json!({"job_id": "x"})).await;
    assert_eq!(status, 401, "the old access token stays invalid");
}

#[tokio::test]
async fn logins_are_listed_with_their_ends_and_without_their_ids() {
    let world = World::new().await;
    world.agents(&["add", "without", "--org", "org-1"]).await;
    for agent in ["a", "b", "c"] {
        world.enroll(agent).await;
    }
    world.enroll_with("b", &["--new-login"]).await;
    let did = world.agents(&["revoke", "c", "--login"]).await;
    assert_eq!(did, json!({"instance_id": "c", "revoked": 1}));
    let (_, first) = call(&world, reqwest::Method::GET, "logins?limit=2").await;
    let (_, rest) = call(&world, reqwest::Method::GET, "logins?limit=2&after=b").await;
    assert_eq!((&first["next"], &rest["next"]), (&json!("b"), &Value::Null));
    let all: Vec<_> =
        [&first, &rest].into_iter().flat_map(|page| page["logins"].as_array().unwrap()).collect();
    let shown: Vec<_> = all.iter().map(|one| (&one["instance_id"], &one["ended_by"])).collect();
    assert_eq!(
        shown,
        [(&json!("a"), &Value::Null), (&json!("b"), &Value::Null), (&json!("c"), &json!("revoked"))]
    );
    assert!(!json!(all).to_string().contains("login_id"), "{all:?}");
    for query in ["org_id=org-1", ""] {
        let (_, page) = call(&world, reqwest::Method::GET, &format!("logins?{query}")).await;
        assert_eq!(page["logins"].as_array().unwrap().iter().collect::<Vec<_>>(), all, "{query}");
    }
    assert_eq!(call(&world, reqwest::Method::GET, "logins?org_id=none").await.1["logins"], json!([]));

    // The command shows the same on the database and through the server.
    let listed = world.agents(&["logins", "--limit", "2"]).await;
    let remote = world.settings.clone().with("NAS_CRON_ADMIN_TOKEN", ADMIN_TOKEN);
    let arguments = ["agents", "--server", &world.service.url, "logins", "--limit", "2", "--json"];
    let (status, out, error) = remote.run(&arguments).await;
    assert!(status.success(), "{error}");
    assert_eq!(serde_json::from_str::<Value>(&out).unwrap(), listed);
    let (status, out, error) =
        remote.run(&["agents", "--server", &world.service.url, "revoke", "a", "--login"]).await;
    assert!(status.success(), "{error}");
    assert_eq!(out, "The login of agent a is revoked; `nas-cron agents enroll` creates another one.\n");
    let arguments =
        ["agents", "--server", &world.service.url, "enroll", "a", "--org", "org-1", "--callback-url"];
    let (status, _, error) = remote.run(&[&arguments[..], &["https://a.example"]].concat()).await;
    assert!(
        !status.success() && error.contains("it creates a refresh token, which acts as the agent"),
        "{error}"
    );
}
