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

/// Counts the statements of a route so far: those that find the session, and the others.
fn statements(service: &Service, route: &str) -> (usize, usize) {
    let (mut of_sessions, mut others) = (0, 0);
    for line in service.log().lines() {
        let Ok(line) = serde_json::from_str::<Value>(line) else { continue };
        let spans = line["spans"].as_array().into_iter().flatten();
        let is_of_route = spans.into_iter().any(|span| span["http.route"] == route);
        match line["message"].as_str().filter(|text| is_of_route && text.contains("plan:\n")) {
            Some(plan) if plan.contains("operator_sessions") => of_sessions += 1,
            Some(_) => others += 1,
            None => {}
        }
    }
    (of_sessions, others)
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
    eventually("the plans are in the log", async || {
        let (of_sessions, others) = statements(&service, "/ops/job");
        (of_sessions > 0 && others > 0).then_some(())
    })
    .await;
    // The last of them, too.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let (_, once) = statements(&service, "/ops/job");
    for _ in 0..3 {
        let refreshes = operators.iter().map(async |operator| operator.refresh(&job("job")).await.status);
        assert_eq!(futures::future::join_all(refreshes).await, [200; 10]);
    }
    let sessions = eventually("each refresh has found its session", async || {
        let (of_sessions, _) = statements(&service, "/ops/job");
        (of_sessions > 30).then_some(of_sessions)
    })
    .await;
    let (_, others) = statements(&service, "/ops/job");
    // Once more if the 5 s were over meanwhile.
    assert!(
        others <= 2 * once,
        "{others} statements of 30 refreshes, {once} of a visit, {sessions} of sessions"
    );
}
