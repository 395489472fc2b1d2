//! Orgs, and the deletion of everything of an org or an agent.

use std::time::Duration;

use nas_cron::db::{Db, DbOptions};
use nas_cron::domain::quota::DefaultQuotas;
use nas_cron::operations::Operations;
use nas_cron::operations::orgs::DeletionOf;
use nas_cron_protocol::OrgId;
use serde_json::{Value, json};

use super::fixture::Admin;

const DELETIONS: &str = "/api/admin/deletions";

/// Stores jobs and history of `inst-1`.
async fn stocked() -> Admin {
    let admin = Admin::new().await;
    admin.store("inst-1", "armed", "armed", &[]).await;
    admin.store("inst-1", "dead", "dead", &[]).await;
    admin.store("other", "job", "armed", &[]).await;
    admin
        .world
        .sql(
            "INSERT INTO fires (attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at,
                                ended_at, outcome)
             SELECT gen_random_uuid(), i, 'job', gen_random_uuid(), 'key', now(), n, now(), now(), 'failed'
             FROM generate_series(1, 5100) AS n, unnest(ARRAY['inst-1', 'other']) AS i;
             INSERT INTO holds (scope, scope_id) VALUES ('org', 'org-1'), ('instance', 'inst-1'), ('instance', 'other');
             INSERT INTO job_holds (instance_id, job_id) VALUES ('inst-1', 'armed');
             INSERT INTO auth_profiles (scope, scope_id, auth) VALUES ('org', 'org-1', 'claude:work'), ('org', 'org-2', 'claude:work');
             INSERT INTO webhooks (webhook_id, url, org_id, secret_nonce, secret)
             SELECT gen_random_uuid(), 'http://127.0.0.1:1/', o, 'n', 's' FROM unnest(ARRAY['org-1', 'org-2']) AS o",
        )
        .await;
    admin
}

/// Counts everything of both orgs.
async fn rows(admin: &Admin) -> Vec<(String, i64)> {
    let tables = ["instances", "one_shots", "fires", "holds", "job_holds", "auth_profiles", "webhooks"];
    let mut found = Vec::new();
    for table in tables {
        let query = format!("SELECT count(*) FROM {table}");
        let count: i64 =
            sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(&admin.world.pool).await.unwrap();
        found.push((table.to_owned(), count));
    }
    found
}

#[tokio::test]
async fn orgs_are_listed_page_by_page_and_counted() {
    let admin = stocked().await;
    admin
        .world
        .sql("INSERT INTO instances (instance_id, org_id, enabled) VALUES ('more', 'org-1', false)")
        .await;
    let first = admin.ok("GET", "/api/admin/orgs?limit=1", None).await;
    assert_eq!(first["orgs"], json!([{"org_id": "org-1", "agents": 2, "on_hold": true}]));
    let next = first["next"].as_str().expect("more follow");
    let second = admin.ok("GET", &format!("/api/admin/orgs?limit=1&after={next}"), None).await;
    assert_eq!(second, json!({"orgs": [{"org_id": "org-2", "agents": 1, "on_hold": false}], "next": null}));
    let org = admin.ok("GET", "/api/admin/orgs/org-1", None).await;
    let expected = json!({"org_id": "org-1", "agents": 2, "disabled": 1, "unreachable": 0, "armed": 1, "parked": 0,
                          "dead": 1, "on_hold": true});
    assert_eq!(org, expected);
    admin.refused(404, "GET", "/api/admin/orgs/none", None).await;
    let problem = admin.refused(400, "GET", "/api/admin/orgs?after=x", None).await;
    assert!(problem.starts_with("after: not a cursor"), "{problem}");
    let token = admin.token_of("org-2", "viewer").await;
    let (_, own) = admin.call_as(&token, "GET", "/api/admin/orgs", None).await;
    assert_eq!(own["orgs"].as_array().unwrap().len(), 1, "{own}");
    let (status, _) = admin.call_as(&token, "GET", "/api/admin/orgs/org-1", None).await;
    assert_eq!(status, 404);
}

#[tokio::test]
async fn org_is_deleted_with_everything_after_a_count() {
    let admin = stocked().await;
    let before = rows(&admin).await;
    let plan = admin.ok("POST", DELETIONS, Some(&json!({"org_id": "org-1"}))).await;
    assert_eq!(plan["found"], json!({"agents": 1, "jobs": 2, "attempts": 5100, "settings": 3, "events": 0}));
    assert_eq!(plan["deleted"], json!({"agents": 0, "jobs": 0, "attempts": 0, "settings": 0, "events": 0}));
    assert_eq!(rows(&admin).await, before, "a count changes nothing");
    let confirmed = |plan: &Value| json!({"org_id": "org-1", "confirm": plan["confirm"]});
    // Another agent has registered since.
    admin.world.sql("INSERT INTO instances (instance_id, org_id) VALUES ('late', 'org-1')").await;
    let problem = admin.refused(409, "POST", DELETIONS, Some(&confirmed(&plan))).await;
    assert!(problem.starts_with("confirm: what would be deleted has changed"), "{problem}");
    let plan = admin.ok("POST", DELETIONS, Some(&json!({"org_id": "org-1"}))).await;
    let report = admin.ok("POST", DELETIONS, Some(&confirmed(&plan))).await;
    assert_eq!(
        report["deleted"],
        json!({"agents": 2, "jobs": 2, "attempts": 5100, "settings": 3, "events": 0})
    );
    assert_eq!(report["confirm"], json!(null));
    let left = rows(&admin).await.into_iter().map(|(_, count)| count).collect::<Vec<_>>();
    assert_eq!(left, [1, 1, 5100, 1, 0, 1, 1], "org-2 keeps everything");
    admin.refused(404, "POST", DELETIONS, Some(&confirmed(&plan))).await;
}

#[tokio::test]
async fn deletion_in_several_requests_ends_with_the_settings_and_can_be_interrupted() {
    let admin = stocked().await;
    admin
        .world
        .sql(
            "INSERT INTO events (event_id, type, org_id, occurred_at, last_at, count, data)
             SELECT gen_random_uuid(), 'one_shot.stuck', o, now(), now(), 1, '{}'
             FROM generate_series(1, 1200), unnest(ARRAY['org-1', 'org-2']) AS o;
             INSERT INTO quotas (scope, scope_id, armed_jobs) VALUES ('org', 'org-1', 7)",
        )
        .await;
    let options = DbOptions {
        url: admin.world.url.clone().into(),
        max_connections: 1,
        acquire_timeout: Duration::from_secs(30),
    };
    let operations = Operations::new(Db::new(&options).unwrap(), DefaultQuotas { instance: 1, org: 1 });
    let of = DeletionOf::Org(OrgId::new("org-1").unwrap());
    let mut report = operations.plan_deletion(&of).await.unwrap();
    assert_eq!((report.found.settings, report.found.events), (4, 1200));
    let mut requests = 0;
    while let Some(confirm) = &report.confirm {
        requests += 1;
        assert!(requests < 20, "{report:?}");
        // As after an interruption, the settings are still there to count.
        assert!(operations.plan_deletion(&of).await.unwrap().found.settings == 4);
        report = operations.delete_for(&of, confirm, Duration::ZERO).await.unwrap();
    }
    assert!(requests > 3, "{requests}");
    assert_eq!(report.deleted.settings, 4);
    let left = rows(&admin).await.into_iter().map(|(_, count)| count).collect::<Vec<_>>();
    assert_eq!(left, [1, 1, 5100, 1, 0, 1, 1], "org-2 keeps everything");
    let events: Vec<Option<String>> =
        sqlx::query_scalar("SELECT DISTINCT org_id FROM events").fetch_all(&admin.world.pool).await.unwrap();
    assert_eq!(events, [Some("org-2".to_owned())]);
    assert!(operations.plan_deletion(&of).await.is_err(), "nothing is left");
}

#[tokio::test]
async fn settings_of_an_org_without_agents_are_deleted() {
    let admin = stocked().await;
    admin.world.sql("DELETE FROM instances WHERE org_id = 'org-1'").await;
    let plan = admin.ok("POST", DELETIONS, Some(&json!({"org_id": "org-1"}))).await;
    assert_eq!((&plan["found"]["agents"], &plan["found"]["settings"]), (&json!(0), &json!(3)), "{plan}");
    let (_, out, _) = admin.world.settings.run(&["orgs", "delete", "org-1"]).await;
    assert!(out.contains("There are 0 agents, 0 jobs, 0 attempts and 3 settings of org org-1."), "{out}");
    let body = json!({"org_id": "org-1", "confirm": plan["confirm"]});
    let report = admin.ok("POST", DELETIONS, Some(&body)).await;
    assert_eq!((&report["deleted"]["settings"], &report["confirm"]), (&json!(3), &json!(null)));
    let webhooks: i64 = sqlx::query_scalar("SELECT count(*) FROM webhooks WHERE org_id = 'org-1'")
        .fetch_one(&admin.world.pool)
        .await
        .unwrap();
    assert_eq!(webhooks, 0);
}

#[tokio::test]
async fn two_deletions_at_once_leave_nothing_behind() {
    let admin = stocked().await;
    // Several batches, so that the two meet.
    admin
        .world
        .sql(
            "INSERT INTO fires (attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at,
                                ended_at, outcome)
             SELECT gen_random_uuid(), 'inst-1', 'more', gen_random_uuid(), 'key', now(), n, now(), now(), 'failed'
             FROM generate_series(1, 8000) AS n",
        )
        .await;
    let plan = admin.ok("POST", DELETIONS, Some(&json!({"org_id": "org-1"}))).await;
    let body = json!({"org_id": "org-1", "confirm": plan["confirm"]});
    let both = [admin.call("POST", DELETIONS, Some(&body)), admin.call("POST", DELETIONS, Some(&body))];
    let answers = futures::future::join_all(both).await;
    // The second may have come after the end of the first.
    assert!(answers.iter().all(|(status, _)| matches!(status, 200 | 404)), "{answers:?}");
    let reports: Vec<_> = answers.iter().filter(|(status, _)| *status == 200).map(|(_, body)| body).collect();
    assert!(reports.iter().all(|report| report["confirm"].is_null()), "{answers:?}");
    let deleted =
        |of: &str| reports.iter().map(|report| report["deleted"][of].as_i64().unwrap()).sum::<i64>();
    assert_eq!((deleted("agents"), deleted("jobs"), deleted("attempts")), (1, 2, 13_100), "{answers:?}");
    let left = rows(&admin).await.into_iter().map(|(_, count)| count).collect::<Vec<_>>();
    assert_eq!(left, [1, 1, 5100, 1, 0, 1, 1], "org-2 keeps everything");
}

#[tokio::test]
async fn agent_is_deleted_with_everything_by_command_and_by_server() {
    let admin = stocked().await;
    let run = async |arguments: &[&str]| {
        let (status, out, error) = admin.world.settings.run(arguments).await;
        assert!(status.success(), "{arguments:?}: {out}{error}");
        out
    };
    let plan = run(&["agents", "remove", "inst-1", "--everything"]).await;
    assert!(
        plan.starts_with(
            "Nothing was deleted. There are 1 agent, 2 jobs and 5,100 attempts of agent inst-1."
        ) || plan
            .starts_with("Nothing was deleted. There are 1 agent, 2 jobs and 5100 attempts of agent inst-1."),
        "{plan}"
    );
    let value = plan.trim_end().rsplit(' ').next().unwrap();
    let done = run(&["agents", "remove", "inst-1", "--everything", "--confirm", value]).await;
    assert!(done.starts_with("Everything of agent inst-1 is deleted: 1 agent, 2 jobs"), "{done}");
    let left = rows(&admin).await.into_iter().map(|(_, count)| count).collect::<Vec<_>>();
    assert_eq!(left, [1, 1, 5100, 2, 0, 2, 2]);
}

#[tokio::test]
async fn deletion_of_another_org_or_of_nothing_is_rejected() {
    let admin = stocked().await;
    let before = rows(&admin).await;
    for body in [json!({}), json!({"org_id": "a", "instance_id": "b"})] {
        let problem = admin.refused(400, "POST", DELETIONS, Some(&body)).await;
        assert_eq!(problem, "org_id: give either org_id or instance_id");
    }
    let token = admin.token_of("org-1", "admin").await;
    for body in [json!({"org_id": "org-2"}), json!({"instance_id": "other"}), json!({"instance_id": "none"})]
    {
        for confirm in [None, Some("000000000000")] {
            let mut body = body.clone();
            if let Some(confirm) = confirm {
                body["confirm"] = confirm.into();
            }
            let (status, answer) = admin.call_as(&token, "POST", DELETIONS, Some(&body)).await;
            assert_eq!(status, 404, "{body}: {answer}");
        }
    }
    let operator = admin.token_of("org-1", "operator").await;
    let (status, _) = admin.call_as(&operator, "POST", DELETIONS, Some(&json!({"org_id": "org-1"}))).await;
    assert_eq!(status, 403);
    assert_eq!(rows(&admin).await, before);
}
