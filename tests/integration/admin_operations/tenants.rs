//! Lists and counts for a token of an org depend on no other org, however much that has.

use serde_json::{Value, json};

use super::fixture::{Admin, names};

/// One more than a statement examines.
const MANY: u32 = 10_001;

/// Copies a job of agent `other` to [`MANY`] more.
async fn multiply(admin: &Admin, job: &str) {
    admin
        .world
        .sql(&format!(
            "INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state,
                                    dead_since, next_attempt_at, parked)
             SELECT instance_id, job_id || n, gen_random_uuid(), dedup_key, fire_at_text, fire_at, callback_url, state,
                    dead_since, next_attempt_at, parked
             FROM one_shots, generate_series(1, {MANY}) n WHERE instance_id = 'other' AND job_id = '{job}'"
        ))
        .await;
}

/// Stores one job of `inst-1` of each kind.
async fn own_jobs(admin: &Admin) {
    admin.store("inst-1", "armed", "armed", &[]).await;
    admin.store("inst-1", "dead", "dead", &[]).await;
    admin.store("inst-1", "parked", "armed", &[("parked", "'hold'")]).await;
    admin.store_dormant("dormant").await;
    admin.world.sql("INSERT INTO job_holds (instance_id, job_id) VALUES ('inst-1', 'parked')").await;
}

/// Stores many jobs of another org, of each kind. The other org's agents come after and before those of `org-1`.
async fn jobs_of_another_org(admin: &Admin) {
    admin
        .world
        .sql("INSERT INTO holds (scope, scope_id) VALUES ('instance', 'other'), ('instance', 'a-first')")
        .await;
    admin.store("other", "d", "dead", &[]).await;
    admin.store("other", "p", "armed", &[("parked", "'hold'")]).await;
    admin.store("other", "s", "delivered", &[]).await;
    for job in ["d", "p", "s"] {
        multiply(admin, job).await;
    }
    admin
        .world
        .sql(
            "INSERT INTO awaited_rearms (instance_id, job_id, schedule_id, delivered_at, recurrence, expected_at, check_at,
                                         closes_after, dormant_since)
             SELECT instance_id, job_id, schedule_id, now(), 'daily', now(), now() + '1 day', '100 years', now()
             FROM one_shots WHERE instance_id = 'other' AND state = 'delivered';
             INSERT INTO instances (instance_id, org_id) VALUES ('a-first', 'org-2');
             INSERT INTO one_shots SELECT (jsonb_populate_record(o, jsonb_build_object(
                 'instance_id', 'a-first', 'schedule_id', gen_random_uuid()))).*
             FROM one_shots o WHERE instance_id = 'other'",
        )
        .await;
}

/// Returns what a caller gets: lists by each kind of condition, and counts.
async fn seen(admin: &Admin, token: &str) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    for query in [
        "",
        "state=dead",
        "state=dead,stuck",
        "state=dormant",
        "state=dead,dormant",
        "parked=true",
        "overdue=true",
        "next_attempt_from=2099-01-01T00:00:00Z",
        "job_id=dead",
        "instance_id=other",
        "instance_id=other&state=dead",
    ] {
        let (status, page) = admin.call_as(token, "GET", &format!("/api/admin/jobs?{query}"), None).await;
        assert_eq!(status, 200, "{page}");
        found.push((query.to_owned(), json!({"jobs": names(&page), "next": page["next"]})));
    }
    for path in ["/api/admin/jobs/redrivable", "/api/admin/jobs/redrivable?instance_id=other"] {
        found.push((path.to_owned(), admin.call_as(token, "GET", path, None).await.1));
    }
    let (_, mut overview) = admin.call_as(token, "GET", "/api/admin/overview", None).await;
    found.push(("counts".to_owned(), overview["counts"].take()));
    found
}

#[tokio::test]
async fn jobs_of_another_org_change_no_list_no_cursor_and_no_count() {
    let admin = Admin::new().await;
    own_jobs(&admin).await;
    let token = admin.token_of("org-1", "operator").await;
    let before = seen(&admin, &token).await;
    assert_eq!(before[1].1, json!({"jobs": ["inst-1/dead"], "next": null}));
    assert_eq!(before[3].1, json!({"jobs": ["inst-1/dormant"], "next": null}));
    jobs_of_another_org(&admin).await;
    // The overview is kept for a few seconds.
    tokio::time::sleep(std::time::Duration::from_secs(6)).await;
    for (was, is) in before.into_iter().zip(seen(&admin, &token).await) {
        assert_eq!(was, is);
    }
    let (_, report) = admin.call_as(&token, "POST", "/api/admin/jobs/redrive?all=true", None).await;
    assert_eq!((&report["redriven"], &report["next"]), (&json!(1), &json!(null)), "{report}");
    let path = "/api/admin/jobs/redrive?instance_id=other";
    let (_, report) = admin.call_as(&token, "POST", path, None).await;
    assert_eq!((&report["redriven"], &report["next"]), (&json!(0), &json!(null)), "{report}");
}

#[tokio::test]
async fn list_of_an_org_with_many_agents_goes_on_after_those_that_were_examined() {
    let admin = Admin::new().await;
    admin
        .world
        .sql(&format!(
            "INSERT INTO instances (instance_id, org_id) SELECT 'a-' || n, 'org-1' FROM generate_series(1, {MANY}) n"
        ))
        .await;
    admin.store("a-7", "dead", "dead", &[]).await;
    admin.store("inst-1", "dead", "dead", &[]).await;
    for query in ["org_id=org-1", "org_id=org-1&state=dead"] {
        let first = admin.ok("GET", &format!("/api/admin/jobs?{query}"), None).await;
        assert_eq!(names(&first), ["a-7/dead"]);
        assert!(first["next"].is_string(), "{first}");
        assert_eq!(admin.listed(query).await, ["a-7/dead", "inst-1/dead"]);
    }
}
