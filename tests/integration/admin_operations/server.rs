//! Commands on the database and through `--server` show the same.

use nas_cron_testing::service::{ADMIN_TOKEN, Settings};
use serde_json::json;

use super::fixture::Admin;

/// The settings of a command that knows only the server.
pub(super) fn remote(admin: &Admin) -> Settings {
    admin.world.settings.clone().without("NAS_CRON_DATABASE_URL").with("NAS_CRON_ADMIN_TOKEN", ADMIN_TOKEN)
}

/// Runs a command on the database and through the server, and compares status and output.
pub(super) async fn both(admin: &Admin, group: &str, arguments: &[&str]) -> String {
    let (status, out, error) = admin.world.settings.run(&[&[group], arguments].concat()).await;
    let server = [&[group, "--server", &admin.world.service.url], arguments].concat();
    let (remote_status, remote_out, remote_error) = remote(admin).run(&server).await;
    assert_eq!(remote_out, out, "{group} {arguments:?}: {error} {remote_error}");
    assert_eq!(remote_status.code(), status.code(), "{group} {arguments:?}: {error} {remote_error}");
    if !status.success() {
        assert_eq!(remote_error, error);
    }
    out
}

#[tokio::test]
async fn reading_commands_print_the_same_bytes() {
    let admin = Admin::new().await;
    // Times far from now, so that relative ones are the same in both.
    let old = [("created_at", "'2020-01-01'"), ("updated_at", "'2020-01-01'")];
    admin.store("inst-1", "a/b ü", "armed", &old).await;
    admin.store("inst-1", "dead", "dead", &[&old[..], &[("last_error", "'busy'")]].concat()).await;
    admin.store("other", "c", "armed", &old).await;
    admin.store_dormant("quiet").await;
    admin.world.sql("INSERT INTO holds VALUES ('org', 'org-2', 'why', '2020-01-01')").await;
    admin.world.sql("INSERT INTO job_holds VALUES ('inst-1', 'dead', NULL, '2020-01-01')").await;
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["list", "--limit", "1"],
        &["list", "--state", "dead", "--error", "BUSY", "--json"],
        &["list", "--org", "org-2"],
        &["list", "--job", "dead", "--json"],
        &["list", "--state", "dormant"],
        &["list", "--state", "dormant,dead", "--json"],
        &["show", "inst-1", "quiet"],
        &["nudge", "inst-1", "quiet"],
        &["nudge", "inst-1", "dead", "--yes"],
        &["dismiss", "inst-1", "dead"],
        &["list", "--next-attempt-from", "2030-01-01T00:00:00Z"],
        &["list", "--after", "x"],
        &["show", "inst-1", "dead"],
        &["show", "inst-1", "a/b ü", "--json"],
        &["show", "other", "c", "--attempts", "0"],
        &["show", "inst-1", "none"],
        &["redrive", "--all", "--dry-run", "--json"],
        &["redrive", "--all", "--job", "none", "--outcome", "failed", "--dry-run"],
        &["redrive", "inst-1", "c"],
        &["cancel", "inst-1", "none"],
    ] {
        both(&admin, "jobs", arguments).await;
    }
    let listed = both(&admin, "jobs", &["list", "--job", "dead"]).await;
    assert_eq!(listed.lines().count(), 2, "a head and one job: {listed}");
    both(&admin, "audit", &["list", "--limit", "1"]).await;
    both(&admin, "audit", &["list", "--action", "cancel_job", "--json"]).await;
    let agents = "UPDATE instances SET created_at = '2020-01-01', updated_at = '2020-01-01'";
    admin.world.sql(agents).await;
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["list", "--org", "org-2", "--limit", "1"],
        &["show", "inst-1"],
        &["show", "inst-1", "--json"],
        &["show", "none"],
        &["enable", "inst-1"],
    ] {
        both(&admin, "agents", arguments).await;
    }
    for arguments in [
        &["list"][..],
        &["list", "--json"],
        &["list", "--limit", "1"],
        &["show", "org-1"],
        &["delete", "org-1"],
    ] {
        both(&admin, "orgs", arguments).await;
    }
    for arguments in [&["list"][..], &["list", "--json"], &["--org", "none"], &["--instance", "none"]] {
        both(&admin, "hold", arguments).await;
    }
}

#[tokio::test]
async fn attempts_after_the_first_page_are_shown_with_a_cursor() {
    let admin = Admin::new().await;
    admin.store("inst-1", "job", "delivered", &[]).await;
    admin
        .world
        .sql(
            "INSERT INTO fires (attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at, ended_at,
                                outcome)
             SELECT gen_random_uuid(), 'inst-1', 'job', gen_random_uuid(), 'k', now(), n, now() - n * interval '1 hour', now(),
                    'failed'
             FROM generate_series(1, 5) n",
        )
        .await;
    let (mut seen, mut after) = (0, None::<String>);
    loop {
        let mut line = vec!["show", "inst-1", "job", "--attempts", "2"];
        line.extend(after.iter().flat_map(|after| ["--after", after]));
        let server = [&["jobs", "--server", &admin.world.service.url], line.as_slice()].concat();
        let (status, out, error) = remote(&admin).run(&server).await;
        assert!(status.success(), "{error}");
        seen += out.lines().filter(|line| line.contains("failed")).count();
        let next = out.lines().find_map(|line| line.strip_prefix("More attempts follow: --after "));
        match next {
            Some(next) => after = Some(next.to_owned()),
            None => break,
        }
    }
    assert_eq!(seen, 5);
    let page = both(&admin, "jobs", &["show", "inst-1", "job", "--after", &after.unwrap(), "--json"]).await;
    let page: serde_json::Value = serde_json::from_str(&page).unwrap();
    assert_eq!((page["attempts"].as_array().unwrap().len(), &page["next"]), (1, &json!(null)));
}

#[tokio::test]
async fn changing_commands_work_through_the_server() {
    let admin = Admin::new().await;
    admin.store("inst-1", "dead", "dead", &[]).await;
    let (_, schedule) = admin.world.arm("job", 3_600_000).await;
    let quiet = admin.store_dormant("quiet").await;
    admin.store_dormant("finished").await;
    let settings = remote(&admin);
    let url = admin.world.service.url.clone();
    let run = async |group: &str, arguments: &[&str]| {
        let (status, out, error) = settings.run(&[&[group, "--server", &url], arguments].concat()).await;
        assert!(status.success(), "{group} {arguments:?}: {out}{error}");
        out
    };
    let hold = run("hold", &["--instance", "inst-1", "--job", "dead", "--reason", "x"]).await;
    assert_eq!(
        hold,
        "Job dead of agent inst-1 is on hold: 1 agent with 0 one-shots. None fires until `nas-cron release`.\n"
    );
    let released = run("release", &["--instance", "inst-1", "--job", "dead"]).await;
    assert_eq!(released, "Job dead of agent inst-1 is released: 0 one-shots no longer parked.\n");
    let redriven = run("jobs", &["redrive", "--org", "org-1", "--json"]).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&redriven).unwrap()["redriven"], 1);
    let fired = run("jobs", &["fire", "inst-1", "job", "--json"]).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&fired).unwrap()["schedule_id"], schedule.as_str());
    admin.world.agents.wait_for("job", 1).await;
    let dismissed = run("jobs", &["dismiss", "inst-1", "finished"]).await;
    assert_eq!(dismissed, "Job finished of agent inst-1 is dismissed.\n");
    let nudged = run("jobs", &["nudge", "inst-1", "quiet", "--yes", "--json"]).await;
    assert_eq!(serde_json::from_str::<serde_json::Value>(&nudged).unwrap()["schedule_id"], quiet.as_str());
    admin.world.agents.wait_for("quiet", 1).await;
    let disabled = run("agents", &["disable", "inst-1"]).await;
    assert!(disabled.starts_with("Agent inst-1 is disabled."), "{disabled}");
    run("agents", &["enable", "inst-1"]).await;
    let cancelled = run("jobs", &["cancel", "inst-1", "dead"]).await;
    assert!(cancelled.starts_with("Job dead of agent inst-1 is cancelled"), "{cancelled}");
    // The server has written their lines in the audit log.
    let log = admin.ok("GET", "/api/admin/audit", None).await;
    let mut actions: Vec<_> =
        log["lines"].as_array().unwrap().iter().map(|line| line["action"].as_str().unwrap()).collect();
    actions.reverse();
    assert_eq!(
        actions,
        [
            "hold_job",
            "release_job",
            "redrive_jobs",
            "fire_job",
            "dismiss_job",
            "nudge_job",
            "disable_agent",
            "enable_agent",
            "cancel_job",
        ]
    );
}

#[tokio::test]
async fn token_comes_from_the_environment_or_a_file_and_errors_name_the_fix() {
    let admin = Admin::new().await;
    let url = admin.world.service.url.as_str();
    let fails = async |settings: &Settings, arguments: &[&str]| {
        let (status, out, error) = settings.run(arguments).await;
        assert!(!status.success(), "{arguments:?}: {out}");
        error
    };
    let settings = remote(&admin);
    let none = settings.clone().without("NAS_CRON_ADMIN_TOKEN");
    let error = fails(&none, &["jobs", "--server", url, "list"]).await;
    assert!(error.contains("set NAS_CRON_ADMIN_TOKEN, or use --admin-token-file"), "{error}");
    let wrong = settings.clone().with("NAS_CRON_ADMIN_TOKEN", "wrong");
    let error = fails(&wrong, &["jobs", "--server", url, "list"]).await;
    assert!(error.contains("the server returned 401 invalid_token"), "{error}");
    let error = fails(&settings, &["jobs", "--server", url, "import", "x.jsonl"]).await;
    assert!(error.contains("works on the database only"), "{error}");
    let error = fails(&settings, &["jobs", "--server", "http://127.0.0.1:9", "cancel", "a", "b"]).await;
    assert!(error.contains("the request to http://127.0.0.1:9/ failed: Connection refused"), "{error}");
    let error = fails(&settings, &["jobs", "--server", url, "show", "..", "b"]).await;
    assert!(error.contains("`..` cannot be a part of a URL"), "{error}");
    let file = std::env::temp_dir().join(format!("nas-cron-token-{}", uuid::Uuid::new_v4()));
    std::fs::write(&file, format!("{ADMIN_TOKEN}\n")).unwrap();
    let path = file.display().to_string();
    let (status, out, error) =
        none.run(&["jobs", "--server", url, "--admin-token-file", &path, "list", "--json"]).await;
    std::fs::remove_file(&file).unwrap();
    assert!(status.success(), "{error}");
    assert_eq!(serde_json::from_str::<serde_json::Value>(&out).unwrap(), json!({"jobs": [], "next": null}));
}

#[tokio::test]
async fn dormant_jobs_are_listed_alone_or_with_other_states() {
    let admin = Admin::new().await;
    admin.store("inst-1", "dead", "dead", &[]).await;
    admin.store("inst-1", "delivered", "delivered", &[]).await;
    admin.store("other", "armed", "armed", &[]).await;
    let schedule = admin.store_dormant("quiet").await;
    admin.store_dormant("still").await;
    assert_eq!(admin.listed("state=dormant&limit=1").await, ["inst-1/quiet", "inst-1/still"]);
    assert_eq!(admin.listed("state=dormant&instance_id=inst-1&job_id=quiet").await, ["inst-1/quiet"]);
    assert_eq!(admin.listed("state=dormant&org_id=org-2").await, [""; 0]);
    assert_eq!(admin.listed("state=dead,dormant").await, ["inst-1/dead", "inst-1/quiet", "inst-1/still"]);
    let details = admin.ok("GET", "/api/admin/jobs/inst-1/quiet", None).await;
    let job = &details["job"];
    assert_eq!((&job["dormant_reason"], &details["why"]["code"]), (&json!("silent"), &json!("dormant")));

    let nudge = "/api/admin/jobs/inst-1/quiet/nudge";
    let other = json!({"schedule_id": uuid::Uuid::nil()});
    let problem = admin.refused(409, "POST", nudge, Some(&other)).await;
    assert!(problem.starts_with("schedule_id: the job's current one-shot is"), "{problem}");
    let seen = json!({"schedule_id": schedule, "last_started_at": null});
    let nudged = admin.ok("POST", nudge, Some(&seen)).await;
    assert_eq!((&nudged["nudged"], &nudged["on_hold"]), (&json!(true), &json!(false)));
    admin.world.agents.wait_for("quiet", 1).await;
    // Repeated, also after the delivery, and with a time that no attempt had: nothing is fired.
    admin.world.delivered("quiet").await;
    for seen in [seen, json!({"schedule_id": schedule, "last_started_at": "2026-01-01T00:00:00Z"})] {
        let problem = admin.refused(409, "POST", nudge, Some(&seen)).await;
        assert!(problem.starts_with("last_started_at: the latest attempt started at 2"), "{problem}");
    }
    let job = admin.ok("GET", "/api/admin/jobs/inst-1/quiet", None).await["job"].clone();
    let seen = json!({"schedule_id": schedule, "last_started_at": job["last_started_at"]});
    let calls = futures::future::join_all((0..4).map(|_| admin.call("POST", nudge, Some(&seen)))).await;
    let mut statuses: Vec<_> = calls.iter().map(|(status, _)| *status).collect();
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 409, 409, 409], "{calls:?}");
    admin.world.agents.wait_for("quiet", 2).await;
    admin.world.delivered("quiet").await;
    assert_eq!(admin.world.agents.fires_of("quiet").len(), 2);
    let dismiss = "/api/admin/jobs/inst-1/still/dismiss";
    assert_eq!(admin.ok("POST", dismiss, None).await, json!({"dismissed": true}));
    let problem = admin.refused(409, "POST", dismiss, None).await;
    assert!(problem.contains("is not dormant"), "{problem}");
}
