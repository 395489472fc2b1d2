//! Direct mode: QStash calls the agents itself, and only its log has the results. (QStash is an emulator here, checked
//! with the official SDKs.) docs/backends.md lists the guarantees that direct mode weakens. These tests show those that
//! it keeps: no fire is lost, and `list` and the history match the log.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nas_cron_testing::agent::Reply;
use nas_cron_testing::qstash_emulator::Emulator;
use nas_cron_testing::qstash_emulator::faults::DeliveryFault;
use nas_cron_testing::service::Settings;
use nas_cron_testing::time::instant;
use nas_cron_testing::world::World;
use serde_json::Value;

/// Time ahead in milliseconds that is enough to arm the call at QStash.
const AHEAD: i64 = 5_000;

fn direct(settings: Settings, qstash: &Emulator) -> Settings {
    let account = qstash.settings();
    settings
        .with("NAS_CRON_BACKEND", "qstash_direct")
        .with("NAS_CRON_QSTASH_URL", qstash.url())
        .with("NAS_CRON_QSTASH_TOKEN", account.token.clone())
        .with("NAS_CRON_QSTASH_CURRENT_SIGNING_KEY", account.current_key.clone())
        .with("NAS_CRON_QSTASH_DIRECT_GRACE", "10m")
}

async fn world(qstash: &Emulator) -> World {
    World::with(|settings| direct(settings, qstash)).await
}

fn claims(token: &str) -> Value {
    serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token.split('.').nth(1).unwrap()).unwrap()).unwrap()
}

#[tokio::test]
async fn qstash_calls_the_agent_with_a_fire_token_and_its_log_records_the_delivery() {
    let qstash = Emulator::quick().await;
    let world = world(&qstash).await;
    let (at, schedule) = world.arm("job-1", AHEAD).await;
    assert_eq!(world.listed("job-1").await.expect("armed").1["awaits"], "qstash_direct");
    let fire = world.agents.wait_for("job-1", 1).await;
    // At a whole second of QStash's clock, rounded up.
    assert!(fire.arrived >= instant(&at), "{} before {at}", fire.arrived);
    assert_eq!(fire.fire_at, at);
    let claims = claims(&fire.token);
    assert_eq!((&claims["purpose"], &claims["aud"]), (&"cron_fire".into(), &"agent:inst-1".into()));
    assert_eq!(claims["nbf"], instant(&at).timestamp(), "just before it, in whole seconds");
    assert_eq!(claims["exp"], instant(&at).timestamp() + 300, "valid until QStash's last try");
    world.delivered("job-1").await;
    let history = world.history("job-1").await;
    assert_eq!(history.len(), 1, "{history:?}");
    assert_eq!((history[0].outcome.as_str(), &history[0].schedule_id), ("delivered", &schedule));
    assert_eq!(claims["jti"], history[0].id, "the attempt's id");
    assert_eq!(world.agents.fires_of("job-1").len(), 1);
    assert_eq!(qstash.counts().delivered, 1);
}

#[tokio::test]
async fn failed_direct_calls_are_retried_by_the_built_in_loop() {
    let qstash = Emulator::quick().await;
    let world = world(&qstash).await;
    // QStash makes three tries; the built-in loop makes the others.
    world.agents.answer(|_, before| Reply::status(if before < 3 { 503 } else { 202 }));
    world.arm("job-1", AHEAD).await;
    qstash.until(|counts| counts.failed == 1).await;
    world.agents.wait_for("job-1", 4).await;
    world.delivered("job-1").await;
    let outcomes: Vec<_> =
        world.history("job-1").await.into_iter().map(|one| (one.outcome, one.status)).collect();
    assert_eq!(outcomes, [("failed".to_owned(), Some(503)), ("delivered".to_owned(), Some(202))]);
    let history = world.history("job-1").await;
    let ids = [0, 0, 0, 1].map(|attempt: usize| Value::from(history[attempt].id.clone()));
    let jtis: Vec<_> =
        world.agents.fires_of("job-1").iter().map(|fire| claims(&fire.token)["jti"].clone()).collect();
    assert_eq!(jtis, ids, "QStash's tries share a token");
}

#[tokio::test]
async fn calls_missing_in_the_log_are_fired_by_the_built_in_loop_after_the_grace_period() {
    let qstash = Emulator::quick().await;
    qstash.misdeliver(DeliveryFault::Never);
    let world =
        World::with(|settings| direct(settings, &qstash).with("NAS_CRON_QSTASH_DIRECT_GRACE", "60s")).await;
    // Shortly before the end of the grace period.
    let (_, schedule) = world.arm("job-1", AHEAD).await;
    qstash.until(|counts| counts.published == 1).await;
    let early =
        "UPDATE one_shots SET next_attempt_at = now() - interval '55 s', fire_at = now() - interval '55 s'";
    world.sql(early).await;
    world.agents.wait_for("job-1", 1).await;
    let history = world.ended("job-1", 1).await;
    assert_eq!((history[0].outcome.as_str(), &history[0].schedule_id), ("delivered", &schedule));
    assert!(
        world.service.metrics().await.contains("nas_cron_backend_misses_total{backend=\"qstash_direct\"} 1")
    );
}

#[tokio::test]
async fn only_one_shots_due_within_an_hour_are_handed_over_and_a_cancel_removes_them() {
    let qstash = Emulator::quick().await;
    let world = world(&qstash).await;
    world.arm("far", 2 * 3_600_000).await;
    world.arm("near", 1_800_000).await;
    qstash.until(|counts| counts.published == 1).await;
    let pending = qstash.pending();
    assert_eq!(pending.len(), 1);
    assert_eq!(pending[0].url, format!("{}/api/cron/fire", world.callback()));
    let ahead: f64 = sqlx::query_scalar(
        "SELECT extract(epoch FROM due_at - next_try_at)::float8 FROM wake_ups WHERE job_id = 'far'",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert!((ahead - 3_600.0).abs() < 1.0, "armed {ahead} s before its instant");
    world.service.cancel(&world.token, "near").await;
    qstash.until(|counts| counts.cancelled == 1).await;
    assert!(qstash.pending().is_empty());
}

#[tokio::test]
async fn a_direct_call_carries_the_profile_set_when_it_was_handed_over() {
    let qstash = Emulator::quick().await;
    let world = world(&qstash).await;
    let default = serde_json::json!({"profiles": ["claude:org"], "default": "claude:org"});
    world.service.admin("PUT", "/api/admin/auth-profiles/orgs/org-1", Some(&default)).await;
    world.arm("plain", AHEAD).await;
    let at = nas_cron_testing::time::fire_at(AHEAD);
    let own = serde_json::json!({
        "job_id": "own", "fire_at": at, "agent_callback_url": world.callback(), "dedup_key": "own", "auth": "claude:own",
    });
    assert_eq!(world.service.post("/api/agent-cron/provision", &world.token, &own).await.0, 200);
    for (job, auth) in [("plain", "claude:org"), ("own", "claude:own")] {
        let fire = world.agents.wait_for(job, 1).await;
        assert_eq!((&fire.body["auth"], &claims(&fire.token)["auth"]), (&auth.into(), &auth.into()));
    }
}
