//! `nas-cron cron`: all commands from login to cancel, and their errors.

use chrono::{DateTime, TimeDelta};
use nas_cron_testing::agent::Reply;
use nas_cron_testing::time::now;
use nas_cron_testing::world::World;
use serde_json::{Value, json};

use super::fixture::{Tools, run};

#[tokio::test]
async fn a_job_is_added_listed_updated_and_cancelled() {
    let world = World::new().await;
    let tools = Tools::logged_in(&world.service.url, &world.token).await;
    let callback = world.callback();
    assert_eq!(tools.run("list").await.ok().trim(), "No one-shots are armed. `nas-cron cron add` arms one.");

    let said = tools.run(&format!("add report --in 1h --callback-url {callback}")).await.ok();
    assert!(said.starts_with("report is armed: it fires in 1 h, ") && said.contains(&callback), "{said}");
    // The callback URL is stored, and stdout holds only JSON.
    let added = tools.run("add sync --at 2099-06-18T14:30:00.5+02:00 --json").await.json();
    assert_eq!(added["agent_callback_url"], json!(callback));
    assert_eq!(added["dedup_key"], "sync:2099-06-18T14:30:00.5+02:00");
    assert_eq!((&added["auth"], &added["warnings"]), (&Value::Null, &json!([])));

    let table = tools.run("list").await.ok();
    let rows: Vec<&str> = table.lines().collect();
    assert!(
        rows[0].starts_with("JOB ") && rows[1].starts_with("report ") && rows[2].starts_with("sync "),
        "{table}"
    );
    assert!(rows[2].contains("2099-06-18 14:30:00 +02:00"), "{table}");
    let listed = tools.run("list --json").await.json();
    assert_eq!(listed["armed"][1]["schedule_id"], added["schedule_id"]);
    assert_eq!(listed["dead"], json!([]));

    let shown = tools.run("show sync --json").await.json();
    assert_eq!(
        (&shown["state"], &shown["one_shot"]["fire_at"]),
        (&json!("armed"), &json!("2099-06-18T14:30:00.5+02:00"))
    );
    assert!(tools.run("show sync").await.ok().contains(shown["one_shot"]["schedule_id"].as_str().unwrap()));

    assert!(tools.run("cancel sync").await.ok().contains("sync is cancelled"));
    assert_eq!(
        tools.run("cancel sync --json").await.json(),
        json!({"ok": true}),
        "cancelling twice succeeds"
    );
    assert!(tools.run("show sync").await.ok().contains("cancelled"));
    tools.run("show other").await.failed(3, "nothing is stored about a job of this instance");
    tools.run("update sync --in 5m").await.failed(3, "job sync not found");
    assert_eq!(world.listed("report").await.unwrap().0, "armed");
}

#[tokio::test]
async fn an_added_job_fires() {
    let world = World::new().await;
    let tools = Tools::logged_in(&world.service.url, &world.token).await;
    let before = now();
    let added =
        tools.run(&format!("add ping --in 1s --callback-url {} --json", world.callback())).await.json();
    let fire_at = added["fire_at"].as_str().unwrap();
    assert!(fire_at.ends_with("+03:30"), "in the machine's time zone: {fire_at}");
    let instant = DateTime::parse_from_rfc3339(fire_at).unwrap().to_utc();
    assert!(instant - before >= TimeDelta::seconds(1), "{fire_at}");
    let fire = world.agents.wait_for("ping", 1).await;
    assert_eq!(fire.fire_at, fire_at);
    assert!(fire.arrived >= instant);
}

#[tokio::test]
async fn show_tells_what_became_of_a_job() {
    let world = World::with(|s| s.with("NAS_CRON_RETRY_DEFINITE_BASE", "100ms")).await;
    let tools = Tools::logged_in(&world.service.url, &world.token).await;
    world.agents.answer(|_, before| match before {
        0 => Reply { body: "not\u{1b}[2J now", ..Reply::status(503) },
        _ => Reply::accepted(),
    });
    world.arm("report / 1?", 0).await;
    let show = async |options: &str| {
        let mut command = tools.command(&format!("show {options}"));
        command.arg("report / 1?");
        run(command, "").await
    };
    world.delivered("report / 1?").await;
    let said = show("").await.ok();
    let lines: Vec<Vec<&str>> = said.lines().map(|line| line.split_whitespace().collect()).collect();
    assert_eq!(lines[1], ["state", "delivered"], "{said}");
    assert!(said.contains("nothing is armed: provision the job to fire it again"), "{said}");
    let table = lines.iter().position(|line| line.first() == Some(&"ATTEMPT")).expect("a table");
    assert!(lines[table + 1].contains(&"delivered") && lines[table + 1].contains(&"202"), "{said}");
    assert!(lines[table + 2].contains(&"failed") && lines[table + 2].contains(&"503"), "{said}");
    assert!(!said.contains('\u{1b}'), "{said}");
    let last = show("--attempts 1 --json").await.json();
    assert_eq!((last["attempts"].as_array().unwrap().len(), &last["attempts"][0]["attempt"]), (1, &json!(2)));

    world.service.cancel(&world.token, "report / 1?").await;
    let cancelled = show("--json").await.json();
    assert_eq!(cancelled["state"], "cancelled");
    assert!(cancelled["cancelled_at"].is_string(), "{cancelled}");
    let said = show("").await.ok();
    assert!(said.lines().any(|line| line.starts_with("cancelled  ")), "{said}");
    for count in ["0", "101", "few"] {
        let done = show(&format!("--attempts {count}")).await;
        assert!(done.code == Some(2) && done.err.contains("--attempts"), "{done:?}");
    }
}

#[tokio::test]
async fn a_fire_time_is_sent_as_it_was_typed() {
    let world = World::new().await;
    let tools = Tools::logged_in(&world.service.url, &world.token).await;
    for typed in ["2099-06-18t14:30:00z", "2099-06-18T14:30+02", "2099-06-18T14:30:00,120000-09:30"] {
        let mut command = tools.command("add report --json");
        command.args(["--at", typed, "--callback-url", &world.callback()]);
        let added = run(command, "").await.json();
        assert_eq!(added["fire_at"], typed);
        assert_eq!(world.listed("report").await.unwrap().1["fire_at"], typed);
    }
}

#[tokio::test]
async fn naive_time_is_taken_in_the_machines_time_zone_and_the_command_reports_it() {
    let world = World::new().await;
    let tools = Tools::logged_in(&world.service.url, &world.token).await;
    let callback = world.callback();
    let add = |at: &str| format!("add report --at {at} --callback-url {callback} --json");
    let done = tools.run(&add("2099-06-18T14:30:00")).await;
    assert_eq!(done.code, Some(0), "{done:?}");
    assert_eq!(
        done.err,
        "nas-cron: --at has no offset: taken in this machine's time zone, as 2099-06-18T14:30:00+03:30\n"
    );
    assert_eq!(world.listed("report").await.unwrap().1["fire_at"], "2099-06-18T14:30:00+03:30");

    // Where clocks change, a time may not occur, or twice.
    let with_summer_time = async |at: &str| {
        let mut command = tools.command(&add(at));
        command.env("TZ", "XST-1XDT,M3.5.0,M10.5.0/3");
        run(command, "").await
    };
    let skipped = with_summer_time("2099-03-29T02:30:00").await;
    assert!(skipped.code == Some(2) && skipped.err.contains("clocks skip it"), "{skipped:?}");
    let twice = with_summer_time("2098-10-26T02:30:00").await;
    let both = ["2098-10-26T02:30:00+01:00", "2098-10-26T02:30:00+02:00"];
    assert!(twice.code == Some(2) && both.iter().all(|one| twice.err.contains(one)), "{twice:?}");
    let summer = with_summer_time("2098-07-26T02:30:00").await;
    assert!(summer.err.contains("2098-07-26T02:30:00+02:00"), "{summer:?}");
}

#[tokio::test]
async fn past_time_fires_now_and_the_command_reports_it() {
    let world = World::new().await;
    let tools = Tools::logged_in(&world.service.url, &world.token).await;
    let add = format!("add report --at 2019-07-22T12:00:00Z --callback-url {}", world.callback());
    let said = tools.run(&add).await.ok();
    assert!(said.starts_with("report is armed: its time has passed, so it fires now (it was due "), "{said}");
}

#[tokio::test]
async fn duration_that_is_none_is_refused_with_the_rule() {
    let tools = Tools::at("http://127.0.0.1:1");
    for (duration, rule) in [
        (
            "1M",
            "must not use months or years, whose length varies: write days, such as 30d (a minute is m, not M)",
        ),
        ("1y", "must not use months or years"),
        ("abc", "must be a duration with units (ms, s, m, h, d, w), such as 90s or 2h 30m"),
        ("-5m", "must not be negative"),
        ("5", "has no unit: write 90s, 90m or 90h"),
        ("99999999d", "is too far in the future"),
    ] {
        for command in ["add report --callback-url https://agent.example", "update report"] {
            let done = tools.run(&format!("{command} --in {duration}")).await;
            assert!(done.code == Some(2) && done.err.contains(rule), "{duration}: {done:?}");
            assert!(!done.err.contains("unexpected argument"), "{done:?}");
        }
    }
}

#[tokio::test]
async fn the_same_key_arms_the_same_one_shot() {
    let world = World::new().await;
    let tools = Tools::logged_in(&world.service.url, &world.token).await;
    let callback = world.callback();
    let add = format!("add report --at 2099-01-01T00:00:00Z --callback-url {callback} --json");
    let schedule = async |line: &str| tools.run(line).await.json()["schedule_id"].clone();
    let first = schedule(&add).await;
    assert_eq!(schedule(&add).await, first);
    assert_ne!(schedule(&format!("{add} --dedup-key other")).await, first);
}

#[tokio::test]
async fn an_update_changes_only_the_named_fields() {
    let world = World::new().await;
    let tools = Tools::logged_in(&world.service.url, &world.token).await;
    let (one, two) = (world.callback(), format!("{}/elsewhere", world.callback()));
    tools.run(&format!("add report --at 2099-01-01T00:00:00Z --callback-url {one}")).await.ok();
    tools.run("update report --at 2098-01-01T00:00:00+01:00").await.ok();
    let listed = || async { world.listed("report").await.unwrap().1 };
    let job = listed().await;
    assert_eq!(
        (&job["fire_at"], &job["agent_callback_url"]),
        (&json!("2098-01-01T00:00:00+01:00"), &json!(one))
    );
    let said = tools.run("update report --at 2098-01-01T00:00:00+01:00").await.ok();
    assert!(said.starts_with("report is unchanged: it fires "), "{said}");
    assert_eq!(listed().await["schedule_id"], job["schedule_id"], "the one-shot is the same");
    let line = format!("update report --callback-url {two} --json");
    let armed = tools.run(&line).await.json();
    let job = listed().await;
    assert_eq!(
        (&job["fire_at"], &job["agent_callback_url"]),
        (&json!("2098-01-01T00:00:00+01:00"), &json!(two))
    );
    assert_ne!(
        armed["dedup_key"], "report:2098-01-01T00:00:00+01:00",
        "the same key would be the same one-shot, which waits for its next retry"
    );
    assert_eq!(
        tools.run(&line).await.json()["schedule_id"],
        armed["schedule_id"],
        "repeating the update is harmless"
    );
    let said = tools.run("add next --in 1h").await.ok();
    assert!(said.contains(&two), "an update's callback URL is stored too: {said}");
}

#[tokio::test]
async fn an_auth_profile_is_set_kept_and_cleared() {
    let world = World::new().await;
    let tools = Tools::logged_in(&world.service.url, &world.token).await;
    let auth = || async { world.listed("report").await.unwrap().1["auth"].clone() };
    let add = format!("add report --in 1h --callback-url {} --json", world.callback());
    let (out, err) = tools.run(&format!("{add} --auth claude:work")).await.warned();
    assert!(err.contains("claude:work"), "{err}");
    let added: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(added["warnings"][0]["code"], "auth_profile_unknown");
    assert_eq!(auth().await, "claude:work");
    let (table, _) = tools.run("list").await.warned();
    assert!(table.contains("claude:work (unknown)"), "{table}");
    let schedule = || async { world.listed("report").await.unwrap().1["schedule_id"].clone() };

    tools.run("update report --in 2h").await.warned();
    assert_eq!(auth().await, "claude:work", "a new time keeps the auth profile");
    let armed = schedule().await;
    let (out, _) = tools.run("update report --auth claude:play --json").await.warned();
    let updated: Value = serde_json::from_str(&out).unwrap();
    assert_eq!(updated["effective_auth"], json!({"auth": "claude:play", "source": "job"}));
    let said = tools.run("update report --no-auth").await.ok();
    assert!(said.contains("no auth profile of its own"), "{said}");
    assert_eq!((auth().await, schedule().await), (Value::Null, armed), "the one-shot is the same");
    tools.run("update nothing --auth claude:work").await.failed(3, "job nothing not found");

    tools.run("update report --auth claude:work").await.warned();
    tools.run(&add).await.warned();
    assert_eq!(auth().await, "claude:work", "adding the job again keeps its auth profile");
    let added = tools.run(&format!("{add} --no-auth")).await.json();
    assert_eq!((auth().await, added.get("auth")), (Value::Null, Some(&Value::Null)));
}

#[tokio::test]
async fn auth_may_be_several_profiles_or_none() {
    let world = World::new().await;
    let tools = Tools::logged_in(&world.service.url, &world.token).await;
    let auth = || async { world.listed("report").await.unwrap().1["auth"].clone() };
    let add = format!("add report --in 1h --callback-url {}", world.callback());
    world
        .sql("INSERT INTO auth_profiles (scope, scope_id, auth) VALUES ('service', '', 'codex:spare')")
        .await;
    let (said, _) = tools.run(&format!("{add} --auth claude:work --auth codex:spare")).await.warned();
    assert!(said.contains("with auth profiles claude:work, codex:spare"), "{said}");
    assert_eq!(auth().await, json!(["claude:work", "codex:spare"]));
    let (table, _) = tools.run("list").await.warned();
    assert!(table.contains("claude:work, codex:spare (some unknown)"), "{table}");
    let said = tools.run("update report --auth none").await.ok();
    assert!(said.contains("report runs without an auth profile."), "{said}");
    assert_eq!(auth().await, json!(false));
    assert!(tools.run("show report").await.ok().contains("auth profile  none"));
    let said = tools.run(&format!("{add} --auth none")).await.ok();
    assert!(said.contains("without an auth profile"), "{said}");
    tools.run("update report --no-auth").await.ok();
    assert_eq!(auth().await, Value::Null);
}

#[tokio::test]
async fn a_limit_is_set_kept_and_removed() {
    let world = World::new().await;
    let tools = Tools::logged_in(&world.service.url, &world.token).await;
    let limit = || async { world.listed("report").await.unwrap().1.get("not_after").cloned() };
    let add = format!("add report --at 2036-06-18T12:00:00Z --callback-url {}", world.callback());
    let said = tools.run(&format!("{add} --not-after 2036-06-18T14:00:00+01:00")).await.ok();
    assert!(said.contains("not after"), "{said}");
    let expected = Some(json!("2036-06-18T13:00:00Z"));
    assert_eq!(limit().await, expected);
    tools.run(&add).await.ok();
    assert_eq!(limit().await, expected, "adding the job again keeps it");
    assert!(tools.run("show report").await.ok().contains("13:00:00 +00:00"));
    tools.run("update report --at 2036-06-18T12:30:00Z").await.ok();
    assert_eq!(limit().await, expected, "a new time keeps it");
    tools
        .run("update report --at 2036-06-18T13:30:00Z")
        .await
        .failed(1, "not_after: must not be before fire_at");
    tools.run("update report --not-after none").await.ok();
    assert_eq!(limit().await, None);
}

#[tokio::test]
async fn an_invalid_command_line_is_explained() {
    // A port without a listener: no command gets as far as a call.
    let tools = Tools::logged_in("http://127.0.0.1:9", "token").await;
    for (line, why) in [
        ("add report --at tomorrow --callback-url http://a", "ISO 8601"),
        ("add report --in soon --callback-url http://a", "--in"),
        ("add report --in 9999999999h --callback-url http://a", "too far"),
        ("add report --in 1s --at 2099-01-01T00:00:00Z", "cannot be used with"),
        ("add report --callback-url http://a", "--at"),
        ("add report --in 1s --callback-url ftp://a", "http or https"),
        ("add report --in 1s --callback-url https://0127.0.0.1", "this host is read as 87.0.0.1"),
        ("update report --callback-url https://agent.example:0", "must not have port 0"),
        ("add report --in 1s", "--callback-url URL or NAS_CRON_CALLBACK_URL"),
        ("update report", "--auth"),
        ("update report --auth a:b --no-auth", "cannot be used with"),
        ("update report --auth a:b --auth none", "--auth must be either none or profiles"),
        ("update report --auth a:b --auth c", "--auth number 2 must be provider:name"),
        ("update report --not-after soon", "ISO 8601"),
        ("add report --in 1s --callback-url http://a --auth work", "--auth must be provider:name"),
        ("add report --in 1s --callback-url http://a --auth sk-ant-REDACTED", "--auth looks like a secret"),
        ("update report --auth sk-ant-REDACTED", "--auth looks like a secret"),
        ("update report --in 1s --auth claude:sk-ant-REDACTED", "--auth looks like a secret"),
        ("login --hermes-home /home/agent", "--hermes-home is not for `login`"),
        ("list --use-agent-identity perhaps", "on"),
        ("list --server portal.example", "absolute http(s) URL"),
    ] {
        let done = tools.run(line).await;
        assert!(done.code == Some(2) && done.err.contains(why) && done.out.is_empty(), "{line}: {done:?}");
        assert!(!done.err.contains("REDACTED"), "{line}: {done:?}");
    }
    for (name, value, why) in [
        ("NAS_CRON_SERVER", "portal.example", "NAS_CRON_SERVER: must be an absolute"),
        ("NAS_CRON_ACCESS_TOKEN", "two words", "NAS_CRON_ACCESS_TOKEN: it must be one word"),
        ("NAS_CRON_USE_AGENT_IDENTITY", "perhaps", "NAS_CRON_USE_AGENT_IDENTITY: must be on or off"),
        ("NAS_CRON_CALLBACK_URL", "ftp://a", "NAS_CRON_CALLBACK_URL: must be an http"),
        (
            "NAS_CRON_CALLBACK_URL",
            "https://127.1",
            "NAS_CRON_CALLBACK_URL: must write an IPv4 address in decimal",
        ),
    ] {
        let mut command = tools.command("add report --in 1s");
        command.env(name, value);
        run(command, "").await.failed(2, why);
    }
}

#[tokio::test]
async fn server_and_token_come_from_flags_environment_and_store() {
    let world = World::new().await;
    let url = &world.service.url;
    let tools = Tools::without_server();
    tools.run("list").await.failed(2, "no server given");
    tools.run(&format!("list --server {url}")).await.failed(2, "nas-cron cron login --server");
    tools
        .run_with(&format!("login --server {url}"), " \n")
        .await
        .failed(2, "invalid access token on stdin: it is empty");
    tools.run_with(&format!("login --server {url}/"), &format!("{}\n", world.token)).await.ok();
    tools.run("list").await.ok();
    let entry = &tools.stored()["servers"][url];
    assert_eq!(entry["bearer"]["access_token"], json!(world.token));
    assert!(entry["bearer"]["expires_at"].is_string(), "{entry}");

    tools.run("login --without-token --server https://other.example").await.ok();
    let said = tools.run("list").await.failed(2, "holds several servers");
    assert!(said.contains(url) && said.contains("https://other.example"), "{said}");

    // The flag takes precedence over the environment, and the environment over the store.
    std::fs::write(tools.path("token"), format!("{}\n", world.token)).unwrap();
    std::fs::write(tools.path("auth.json"), hermes_auth(&world.token)).unwrap();
    for (line, token_of_environment, refused) in [
        (format!("list --server {url}"), "stale", Some("the access token in NAS_CRON_ACCESS_TOKEN may have")),
        (format!("list --server {url} --access-token-file {}", tools.path("token").display()), "stale", None),
        (format!("--hermes-home {} list --server {url}", tools.path("").display()), "stale", None),
        (format!("list --server {url}"), world.token.as_str(), None),
    ] {
        let mut command = tools.command(&line);
        command.env("NAS_CRON_ACCESS_TOKEN", token_of_environment);
        let done = run(command, "").await;
        match refused {
            None => drop(done.ok()),
            Some(why) => drop(done.failed(1, why)),
        }
    }
    // The advice depends on the source of the token.
    std::fs::write(tools.path("token"), "stale").unwrap();
    std::fs::write(tools.path("auth.json"), hermes_auth("stale")).unwrap();
    let (token, home) = (tools.path("token"), tools.path("").display().to_string());
    for (option, why) in [
        (
            format!("--access-token-file {}", token.display()),
            format!("in {} may have expired", token.display()),
        ),
        (format!("--hermes-home {home}"), format!("the hermes-agent in {home} may have expired")),
    ] {
        let said = tools.run(&format!("list --server {url} {option}")).await.failed(1, &why);
        assert!(!said.contains("cron login"), "{said}");
    }
    std::fs::write(tools.path("auth.json"), "{}").unwrap();
    let line = format!("list --server {url} --hermes-home {}", tools.path("").display());
    tools.run(&line).await.failed(2, "is not logged in");
    let line = format!("list --server {url} --access-token-file {}", tools.path("nowhere").display());
    tools.run(&line).await.failed(2, "nowhere");
}

#[tokio::test]
async fn plain_http_to_another_machine_causes_a_warning() {
    let tools = Tools::without_server();
    // Without a token, nothing is sent.
    for (server, warned) in
        [("http://portal.example", true), ("https://portal.example", false), ("http://127.0.0.1:9", false)]
    {
        let nowhere = tools.path("nowhere");
        let line = format!("list --server {server} --access-token-file {}", nowhere.display());
        let done = tools.run(&line).await;
        assert_eq!(
            done.err.contains("warning: http://portal.example is called without TLS"),
            warned,
            "{done:?}"
        );
        assert_eq!((done.code, done.err.lines().count()), (Some(2), 1 + usize::from(warned)), "{done:?}");
    }
}

fn hermes_auth(token: &str) -> String {
    let auth = json!({
        "version": 1,
        "active_provider": "nous",
        "providers": {"nous": {"access_token": token, "expires_at": "2099-01-01T00:00:00+00:00"}},
    });
    auth.to_string()
}

#[tokio::test]
async fn errors_name_the_next_step() {
    let world = World::new().await;
    let url = &world.service.url;
    let session = json!({"client_id": "hermes-cli-vps", "org_id": "org-1", "sid": "sid-1"});
    let with = |changes: Value| {
        let mut claims = session.clone();
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        world.portal.sign(claims)
    };
    let old = now().timestamp() - 7200;
    for (token, why) in [
        (
            with(json!({"iat": old, "exp": old + 3600})),
            "log in again with `nas-cron cron login --server http://",
        ),
        (with(json!({"sid": "nobody", "iat": old})), "nas-cron agents add"),
        ("opaque".to_owned(), "401 invalid_token"),
    ] {
        let tools = Tools::at(url);
        tools.run_with("login", &token).await;
        let said = tools.run("list").await.failed(1, why);
        assert!(!said.contains(&token), "{said}");
    }
    world.sql("UPDATE instances SET enabled = false").await;
    let tools = Tools::logged_in(url, &world.token).await;
    tools.run("list").await.failed(1, "nas-cron agents enable");
    let said =
        tools.run_with("list --server http://127.0.0.1:9 --access-token-file /dev/stdin", "token").await;
    said.failed(1, "the request to http://127.0.0.1:9 failed");
    let agent = world.callback();
    tools
        .run_with(&format!("list --server {agent} --access-token-file /dev/stdin"), "token")
        .await
        .failed(1, "returned an invalid response");
}
