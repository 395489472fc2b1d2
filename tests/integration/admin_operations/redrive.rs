//! Redrives dead letters.

use std::time::Duration;

use nas_cron::db::{Db, DbOptions};
use nas_cron::domain::job_filter::JobFilter;
use nas_cron::domain::quota::DefaultQuotas;
use nas_cron::operations::Operations;
use serde_json::json;

use super::fixture::Admin;
use super::server::{both, remote};

#[tokio::test]
async fn repeated_redrive_of_a_job_has_one_effect() {
    let admin = Admin::new().await;
    admin.store("inst-1", "job", "dead", &[]).await;
    let path = "/api/admin/jobs/inst-1/job/redrive";
    let report = admin.ok("POST", path, None).await;
    assert_eq!((&report["redriven"], &report["next"]), (&json!(1), &json!(null)));
    let problem = admin.refused(409, "POST", path, None).await;
    assert_eq!(problem, "job job of agent inst-1 is armed, neither dead nor stuck");
    admin.refused(404, "POST", "/api/admin/jobs/inst-1/none/redrive", None).await;
}

#[tokio::test]
async fn matching_dead_letters_are_counted_and_redriven_batch_by_batch() {
    let admin = Admin::new().await;
    admin.store("inst-1", "d", "dead", &[("last_error", "'busy'"), ("fire_at", "'2100-01-01'")]).await;
    admin
        .world
        .sql(
            "INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                                    dead_since, last_error)
             SELECT instance_id, 'd' || n, gen_random_uuid(), dedup_key, fire_at_text, fire_at, callback_url, state,
                    dead_since, last_error
             FROM one_shots, generate_series(1, 2499) AS n",
        )
        .await;
    admin.store("inst-1", "kept", "dead", &[("last_error", "'gone'")]).await;
    admin.store("inst-1", "stuck", "stuck", &[("last_error", "'busy'")]).await;
    let path = "/api/admin/jobs/redrive?error=BUSY&per_second=1000";
    let dry = admin.ok("GET", "/api/admin/jobs/redrivable?error=BUSY", None).await;
    assert_eq!(
        (&dry["redrivable"], &dry["more"], &dry["redriven"]),
        (&json!(2500), &json!(false), &json!(0))
    );
    let first = admin.ok("POST", path, None).await;
    assert_eq!(first["redriven"], 2000);
    let next = first["next"].as_str().expect("more follow");
    // One-shots that fail again meanwhile are left alone.
    admin
        .world
        .sql("UPDATE one_shots SET state = 'dead', dead_since = now(), next_attempt_at = NULL WHERE job_id = 'd'")
        .await;
    let second = admin.ok("POST", &format!("{path}&after={next}"), None).await;
    assert_eq!((&second["redriven"], &second["next"]), (&json!(500), &json!(null)));
    let again = admin.ok("POST", &format!("{path}&after={next}"), None).await;
    assert_eq!(again["redriven"], 0, "a repeated request has no second effect");
    assert_eq!(admin.listed("state=dead,stuck").await, ["inst-1/d", "inst-1/kept", "inst-1/stuck"]);
}

#[tokio::test]
async fn count_of_dead_letters_is_bounded() {
    let admin = Admin::new().await;
    admin.store("inst-1", "d", "dead", &[("last_error", "'busy'")]).await;
    admin
        .world
        .sql(
            "INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                                    dead_since, last_error)
             SELECT instance_id, 'd' || n, gen_random_uuid(), dedup_key, fire_at_text, fire_at, callback_url, state,
                    dead_since, CASE WHEN n > 100500 THEN 'gone' ELSE last_error END
             FROM one_shots, generate_series(1, 101000) AS n",
        )
        .await;
    let report = admin.ok("GET", "/api/admin/jobs/redrivable", None).await;
    assert_eq!((&report["redrivable"], &report["more"]), (&json!(100_000), &json!(true)));
    let report = admin.ok("GET", "/api/admin/jobs/redrivable?error_group=gone", None).await;
    assert_eq!((&report["redrivable"], &report["more"]), (&json!(500), &json!(false)), "one that is not cut");
    // Each statement examines a limited number of one-shots, also if nothing matches.
    let options = DbOptions {
        url: admin.world.url.clone().into(),
        max_connections: 1,
        acquire_timeout: Duration::from_secs(30),
    };
    let operations = Operations::new(Db::new(&options).unwrap(), DefaultQuotas { instance: 1, org: 1 });
    let filter = JobFilter { error: Some("nothing".to_owned()), ..JobFilter::default() };
    assert_eq!(operations.count_jobs(&filter, 3).await.expect("a count"), (0, true));
}

#[tokio::test]
async fn selected_jobs_are_redriven_and_others_are_left_alone() {
    let admin = Admin::new().await;
    admin.store("inst-1", "dead", "dead", &[]).await;
    admin.store("inst-1", "armed", "armed", &[]).await;
    admin.store("other", "stuck", "stuck", &[]).await;
    let job = |instance: &str, job: &str| json!({"instance_id": instance, "job_id": job});
    let jobs =
        json!([job("inst-1", "dead"), job("inst-1", "armed"), job("other", "stuck"), job("no", "one")]);
    let path = "/api/admin/jobs/redrive-selected";
    // A token of one org changes nothing of another one.
    let token = admin.token_of("org-1", "operator").await;
    let (status, report) = admin.call_as(&token, "POST", path, Some(&json!({"jobs": jobs}))).await;
    assert_eq!((status, &report["redriven"]), (200, &json!(1)), "{report}");
    assert_eq!(admin.listed("state=dead,stuck").await, ["other/stuck"]);
    // A whole number, to JSON Schema.
    let report = admin.ok("POST", path, Some(&json!({"jobs": jobs, "per_second": 33.0}))).await;
    assert_eq!(report["redriven"], 1);
}

#[tokio::test]
async fn invalid_redrive_is_rejected_and_changes_nothing() {
    let admin = Admin::new().await;
    admin.store("inst-1", "dead", "dead", &[]).await;
    for (query, problem) in [
        ("", "all: must be true to redrive without any condition"),
        ("all=false", "all: must be true to redrive without any condition"),
        ("state=armed", "state: only dead and stuck one-shots can be redriven"),
        ("state=dead,dormant", "state: only dead and stuck one-shots can be redriven"),
        ("all=true&per_second=0", "per_second: must be a number from 1 to 1000"),
        ("all=true&after=x", "after: not a cursor"),
        ("all=true&limit=1", "limit: unknown parameter"),
    ] {
        let found = admin.refused(400, "POST", &format!("/api/admin/jobs/redrive?{query}"), None).await;
        assert!(found.starts_with(problem), "{query}: {found}");
    }
    for (body, problem) in [
        (json!({}), "jobs: is missing"),
        (json!({"jobs": []}), "jobs: must name 1 to 1000 jobs"),
        (json!({"jobs": [{"instance_id": "a"}]}), "jobs[0].job_id: is missing"),
        (
            json!({"jobs": [{"instance_id": "a", "job_id": "b"}], "per_second": 0}),
            "per_second: must be from 1 to 1000",
        ),
        (
            json!({"jobs": [{"instance_id": "a", "job_id": "b"}], "per_second": 1.5}),
            "per_second: invalid value: floating point, expected a whole number",
        ),
    ] {
        let found = admin.refused(400, "POST", "/api/admin/jobs/redrive-selected", Some(&body)).await;
        assert_eq!(found, problem);
    }
    assert_eq!(admin.listed("state=dead").await, ["inst-1/dead"]);
}

#[tokio::test]
async fn command_redrives_the_named_jobs_of_an_agent_and_its_line_names_them() {
    let admin = Admin::new().await;
    for job in ["a", "b", "c", "d", "left"] {
        admin.store("inst-1", job, "dead", &[]).await;
    }
    both(&admin, "jobs", &["redrive", "inst-1", "a", "b", "none", "--dry-run"]).await;
    let settings = &admin.world.settings;
    let (status, out, error) = settings.run(&["jobs", "redrive", "inst-1", "a", "b", "--json"]).await;
    assert!(status.success() && out.contains("\"redriven\": 2"), "{out}{error}");
    let server = ["jobs", "--server", &admin.world.service.url, "redrive", "inst-1", "c", "d", "--json"];
    let (status, out, error) = remote(&admin).run(&server).await;
    assert!(status.success() && out.contains("\"redriven\": 2"), "{out}{error}");
    let dead = admin.ok("GET", "/api/admin/jobs?state=dead", None).await;
    assert_eq!((dead["jobs"].as_array().unwrap().len(), &dead["jobs"][0]["job_id"]), (1, &json!("left")));
    let lines = admin.ok("GET", "/api/admin/audit?action=redrive_selected_jobs", None).await;
    let named: Vec<_> =
        lines["lines"].as_array().unwrap().iter().map(|line| &line["subject"]["job"]).collect();
    assert_eq!(named, [&json!("inst-1/c, inst-1/d"), &json!("inst-1/a, inst-1/b")]);
    // It is in the log of each of them.
    let of_one = admin.ok("GET", "/api/admin/audit?subject=job%3Dinst-1%2Fb", None).await;
    assert_eq!(of_one["lines"].as_array().unwrap().len(), 1);
}
