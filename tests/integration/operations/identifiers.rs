//! Identifiers that look like another one or like nothing are rejected on every route, in every command and import.

use std::io::Write as _;
use std::process::Stdio;

use nas_cron_testing::service::{ADMIN_TOKEN, client};
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::World;
use serde_json::{Value, json};

/// Invalid identifiers: blank, padded, or with control characters.
const INVALID: [&str; 6] = [" ", "\u{a0}\u{3000}", " a", "a\u{a0}", "a\tb", "\u{7f}"];

fn percent_encoded(text: &str) -> String {
    url::form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>().replace('+', "%20")
}

/// Returns the ids of all instances, and the number of one-shots.
async fn stored(world: &World) -> (Vec<String>, i64) {
    let instances = sqlx::query_scalar("SELECT instance_id FROM instances ORDER BY 1");
    let one_shots = sqlx::query_scalar("SELECT count(*) FROM one_shots");
    (instances.fetch_all(&world.pool).await.unwrap(), one_shots.fetch_one(&world.pool).await.unwrap())
}

/// Sends a request with the credential that the path needs. Returns status and body.
async fn send(world: &World, method: &str, path: &str, body: &Value) -> (u16, String) {
    let method = reqwest::Method::from_bytes(method.to_uppercase().as_bytes()).unwrap();
    let token = if path.starts_with("/api/admin") { ADMIN_TOKEN } else { &world.token };
    let request = client().request(method, format!("{}{path}", world.service.url)).bearer_auth(token);
    let response = request.json(body).send().await.unwrap();
    (response.status().as_u16(), response.text().await.unwrap())
}

#[tokio::test]
async fn invalid_identifier_in_the_path_of_any_route_is_rejected() {
    let world = World::new().await;
    let before = stored(&world).await;
    let (_, document) = world.service.get("/openapi.json").await;
    let mut routes = 0;
    for (path, methods) in document["paths"].as_object().unwrap() {
        for (method, operation) in methods.as_object().unwrap() {
            for name in ["instance_id", "org_id", "job_id"] {
                let parameter = format!("{{{name}}}");
                if !path.contains(&parameter) {
                    continue;
                }
                routes += 1;
                let body = match (path.as_str(), operation.get("requestBody")) {
                    (_, None) => Value::Null,
                    (path, _) if path.starts_with("/api/admin/agents/") => json!({"org_id": "o"}),
                    (path, _) if path.starts_with("/api/agent-cron/jobs/") => json!({"auth": null}),
                    _ => json!({"default": null}),
                };
                for id in INVALID {
                    let path = path.replace(&parameter, &percent_encoded(id));
                    let path = path.replace("{agent_runtime_id}", &uuid::Uuid::nil().to_string());
                    let path = path.replace("{task_id}", &uuid::Uuid::nil().to_string());
                    let (status, answer) = send(&world, method, &path, &body).await;
                    // An identity that cannot exist is not found, as one that does not exist.
                    let expected = if path.contains(&uuid::Uuid::nil().to_string()) { 404 } else { 400 };
                    assert_eq!(status, expected, "{method} {path}: {answer}");
                    assert!(status == 404 || answer.contains(&format!("{name}: must not")), "{answer}");
                }
            }
        }
    }
    assert!(routes >= 12, "{routes}");
    assert_eq!(stored(&world).await, before);
}

#[tokio::test]
async fn invalid_identifier_in_any_body_or_query_is_rejected() {
    let world = World::new().await;
    let before = stored(&world).await;
    let at = fire_at(3_600_000);
    let callback = world.callback();
    let provision = json!({"job_id": "j", "fire_at": at, "agent_callback_url": callback, "dedup_key": "k"});
    for id in INVALID {
        for (method, path, name, body) in [
            ("POST", "/api/agent-cron/provision", "job_id", provision.clone()),
            ("POST", "/api/agent-cron/provision", "dedup_key", provision.clone()),
            ("POST", "/api/agent-cron/cancel", "job_id", json!({})),
            ("PUT", "/api/admin/agents/new", "org_id", json!({})),
            ("PUT", "/api/admin/agents/new", "bootstrap_session_id", json!({"org_id": "o"})),
        ] {
            let mut body = body;
            body[name] = json!(id);
            let (status, answer) = send(&world, method, path, &body).await;
            assert!(
                status == 400 && answer.contains(&format!("{name}: must not")),
                "{path} {id:?}: {answer}"
            );
        }
        for name in ["org_id", "after"] {
            let path = format!("/api/admin/agents?{name}={}", percent_encoded(id));
            let (status, answer) = send(&world, "GET", &path, &Value::Null).await;
            assert!(status == 400 && answer.contains("must not"), "{path}: {answer}");
        }
    }
    assert_eq!(stored(&world).await, before);
}

#[tokio::test]
async fn invalid_identifier_in_an_imported_file_is_an_invalid_line() {
    let world = World::new().await;
    let before = stored(&world).await;
    let at = fire_at(3_600_000);
    for (number, id) in INVALID.into_iter().enumerate() {
        let agent = json!({"instance_id": id, "org_id": "o"}).to_string();
        let org = json!({"instance_id": "a", "org_id": id}).to_string();
        let job = |instance: &str, job: &str| {
            json!({"instance_id": instance, "job_id": job, "fire_at": at, "agent_callback_url": world.callback()})
                .to_string()
        };
        let cell = |row: &str| format!("instance_id,org_id\n{row}\n");
        for (what, content) in [
            ("agents", agent),
            ("agents", org),
            ("agents", cell(&format!("{id},o"))),
            ("agents", cell(&format!("\"{id}\",o"))),
            ("agents", cell(&format!("a,{id}"))),
            ("jobs", job(id, "j")),
            ("jobs", job("inst-1", id)),
        ] {
            let mut import = world.settings.command(&[what, "import", "-"]);
            let mut import =
                import.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
            import.stdin.take().unwrap().write_all(content.as_bytes()).unwrap();
            let output = tokio::task::spawn_blocking(|| import.wait_with_output()).await.unwrap().unwrap();
            let text = [output.stdout, output.stderr]
                .map(|text| String::from_utf8_lossy(&text).into_owned())
                .concat();
            assert_eq!(output.status.code(), Some(1), "{number} {content}: {text}");
            assert!(text.contains("must not"), "{number} {content}: {text}");
        }
    }
    assert_eq!(stored(&world).await, before);
}
