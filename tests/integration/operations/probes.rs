//! `/healthz` and `/readyz`, and request ids.

use nas_cron_testing::service::client;
use nas_cron_testing::world::{World, eventually};
use serde_json::{Value, json};
use sqlx::PgPool;

/// Waits until `/readyz` fails, and returns the checks that do.
async fn failing(world: &World) -> Value {
    let body = eventually("/readyz returns 503", async || {
        let (status, body) = world.service.get("/readyz").await;
        (status == 503).then_some(body)
    })
    .await;
    let mut checks = body["checks"].clone();
    checks.as_object_mut().unwrap().retain(|_, found| found != "ok");
    // The service is still alive: a restart would not help.
    assert_eq!(world.service.get("/healthz").await, (200, json!({"status": "ok"})));
    checks
}

async fn ready_again(world: &World) {
    eventually("/readyz returns 200", async || (world.service.get("/readyz").await.0 == 200).then_some(()))
        .await;
}

#[tokio::test]
async fn readyz_lists_its_checks() {
    let world = World::new().await;
    let (status, body) = world.service.get("/readyz").await;
    let ok = json!({"database": "ok", "schema": "ok", "signing_key": "ok", "scheduler": "ok", "loops": "ok", "not_draining": "ok", "clock": "ok"});
    assert_eq!((status, body), (200, json!({"status": "ok", "checks": ok})));
}

#[tokio::test]
async fn readyz_fails_during_a_database_outage_and_recovers() {
    let world = World::new().await;
    let admin =
        PgPool::connect(&world.url.replace(&format!("/{}", name(&world)), "/postgres")).await.unwrap();
    let run = async |statement: String| {
        sqlx::raw_sql(sqlx::AssertSqlSafe(statement)).execute(&admin).await.unwrap()
    };
    run(format!("ALTER DATABASE {} ALLOW_CONNECTIONS false", name(&world))).await;
    run(format!("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{}'", name(&world)))
        .await;
    // The scheduler may notice it first.
    let failing = eventually("/readyz names the database", async || {
        let failing = failing(&world).await;
        (failing["database"] == "unavailable").then_some(failing)
    })
    .await;
    assert!(!failing.to_string().contains(name(&world)), "no internal details: {failing}");
    run(format!("ALTER DATABASE {} ALLOW_CONNECTIONS true", name(&world))).await;
    ready_again(&world).await;
    // The service fires again.
    world.arm("job", 0).await;
    world.agents.wait_for("job", 1).await;
}

/// The name of the world's database.
fn name(world: &World) -> &str {
    world.url.rsplit('/').next().unwrap()
}

#[tokio::test]
async fn readyz_fails_on_a_schema_of_another_release() {
    let world = World::new().await;
    world.sql("UPDATE _sqlx_migrations SET success = false WHERE version = 1").await;
    assert_eq!(failing(&world).await, json!({"schema": "does not fit this release"}));
    world.sql("UPDATE _sqlx_migrations SET success = true WHERE version = 1").await;
    ready_again(&world).await;
    // A newer release that has migrated does not take the old replicas out of service.
    world.sql("INSERT INTO _sqlx_migrations (version, description, success, checksum, execution_time) VALUES (9999, 'x', true, 'x', 0)").await;
    assert_eq!(world.service.get("/readyz").await.0, 200);
}

#[tokio::test]
async fn readyz_fails_without_a_key_that_can_sign_and_nothing_is_sent_unsigned() {
    let world = World::new().await;
    // The next sweep would replace a missing key. This one is permanently broken: its private half could not be decrypted.
    world
        .sql("UPDATE signing_keys SET private_key = 'broken', private_nonce = 'broken', kid = 'other'")
        .await;
    assert_eq!(failing(&world).await, json!({"signing_key": "no usable active key"}));
    world.arm("job", 0).await;
    eventually("the attempt is deferred", async || {
        world.service.log().contains("delivery attempts deferred: ").then_some(())
    })
    .await;
    assert_eq!(world.agents.fires().len(), 0);
    let (half, entry) = world.listed("job").await.unwrap();
    assert_eq!((half, &entry["attempts"]), ("armed", &json!(0)), "no attempt is counted: {entry}");
    assert!(world.history("job").await.is_empty(), "no attempt is in the history");
}

#[tokio::test]
async fn readyz_fails_while_claims_fail() {
    let world = World::new().await;
    let mut blocker = world.pool.begin().await.unwrap();
    sqlx::raw_sql("LOCK TABLE one_shots IN ACCESS EXCLUSIVE MODE").execute(&mut *blocker).await.unwrap();
    assert_eq!(failing(&world).await, json!({"scheduler": "statements are failing"}));
    blocker.rollback().await.unwrap();
    ready_again(&world).await;
}

#[tokio::test]
async fn readyz_fails_while_draining_and_the_agent_api_continues() {
    let mut world = World::with(|s| s.with("NAS_CRON_DRAIN_DELAY", "8s")).await;
    world.service.signal(rustix::process::Signal::TERM);
    assert_eq!(failing(&world).await, json!({"not_draining": "draining"}));
    let (at, schedule) = world.arm("job", 60_000).await;
    assert_eq!(world.again("job", &at).await, schedule, "invariant 9: the agent API continues");
    assert_eq!(world.service.wait().await.code(), Some(0));
}

#[tokio::test]
async fn a_request_id_is_echoed_or_generated() {
    let world = World::new().await;
    let ask = async |path: &str, id: Option<&str>| {
        let mut request = client().get(format!("{}{path}", world.service.url));
        if let Some(id) = id {
            request = request.header("x-request-id", id);
        }
        request.send().await.unwrap().headers()["x-request-id"].to_str().unwrap().to_owned()
    };
    for path in ["/healthz", "/api/agent-cron/list", "/nowhere", "/.well-known/jwks.json", "/openapi.json"] {
        assert_eq!(ask(path, Some("trace-0815")).await, "trace-0815", "{path}");
        let (one, other) = (ask(path, None).await, ask(path, None).await);
        assert!(one != other && one.len() == 36, "{path}: {one}");
    }
    assert!(world.service.log().contains("trace-0815"), "the log contains it");
}

#[tokio::test]
async fn readyz_is_ok_while_external_backends_are_unreachable() {
    // Nothing listens on port 1. QStash is active, so that every one-shot needs it.
    let world = World::with(|settings| {
        settings
            .with("NAS_CRON_BACKEND", "qstash")
            .with("NAS_CRON_QSTASH_URL", "http://127.0.0.1:1")
            .with("NAS_CRON_QSTASH_TOKEN", "token")
            .with("NAS_CRON_QSTASH_CURRENT_SIGNING_KEY", "sig_current")
            .with("NAS_CRON_NATS_URLS", "nats://127.0.0.1:1")
    })
    .await;
    world.arm("job", 3_600_000).await;
    eventually("arming the wake-up at QStash fails", async || {
        let error: Option<String> =
            sqlx::query_scalar("SELECT last_error FROM wake_ups").fetch_one(&world.pool).await.unwrap();
        error.filter(|error| error.contains("could not be reached"))
    })
    .await;
    let (status, body) = world.service.get("/readyz").await;
    assert_eq!(
        (status, &body["status"]),
        (200, &json!("ok")),
        "an unreachable backend delays fires, but takes no replica out of service"
    );
    let listen = world.service.url.trim_start_matches("http://");
    let (status, out, error) = world.settings.run(&["health", "--ready", "--listen", listen]).await;
    assert_eq!((status.code(), out.as_str()), (Some(0), "ok\n"), "{error}");
}
