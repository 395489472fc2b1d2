//! Agents of version 0.20 and later, which drop and refuse fires: docs/contract.md#duplicates,
//! docs/clients.md#consequences-for-a-server (8 and 14). 0.19.0 runs for real in `hermes_agent`.

use std::time::Duration;

use nas_cron_testing::agent::Reply;
use nas_cron_testing::newer_agent::{CLAIM_LIFETIME, Condition, NewerAgent};
use nas_cron_testing::portal::PORTAL_URL;
use nas_cron_testing::service::Settings;
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::{World, eventually};
use serde_json::{Value, json};

/// Time from an accepted or ambiguous attempt to the fire after a duplicate, in seconds.
const DUPLICATE_DELAY: f64 = 330.0;

fn quick(settings: Settings) -> Settings {
    settings
        .with("NAS_CRON_RETRY_DEFINITE_BASE", "200ms")
        .with("NAS_CRON_RETRY_AMBIGUOUS_FLOOR", "300ms")
        .with("NAS_CRON_FIRE_FLOOR", "100ms")
        .with("NAS_CRON_SECOND_FIRE_DELAY", "500ms")
}

async fn agent_of(world: &World) -> NewerAgent {
    let jwks = format!("{}/api/agent-cron/jwks.json", world.service.url);
    NewerAgent::start(&jwks, PORTAL_URL, "agent:inst-1").await
}

/// Adds a job that was due a second ago to the agent, and provisions it. Returns its `fire_at`.
async fn arm(world: &World, agent: &NewerAgent, job: &str, is_long: bool) -> String {
    let at = fire_at(-1_000);
    agent.schedule(job, &at, is_long);
    world.service.provision(&world.token, job, &at, &agent.callback()).await;
    at
}

async fn outcomes(world: &World, job: &str) -> Vec<String> {
    world.history(job).await.into_iter().map(|one| one.outcome).collect()
}

/// Returns the seconds from the end of the job's first attempt to its next attempt.
async fn planned(world: &World, job: &str) -> Option<f64> {
    sqlx::query_scalar(
        "SELECT extract(epoch FROM next_attempt_at - (SELECT min(ended_at) FROM fires f WHERE f.job_id = o.job_id))::float8
         FROM one_shots o WHERE job_id = $1",
    )
    .bind(job)
    .fetch_one(&world.pool)
    .await
    .unwrap()
}

/// Lets five and a half minutes pass for the job and for the agent's claims.
async fn pass(world: &World, agent: &NewerAgent, job: &str) {
    agent.pass(CLAIM_LIFETIME + Duration::from_secs(30));
    let set = ["next_attempt_at", "last_started_at", "claimed_at", "delivered_at"]
        .map(|column| format!("{column} = {column} - interval '330 s'"));
    world.sql(&format!("UPDATE one_shots SET {} WHERE job_id = '{job}'", set.join(", "))).await;
    world.sql("NOTIFY nas_cron_due").await;
}

async fn shown(world: &World, job: &str) -> Value {
    let (status, out, error) = world.settings.run(&["jobs", "show", "inst-1", job, "--json"]).await;
    assert!(status.success(), "{error}");
    serde_json::from_str(&out).unwrap()
}

#[tokio::test]
async fn client_8_gateway_stopped_five_times_with_its_old_key_is_fired_each_time_and_never_stuck() {
    let world = World::with(|s| {
        quick(s).with("NAS_CRON_SECOND_FIRE_DELAY", "10m").with("NAS_CRON_SECOND_FIRE_INTERVAL", "10m")
    })
    .await;
    let agent = agent_of(&world).await;
    agent.become_(Condition::Stopped);
    arm(&world, &agent, "job", false).await;
    for stops in 1..=5 {
        agent.wait_for("job", stops).await;
        world.delivered("job").await;
        let shown = shown(&world, "job").await;
        assert_eq!(
            (&shown["job"]["state"], &shown["job"]["last_outcome"]),
            (&json!("delivered"), &json!("dropped"))
        );
        if stops == 5 {
            agent.become_(Condition::Running);
        }
        // Its gateway starts, and is stopped again before the fire comes.
        agent.provision_all(&world.service, &world.token).await;
    }
    assert_eq!(agent.wait_for("job", 6).await.last().unwrap().status, "accepted");
    world.ended("job", 6).await;
    assert_eq!(
        outcomes(&world, "job").await,
        ["dropped", "dropped", "dropped", "dropped", "dropped", "delivered"]
    );

    arm(&world, &agent, "job", false).await;
    world.ended("job", 7).await;
    let guard: i32 =
        sqlx::query_scalar("SELECT skew_guard_ms FROM instances").fetch_one(&world.pool).await.unwrap();
    assert_eq!(guard, 0, "the next new key is not delayed");
    let metrics = world.service.metrics().await;
    assert!(metrics.contains(r#"nas_cron_fires_total{outcome="dropped"} 5"#), "{metrics}");
    assert!(world.service.log().contains("fire dropped, agent's gateway is stopped"));
}

#[tokio::test]
async fn client_8_a_delivered_key_whose_second_fire_is_dropped_is_forgotten() {
    let world = World::with(quick).await;
    let agent = agent_of(&world).await;
    let at = arm(&world, &agent, "job", false).await;
    world.delivered("job").await;
    agent.become_(Condition::Stopped);
    agent.provision_all(&world.service, &world.token).await;
    world.ended("job", 2).await;
    world.delivered("job").await;
    agent.become_(Condition::Running);
    // Armed afresh: the schedule is a new one.
    let again = world.service.provision(&world.token, "job", &at, &agent.callback()).await;
    let history = world.ended("job", 3).await;
    assert!(
        history[1].outcome == "dropped" && history[2].schedule_id == again && history[0].schedule_id != again
    );
}

#[tokio::test]
async fn contract_duplicates_one_soon_after_a_delivery_is_fired_once_more_when_the_claim_has_ended() {
    let world = World::with(quick).await;
    let agent = agent_of(&world).await;
    let at = arm(&world, &agent, "job", true).await;
    world.delivered("job").await;
    // The process dies after its 202; its claim stays. The agent starts again and provisions the same key.
    agent.provision_all(&world.service, &world.token).await;
    let history = world.ended("job", 2).await;
    assert_eq!((history[1].outcome.as_str(), history[1].status), ("duplicate", Some(200)));
    let planned = planned(&world, "job").await.expect("it is fired again");
    assert!((planned - DUPLICATE_DELAY).abs() < 0.001, "{planned} s after the delivery");
    let (half, entry) = world.listed("job").await.expect("it is listed");
    assert_eq!(
        (half, &entry["state"], &entry["last_outcome"]),
        ("armed", &json!("waiting"), &json!("duplicate"))
    );

    // Calls of the agent do not pull it forward, and the same key changes nothing.
    world.sql("UPDATE instances SET pulled_at = NULL").await;
    assert_eq!(
        world.service.provision(&world.token, "job", &at, &agent.callback()).await,
        entry["schedule_id"]
    );
    eventually("the call is noted", async || {
        let pulled: Option<chrono::DateTime<chrono::Utc>> =
            sqlx::query_scalar("SELECT pulled_at FROM instances").fetch_one(&world.pool).await.unwrap();
        pulled
    })
    .await;
    assert_eq!(world.listed("job").await.unwrap().1["next_attempt_at"], entry["next_attempt_at"]);

    pass(&world, &agent, "job").await;
    assert_eq!(agent.wait_for("job", 3).await[2].status, "accepted");
    world.delivered("job").await;
    assert_eq!(outcomes(&world, "job").await, ["delivered", "duplicate", "delivered"]);
    // The repetition shows nothing about the agent's clock.
    agent.finish("job");
    arm(&world, &agent, "job", false).await;
    world.ended("job", 4).await;
    let guard: i32 =
        sqlx::query_scalar("SELECT skew_guard_ms FROM instances").fetch_one(&world.pool).await.unwrap();
    assert_eq!(guard, 0);
}

#[tokio::test]
async fn contract_duplicates_a_second_one_is_final_and_the_key_counts_as_delivered() {
    let world = World::with(quick).await;
    let agent = agent_of(&world).await;
    let at = arm(&world, &agent, "job", true).await;
    let (_, entry) = world.listed("job").await.unwrap_or_default();
    world.delivered("job").await;
    agent.provision_all(&world.service, &world.token).await;
    world.ended("job", 2).await;
    agent.finish("job");
    pass(&world, &agent, "job").await;
    world.ended("job", 3).await;
    world.delivered("job").await;
    assert_eq!(outcomes(&world, "job").await, ["delivered", "duplicate", "duplicate"]);
    let shown = shown(&world, "job").await;
    assert_eq!(
        (&shown["job"]["state"], &shown["job"]["last_outcome"]),
        (&json!("delivered"), &json!("duplicate"))
    );
    // The same key again is a further second fire, and not a new arm.
    let again = world.service.provision(&world.token, "job", &at, &agent.callback()).await;
    assert!(entry.is_null() || entry["schedule_id"] == again.as_str());
    let (_, entry) = world.listed("job").await.expect("it waits");
    assert_eq!(entry["state"], "waiting", "{entry}");
    eventually("both are counted", async || {
        let metrics = world.service.metrics().await;
        metrics.contains(r#"nas_cron_fires_total{outcome="duplicate"} 2"#).then_some(())
    })
    .await;
    assert!(world.service.log().contains("fire refused as a duplicate"));
}

#[tokio::test]
async fn contract_duplicates_one_without_an_earlier_attempt_is_final() {
    let world = World::with(quick).await;
    let agent = agent_of(&world).await;
    agent.schedule("job", &fire_at(-1_000), true);
    agent.pause("job");
    agent.provision_all(&world.service, &world.token).await;
    world.ended("job", 1).await;
    world.delivered("job").await;
    // A definite refusal is no earlier attempt in this sense.
    agent.become_(Condition::Draining);
    let at = fire_at(-500);
    agent.schedule("job", &at, true);
    agent.provision_all(&world.service, &world.token).await;
    agent.wait_for("job", 2).await;
    agent.become_(Condition::Running);
    world.ended("job", 3).await;
    world.delivered("job").await;
    assert_eq!(outcomes(&world, "job").await, ["duplicate", "failed", "duplicate"]);
}

#[tokio::test]
async fn contract_duplicates_one_after_an_ambiguous_end_is_fired_once_more() {
    let world = World::with(quick).await;
    let agent = agent_of(&world).await;
    agent.loses_next_response();
    arm(&world, &agent, "job", true).await;
    assert_eq!(
        agent.wait_for("job", 2).await.iter().map(|one| one.status).collect::<Vec<_>>(),
        ["accepted", "duplicate"]
    );
    world.ended("job", 2).await;
    let planned = planned(&world, "job").await.expect("it is fired again");
    assert!((planned - DUPLICATE_DELAY).abs() < 0.001, "{planned} s after the ambiguous end");
    pass(&world, &agent, "job").await;
    world.delivered("job").await;
    assert_eq!(outcomes(&world, "job").await, ["failed", "duplicate", "delivered"]);
}

#[tokio::test]
async fn contract_answers_table_every_answer_of_a_newer_agent_has_its_outcome() {
    // Nothing is retried during the test.
    let world = World::with(|s| s.with("NAS_CRON_RETRY_DEFINITE_BASE", "10m")).await;
    let agent = agent_of(&world).await;
    let unreachable = Condition::Unreachable { after: Duration::from_secs(1) };
    for (job, condition, answer, outcome, retry_after) in [
        ("accepted", Condition::Running, (202, "accepted"), "delivered", None),
        ("gone", Condition::Running, (200, "gone"), "gone", None),
        ("paused-job", Condition::Running, (200, "duplicate"), "duplicate", None),
        ("stopped", Condition::Stopped, (200, "gateway_stopped"), "dropped", None),
        ("draining", Condition::Draining, (503, "draining"), "failed", Some(5.0)),
        ("unreachable", unreachable, (503, "gateway_unreachable"), "failed", Some(60.0)),
        ("paused", Condition::Paused, (503, "paused"), "failed", Some(60.0)),
        ("unwritable", Condition::Unwritable, (503, "claim_not_stored"), "failed", Some(5.0)),
    ] {
        // Each of these is the first one: no earlier `Retry-After` holds it back.
        world.sql("UPDATE instances SET busy_until = NULL").await;
        agent.become_(condition);
        agent.boots_in(Duration::from_secs(if job == "accepted" { 3 } else { 0 }));
        let at = fire_at(-1_000);
        if job != "gone" {
            agent.schedule(job, &at, false);
        }
        if job == "paused-job" {
            agent.pause(job);
        }
        world.service.provision(&world.token, job, &at, &agent.callback()).await;
        let first = agent.wait_for(job, 1).await.swap_remove(0);
        assert_eq!((first.http_status, first.status), answer, "{job}");
        let attempt = world.ended(job, 1).await.swap_remove(0);
        assert_eq!(
            (attempt.outcome.as_str(), attempt.status),
            (outcome, i16::try_from(answer.0).ok()),
            "{job}"
        );
        let held: Option<f64> = sqlx::query_scalar(
            "SELECT extract(epoch FROM retry_after_until - ended_at)::float8
             FROM one_shots JOIN fires USING (instance_id, job_id) WHERE job_id = $1",
        )
        .bind(job)
        .fetch_one(&world.pool)
        .await
        .unwrap();
        assert_eq!(held, retry_after, "{job}");
    }
    let stranger = NewerAgent::start(
        &format!("{}/api/agent-cron/jwks.json", world.service.url),
        PORTAL_URL,
        "agent:other",
    )
    .await;
    world.sql("UPDATE instances SET busy_until = NULL").await;
    let at = fire_at(-1_000);
    stranger.schedule("foreign", &at, false);
    stranger.provision_all(&world.service, &world.token).await;
    let attempt = world.ended("foreign", 1).await.swap_remove(0);
    assert_eq!((attempt.outcome.as_str(), attempt.status), ("failed", Some(401)));
}

#[tokio::test]
async fn client_8_an_unknown_status_of_a_2xx_is_a_delivery_and_kept_for_the_operator() {
    let world = World::with(quick).await;
    world.agents.answer(|_, _| Reply { body: r#"{"status":"queued"}"#, ..Reply::status(200) });
    world.arm("job", -1_000).await;
    world.delivered("job").await;
    let shown = shown(&world, "job").await;
    let attempt = &shown["attempts"][0];
    assert_eq!(
        (&attempt["outcome"], &attempt["answer"], &attempt["error"]),
        (&json!("delivered"), &json!("queued"), &Value::Null)
    );
    let (_, out, _) = world.settings.run(&["jobs", "show", "inst-1", "job"]).await;
    assert!(out.contains(r#"delivered, answered "queued""#), "{out}");
    // Agents' texts are not logged.
    assert!(!world.service.log().contains("queued"), "{}", world.service.log());
}
