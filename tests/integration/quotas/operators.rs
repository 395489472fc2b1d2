//! Quotas of single agents and orgs, and their use, as operators see and change them.

use nas_cron_testing::service::Settings;
use nas_cron_testing::world::eventually;
use serde_json::{Value, json};

use super::{arm, arms_eventually, world};

async fn run(settings: &Settings, arguments: &[&str]) -> (bool, String) {
    let (status, stdout, stderr) = settings.run(arguments).await;
    (status.success(), if status.success() { stdout } else { stderr })
}

#[tokio::test]
async fn own_quota_of_an_agent_applies_to_the_next_new_job() {
    let world = world(1, 100).await;
    assert_eq!(arm(&world, &world.token, "a").await.0, 200);
    assert_eq!(arm(&world, &world.token, "b").await.0, 429);
    let path = "/api/admin/quotas/instances/inst-1";
    let default =
        json!({"scope": "instance", "scope_id": "inst-1", "quota": 1, "is_default": true, "armed": 1});
    assert_eq!(world.service.admin("GET", path, None).await, (200, default.clone()));
    let own = json!({"scope": "instance", "scope_id": "inst-1", "quota": 2, "is_default": false, "armed": 1});
    assert_eq!(world.service.admin("PUT", path, Some(&json!({"quota": 2}))).await, (200, own));
    arms_eventually(&world, &world.token, "b").await;
    assert_eq!(arm(&world, &world.token, "c").await.0, 429);
    // Armed jobs stay armed.
    assert_eq!(world.service.admin("DELETE", path, None).await, (200, default));
    assert_eq!(arm(&world, &world.token, "b").await.0, 200);
    let shown = world.service.admin("GET", "/api/admin/agents/inst-1", None).await.1;
    assert_eq!((&shown["armed"], &shown["quota"], &shown["own_quota"]), (&json!(2), &json!(1), &Value::Null));
    let missing =
        world.service.admin("PUT", "/api/admin/quotas/instances/none", Some(&json!({"quota": 2}))).await;
    assert_eq!(missing.0, 404, "{missing:?}");
    let much = world.service.admin("PUT", path, Some(&json!({"quota": 100_000_001}))).await;
    assert_eq!(much.0, 400, "{much:?}");
}

#[tokio::test]
async fn quota_of_zero_rejects_every_new_job() {
    let world = world(10, 100).await;
    let path = "/api/admin/quotas/orgs/org-1";
    assert_eq!(world.service.admin("PUT", path, Some(&json!({"quota": 0}))).await.0, 200);
    let (status, body) = arm(&world, &world.token, "a").await;
    assert_eq!((status, &body["scope"], &body["quota"]), (429, &json!("org"), &json!(0)));
}

#[tokio::test]
async fn commands_show_and_set_quotas_on_the_database_and_on_a_server() {
    let world = world(10, 100).await;
    assert_eq!(arm(&world, &world.token, "a").await.0, 200);
    let server = world.settings.clone().with("NAS_CRON_ADMIN_TOKEN", nas_cron_testing::service::ADMIN_TOKEN);
    for place in [&[][..], &["--server", &world.service.url]] {
        let on = |words: &[&'static str]| [&words[..1], place, &words[1..]].concat();
        let (_, shown) = run(&server, &on(&["agents", "quota", "inst-1"])).await;
        assert_eq!(shown, "Agent inst-1 has 1 armed jobs; its quota is 10 (the default).\n");
        let (_, set) = run(&server, &on(&["agents", "quota", "inst-1", "--set", "20"])).await;
        assert_eq!(set, "Agent inst-1 has 1 armed jobs; its quota is 20 (its own).\n");
        let (_, shown) = run(&server, &on(&["agents", "show", "inst-1"])).await;
        assert!(shown.contains("20 jobs armed (its own)"), "{shown}");
        let (_, unset) = run(&server, &on(&["agents", "quota", "inst-1", "--default"])).await;
        assert_eq!(unset, "Agent inst-1 has 1 armed jobs; its quota is 10 (the default).\n");
        let (_, org) = run(&server, &on(&["orgs", "quota", "org-1", "--set", "1", "--json"])).await;
        let org: Value = serde_json::from_str(&org).unwrap();
        assert_eq!((&org["quota"], &org["armed"], &org["is_default"]), (&json!(1), &json!(1), &json!(false)));
        let (_, org) = run(&server, &on(&["orgs", "quota", "org-1", "--default"])).await;
        assert_eq!(org, "Org org-1 has 1 armed jobs; its quota is 100 (the default).\n");
        let (done, error) = run(&server, &on(&["agents", "quota", "none"])).await;
        assert!(!done && error.contains("none"), "{error}");
    }
    let audited: Vec<String> =
        sqlx::query_scalar("SELECT DISTINCT action FROM audit_log WHERE action LIKE '%quota' ORDER BY 1")
            .fetch_all(&world.pool)
            .await
            .unwrap();
    assert_eq!(audited, ["delete_instance_quota", "delete_org_quota", "put_instance_quota", "put_org_quota"]);
}

#[tokio::test]
async fn nearly_used_quota_is_reported_until_it_is_not_any_more() {
    let world = world(10, 10_000).await;
    for job in 0..9 {
        assert_eq!(arm(&world, &world.token, &format!("job-{job}")).await.0, 200);
    }
    // The count of the next job finds nine of ten.
    assert_eq!(arm(&world, &world.token, "job-9").await.0, 200);
    eventually("the overview reports it", async || {
        let overview = world.service.admin("GET", "/api/admin/overview", None).await.1;
        let problems = overview["problems"].as_array()?.clone();
        let quotas = problems.into_iter().find(|problem| problem["check"] == "quotas")?;
        assert!(quotas["found"].as_str()?.contains("agent inst-1 ("), "{quotas}");
        Some(())
    })
    .await;
    let (_, report, _) = world.settings.run(&["doctor"]).await;
    assert!(
        report.contains("nearly used, and new jobs are rejected beyond them: agent inst-1 ("),
        "{report}"
    );
    world.sql("DELETE FROM one_shots").await;
    let forgotten = "SELECT count(*) FROM nearly_used_quotas";
    let db = nas_cron_testing::database::connect(&world.url);
    let defaults = nas_cron::domain::quota::DefaultQuotas { instance: 10, org: 10_000 };
    let counts = nas_cron::db::quotas::recount(&db, defaults).await.unwrap();
    assert!(counts.iter().all(|(_, count)| *count == 0), "{counts:?}");
    assert_eq!(sqlx::query_scalar::<_, i64>(forgotten).fetch_one(&world.pool).await.unwrap(), 0);
}

#[tokio::test]
async fn quotas_of_a_deleted_org_and_agent_are_deleted() {
    let world = world(10, 100).await;
    for path in ["/api/admin/quotas/orgs/org-1", "/api/admin/quotas/instances/inst-1"] {
        assert_eq!(world.service.admin("PUT", path, Some(&json!({"quota": 5}))).await.0, 200);
    }
    let planned =
        world.service.admin("POST", "/api/admin/deletions", Some(&json!({"org_id": "org-1"}))).await.1;
    let body = json!({"org_id": "org-1", "confirm": planned["confirm"]});
    assert_eq!(world.service.admin("POST", "/api/admin/deletions", Some(&body)).await.0, 200);
    let left: i64 = sqlx::query_scalar("SELECT count(*) FROM quotas").fetch_one(&world.pool).await.unwrap();
    assert_eq!(left, 0);
}
