//! `nas-cron export` and `nas-cron import`.

use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::time::Duration;

use nas_cron_testing::database::database;
use nas_cron_testing::portal::Portal;
use nas_cron_testing::proxy::Proxy;
use nas_cron_testing::service::{Service, Settings};
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::{World, eventually};
use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use sqlx::PgPool;
use tokio::io::AsyncWriteExt;

use super::files::{Scratch, count, store_jobs};
use crate::database_faults::fixture::{address_of, at};

/// Runs an import, and returns its report and whether it succeeded.
async fn import(settings: &Settings, file: &Scratch, more: &[&str]) -> (Value, bool) {
    let arguments = [&["import", file.path(), "--json"], more].concat();
    let (status, out, error) = settings.run(&arguments).await;
    (serde_json::from_str(&out).unwrap_or_else(|_| panic!("{out}{error}")), status.success())
}

#[tokio::test]
async fn export_is_imported_elsewhere_once_and_fires_there() {
    let world = World::new().await;
    let other = world.instance("inst-2").await;
    world.arm("overdue-there", 3_600_000).await;
    let body = json!({
        "job_id": "with-auth", "fire_at": fire_at(7_200_000), "agent_callback_url": world.agents.callback("inst-2"),
        "dedup_key": "k", "auth": "claude:work", "not_after": fire_at(9_000_000),
    });
    assert_eq!(world.service.post("/api/agent-cron/provision", &other, &body).await.0, 200);
    world
        .sql(
            "INSERT INTO auth_profiles (scope, scope_id, auth) VALUES ('service', '', 'claude:work');
             INSERT INTO auth_defaults (scope, scope_id, auth) VALUES ('org', 'org-1', '[\"claude:work\"]');
             INSERT INTO logins (login_id, instance_id, key_id, number) VALUES (gen_random_uuid(), 'inst-2', '\\x0011223344556677', 7);
             INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state, dead_since)
             VALUES ('inst-1', 'dead', gen_random_uuid(), 'd', '2026-01-01T00:00:00Z', '2026-01-01', 'https://agent.example', 'dead', now())",
        )
        .await;
    let (status, exported, _) = world.settings.run(&["export", "-"]).await;
    assert!(status.success());
    assert!(!exported.contains("PRIVATE KEY") && exported.lines().count() == 10, "{exported}");
    let overdue = fire_at(-60_000);
    let lines: Vec<Value> = exported.lines().map(|line| serde_json::from_str(line).expect(line)).collect();
    let moved = lines.iter().map(|line| {
        let mut line = line.clone();
        if line["job_id"] == "overdue-there" {
            line["fire_at"] = json!(overdue);
        }
        line.to_string() + "\n"
    });
    let file = Scratch::file("export", &moved.collect::<String>());

    let (_, url) = database().await;
    let there = PgPool::connect(&url).await.unwrap();
    let settings = world.settings.clone().with("NAS_CRON_DATABASE_URL", url);
    let (dry, _) = import(&settings, &file, &["--dry-run"]).await;
    assert_eq!(count(&there, "instances").await, 0);
    let (report, ok) = import(&settings, &file, &[]).await;
    assert!(ok, "{report}");
    assert_eq!(
        (&report["lines"], &report["added"], &report["armed"]),
        (&json!(9), &json!(6), &json!(2)),
        "{report}"
    );
    assert_eq!(report["skipped"][0]["problem"], "a dead letter; --dead-letters arms it");
    assert_eq!((&dry["added"], &dry["armed"], &dry["bad"]), (&report["added"], &report["armed"], &json!([])));
    let (repeated, ok) = import(&settings, &file, &[]).await;
    assert!(ok, "{repeated}");
    assert_eq!(
        (&repeated["added"], &repeated["armed"], &repeated["unchanged"]),
        (&json!(0), &json!(0), &json!(8))
    );
    let (more, _) = import(&settings, &file, &["--dead-letters", "--from-line", "7"]).await;
    assert_eq!((&more["lines"], &more["armed"]), (&json!(3), &json!(1)), "{more}");

    // The export of the copy is the same, except for the dead letter, which is armed now.
    let (_, again, _) = settings.run(&["export", "-"]).await;
    let without = |text: &str| -> Vec<String> {
        let lines = text.lines().filter(|line| !line.contains("\"one_shot\""));
        lines.map(str::to_owned).collect()
    };
    assert_eq!(without(&again), without(&exported));

    let service = Service::start(&settings).await;
    world.agents.wait_for("overdue-there", 1).await;
    let auth: Value = sqlx::query_scalar("SELECT auth FROM job_auth").fetch_one(&there).await.unwrap();
    assert_eq!(auth, json!("claude:work"));
    let listed = service.list(&other).await;
    assert_eq!(
        (&listed["armed"][0]["job_id"], listed["armed"][0]["not_after"].is_string()),
        (&json!("with-auth"), true)
    );
    assert_eq!(world.agents.fires_of("overdue-there").len(), 1);
}

/// Runs an export to `file`, and returns its exit code, its text and its file.
async fn exported(settings: &Settings, file: &Scratch, more: &[&str]) -> (Option<i32>, String, String) {
    let (status, _, said) = settings.run(&[&["export", file.path()], more].concat()).await;
    (status.code(), said, std::fs::read_to_string(file.path()).unwrap())
}

#[tokio::test]
async fn interrupted_export_goes_on_after_its_last_line_wherever_it_ended() {
    let world = World::new().await;
    world
        .sql(
            "INSERT INTO instances (instance_id, org_id) VALUES ('inst-2', 'org-1'), ('inst-3', 'org-1');
             INSERT INTO auth_profiles (scope, scope_id, auth) VALUES ('service', '', 'claude:work');
             INSERT INTO auth_defaults (scope, scope_id, auth) VALUES ('org', 'org-1', '[\"claude:work\"]');
             INSERT INTO logins (login_id, instance_id, key_id, number) VALUES (gen_random_uuid(), 'inst-2', '\\x0011223344556677', 7);
             INSERT INTO job_auth (instance_id, job_id, auth) VALUES ('inst-1', 'job', '\"claude:work\"');
             INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url,
                                    state, next_attempt_at)
             SELECT instance_id, job_id, gen_random_uuid(), 'k', '2036-01-01T00:00:00Z', '2036-01-01', 'https://agent.example',
                    'armed', '2036-01-01'
             FROM instances, unnest('{a,b}'::text[]) job_id",
        )
        .await;
    let file = Scratch::file("resumed", "");
    let partial = file.partial();
    let (code, said, whole) = exported(&world.settings, &file, &[]).await;
    assert_eq!((code, whole.lines().count()), (Some(0), 14), "{said}");
    let mode = std::fs::metadata(file.path()).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "callback URLs may be secret");

    let mut lines: Vec<_> = whole.split_inclusive('\n').collect();
    let end = lines.pop().unwrap();
    assert_eq!(end, "{\"kind\":\"end\"}\n");
    // Complete but for its name: the end is written anew.
    std::fs::write(partial.path(), &whole).unwrap();
    let (_, said, resumed) = exported(&world.settings, &file, &["--resume"]).await;
    assert!(said.contains("after line 13,") && resumed == whole, "{said}{resumed}");
    for kept in 0..=lines.len() {
        // With a half line, as a killed process leaves it.
        let half = lines.get(kept).map_or("", |line| &line[..line.len() / 2]);
        std::fs::write(partial.path(), lines[..kept].concat() + half).unwrap();
        let (code, said, resumed) = exported(&world.settings, &file, &["--resume"]).await;
        assert_eq!(code, Some(0), "{said}");
        assert!(said.contains(&format!("after line {kept},")), "{said}");
        let resumed = resumed.strip_suffix(end).expect(&resumed).to_owned();
        let (before, after) = resumed.split_at(lines[..kept].concat().len());
        assert_eq!(before, lines[..kept].concat());
        // Some agents are there twice.
        let agents = |text: &str| text.lines().filter(|line| line.contains("\"agent\"")).count();
        let again = match kept {
            4..=7 => 3,
            8..=9 => 2,
            10..=11 => 1,
            _ => 0,
        };
        assert_eq!(agents(&resumed), 3 + again, "after line {kept}:\n{resumed}");
        let rest: String = after.split_inclusive('\n').skip(again).collect();
        assert_eq!(rest, lines[kept..].concat());
    }

    // An agent and a job of the time between.
    std::fs::write(partial.path(), lines[..9].concat()).unwrap();
    world.instance("inst-4").await;
    world
        .sql(
            "INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url,
                                    state, next_attempt_at)
             VALUES ('inst-4', 'new', gen_random_uuid(), 'k', '2036-01-01T00:00:00Z', '2036-01-01', 'https://agent.example',
                     'armed', '2036-01-01')",
        )
        .await;
    let (code, said, _) = exported(&world.settings, &file, &["--resume"]).await;
    assert_eq!(code, Some(0), "{said}");
    let (_, url) = database().await;
    let there = PgPool::connect(&url).await.unwrap();
    let settings = world.settings.clone().with("NAS_CRON_DATABASE_URL", url);
    let (report, ok) = import(&settings, &file, &[]).await;
    assert!(ok, "{report}");
    assert_eq!((count(&there, "instances").await, count(&there, "one_shots").await), (4, 7), "{report}");

    // A file that cannot be resumed stays as it is.
    for (content, problem) in
        [(None, "export without --resume"), (Some("{}\n"), "line 1 of"), (Some("x\ny\nz"), "line 2 of")]
    {
        if let Some(content) = content {
            std::fs::write(partial.path(), content).unwrap();
        }
        let (code, said, unchanged) = exported(&world.settings, &file, &["--resume"]).await;
        assert!(code == Some(1) && said.contains(problem), "{said}");
        assert!(unchanged.contains("inst-4"));
    }
    let (status, _, said) = world.settings.run(&["export", "-", "--resume"]).await;
    assert!(status.code() == Some(1) && said.contains("--resume goes on with a file"), "{said}");
}

#[tokio::test]
async fn killed_export_is_resumed_and_complete() {
    const JOBS: usize = 30_000;
    let world = World::new().await;
    store_jobs(&world, JOBS).await;
    let file = Scratch::file("killed", "");
    let partial = file.partial();
    // Stopped while it writes. On a busy machine, one may end before it is noticed.
    let mut export = eventually("an export stands still", async || {
        let mut export = world.settings.command(&["export", file.path()]).spawn().unwrap();
        while export.try_wait().unwrap().is_none() {
            if std::fs::metadata(partial.path()).is_ok_and(|partial| partial.len() > 0) {
                kill_process(Pid::from_child(&export), Signal::STOP).unwrap();
                return std::fs::exists(partial.path()).unwrap().then_some(export);
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
        None
    })
    .await;
    let other = exported(&world.settings, &file, &["--resume"]).await;
    assert!(other.0 == Some(1) && other.1.contains("another process writes"), "{other:?}");
    export.kill().unwrap();
    export.wait().unwrap();
    let (code, said, whole) = exported(&world.settings, &file, &["--resume"]).await;
    assert_eq!(code, Some(0), "{said}");
    assert!(said.contains("Going on after line ") && !said.contains("after line 0,"), "{said}");
    let mut jobs: Vec<_> = whole.lines().filter(|line| line.contains("\"one_shot\"")).collect();
    assert_eq!(jobs.len(), JOBS);
    jobs.dedup();
    assert_eq!(jobs.len(), JOBS, "none is there twice");
}

#[tokio::test]
async fn import_that_loses_the_database_goes_on_after_the_line_that_it_names() {
    const JOBS: u64 = 30_000;
    let (_db, url) = database().await;
    let there = PgPool::connect(&url).await.unwrap();
    let proxy = Proxy::start(address_of(&url)).await;
    let settings = Settings::new(&at(&url, proxy.address()), &Portal::start().await);
    let agent = r#"{"kind":"agent","instance_id":"a","org_id":"o"}"#.to_owned();
    let jobs = (1..=JOBS).map(|job| {
        format!(
            r#"{{"kind":"one_shot","instance_id":"a","job_id":"{job}","fire_at":"2036-01-01T00:00:00Z","agent_callback_url":"https://a.example","dedup_key":"k"}}"#
        )
    });
    let lines: Vec<_> = std::iter::once(agent).chain(jobs).collect();
    let file = Scratch::file("interrupted", &(lines.join("\n") + "\n"));
    let mut command = tokio::process::Command::from(settings.command(&["import", file.path()]));
    let running = command.stdout(Stdio::null()).stderr(Stdio::piped()).spawn().unwrap();
    eventually("some are imported", async || (count(&there, "one_shots").await > 0).then_some(())).await;
    proxy.cut().await;
    let ended = running.wait_with_output().await.unwrap();
    let said = String::from_utf8(ended.stderr).unwrap();
    assert_eq!(ended.status.code(), Some(1), "{said}");
    let (_, after) = said.split_once("the import was interrupted after line ").expect(&said);
    let done: u64 = after.split_once(';').unwrap().0.parse().unwrap();
    // The agent's line is not a job's.
    let there_now = u64::try_from(count(&there, "one_shots").await).unwrap();
    assert!((1..=there_now + 1).contains(&done) && there_now < JOBS, "line {done} of {there_now} jobs");

    proxy.restore().await;
    let (report, ok) = import(&settings, &file, &["--from-line", &(done + 1).to_string()]).await;
    assert!(ok, "{report}");
    assert_eq!(u64::try_from(count(&there, "one_shots").await).unwrap(), JOBS, "{report}");
}

#[tokio::test]
async fn bad_lines_are_named_and_the_others_are_imported() {
    let (_, url) = database().await;
    let there = PgPool::connect(&url).await.unwrap();
    let world = World::on(url, |settings| settings).await;
    let file = Scratch::file(
        "bad",
        concat!(
            r#"{"kind":"agent","instance_id":"a","org_id":"o"}"#,
            "\n",
            r#"{"kind":"agents","instance_id":"b","org_id":"o"}"#,
            "\nnonsense\n",
            r#"{"kind":"login","instance_id":"nobody","login_id":"7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d","key_id":"0011223344556677","number":0,"created_at":"2026-01-01T00:00:00Z"}"#,
            "\n",
            r#"{"kind":"one_shot","instance_id":"a","job_id":"j","fire_at":"soon","agent_callback_url":"https://a.example","dedup_key":"k"}"#,
            "\n",
            r#"{"kind":"one_shot","instance_id":"a","job_id":"j","fire_at":"2036-01-01T00:00:00Z","agent_callback_url":"https://a.example","dedup_key":"k","state":"armed"}"#,
            "\n",
        ),
    );
    let (report, ok) = import(&world.settings, &file, &[]).await;
    assert!(!ok);
    let bad: Vec<_> =
        report["bad"].as_array().unwrap().iter().map(|bad| bad["line"].as_u64().unwrap()).collect();
    assert_eq!(bad, [2, 3, 4, 5], "{report}");
    let problem = |index: usize| report["bad"][index]["problem"].as_str().unwrap().to_owned();
    assert_eq!(problem(0), "kind: must be agent, login, auth_profile, auth_default, job_auth or one_shot");
    assert_eq!(problem(2), "agent `nobody` is not registered; import the agents first");
    assert!(problem(3).starts_with("fire_at: must be an ISO 8601 date-time"), "{report}");
    assert_eq!((&report["added"], &report["armed"]), (&json!(1), &json!(1)));
    assert_eq!(count(&there, "one_shots").await, 1);
}

#[tokio::test]
async fn one_shot_that_an_agent_has_armed_since_is_kept() {
    let world = World::new().await;
    world.arm("job", 3_600_000).await;
    let (_, exported, _) = world.settings.run(&["export", "-"]).await;
    let (at, _) = world.arm("job", 7_200_000).await;
    let file = Scratch::file("kept", &exported);
    let (report, ok) = import(&world.settings, &file, &[]).await;
    assert!(ok, "{report}");
    assert_eq!((&report["kept"], &report["armed"]), (&json!(1), &json!(0)));
    assert_eq!(world.listed("job").await.unwrap().1["fire_at"], json!(at));
}

#[tokio::test]
async fn import_from_a_pipe_notices_an_export_that_broke_off() {
    let world = World::new().await;
    world.arm("job", 3_600_000).await;
    let (_, exported, _) = world.settings.run(&["export", "-"]).await;
    let piped = async |text: &str| {
        let mut command = tokio::process::Command::from(world.settings.command(&["import", "-", "--json"]));
        let mut import = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let mut stdin = import.stdin.take().unwrap();
        stdin.write_all(text.as_bytes()).await.unwrap();
        drop(stdin);
        let ended = import.wait_with_output().await.unwrap();
        (ended.status.success(), serde_json::from_slice::<Value>(&ended.stdout).unwrap())
    };
    let (ok, report) = piped(&exported).await;
    assert!(ok && report["unchanged"] == 2, "{report}");
    for broken in [exported.replace("{\"kind\":\"end\"}\n", ""), String::new()] {
        let (ok, report) = piped(&broken).await;
        assert!(!ok, "{report}");
        let problem = report["bad"][0]["problem"].as_str().unwrap();
        assert!(problem.starts_with("the export broke off"), "{report}");
    }
    // Nothing is skipped without a word.
    let file = Scratch::file("short", &exported);
    let (report, ok) = import(&world.settings, &file, &["--from-line", "99"]).await;
    assert!(!ok, "{report}");
    assert_eq!(report["bad"][0]["problem"], "--from-line 99: the file has 3 lines");
}

#[tokio::test]
async fn interrupted_export_leaves_no_file_that_looks_complete() {
    let world = World::new().await;
    let folder = Scratch::file("folder", "");
    let whole = format!("{}.jsonl", folder.path());
    let (status, _, error) = world.settings.run(&["export", &whole]).await;
    assert!(status.success(), "{error}");
    assert!(error.contains("1 line exported."), "{error}");
    assert!(std::fs::read_to_string(&whole).unwrap().ends_with("}\n"));
    assert!(!std::path::Path::new(&format!("{whole}.partial")).exists());
    std::fs::remove_file(&whole).unwrap();
    let (status, _, error) = world.settings.run(&["export", "/nowhere/state.jsonl"]).await;
    assert!(!status.success());
    assert!(error.contains("creating /nowhere/state.jsonl.partial failed"), "{error}");
}
