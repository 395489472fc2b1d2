//! Webhooks by API and command: input, secrets, orgs, tests.

use nas_cron_testing::ports::free_address;
use nas_cron_testing::service::Service;
use nas_cron_testing::world::{World, eventually};
use serde_json::{Value, json};

use super::receiver::Receiver;
use super::{add, at_once, note, webhook};

const PATH: &str = "/api/admin/webhooks";

/// Calls the admin API with another token.
async fn call(
    service: &Service,
    token: &str,
    method: &str,
    path: &str,
    body: Option<&Value>,
) -> (u16, Value) {
    let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
    let mut request = nas_cron_testing::service::client()
        .request(method, format!("{}{path}", service.url))
        .bearer_auth(token);
    if let Some(body) = body {
        request = request.json(body);
    }
    let response = request.send().await.unwrap();
    (response.status().as_u16(), response.json().await.unwrap_or_default())
}

/// Creates an admin token.
async fn token(world: &World, name: &str, role: &str, org_id: Option<&str>) -> String {
    let body = json!({ "name": name, "role": role, "org_id": org_id });
    let (status, created) = world.service.admin("POST", "/api/admin/tokens", Some(&body)).await;
    assert_eq!(status, 201, "{created}");
    created["token"].as_str().unwrap().to_owned()
}

#[tokio::test]
async fn webhook_is_created_changed_and_deleted_and_its_secret_is_shown_once() {
    let world = World::new().await;
    let more = json!({ "description": "on call", "types": ["one_shot.stuck", "dead_letter.created"] });
    let (id, secret) = add(&world, "https://ops.example/hook?channel=1", more).await;
    assert!(secret.starts_with("whsec_") && secret.len() == 50, "{secret}");
    let path = format!("{PATH}/{id}");
    let found = webhook(&world, &id).await;
    assert_eq!(found["types"], json!(["dead_letter.created", "one_shot.stuck"]));
    assert_eq!(
        (&found["url"], &found["state"]),
        (&json!("https://ops.example/hook?channel=1"), &json!("enabled"))
    );
    let (_, list) = world.service.admin("GET", PATH, None).await;
    assert_eq!(list["webhooks"], json!([found]));

    let change = json!({ "types": null, "description": null, "enabled": false });
    let (status, changed) = world.service.admin("PATCH", &path, Some(&change)).await;
    assert_eq!((status, &changed["types"], &changed["description"]), (200, &Value::Null, &Value::Null));
    assert_eq!(changed["state"], "disabled");

    let shown = secret.trim_start_matches("whsec_");
    assert!(!list.to_string().contains(shown) && !world.service.log().contains(shown));
    let stored: String = sqlx::query_scalar("SELECT row_to_json(w)::text FROM webhooks w")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert!(!stored.contains(shown), "{stored}");

    assert_eq!(world.service.admin("DELETE", &path, None).await.0, 204);
    for (method, path) in [("GET", &path), ("DELETE", &path), ("GET", &format!("{PATH}/no-uuid"))] {
        let (status, answer) = world.service.admin(method, path, None).await;
        assert_eq!((status, answer["error"].as_str()), (404, Some("not_found")), "{answer}");
    }
}

#[tokio::test]
async fn invalid_input_is_rejected_with_the_field_and_nothing_is_stored() {
    let world = World::new().await;
    let (id, _) = add(&world, "https://ops.example/hook", json!({})).await;
    let one = format!("{PATH}/{id}");
    let deliveries = format!("{one}/deliveries");
    for (method, path, body, problem) in [
        ("POST", PATH, json!({}), "url: is missing"),
        ("POST", PATH, json!({ "url": 1 }), "url: must be a string"),
        (
            "POST",
            PATH,
            json!({ "url": "https://a.example", "types": ["dead_letter.Created"] }),
            "types: must contain only event types",
        ),
        ("POST", PATH, json!({ "url": "https://a.example", "secret": "whsec_x" }), "secret: unknown field"),
        ("PATCH", &one, json!({ "types": [] }), "types: must not be empty"),
        ("PATCH", &one, json!({ "org_id": "x" }), "org_id: unknown field"),
        ("PATCH", &one, json!({ "enabled": "yes" }), "enabled: must be true or false"),
        ("GET", &format!("{deliveries}?limit=0"), Value::Null, "limit: must be a number from 1 to 200"),
        ("GET", &format!("{deliveries}?before=x"), Value::Null, "before: must be the `next`"),
        ("GET", &format!("{deliveries}?state=x"), Value::Null, "state: unknown parameter"),
        ("GET", "/api/admin/events?type=x", Value::Null, "type: unknown value `x`"),
        ("GET", "/api/admin/events?org_id=", Value::Null, "org_id: must not be empty"),
    ] {
        let body = Some(&body).filter(|body| !body.is_null());
        let (status, answer) = world.service.admin(method, path, body).await;
        assert_eq!(status, 400, "{method} {path}: {answer}");
        assert!(answer["detail"].as_str().unwrap().starts_with(problem), "{method} {path}: {answer}");
    }
    let (_, list) = world.service.admin("GET", PATH, None).await;
    assert_eq!(list["webhooks"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn token_of_an_org_reaches_only_the_webhooks_and_events_of_its_org() {
    let world = World::with(at_once).await;
    let own = token(&world, "own", "admin", Some("org-1")).await;
    let receiver = Receiver::start().await;
    let (all, _) = add(&world, &receiver.url, json!({})).await;
    let (other, _) = add(&world, "https://other.example", json!({ "org_id": "org-2" })).await;
    let service = &world.service;
    let (status, created) = call(service, &own, "POST", PATH, Some(&json!({ "url": receiver.url }))).await;
    assert_eq!((status, &created["org_id"]), (201, &json!("org-1")), "the org of the token is the default");
    let foreign = json!({ "url": receiver.url, "org_id": "org-2" });
    let (status, answer) = call(service, &own, "POST", PATH, Some(&foreign)).await;
    assert_eq!((status, &answer["detail"]), (400, &json!("org_id: must be the org of the admin token")));
    let id = created["webhook_id"].as_str().unwrap();
    let (_, list) = call(service, &own, "GET", PATH, None).await;
    assert_eq!(
        (list["webhooks"].as_array().unwrap().len(), &list["webhooks"][0]["webhook_id"]),
        (1, &json!(id))
    );

    note(&world, Some("inst-1"), "1").await;
    receiver.wait_for(2).await;
    let (_, mine) = call(service, &own, "GET", "/api/admin/events", None).await;
    let (_, everything) = service.admin("GET", "/api/admin/events", None).await;
    let events = |page: &Value| page["events"].as_array().unwrap().clone();
    assert_eq!((events(&mine).len(), events(&everything).len()), (1, 2));
    assert_eq!(mine["events"][0]["org_id"], "org-1");
    let (_, none) = call(service, &own, "GET", "/api/admin/events?org_id=org-2", None).await;
    assert!(events(&none).is_empty());

    // Another org's webhook, one of the whole service, and one that never existed: the same answer but for the ID.
    let event =
        events(&everything).iter().find(|event| event["org_id"].is_null()).unwrap()["event_id"].clone();
    let never = uuid::Uuid::new_v4().to_string();
    for (method, below, body) in [
        ("GET", String::new(), None),
        ("PATCH", String::new(), Some(json!({ "enabled": false }))),
        ("DELETE", String::new(), None),
        ("POST", "/rotate-secret".to_owned(), None),
        ("POST", "/test".to_owned(), None),
        ("GET", "/deliveries".to_owned(), None),
        ("POST", format!("/deliveries/{}/redeliver", event.as_str().unwrap()), None),
    ] {
        for webhook in [&all, &other, &never] {
            let (status, answer) =
                call(service, &own, method, &format!("{PATH}/{webhook}{below}"), body.as_ref()).await;
            assert_eq!(
                (status, &answer["detail"]),
                (404, &json!(format!("no webhook `{webhook}` exists"))),
                "{method} {below}"
            );
        }
    }
    // An event of the whole service is not one of its webhook.
    let path = format!("{PATH}/{id}/deliveries/{}/redeliver", event.as_str().unwrap());
    assert_eq!(call(service, &own, "POST", &path, None).await.0, 404);
    let (_, list) = service.admin("GET", PATH, None).await;
    assert_eq!(list["webhooks"].as_array().unwrap().len(), 3);
}

#[tokio::test]
async fn roles_limit_what_a_token_does_with_webhooks() {
    let world = World::new().await;
    let receiver = Receiver::start().await;
    let (id, _) = add(&world, &receiver.url, json!({})).await;
    let one = format!("{PATH}/{id}");
    let viewer = token(&world, "viewer", "viewer", None).await;
    let operator = token(&world, "operator", "operator", None).await;
    for (method, path, body, roles) in [
        ("GET", one.clone(), None, [200, 200]),
        ("GET", format!("{one}/deliveries"), None, [200, 200]),
        ("POST", format!("{one}/test"), None, [403, 200]),
        ("PATCH", one.clone(), Some(json!({ "enabled": false })), [403, 403]),
        ("POST", format!("{one}/rotate-secret"), None, [403, 403]),
        ("POST", PATH.to_owned(), Some(json!({ "url": receiver.url })), [403, 403]),
        ("DELETE", one.clone(), None, [403, 403]),
    ] {
        for (token, expected) in [&viewer, &operator].into_iter().zip(roles) {
            let (status, answer) = call(&world.service, token, method, &path, body.as_ref()).await;
            assert_eq!(status, expected, "{method} {path}: {answer}");
        }
    }
}

#[tokio::test]
async fn test_call_sends_an_event_to_this_webhook_only_and_returns_the_result() {
    let world = World::with(at_once).await;
    let [tested, other] = [Receiver::start().await, Receiver::start().await];
    let (id, _) = add(&world, &tested.url, json!({ "types": ["one_shot.stuck"] })).await;
    add(&world, &other.url, json!({})).await;
    let path = format!("{PATH}/{id}");
    // Also while it is disabled: a test comes before it is enabled.
    world.service.admin("PATCH", &path, Some(&json!({ "enabled": false }))).await;
    let (status, result) = world.service.admin("POST", &format!("{path}/test"), None).await;
    assert_eq!(
        (status, &result["accepted"], &result["status"]),
        (200, &json!(true), &json!(204)),
        "{result}"
    );
    let calls = tested.calls();
    assert_eq!((calls.len(), &calls[0].event["type"]), (1, &json!("webhook.tested")));
    assert_eq!(result["event_id"], calls[0].id());

    tested.answer_status(500);
    let (status, out, error) = world.settings.run(&["webhooks", "test", &id]).await;
    assert!(
        !status.success() && error.contains("did not accept") && error.contains("status 500"),
        "{out}{error}"
    );
    let (_, page) = world.service.admin("GET", &format!("{path}/deliveries"), None).await;
    let outcomes: Vec<_> =
        page["deliveries"].as_array().unwrap().iter().map(|one| one["state"].clone()).collect();
    assert_eq!(outcomes, ["refused", "delivered"]);
    assert_eq!(webhook(&world, &id).await["last_error"], "status 500");
    note(&world, None, "later").await;
    other.wait_for(1).await;
    assert_eq!((other.calls()[0].mark(), tested.calls().len()), ("later", 2));
}

#[tokio::test]
async fn commands_print_the_json_of_the_api() {
    let world = World::with(at_once).await;
    let run = async |words: &[&str]| {
        let words = [&["webhooks"], words, &["--json"]].concat();
        let (status, out, error) = world.settings.run(&words).await;
        assert!(status.success(), "{words:?}: {out}{error}");
        serde_json::from_str::<Value>(&out).unwrap()
    };
    let receiver = Receiver::start().await;
    let types = ["--type", "dead_letter.created", "--type", "webhook.tested"];
    let created = run(&[&["add", &receiver.url, "--description", "on call"][..], &types].concat()).await;
    let id = created["webhook_id"].as_str().unwrap();
    assert!(created["secret"].as_str().unwrap().starts_with("whsec_"), "{created}");
    let path = format!("{PATH}/{id}");
    let api = async |path: &str| world.service.admin("GET", path, None).await.1;
    note(&world, Some("inst-1"), "1").await;
    receiver.wait_for(1).await;
    eventually("the outcome", async || (webhook(&world, id).await["pending"] == 0).then_some(())).await;
    assert_eq!(run(&["show", id]).await, api(&path).await);
    assert_eq!(run(&["list"]).await, api(PATH).await);
    assert_eq!(run(&["deliveries", id]).await, api(&format!("{path}/deliveries")).await);
    assert_eq!(run(&["events"]).await, api("/api/admin/events").await);
    let event = api("/api/admin/events").await["events"][0]["event_id"].clone();
    run(&["redeliver", id, event.as_str().unwrap()]).await;
    receiver.wait_for(2).await;
    assert_eq!(run(&["set", id, "--all-types"]).await["types"], Value::Null);
    assert_eq!(run(&["disable", id]).await["state"], "disabled");
    let (status, _, error) =
        world.settings.run(&["webhooks", "redeliver", id, event.as_str().unwrap()]).await;
    assert!(!status.success() && error.contains("the webhook is disabled: enable it first"), "{error}");
    assert_eq!(run(&["enable", id]).await["state"], "enabled");
    assert_ne!(run(&["rotate-secret", id]).await["secret"], created["secret"]);
    assert!(api(&path).await["old_secret_until"].is_string());
    run(&["remove", id]).await;
    let (status, _, error) = world.settings.run(&["webhooks", "show", id]).await;
    assert!(!status.success() && error.contains("`nas-cron webhooks list` shows all of them"), "{error}");
    let text = world.settings.run(&["webhooks", "list"]).await.1;
    assert_eq!(text, "No webhooks. `nas-cron webhooks add` adds one.\n");
}

#[tokio::test]
async fn missing_or_other_key_encryption_key_is_a_clear_error_and_costs_no_event() {
    let mut world = World::with(at_once).await;
    let without = world.settings.clone().without("NAS_CRON_KEY_ENCRYPTION_KEY");
    let (status, _, error) = without.run(&["webhooks", "add", "https://ops.example"]).await;
    assert!(!status.success() && error.contains("NAS_CRON_KEY_ENCRYPTION_KEY is not set"), "{error}");
    let receiver = Receiver::start().await;
    let (id, _) = add(&world, &receiver.url, json!({})).await;
    let other = world
        .settings
        .clone()
        .with("NAS_CRON_KEY_ENCRYPTION_KEY", "QUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUFBQUE=");
    let (status, _, error) = other.run(&["webhooks", "test", &id]).await;
    assert!(!status.success() && error.contains("or rotate the secret"), "{error}");
    // The secret was altered: the event waits until it is replaced.
    world.sql("UPDATE webhooks SET secret = secret_nonce").await;
    note(&world, Some("inst-1"), "1").await;
    eventually("the error", async || world.service.log().contains("signing an event failed").then_some(()))
        .await;
    assert!(receiver.calls().is_empty());
    world.service.admin("POST", &format!("{PATH}/{id}/rotate-secret"), None).await;
    world.service.admin("PATCH", &format!("{PATH}/{id}"), Some(&json!({ "enabled": true }))).await;
    // A signature with the altered secret is impossible until it has expired.
    world.sql("UPDATE webhooks SET old_secret_until = now()").await;
    world.sql("UPDATE webhooks SET next_attempt_at = now()").await;
    receiver.wait_for(1).await;
    world.service.kill9();
}

#[tokio::test]
async fn deleted_webhook_gets_nothing_more_and_old_events_are_pruned() {
    let world = World::with(at_once).await;
    let (id, _) = add(&world, &format!("http://{}", free_address()), json!({})).await;
    note(&world, Some("inst-1"), "1").await;
    eventually("a failure", async || (webhook(&world, &id).await["failures"] == 1).then_some(())).await;
    assert_eq!(world.service.admin("DELETE", &format!("{PATH}/{id}"), None).await.0, 204);
    let left = async |table: &str| {
        let count = format!("SELECT count(*) FROM {table}");
        sqlx::query_scalar::<_, i64>(sqlx::AssertSqlSafe(count)).fetch_one(&world.pool).await.unwrap()
    };
    assert_eq!(
        (left("webhook_deliveries").await, left("webhook_attempts").await, left("events").await),
        (0, 0, 1)
    );
    let db = nas_cron::db::Db::new(&nas_cron::db::DbOptions {
        url: world.url.clone().into(),
        max_connections: 2,
        acquire_timeout: nas_cron_testing::time::PATIENCE,
    })
    .unwrap();
    let day = std::time::Duration::from_hours(24);
    assert_eq!(nas_cron::db::events::prune(&db, day, 100).await.unwrap(), 0);
    world.sql("UPDATE events SET created_at = now() - interval '25 h'").await;
    assert_eq!(nas_cron::db::events::prune(&db, day, 100).await.unwrap(), 1);
}

#[tokio::test]
async fn webhooks_of_one_org_leave_room_for_those_of_another() {
    let world = World::with(at_once).await;
    let most = nas_cron::db::webhooks::MOST;
    world
        .sql(&format!(
            "INSERT INTO webhooks (webhook_id, url, org_id, secret_nonce, secret, ended_by, ended_at)
             SELECT gen_random_uuid(), 'https://ops.example/' || n, 'acme', 'n', 's', 'operator', now()
             FROM generate_series(1, {most}) n"
        ))
        .await;
    let created = async |org: Option<&str>| {
        let body = json!({ "url": "https://ops.example/x", "org_id": org });
        world.service.admin("POST", PATH, Some(&body)).await
    };
    let (status, problem) = created(Some("acme")).await;
    assert_eq!(status, 409, "{problem}");
    assert_eq!(problem["detail"], "there are 200 webhooks of this scope already: remove one first");
    for org in [Some("other"), None] {
        let (status, answer) = created(org).await;
        assert_eq!(status, 201, "{answer}");
    }
}
