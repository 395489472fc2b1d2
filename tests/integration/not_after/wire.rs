//! Requests, fires and commands, with the real binary.

use nas_cron_testing::agent::Reply;
use nas_cron_testing::time::{fire_at, instant, now};
use nas_cron_testing::world::{World, eventually};
use serde_json::{Value, json};

const FAR: i64 = 3_600_000;

/// Provisions a job in `millis` with these fields. Returns the status and the body.
async fn provision(world: &World, job: &str, millis: i64, changes: &Value) -> (u16, Value) {
    let at = fire_at(millis);
    let mut body = json!({
        "job_id": job, "fire_at": at, "agent_callback_url": world.callback(), "dedup_key": format!("{job}:{at}"),
    });
    for (name, value) in changes.as_object().unwrap() {
        body[name] = value.clone();
    }
    world.service.post("/api/agent-cron/provision", &world.token, &body).await
}

async fn armed(world: &World, job: &str, millis: i64, changes: &Value) {
    let (status, answer) = provision(world, job, millis, changes).await;
    assert_eq!(status, 200, "{answer}");
}

/// Waits until the job is a dead letter that has expired, and returns its entry in the list.
async fn expired(world: &World, job: &str) -> Value {
    eventually(&format!("{job} has expired"), async || {
        let (half, entry) = world.listed(job).await?;
        (half == "dead" && entry["dead_reason"] == "expired").then_some(entry)
    })
    .await
}

async fn run(world: &World, line: &str) -> String {
    let words: Vec<_> = line.split_whitespace().collect();
    let (status, out, said) = world.settings.run(&words).await;
    assert!(status.success(), "{line}: {said}");
    out
}

#[tokio::test]
async fn a_retry_that_would_be_too_late_makes_an_expired_dead_letter_at_once() {
    let world = World::new().await;
    world.agents.answer(|_, _| Reply::busy("300"));
    let limit = fire_at(120_000);
    armed(&world, "job", 0, &json!({"not_after": limit})).await;
    let entry = expired(&world, "job").await;
    assert!(now() < instant(&limit), "not only when it passes");
    assert_eq!(
        (&entry["attempts"], &entry["last_status"], &entry["state"]),
        (&json!(1), &json!(503), &json!("dead"))
    );
    assert!(entry["died_at"].is_string() && entry["not_after"].is_string(), "{entry}");
    assert_eq!(world.agents.fires_of("job").len(), 1);
    // It is counted and then logged, after the outcome is durable.
    let line = eventually("the expiry is logged", async || {
        let log = world.service.log();
        log.lines().find(|line| line.contains("would start after its not_after")).map(str::to_owned)
    })
    .await;
    let page = world.service.metrics().await;
    assert!(page.contains("nas_cron_one_shots_expired_total 1\n"), "{page}");
    assert!(line.contains(r#""level":"WARN""#) && line.contains("\"job\"") && line.contains("503"), "{line}");
    let listed = run(&world, "jobs list --state dead").await;
    assert!(listed.contains("dead, expired"), "{listed}");
    let shown: Value = serde_json::from_str(&run(&world, "jobs show inst-1 job --json").await).unwrap();
    assert_eq!(
        (&shown["job"]["dead_reason"], &shown["job"]["not_after"]),
        (&json!("expired"), &entry["not_after"])
    );
    // A redrive is a decision to fire, however late. The agent's `Retry-After` is over.
    world.agents.answer(|_, _| Reply::accepted());
    world.sql("UPDATE instances SET busy_until = NULL").await;
    run(&world, "jobs redrive inst-1 job").await;
    world.delivered("job").await;
    assert_eq!(world.agents.fires_of("job").len(), 2);
}

#[tokio::test]
async fn a_held_one_shot_expires_when_its_limit_passes_and_a_release_does_not_fire_it() {
    let world = World::new().await;
    run(&world, "hold --all --reason test").await;
    armed(&world, "held", 500, &json!({"not_after": fire_at(1_500)})).await;
    armed(&world, "kept", 500, &json!({})).await;
    let entry = expired(&world, "held").await;
    assert_eq!((&entry["attempts"], entry.get("parked")), (&json!(0), None));
    let died = instant(entry["died_at"].as_str().unwrap());
    assert!(died > instant(entry["not_after"].as_str().unwrap()), "{entry}");
    eventually("the expiry is logged", async || {
        world.service.log().contains("one-shot expired, its not_after has passed").then_some(())
    })
    .await;
    run(&world, "release --all").await;
    world.delivered("kept").await;
    assert_eq!(world.agents.fires_of("held").len(), 0);
    let (half, _) = world.listed("held").await.unwrap();
    assert_eq!(half, "dead");
}

#[tokio::test]
async fn a_one_shot_armed_after_its_limit_never_fires() {
    let world = World::new().await;
    armed(&world, "late", -60_000, &json!({"not_after": fire_at(-30_000)})).await;
    expired(&world, "late").await;
    assert_eq!(world.agents.fires_of("late").len(), 0);
    assert_eq!(world.history("late").await, [], "it had no attempt");
}

#[tokio::test]
async fn a_fire_in_time_is_delivered() {
    let world = World::new().await;
    armed(&world, "job", 0, &json!({"not_after": fire_at(FAR)})).await;
    world.delivered("job").await;
    assert_eq!(world.agents.fires_of("job").len(), 1);
    let page = world.service.metrics().await;
    assert!(page.contains("nas_cron_one_shots_expired_total 0\n"), "{page}");
}

#[tokio::test]
async fn the_list_shows_the_limit_and_the_same_key_keeps_changes_or_clears_it() {
    let world = World::new().await;
    let at = fire_at(FAR);
    let with = |not_after: Option<Value>| {
        let mut body = json!({"fire_at": at, "dedup_key": "key"});
        if let Some(not_after) = not_after {
            body["not_after"] = not_after;
        }
        body
    };
    let mut schedules = Vec::new();
    for (not_after, shown) in [
        (Some(json!("2036-06-18T14:00:00.5+02:00")), json!("2036-06-18T12:00:00.500Z")),
        (None, json!("2036-06-18T12:00:00.500Z")),
        (Some(json!("2036-06-18T12:00:00Z")), json!("2036-06-18T12:00:00Z")),
        (Some(json!(null)), json!(null)),
        (None, json!(null)),
    ] {
        let (status, answer) = provision(&world, "job", 0, &with(not_after)).await;
        assert_eq!(status, 200, "{answer}");
        schedules.push(answer["schedule_id"].clone());
        assert_eq!(world.listed("job").await.unwrap().1["not_after"], shown);
    }
    schedules.dedup();
    assert_eq!(schedules.len(), 1, "never superseded");
    let text = run(&world, "jobs show inst-1 job").await;
    assert!(!text.contains("not after"), "{text}");
}

#[tokio::test]
async fn an_invalid_limit_is_400_by_name_and_nothing_is_stored() {
    let world = World::new().await;
    armed(&world, "job", FAR, &json!({"not_after": "2036-06-18T12:00:00Z", "dedup_key": "key"})).await;
    let before = world.listed("job").await;
    for (not_after, expected) in [
        (json!(fire_at(FAR - 1_000)), "not_after: must not be before fire_at"),
        (json!("2036-06-18T12:00:00"), "not_after: must be an ISO 8601 date-time with an offset"),
        (json!("2036-06-18"), "not_after: must be an ISO 8601 date-time with an offset"),
        (json!(""), "not_after: must be an ISO 8601 date-time with an offset"),
        (json!("10000-01-01T00:00:00Z"), "not_after: must be an ISO 8601 date-time with an offset"),
        (json!(1_750_250_096), "not_after: invalid type: integer, expected a string"),
        (json!(["2036-06-18T12:00:00Z"]), "not_after: invalid type: sequence, expected a string"),
        (json!(false), "not_after: invalid type: boolean, expected a string"),
    ] {
        for (job, key) in [("new", "new"), ("job", "key"), ("job", "another")] {
            let changes = json!({"not_after": not_after, "dedup_key": key, "auth": "claude:new"});
            let (status, answer) = provision(&world, job, FAR, &changes).await;
            assert_eq!((status, &answer["error"]), (400, &json!("invalid_request")), "{not_after}: {answer}");
            let said = answer["error_description"].as_str().unwrap();
            assert!(said.starts_with(expected), "{not_after}: {said}");
        }
    }
    assert_eq!(world.listed("new").await, None);
    assert_eq!(world.listed("job").await, before);
    let profiles: i64 =
        sqlx::query_scalar("SELECT count(*) FROM job_auth").fetch_one(&world.pool).await.unwrap();
    assert_eq!(profiles, 0);
}

#[tokio::test]
async fn imported_one_shots_have_their_limit_and_auth() {
    let world = World::new().await;
    let file = std::env::temp_dir().join(format!("{}.csv", uuid::Uuid::new_v4()));
    let callback = world.callback();
    let table = format!(
        "instance_id,job_id,fire_at,agent_callback_url,auth,not_after\n\
         inst-1,limited,2036-06-18T12:00:00Z,{callback},\"claude:a,codex:b\",2036-06-18T13:00:00Z\n\
         inst-1,none,2036-06-18T12:00:00Z,{callback},none,\n\
         inst-1,plain,2036-06-18T12:00:00Z,{callback},,\n\
         inst-1,early,2036-06-18T12:00:00Z,{callback},,2036-06-18T11:00:00Z\n\
         inst-1,naive,2036-06-18T12:00:00Z,{callback},,2036-06-18T13:00:00\n\
         inst-1,wrong,2036-06-18T12:00:00Z,{callback},\"claude:a,claude:a\",\n"
    );
    std::fs::write(&file, table).unwrap();
    let (status, out, said) =
        world.settings.run(&["jobs", "import", "--format", "csv", file.to_str().unwrap()]).await;
    std::fs::remove_file(&file).unwrap();
    let all = format!("{out}{said}");
    assert_eq!(status.code(), Some(1), "{all}");
    for problem in [
        "not_after: must not be before fire_at",
        "not_after: must be an ISO 8601",
        "auth[1]: is in the list twice",
    ] {
        assert!(all.contains(problem), "{all}");
    }
    let listed = world.listed("limited").await.unwrap().1;
    assert_eq!(listed["auth"], json!(["claude:a", "codex:b"]));
    assert_eq!(listed["not_after"], "2036-06-18T13:00:00Z");
    assert_eq!(world.listed("none").await.unwrap().1["auth"], json!(false));
    let plain = world.listed("plain").await.unwrap().1;
    assert_eq!((plain.get("auth"), plain.get("not_after")), (None, None));
    for job in ["early", "naive", "wrong"] {
        assert_eq!(world.listed(job).await, None, "{job}");
    }
}
