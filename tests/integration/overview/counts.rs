//! Counts and problems, of the service and of an org.

use std::collections::HashSet;

use futures::future::join_all;
use nas_cron_testing::service::ADMIN_TOKEN;
use serde_json::{Value, json};

use crate::admin_operations::fixture::Admin;
use crate::doctor::fixture::examined;

/// Reads the overview that callers with this token see. Each scope has one for 5 s.
async fn overview(admin: &Admin, token: &str) -> Value {
    let (status, overview) = admin.call_as(token, "GET", "/api/admin/overview", None).await;
    assert_eq!(status, 200, "{overview}");
    overview
}

/// Stores something of each kind, most of it of org `org-1`.
async fn troubled() -> Admin {
    let admin = Admin::new().await;
    for (instance, job, state) in
        [("inst-1", "dead", "dead"), ("inst-1", "stuck", "stuck"), ("other", "dead", "dead")]
    {
        admin.store(instance, job, state, &[]).await;
    }
    // Before what it holds: maintenance releases what nothing holds.
    admin
        .world
        .sql("INSERT INTO holds VALUES ('instance', 'inst-1', 'maintenance', now() - interval '5 min')")
        .await;
    admin.store("inst-1", "held", "armed", &[("parked", "'hold'")]).await;
    admin.store_dormant("quiet").await;
    admin.store("other", "behind", "waiting", &[]).await;
    admin
        .world
        .sql(
            "UPDATE one_shots SET parked = 'unreachable' WHERE job_id = 'behind';
             UPDATE instances SET unreachable_since = now(), probe_job_id = 'behind' WHERE instance_id = 'other'",
        )
        .await;
    admin
}

/// The counts that are not 0.
fn counts(overview: &Value) -> Value {
    let counts = overview["counts"].as_object().expect("counts").iter();
    counts
        .filter(|(_, count)| count["count"] != 0)
        .map(|(name, count)| (name.clone(), count["count"].clone()))
        .collect()
}

#[tokio::test]
async fn an_org_sees_what_needs_attention_of_its_own_agents_only() {
    let admin = troubled().await;
    let all = overview(&admin, ADMIN_TOKEN).await;
    assert_eq!(
        counts(&all),
        json!({"dead": 2, "stuck": 1, "dormant": 1, "held": 1, "waiting_for_agent": 1, "unreachable": 1, "holds": 1})
    );
    let token = admin.token_of("org-1", "viewer").await;
    let own = overview(&admin, &token).await;
    assert_eq!((&own["org_id"], own.get("service")), (&json!("org-1"), None));
    assert_eq!(counts(&own), json!({"dead": 1, "stuck": 1, "dormant": 1, "held": 1, "holds": 1}));
    let checks: Vec<_> =
        own["problems"].as_array().unwrap().iter().map(|one| one["check"].as_str().unwrap()).collect();
    assert_eq!(checks, ["dead letters", "holds"], "a job on hold is not dormant for an unknown reason");
    let token = admin.token_of("org-2", "viewer").await;
    let other = overview(&admin, &token).await;
    assert_eq!(counts(&other), json!({"dead": 1, "waiting_for_agent": 1, "unreachable": 1}));
    assert!(!other.to_string().contains("inst-1"), "{other}");
}

#[tokio::test]
async fn problems_have_the_words_of_doctor() {
    let admin = troubled().await;
    let found = overview(&admin, ADMIN_TOKEN).await;
    let problems = found["problems"].as_array().unwrap();
    let names: Vec<_> = problems.iter().map(|one| one["check"].as_str().unwrap()).collect();
    assert_eq!(names, ["dead letters", "unreachable agents", "holds"]);
    let report = examined(&admin.world.settings, |report| report.line("holds").0 == "warning").await;
    for problem in problems {
        let (status, found, fix) = report.line(problem["check"].as_str().unwrap());
        assert_eq!((&problem["status"], &problem["fix"]), (&json!(status), &json!(fix)));
        // The age of a hold may have changed by a second.
        let until_digit = |text: &str| text.split(" for ").next().unwrap().to_owned();
        assert_eq!(until_digit(problem["found"].as_str().unwrap()), until_digit(found));
    }
}

#[tokio::test]
async fn everyone_who_watches_shares_one_reading() {
    let admin = Admin::new().await;
    let answers = join_all((0..20).map(|_| admin.ok("GET", "/api/admin/overview", None))).await;
    let readings: HashSet<_> = answers.iter().map(|one| one["at"].as_str().unwrap()).collect();
    // One more if the first had become 5 s old meanwhile.
    assert!(readings.len() <= 2, "{readings:?}");
    let service = &answers[0]["service"];
    let replica = &service["replicas"][0];
    assert_eq!((&replica["running"], &replica["version"]), (&json!(true), &json!(env!("CARGO_PKG_VERSION"))));
    assert!(replica["clock_offset_ms"].as_i64().unwrap().abs() < 5_000, "{replica}");
    assert_eq!(service["backends"]["active"], "postgres");
    assert_eq!(service["keys"]["published"][0]["state"], "active");
    assert_eq!(service["keys"]["upcoming"][0]["step"], "generate and publish the next key");
    let lengths = [&service["fires"]["hour"], &service["fires"]["day"], &service["load"]["minutes"]];
    assert_eq!(lengths.map(|list| list.as_array().unwrap().len()), [60, 96, 60]);
}

#[tokio::test]
async fn parameters_are_refused() {
    let admin = Admin::new().await;
    let problem = admin.refused(400, "GET", "/api/admin/overview?org_id=org-1", None).await;
    assert!(problem.starts_with("org_id"), "{problem}");
}
