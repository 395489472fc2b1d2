//! The auth store with concurrent processes, and with damaged files.

use std::fs::{self, File, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::process::Stdio;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Instant;

use futures::future::join_all;
use nas_cron_testing::world::World;
use serde_json::json;

use super::fixture::{Tools, run};

#[tokio::test]
async fn twenty_concurrent_logins_are_all_kept() {
    let tools = Tools::without_server();
    tools.run("login --without-token --server https://portal.example").await.ok();
    // A field of another program, long enough to slow a write down.
    let mut stored = tools.stored();
    stored["theirs"] = json!("x".repeat(500_000));
    fs::write(tools.auth_store(), stored.to_string() + "\n").unwrap();
    let ended = Arc::new(AtomicBool::new(false));
    let reader = tokio::task::spawn_blocking({
        let (store, ended) = (tools.auth_store(), Arc::clone(&ended));
        move || {
            while !ended.load(Ordering::Relaxed) {
                let bytes = fs::read(&store).unwrap();
                assert!(bytes.len() > 500_000 && bytes.ends_with(b"}\n"), "{} bytes", bytes.len());
            }
        }
    });
    let logins = (0..20).map(async |number| {
        let line = format!("login --server https://portal-{number}.example");
        tools.run_with(&line, &format!("token-{number}")).await.ok()
    });
    join_all(logins).await;
    ended.store(true, Ordering::Relaxed);
    reader.await.expect("a concurrent reader always reads the whole file");
    let stored = tools.stored();
    assert_eq!(stored["theirs"].as_str().map(str::len), Some(500_000));
    for number in 0..20 {
        let entry = &stored["servers"][format!("https://portal-{number}.example")];
        assert_eq!(entry["bearer"]["access_token"], json!(format!("token-{number}")));
    }
    let mode = |path: &std::path::Path| fs::metadata(path).unwrap().permissions().mode() & 0o777;
    let store = tools.auth_store();
    assert_eq!((mode(&store), mode(store.parent().unwrap())), (0o600, 0o700));
}

#[tokio::test]
async fn a_process_killed_at_any_instant_leaves_a_complete_store() {
    let tools = Tools::without_server();
    let long = "x".repeat(8_000);
    tools.run_with("login --server https://portal.example", &format!("first-{long}")).await.ok();
    let token_file = tools.path("token");
    let start = |token: &str| {
        fs::write(&token_file, token).unwrap();
        let line =
            format!("login --server https://portal.example --access-token-file {}", token_file.display());
        tools.command(&line).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
    };
    let kept = || {
        let kept = &tools.stored()["servers"]["https://portal.example"]["bearer"]["access_token"];
        kept.as_str().expect("a token").to_owned()
    };
    // Measure a whole run on this machine, which may be busy.
    let begun = Instant::now();
    for run in 0..3 {
        assert!(start(&format!("run-{run}-{long}")).wait().unwrap().success());
    }
    let whole = begun.elapsed() / 3;
    let (mut before, mut unfinished, mut finished) = (kept(), 0, 0);
    // Kill the process at growing delays, from before its start to after its end.
    for step in 0.. {
        let token = format!("step-{step}-{long}");
        let mut child = start(&token);
        tokio::time::sleep(whole * step / 40).await;
        let _ = child.kill();
        let done = child.wait().unwrap().success();
        let now = kept();
        assert!(now == token || (now == before && !done), "step {step}: {}", &now[..20]);
        if done {
            finished += 1;
        } else if step > 4 {
            unfinished += 1;
        }
        before = now;
        if step >= 60 && finished > 0 {
            break;
        }
    }
    assert!(unfinished > 0, "no process was killed in the middle");
    tools.run_with("login --server https://portal.example", "last").await.ok();
    let folder = fs::read_dir(tools.auth_store().parent().unwrap()).unwrap();
    let mut names: Vec<_> = folder.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    assert_eq!(names, ["auth.json", "auth.json.lock"], "no temporary file is left");
}

#[tokio::test]
async fn a_malformed_store_is_refused_and_left_unchanged() {
    let world = World::new().await;
    let url = &world.service.url;
    let tools = Tools::logged_in(url, &world.token).await;
    let store = tools.auth_store();
    let whole = fs::read(&store).unwrap();

    // Each way to spoil the store, with the expected error.
    let truncate = || fs::write(&store, &whole[..whole.len() / 2]).unwrap();
    let expose = || fs::set_permissions(&store, Permissions::from_mode(0o644)).unwrap();
    let renew = || fs::write(&store, r#"{"version":2,"servers":{}}"#).unwrap();
    let cases: [(&dyn Fn(), &str); 3] =
        [(&truncate, "is truncated"), (&expose, "chmod 600"), (&renew, "newer nas-cron")];
    for (spoil, why) in cases {
        fs::write(&store, &whole).unwrap();
        spoil();
        let before = fs::read(&store).unwrap();
        for line in ["list", "identity on", "identity show", "identity rotate", "login"] {
            let said = tools.run_with(line, "new-token").await.failed(2, why);
            assert!(!said.contains(&world.token) && !said.contains("new-token"), "{line}: {said}");
        }
        assert_eq!(fs::read(&store).unwrap(), before, "{why}");
        // A command with its own token needs no store.
        let mut command = tools.command("list");
        command.env("NAS_CRON_ACCESS_TOKEN", &world.token);
        let (out, err) = run(command, "").await.warned();
        assert!(out.contains("No one-shots are armed") && err.contains(why), "{err}");
        fs::set_permissions(&store, Permissions::from_mode(0o600)).unwrap();
    }
    fs::write(&store, &whole).unwrap();
    tools.run("list").await.ok();
}

#[tokio::test]
async fn a_store_lock_held_by_a_stuck_process_is_reported() {
    let world = World::new().await;
    let tools = Tools::logged_in(&world.service.url, &world.token).await;
    let lock = tools.auth_store().with_added_extension("lock");
    let held = File::open(&lock).unwrap();
    held.lock().unwrap();
    tools.run("list").await.ok();
    let before = tools.stored();
    let (locked, listed) = tokio::join!(
        tools.run_with("login", "new-token"),
        // The identity is not available, and the call succeeds all the same.
        tools.run("list --use-agent-identity on")
    );
    let said = locked.failed(2, "auth.json.lock");
    assert!(said.contains("fuser") && !said.contains("new-token"), "{said}");
    let (_, err) = listed.warned();
    assert!(err.contains("auth.json.lock"), "{err}");
    assert_eq!(tools.stored(), before);
    drop(held);
    tools.run_with("login", &world.token).await.ok();
}
