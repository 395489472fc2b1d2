//! Retries of fires, and the end of the retry budget.

use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron::config::Sources;
use nas_cron::fire::backoff::RetryPolicy;
use nas_cron_testing::agent::Reply;
use nas_cron_testing::raw_agent::{RawAgent, Step};
use nas_cron_testing::service::Settings;
use nas_cron_testing::time::{fire_at, instant, now};
use nas_cron_testing::world::{World, eventually};
use serde_json::{Value, json};

fn quick(settings: Settings) -> Settings {
    settings
        .with("NAS_CRON_RETRY_DEFINITE_BASE", "200ms")
        .with("NAS_CRON_RETRY_AMBIGUOUS_FLOOR", "800ms")
        .with("NAS_CRON_FIRE_FLOOR", "100ms")
}

/// Returns the seconds between the end of each attempt and the start of the next.
async fn waits(world: &World, job: &str) -> Vec<f64> {
    let history = world.history(job).await;
    history.windows(2).map(|pair| pair[1].started - pair[0].ended.unwrap_or(f64::INFINITY)).collect()
}

/// Returns an address of this machine without a listener, and reserved for this test.
async fn unused_address(ip: &str) -> String {
    let listener = tokio::net::TcpListener::bind((ip, 0)).await.unwrap();
    listener.local_addr().unwrap().to_string()
}

#[tokio::test]
async fn contract_retries_the_defaults_match_the_contract() {
    let required = [("database_url", "postgres://db/nas"), ("portal_url", "https://portal.example")];
    let flags = required.map(|(key, value)| (key.to_owned(), vec![value.to_owned()])).to_vec();
    let read = |_: &std::path::Path| Err(std::io::Error::from(std::io::ErrorKind::NotFound));
    let sources = Sources { flags, config: None, environment: Vec::new(), read: &read };
    let config = nas_cron::config::Settings::gather(&sources).config().unwrap();
    let policy = RetryPolicy::from(&config.retry);
    assert_eq!(policy.definite_base, Duration::from_secs(1));
    assert_eq!(policy.ambiguous_floor, Duration::from_secs(10));
    assert_eq!((policy.cap, policy.give_up_after), (Duration::from_hours(1), Duration::from_hours(72)));

    // The service shows the same values.
    let portal = nas_cron_testing::portal::Portal::start().await;
    let settings = Settings::new("postgres://nobody@127.0.0.1:1/none", &portal);
    let (status, shown, _) = settings.run(&["config", "show", "--json"]).await;
    assert!(status.success());
    let shown: Value = serde_json::from_str(&shown).unwrap();
    for (key, value) in [
        ("retry_definite_base", "1s"),
        ("retry_ambiguous_floor", "10s"),
        ("retry_cap", "1h"),
        ("retry_give_up_after", "72h"),
        ("fire_timeout", "30s"),
        ("fire_floor", "1s"),
        ("second_fire_delay", "60s"),
        ("second_fire_interval", "300s"),
        ("lease_grace", "3s"),
        ("lease_margin", "10s"),
    ] {
        assert_eq!(shown[key], json!({"value": value, "origin": "default"}), "{key}");
    }
    assert_eq!(shown["second_fires_max"]["value"], 3);
}

#[tokio::test]
async fn contract_retries_a_definite_refusal_is_retried_after_1_s_then_2_s() {
    let world = World::new().await;
    world.agents.answer(|_, before| Reply::status(if before < 2 { 500 } else { 202 }));
    world.arm("job", -1_000).await;
    world.ended("job", 3).await;
    let waits = waits(&world, "job").await;
    assert!(waits[0] >= 1.0 && waits[1] >= 2.0, "{waits:?}");
}

#[tokio::test]
async fn contract_retries_an_ambiguous_end_waits_longer_than_a_refusal() {
    const RESET: &[Step] = &[Step::Read];
    const GARBAGE: &[Step] = &[Step::Read, Step::Send("SSH-2.0-OpenSSH_9.9\r\n")];
    const SILENCE: &[Step] = &[Step::Read, Step::Pause(Duration::from_mins(10))];
    let world =
        World::with(|s| quick(s).with("NAS_CRON_FIRE_TIMEOUT", "2s").with("NAS_CRON_CONNECT_TIMEOUT", "2s"))
            .await;
    for (name, steps) in [("reset", RESET), ("garbage", GARBAGE), ("timeout", SILENCE)] {
        let agent = RawAgent::start("127.0.0.1:0", steps).await.unwrap();
        let token = world.instance(name).await;
        world.service.provision(&token, name, &fire_at(-1_000), &agent.url()).await;
    }
    for name in ["reset", "garbage", "timeout"] {
        let history = world.ended(name, 2).await;
        assert_eq!((history[0].outcome.as_str(), history[0].status), ("failed", None), "{name}");
        let wait = waits(&world, name).await[0];
        assert!(wait >= 0.8, "{name} waited {wait} s");
    }
}

#[tokio::test]
async fn contract_retries_a_refused_connection_is_definite_and_visible_and_ends_when_the_agent_is_back() {
    const ACCEPT: &[Step] = &[Step::Read, Step::Send("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")];
    // The delay after an ambiguous failure is longer than this test.
    let world = World::with(|s| quick(s).with("NAS_CRON_RETRY_AMBIGUOUS_FLOOR", "10m")).await;
    let address = unused_address("127.0.0.71").await;
    world.service.provision(&world.token, "job", &fire_at(-1_000), &format!("http://{address}")).await;
    let history = world.ended("job", 2).await;
    assert_eq!((history[0].outcome.as_str(), history[0].status), ("failed", None));
    let wait = waits(&world, "job").await[0];
    assert!(wait >= 0.2, "{wait}");
    let (half, entry) = world.listed("job").await.expect("it is visible");
    assert_eq!(half, "armed");
    assert!(entry["attempts"].as_i64() >= Some(2) && entry["next_attempt_at"].is_string(), "{entry}");
    assert!(entry["last_error"].as_str().unwrap().to_lowercase().contains("refused"), "{entry}");

    let agent = RawAgent::start(&address, ACCEPT).await.unwrap();
    world.delivered("job").await;
    assert_eq!(agent.connections(), 1);
}

#[tokio::test]
async fn contract_retries_retry_after_is_honoured_in_both_forms_and_within_the_cap() {
    fn http_date(at: DateTime<Utc>) -> String {
        at.format("%a, %d %b %Y %H:%M:%S GMT").to_string()
    }
    // Nothing is retried during the test: it reads the planned times from the database.
    let world =
        World::with(|s| s.with("NAS_CRON_RETRY_DEFINITE_BASE", "200s").with("NAS_CRON_RETRY_CAP", "1000s"))
            .await;
    world.agents.answer(|fire, _| {
        let retry_after = match fire.job_id.as_str() {
            "seconds" => "600".to_owned(),
            // A date is compared with the response's own `Date`; both are whole seconds.
            "date" => http_date(fire.arrived + TimeDelta::seconds(600)),
            "past" => http_date(fire.arrived - TimeDelta::seconds(60)),
            "day" => "86400".to_owned(),
            _ => "a fortnight".to_owned(),
        };
        Reply { retry_after: Some(&*Box::leak(retry_after.into_boxed_str())), ..Reply::status(503) }
    });
    // Jitter adds up to a tenth to `Retry-After`, and up to a half to the base, and never exceeds the cap.
    let expected = [
        ("seconds", 599.9, 660.1),
        ("date", 598.9, 661.1),
        ("past", 199.9, 300.1),
        ("day", 999.9, 1_000.1),
        ("nonsense", 199.9, 300.1),
    ];
    // After the last call of the agent, which would pull the retries forward.
    for (job, ..) in expected {
        world.arm(job, 3_000).await;
    }
    for (job, least, most) in expected {
        world.ended(job, 1).await;
        let planned: f64 = sqlx::query_scalar(
            "SELECT extract(epoch FROM next_attempt_at - ended_at)::float8
             FROM one_shots JOIN fires USING (instance_id, job_id) WHERE job_id = $1",
        )
        .bind(job)
        .fetch_one(&world.pool)
        .await
        .unwrap();
        assert!((least..most).contains(&planned), "{job}: {planned} s and not {least} to {most}");
    }
}

#[tokio::test]
async fn contract_retries_an_exhausted_budget_makes_a_listed_dead_letter_that_the_same_key_revives() {
    let world = World::with(|s| {
        quick(s)
            .with("NAS_CRON_RETRY_CAP", "800ms")
            .with("NAS_CRON_RETRY_GIVE_UP_AFTER", "4s")
            .with("NAS_CRON_SECOND_FIRE_DELAY", "10m")
            .with("NAS_CRON_SECOND_FIRE_INTERVAL", "10m")
    })
    .await;
    world.agents.answer(|_, _| Reply { body: "the disk is full", ..Reply::status(507) });
    let (at, schedule) = world.arm("job", -1_000).await;
    let (_, other) = world.arm("other", -1_000).await;
    let dead = eventually("it is given up", async || {
        world.listed("job").await.filter(|(half, _)| *half == "dead").map(|(_, entry)| entry)
    })
    .await;
    assert_eq!(
        (&dead["fire_at"], &dead["schedule_id"], &dead["state"]),
        (&json!(at), &json!(schedule), &json!("dead"))
    );
    assert_eq!((&dead["last_status"], &dead["last_error"]), (&json!(507), &json!("the disk is full")));
    let history = world.history("job").await;
    assert_eq!(dead["attempts"].as_u64(), Some(history.len() as u64));
    // Delays of 0.2 s, then twice that, then more than half a second: no more attempts fit into 4 s.
    assert!((2..=10).contains(&history.len()), "{history:?}");
    assert!(history.iter().all(|one| one.outcome == "failed"));

    // The same key: the same schedule id, a new retry budget, due now.
    let tried = world.agents.fires_of("job").len();
    world.agents.answer(|_, before| Reply::status(if before % 2 == 0 { 500 } else { 202 }));
    assert_eq!(world.again("job", &at).await, schedule);
    world.agents.wait_for("job", tried + 1).await;
    world.delivered("job").await;
    let attempts: Vec<i32> = world.history("job").await.iter().skip(tried).map(|one| one.number).collect();
    assert_eq!(attempts[0], 1, "a fresh budget: {attempts:?}");

    // A new key: the dead letter becomes history.
    world.agents.answer(|_, _| Reply::accepted());
    let (_, new) = world.arm("other", -500).await;
    assert_ne!(new, other);
    world.all_delivered().await;
    assert!(
        world.history("other").await.iter().any(|one| one.outcome == "failed" && one.schedule_id == other)
    );
}

#[tokio::test]
async fn contract_retries_one_one_shot_probes_an_unreachable_instance() {
    const ACCEPT: &[Step] = &[Step::Read, Step::Send("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")];
    let world = World::with(quick).await;
    let address = unused_address("127.0.0.72").await;
    let callback = format!("http://{address}");
    let arm = async |job: &str| world.service.provision(&world.token, job, &fire_at(-1_000), &callback).await;
    arm("probe").await;
    eventually("an outage is known", async || {
        sqlx::query_scalar::<_, String>("SELECT probe_job_id FROM instances WHERE probe_job_id IS NOT NULL")
            .fetch_optional(&world.pool)
            .await
            .unwrap()
    })
    .await;
    for job in ["one", "two", "three"] {
        arm(job).await;
    }
    // Reachable instances are not affected.
    let elsewhere = world.instance("inst-2").await;
    world.service.provision(&elsewhere, "elsewhere", &fire_at(0), &world.agents.callback("inst-2")).await;
    world.agents.wait_for("elsewhere", 1).await;

    let known = world.history("probe").await.len();
    world.ended("probe", known + 2).await;
    for job in ["one", "two", "three"] {
        assert_eq!(world.history(job).await, [], "{job} waits for the probe");
        let (half, entry) = world.listed(job).await.expect("it is listed");
        assert_eq!((half, &entry["parked"]), ("armed", &json!("unreachable")));
    }
    let agent = RawAgent::start(&address, ACCEPT).await.unwrap();
    world.all_delivered().await;
    assert_eq!(agent.connections(), 4);
}

#[tokio::test]
async fn contract_retries_a_call_of_the_agent_pulls_its_retries_forward_once_a_minute() {
    let world = World::with(|s| s.with("NAS_CRON_RETRY_DEFINITE_BASE", "10m")).await;
    world.agents.answer(|fire, before| {
        let retry_after = (fire.job_id == "asked").then_some("58");
        if before == 0 { Reply { retry_after, ..Reply::status(503) } } else { Reply::accepted() }
    });
    // Both are armed before one fires: a provision would pull the retry of the other.
    world.arm("free", 3_000).await;
    world.arm("asked", 3_000).await;
    world.ended("free", 1).await;
    world.ended("asked", 1).await;
    let next = async |job: &str| {
        let entry = world.listed(job).await.expect("it waits").1;
        (instant(entry["next_attempt_at"].as_str().unwrap()) - now()).as_seconds_f64()
    };
    // The provisions counted as this minute's call.
    assert!(next("free").await > 300.0);

    world.sql("UPDATE instances SET pulled_at = now() - interval '61 s'").await;
    let called = now();
    world.service.list(&world.token).await;
    let fire = world.agents.wait_for("free", 2).await;
    let after = (fire.arrived - called).as_seconds_f64();
    assert!(after >= 1.0, "{after} s after the call");
    assert_eq!(world.ended("free", 2).await[1].number, 2, "attempt counts are kept");
    let kept: bool = sqlx::query_scalar(
        "SELECT COALESCE(next_attempt_at, last_started_at) >= ended_at + interval '58 s'
         FROM one_shots JOIN fires USING (instance_id, job_id) WHERE job_id = 'asked' AND attempt = 1",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert!(kept, "never before its Retry-After");
}

#[tokio::test]
async fn invariant_4_after_a_cancel_no_retry_starts() {
    let world = World::with(quick).await;
    world.agents.answer(|fire, _| Reply::status(if fire.job_id == "marker" { 202 } else { 500 }));
    world.arm("waiting", -1_000).await;
    world.ended("waiting", 1).await;
    world.service.cancel(&world.token, "waiting").await;
    let cancelled = now();
    world.arm("armed", 5_000).await;
    world.service.cancel(&world.token, "armed").await;
    world.arm("marker", 6_000).await;
    world.agents.wait_for("marker", 1).await;
    world.ended("marker", 1).await;
    assert_eq!(world.agents.fires_of("armed").len(), 0);
    let late: i64 =
        sqlx::query_scalar("SELECT count(*) FROM fires WHERE job_id = 'waiting' AND started_at > $1")
            .bind(cancelled)
            .fetch_one(&world.pool)
            .await
            .unwrap();
    assert_eq!(late, 0);
    assert_eq!(world.service.list(&world.token).await["armed"], json!([]));
}

#[tokio::test]
async fn contract_retries_a_retry_after_holds_back_the_instances_other_one_shots() {
    let world = World::with(quick).await;
    world.agents.answer(|fire, before| match fire.job_id.as_str() {
        "first" if before == 0 => Reply::busy("4"),
        _ => Reply::accepted(),
    });
    world.arm("first", -1_000).await;
    let asked = world.ended("first", 1).await.swap_remove(0);
    assert_eq!(asked.status, Some(503));
    // Due now, due within that time, and due later; and those of another instance.
    let other = world.instance("inst-2").await;
    world.service.provision(&other, "elsewhere", &fire_at(-1_000), &world.agents.callback("inst-2")).await;
    for (job, millis) in [("due", -1_000), ("soon", 1_000), ("later", 6_000)] {
        world.arm(job, millis).await;
    }
    world.ended("elsewhere", 1).await;
    for job in ["due", "soon", "later", "first"] {
        world.delivered(job).await;
    }
    let after: Vec<(String, f64)> = sqlx::query_as(
        "SELECT job_id, extract(epoch FROM started_at - (SELECT min(ended_at) FROM fires))::float8 FROM fires ORDER BY started_at",
    )
    .fetch_all(&world.pool)
    .await
    .unwrap();
    let of = |job: &str| after.iter().filter(|one| one.0 == job).map(|one| one.1).next_back().unwrap();
    assert!(["due", "soon", "first"].iter().all(|job| of(job) >= 4.0), "{after:?}");
    assert!(of("elsewhere") < of("due"), "other instances do not wait: {after:?}");
    assert_eq!(
        world.agents.fires_of("due").len() + world.agents.fires_of("soon").len(),
        2,
        "one attempt each"
    );
    let late: bool = sqlx::query_scalar(
        "SELECT bool_and(started_at >= fire_at) FROM fires WHERE job_id IN ('due', 'soon', 'later')",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert!(late);
    // The agent asked for it: the service was not late.
    let metrics = world.service.metrics().await;
    let measured = metrics.lines().find(|line| line.starts_with("nas_cron_fire_lateness_seconds_count"));
    assert_eq!(measured, Some("nas_cron_fire_lateness_seconds_count 1"), "only that of `later`");
}

#[tokio::test]
async fn contract_retries_an_agent_that_asks_to_wait_gets_no_more_attempts_than_slots() {
    let world = World::with(|s| quick(s).with("NAS_CRON_IN_FLIGHT_PER_INSTANCE", "2")).await;
    world.agents.answer(|_, _| Reply::busy("3600"));
    let (at, callback) = (fire_at(3_000), world.callback());
    let jobs: Vec<String> = (0..40).map(|number| format!("job-{number}")).collect();
    for job in &jobs {
        world.service.provision(&world.token, job, &at, &callback).await;
    }
    eventually("all are held back or have failed", async || {
        let due: i64 = sqlx::query_scalar(
            "SELECT count(*) FROM one_shots WHERE next_attempt_at <= now() + interval '20 s'",
        )
        .fetch_one(&world.pool)
        .await
        .unwrap();
        (due == 0).then_some(())
    })
    .await;
    let tried = world.agents.fires().len();
    assert!((1..=2).contains(&tried), "{tried} attempts");
    let held: (i64, f64, f64) = sqlx::query_as(
        "SELECT count(*), max(extract(epoch FROM o.next_attempt_at - f.ended_at))::float8,
                (SELECT min(extract(epoch FROM next_attempt_at - ended_at))::float8
                 FROM one_shots JOIN fires USING (instance_id, job_id))
         FROM one_shots o, (SELECT max(ended_at) AS ended_at FROM fires) f WHERE o.attempts = 0 AND o.parked IS NULL",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert_eq!(held.0, 40 - i64::try_from(tried).unwrap(), "the others keep their whole budget");
    assert!(held.1 <= 60.5, "held back for 60 s at most, and not for ever: {held:?}");
    assert!(held.2 >= 3_599.0, "the attempt's own job waits as long as it was asked to: {held:?}");
    let (_, out, _) = world.settings.run(&["agents", "show", "inst-1"]).await;
    assert!(out.contains("busy: it asked to wait (Retry-After)"), "{out}");
    let tried: String = sqlx::query_scalar("SELECT job_id FROM fires").fetch_one(&world.pool).await.unwrap();
    let path = format!("/api/admin/jobs/inst-1/{tried}/attempts");
    let (_, page) = world.service.admin("GET", &path, None).await;
    assert_eq!(
        page["attempts"][0]["retry_after_s"], 3_600,
        "what it asked for, not what was respected: {page}"
    );

    // They fire when the time is over.
    world.agents.answer(|_, _| Reply::accepted());
    world.sql("UPDATE instances SET busy_until = now(); UPDATE one_shots SET next_attempt_at = now(); NOTIFY nas_cron_due").await;
    world.all_delivered().await;
}
