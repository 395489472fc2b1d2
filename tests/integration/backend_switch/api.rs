//! The state and the switch of backends over the admin API.

use nas_cron_testing::nats::NatsServers;
use nas_cron_testing::service::{ADMIN_TOKEN, client};
use nas_cron_testing::world::{World, eventually};
use serde_json::{Value, json};

/// Calls the admin API. Returns the status and the body.
async fn call(world: &World, method: reqwest::Method, path: &str, body: Option<Value>) -> (u16, Value) {
    let request = client().request(method, format!("{}/api/admin/{path}", world.service.url));
    let request = request.bearer_auth(ADMIN_TOKEN);
    let request = match body {
        Some(body) => request.json(&body),
        None => request,
    };
    let response = request.send().await.expect("a response");
    (response.status().as_u16(), response.json().await.expect("JSON"))
}

async fn switch(world: &World, body: Value) -> (u16, Value) {
    call(world, reqwest::Method::PUT, "backends/active", Some(body)).await
}

async fn backends(world: &World) -> Value {
    let (status, status_of) = call(world, reqwest::Method::GET, "backends", None).await;
    assert_eq!(status, 200, "{status_of}");
    status_of
}

#[tokio::test]
async fn a_switch_over_the_api_counts_first_and_the_replica_moves_everything() {
    let servers = NatsServers::one().await;
    let world = World::with(|settings| settings.with("NAS_CRON_NATS_URLS", servers.urls().join(","))).await;
    for job in 0..30 {
        world.arm(&format!("job-{job}"), 3_600_000).await;
    }
    let before = backends(&world).await;
    assert_eq!((&before["active"], &before["generation"]), (&json!("postgres"), &json!(1)));
    assert_eq!(before["backends"][0]["one_shots"]["count"], 30, "{before}");
    assert_eq!(before["backends"][3]["answers"], true, "{before}");

    let (status, plan) = switch(&world, json!({"backend": "nats", "dry_run": true})).await;
    assert_eq!((status, &plan["dry_run"], &plan["switched"]), (200, &json!(true), &json!(true)), "{plan}");
    assert_eq!((&plan["left"]["to_move"], &plan["error"]), (&json!(30), &Value::Null), "{plan}");
    assert_eq!(backends(&world).await["active"], "postgres", "a dry run changes nothing");

    let (status, done) = switch(&world, json!({"backend": "nats"})).await;
    assert_eq!((status, &done["from"], &done["generation"]), (200, &json!("postgres"), &json!(2)), "{done}");
    // This replica begins at once, and not with its next round.
    let moved = eventually("everything is moved", async || {
        let now = backends(&world).await;
        (now["unfinished"] == false && now["backends"][3]["armed"]["count"] == 30).then_some(now)
    })
    .await;
    assert_eq!(
        (&moved["active"], &moved["backends"][0]["one_shots"]["count"]),
        (&json!("nats"), &json!(0)),
        "{moved}"
    );
    let (status, again) = switch(&world, json!({"backend": "nats"})).await;
    assert_eq!(
        (status, &again["switched"], &again["generation"]),
        (200, &json!(false), &json!(2)),
        "repeating it changes nothing: {again}"
    );

    // The command does the same through the server, and waits for the replicas.
    let remote =
        world.settings.clone().without("NAS_CRON_DATABASE_URL").with("NAS_CRON_ADMIN_TOKEN", ADMIN_TOKEN);
    let run = async |arguments: &[&str]| {
        let arguments = [&["backend", "--server", &world.service.url], arguments].concat();
        let (status, out, error) = remote.run(&arguments).await;
        assert!(status.success(), "{arguments:?}: {out}{error}");
        out
    };
    let plan = run(&["switch", "postgres", "--dry-run"]).await;
    assert_eq!(plan, "A switch from nats to postgres would move up to 30 one-shots. Nothing was changed.\n");
    let report: Value = serde_json::from_str(&run(&["switch", "postgres", "--json"]).await).unwrap();
    assert_eq!((&report["active"], &report["finished"]), (&json!("postgres"), &json!(true)), "{report}");
    assert_eq!(backends(&world).await["backends"][0]["one_shots"]["count"], 30);
    assert!(run(&["status"]).await.starts_with("Active backend: postgres (activated "));
}

#[tokio::test]
async fn a_switch_to_a_backend_that_is_not_configured_or_unreachable_is_a_conflict() {
    let world = World::new().await;
    let (status, problem) = switch(&world, json!({"backend": "nats"})).await;
    assert_eq!((status, &problem["error"]), (409, &json!("conflict")), "{problem}");
    let detail = problem["detail"].as_str().unwrap();
    assert!(detail.starts_with("nats is not configured here: set NAS_CRON_NATS_URLS"), "{detail}");
    let (status, _) = switch(&world, json!({"backend": "nats", "dry_run": true})).await;
    assert_eq!(status, 409, "a dry run, too");
    let (status, problem) = switch(&world, json!({"backend": "redis"})).await;
    assert_eq!(status, 400, "{problem}");
    assert_eq!(backends(&world).await["active"], "postgres");

    let mut servers = NatsServers::prepare(nas_cron_testing::nats::Setup::OPEN);
    let urls = servers.urls().join(",");
    let world = World::with(|settings| {
        settings.with("NAS_CRON_NATS_URLS", &urls).with("NAS_CRON_ENGINE_TIMEOUT", "2s")
    })
    .await;
    let (status, problem) = switch(&world, json!({"backend": "nats"})).await;
    assert_eq!(status, 409, "{problem}");
    assert!(problem["detail"].as_str().unwrap().contains("Nothing was changed"), "{problem}");
    let (status, plan) = switch(&world, json!({"backend": "nats", "dry_run": true})).await;
    assert!(status == 200 && plan["error"].is_string(), "a dry run shows the error: {plan}");
    assert_eq!(backends(&world).await["active"], "postgres");
    let (status, forced) = switch(&world, json!({"backend": "nats", "force": true})).await;
    assert!(status == 200 && forced["error"].is_string(), "{forced}");
    assert_eq!(backends(&world).await["active"], "nats");
    let lines = call(&world, reqwest::Method::GET, "audit?action=switch_backend", None).await.1;
    let outcomes: Vec<_> = lines["lines"].as_array().unwrap().iter().map(|line| &line["outcome"]).collect();
    assert_eq!(outcomes, ["done", "done", "refused"], "the latest first: {lines}");
    servers.restart(0).await;
}
