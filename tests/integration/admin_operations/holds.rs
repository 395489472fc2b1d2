//! Holds, also of single jobs.

use std::time::{Duration, Instant};

use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::eventually;
use serde_json::json;

use super::fixture::Admin;

#[tokio::test]
async fn held_job_does_not_fire_and_others_of_its_agent_do() {
    let admin = Admin::new().await;
    let world = &admin.world;
    world.arm("held", 3_600_000).await;
    let path = "/api/admin/holds/jobs/inst-1/held";
    let held = admin.ok("PUT", path, Some(&json!({"reason": "wrong prompt"}))).await;
    assert_eq!(
        (&held["scope"], &held["job_id"], &held["new"]),
        (&json!("job"), &json!("held"), &json!(true))
    );
    assert_eq!(held["covers"]["armed"], 1);
    // The hold outlives the one-shot.
    world.service.cancel(&world.token, "held").await;
    world.arm("held", 0).await;
    world.arm("other", 0).await;
    world.agents.wait_for("other", 1).await;
    eventually("it is parked", async || {
        let (_, entry) = world.listed("held").await?;
        (entry["parked"] == "hold").then_some(())
    })
    .await;
    let why = admin.ok("GET", "/api/admin/jobs/inst-1/held/why", None).await;
    assert_eq!(why["code"], "on_hold");
    assert_eq!(why["fix"], "`nas-cron release --instance inst-1 --job held` ends that");
    let list = admin.ok("GET", "/api/admin/holds", None).await;
    assert_eq!((&list["holds"][0]["job_id"], &list["holds"][0]["parked"]), (&json!("held"), &json!(1)));
    assert_eq!(list["holds"][0]["reason"], "wrong prompt");
    assert!(world.agents.fires_of("held").is_empty());
    let released = admin.ok("DELETE", path, None).await;
    assert_eq!((&released["existed"], &released["released"]), (&json!(true), &json!(1)));
    world.agents.wait_for("held", 1).await;
    assert_eq!(admin.ok("DELETE", path, None).await["existed"], false);
}

#[tokio::test]
async fn every_scope_is_held_listed_and_released() {
    let admin = Admin::new().await;
    admin.world.arm("job", 3_600_000).await;
    for (scope, path, id) in [
        ("all", "service", ""),
        ("org", "orgs/org-1", "org-1"),
        ("instance", "instances/inst-1", "inst-1"),
        ("job", "jobs/inst-1/job", "inst-1"),
    ] {
        let path = format!("/api/admin/holds/{path}");
        let held = admin.ok("PUT", &path, Some(&json!({}))).await;
        assert_eq!(
            (&held["scope"], &held["scope_id"], &held["new"]),
            (&json!(scope), &json!(id), &json!(true))
        );
        assert_eq!(admin.ok("PUT", &path, Some(&json!({"reason": "x"}))).await["new"], false);
        let list = admin.ok("GET", "/api/admin/holds", None).await;
        assert_eq!(list["holds"].as_array().unwrap().len(), 1, "{list}");
        assert_eq!((&list["holds"][0]["scope"], &list["holds"][0]["reason"]), (&json!(scope), &json!("x")));
        let metrics = admin.world.service.metrics().await;
        assert!(metrics.contains("nas_cron_holds"));
        assert_eq!(admin.ok("DELETE", &path, None).await["existed"], true);
    }
}

#[tokio::test]
async fn unknown_names_and_invalid_reasons_are_rejected() {
    let admin = Admin::new().await;
    let body = json!({});
    for path in ["orgs/none", "instances/none", "jobs/inst-1/none", "jobs/none/none"] {
        admin.refused(404, "PUT", &format!("/api/admin/holds/{path}"), Some(&body)).await;
    }
    for reason in ["", &"x".repeat(501)] {
        let body = json!({"reason": reason});
        let problem = admin.refused(400, "PUT", "/api/admin/holds/service", Some(&body)).await;
        assert!(problem.starts_with("reason: must have 1 to 500 bytes"), "{problem}");
    }
    assert_eq!(admin.ok("GET", "/api/admin/holds", None).await, json!({"holds": []}));
}

#[tokio::test]
async fn holds_of_another_org_cannot_be_seen_or_changed() {
    let admin = Admin::new().await;
    admin.store("other", "job", "armed", &[]).await;
    for path in ["service", "orgs/org-2", "instances/other", "jobs/other/job", "orgs/org-1"] {
        admin.ok("PUT", &format!("/api/admin/holds/{path}"), Some(&json!({}))).await;
    }
    let token = admin.token_of("org-1", "operator").await;
    let (_, list) = admin.call_as(&token, "GET", "/api/admin/holds", None).await;
    assert_eq!(list["holds"].as_array().unwrap().len(), 1, "{list}");
    for method in ["PUT", "DELETE"] {
        let body = (method == "PUT").then(|| json!({}));
        let call = async |path: &str| {
            admin.call_as(&token, method, &format!("/api/admin/holds/{path}"), body.as_ref()).await
        };
        for (theirs, unknown) in [
            ("orgs/org-2", "orgs/none"),
            ("instances/other", "instances/none"),
            ("jobs/other/job", "jobs/none/job"),
        ] {
            let (status, theirs) = call(theirs).await;
            let (expected, unknown) = call(unknown).await;
            assert_eq!((status, expected), (404, 404), "{theirs} {unknown}");
            let text = |body: &serde_json::Value| body["detail"].to_string().replace("other", "none");
            assert_eq!(text(&theirs), text(&unknown));
        }
        assert_eq!(call("service").await.0, 403);
    }
    let all = admin.ok("GET", "/api/admin/holds", None).await;
    assert_eq!(all["holds"].as_array().unwrap().len(), 5, "{all}");
}

#[tokio::test]
async fn viewer_changes_nothing() {
    let admin = Admin::new().await;
    admin.store("inst-1", "job", "dead", &[]).await;
    let token = admin.token_of("org-1", "viewer").await;
    let at = fire_at(0);
    let body = json!({"schedule_id": "00000000-0000-0000-0000-000000000001", "reason": at});
    for (method, path) in [
        ("PUT", "holds/instances/inst-1"),
        ("DELETE", "holds/instances/inst-1"),
        ("POST", "jobs/inst-1/job/cancel"),
        ("POST", "jobs/inst-1/job/fire"),
        ("POST", "jobs/inst-1/job/redrive"),
        ("POST", "jobs/redrive?all=true"),
    ] {
        let (status, answer) =
            admin.call_as(&token, method, &format!("/api/admin/{path}"), Some(&body)).await;
        assert_eq!((status, &answer["error"]), (403, &json!("access_denied")), "{path}: {answer}");
    }
    assert_eq!(admin.listed("state=dead").await, ["inst-1/job"]);
}

#[tokio::test]
async fn list_of_more_holds_than_it_shows_says_so() {
    let admin = Admin::new().await;
    admin
        .world
        .sql(
            "INSERT INTO instances (instance_id, org_id) SELECT 'more-' || n, 'org-9' FROM generate_series(1, 1000) n;
             INSERT INTO holds (scope, scope_id) SELECT 'instance', 'more-' || n FROM generate_series(1, 1000) n",
        )
        .await;
    let list = admin.ok("GET", "/api/admin/holds", None).await;
    assert_eq!((list["holds"].as_array().unwrap().len(), &list["more"]), (1_000, &json!(null)));
    admin.world.sql("INSERT INTO holds (scope, scope_id) VALUES ('all', '')").await;
    let list = admin.ok("GET", "/api/admin/holds", None).await;
    assert_eq!((list["holds"].as_array().unwrap().len(), &list["more"]), (1_000, &json!(true)));
    assert_eq!(list["holds"][0]["scope"], "all");
    let (_, out, _) = admin.world.settings.run(&["hold", "list"]).await;
    assert!(out.contains("There are more holds"), "{}", &out[out.len() - 200..]);
}

#[tokio::test]
async fn caller_of_one_org_does_not_learn_why_the_service_is_on_hold() {
    let admin = Admin::new().await;
    admin.world.arm("job", 3_600_000).await;
    admin.ok("PUT", "/api/admin/holds/service", Some(&json!({"reason": "incident of org-2"}))).await;
    let path = "/api/admin/jobs/inst-1/job/why";
    let why = admin.ok("GET", path, None).await;
    assert!(why["text"].as_str().unwrap().contains("incident of org-2"), "{why}");
    assert_eq!(why["fix"], "`nas-cron release --all` ends that");
    let token = admin.token_of("org-1", "viewer").await;
    let (_, why) = admin.call_as(&token, "GET", path, None).await;
    assert_eq!(why["code"], "on_hold");
    assert!(!why["text"].as_str().unwrap().contains("incident"), "{why}");
    assert_eq!(why["fix"], "an operator of the whole service ends that");
}

#[tokio::test]
async fn end_of_a_hold_releases_many_parked_one_shots_without_a_long_request() {
    let admin = Admin::new().await;
    // The statistics are those of the time before: no one-shot is parked.
    admin
        .world
        .sql(
            "INSERT INTO instances (instance_id, org_id) SELECT 'many-' || n, 'org-9' FROM generate_series(1, 6000) n;
             INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                                    next_attempt_at)
             SELECT 'many-' || n % 6000 + 1, 'job-' || n, gen_random_uuid(), 'k', 't', '2100-01-01', 'https://a.example', 'armed',
                    '2100-01-01'
             FROM generate_series(1, 60000) n;
             ALTER TABLE one_shots SET (autovacuum_enabled = false);
             ANALYZE",
        )
        .await;
    admin.ok("PUT", "/api/admin/holds/service", Some(&json!({}))).await;
    admin.world.sql("UPDATE one_shots SET parked = 'hold' WHERE job_id LIKE 'job-%'").await;
    let start = Instant::now();
    let released = admin.ok("DELETE", "/api/admin/holds/service", None).await;
    // It stops after 4 s and one statement more.
    assert!(start.elapsed() < Duration::from_secs(10), "{:?}", start.elapsed());
    let [at_once, still_parked] = ["released", "still_parked"].map(|name| released[name].as_i64().unwrap());
    assert!(at_once >= 2_000, "{released}");
    assert_eq!((at_once + still_parked, &released["releasing"]), (60_000, &json!(still_parked > 0)));
    // The replicas release the rest.
    eventually("none is parked", async || {
        let parked = "SELECT count(*) FROM one_shots WHERE parked IS NOT NULL";
        let count: i64 = sqlx::query_scalar(parked).fetch_one(&admin.world.pool).await.unwrap();
        (count == 0).then_some(())
    })
    .await;
}
