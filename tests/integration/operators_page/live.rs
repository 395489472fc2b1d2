//! Statements for pages that refresh themselves, counted by the plans that the database reports.

use nas_cron_testing::service::{ADMIN_TOKEN, Service};
use nas_cron_testing::world::eventually;
use serde_json::Value;

use super::fixture::{Operator, Ops, job};

/// Reports the plan of each statement to its client, whose log has it.
const REPORT: &str = "
    DO $$ BEGIN
        EXECUTE format('ALTER DATABASE %I SET session_preload_libraries = auto_explain', current_database());
        EXECUTE format('ALTER DATABASE %I SET auto_explain.log_min_duration = 0', current_database());
        EXECUTE format('ALTER DATABASE %I SET auto_explain.log_format = json', current_database());
        EXECUTE format('ALTER DATABASE %I SET auto_explain.log_level = notice', current_database());
    END $$";

/// Returns the plans of the log whose request has this field in its span.
fn plans(service: &Service, field: &str, value: &str) -> Vec<String> {
    let mut plans = Vec::new();
    for line in service.log().lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let is_of_request = line["spans"].as_array().into_iter().flatten().any(|span| span[field] == value);
        let plan = line["message"].as_str().filter(|text| is_of_request && text.contains("plan:\n"));
        plans.extend(plan.map(str::to_owned));
    }
    plans
}

/// Counts the statements of a route so far: those that find the session, and the others.
fn statements(service: &Service, route: &str) -> (usize, usize) {
    let plans = plans(service, "http.route", route);
    let of_sessions = plans.iter().filter(|plan| plan.contains("operator_sessions")).count();
    (of_sessions, plans.len() - of_sessions)
}

/// Waits until the log has all plans of the requests so far: those of a later request follow them.
async fn logged(service: &Service, operator: &Operator) {
    let later = operator.get("/ops/holds").await;
    assert_eq!(later.status, 200, "{}", later.html);
    let request_id = later.header("x-request-id");
    eventually("the plans of a later request are in the log", async || {
        (!plans(service, "request.id", request_id).is_empty()).then_some(())
    })
    .await;
}

#[tokio::test]
async fn page_that_many_operators_watch_is_read_once_besides_their_sessions() {
    let ops = Ops::new().await;
    ops.armed("job").await;
    ops.world.sql(REPORT).await;
    let service = Service::start(&ops.world.settings).await;
    let mut operators = Vec::new();
    for _ in 0..10 {
        let mut operator = Operator::at(&service.admin_url);
        assert_eq!(operator.sign_in(&[("token", ADMIN_TOKEN)]).await.status, 303);
        operators.push(operator);
    }
    assert_eq!(operators[0].get(&job("job")).await.status, 200);
    logged(&service, &operators[0]).await;
    let (of_sessions, once) = statements(&service, "/ops/job");
    assert!(of_sessions > 0 && once > 0, "{of_sessions} {once}");
    for _ in 0..3 {
        let refreshes = operators.iter().map(async |operator| operator.refresh(&job("job")).await.status);
        assert_eq!(futures::future::join_all(refreshes).await, [200; 10]);
    }
    logged(&service, &operators[0]).await;
    let (sessions, others) = statements(&service, "/ops/job");
    assert!(sessions > 30, "each refresh finds its session: {sessions}");
    // Once more if the 5 s were over meanwhile.
    assert!(
        others <= 2 * once,
        "{others} statements of 30 refreshes, {once} of a visit, {sessions} of sessions"
    );
}
