//! The list of agents that cannot be reached: over the API, page by page, and with commands.

use serde_json::Value;

use super::fixture::Admin;
use super::server::both;

fn ids(page: &Value) -> Vec<String> {
    let agents = page["agents"].as_array().unwrap().iter();
    agents.map(|agent| agent["instance_id"].as_str().unwrap().to_owned()).collect()
}

#[tokio::test]
async fn unreachable_agents_are_listed_page_by_page_within_each_scope() {
    let admin = Admin::new().await;
    admin
        .world
        .sql(
            "INSERT INTO instances (instance_id, org_id, enabled, unreachable_since, probe_job_id)
             SELECT 'agent-' || n, 'org-' || 1 + n % 2, n <> 5, CASE WHEN n > 1 THEN now() END, CASE WHEN n > 1 THEN 'probe' END
             FROM generate_series(1, 6) n",
        )
        .await;
    let listed = async |query: &str| ids(&admin.ok("GET", &format!("/api/admin/agents?{query}"), None).await);
    assert_eq!(listed("unreachable=true").await, ["agent-2", "agent-3", "agent-4", "agent-5", "agent-6"]);
    assert_eq!(listed("unreachable=true&org_id=org-2").await, ["agent-3", "agent-5"]);
    assert_eq!(listed("unreachable=true&org_id=org-2&enabled=true").await, ["agent-3"]);
    assert_eq!(listed("unreachable=true&enabled=false").await, ["agent-5"]);
    assert_eq!(listed("unreachable=false").await.len(), 8, "no condition");
    let own = admin.token_of("org-1", "viewer").await;
    for (query, expected) in
        [("unreachable=true", &["agent-2", "agent-4", "agent-6"][..]), ("unreachable=true&org_id=org-2", &[])]
    {
        let (status, page) = admin.call_as(&own, "GET", &format!("/api/admin/agents?{query}"), None).await;
        assert_eq!((status, ids(&page)), (200, expected.iter().map(ToString::to_string).collect()), "{page}");
    }

    let (mut found, mut after) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/admin/agents?unreachable=true&limit=2{after}");
        let page = admin.ok("GET", &path, None).await;
        found.push(ids(&page));
        let Some(next) = page["next"].as_str() else { break };
        after = format!("&after={next}");
    }
    assert_eq!(found, [vec!["agent-2", "agent-3"], vec!["agent-4", "agent-5"], vec!["agent-6"]]);
    let problem = admin.refused(400, "GET", "/api/admin/agents?unreachable=yes", None).await;
    assert!(problem.starts_with("unreachable: must be true or false"), "{problem}");
    let table = both(&admin, "agents", &["list", "--unreachable", "--org", "org-2"]).await;
    assert!(table.contains("agent-3") && !table.contains("agent-2"), "{table}");
    admin.world.sql("UPDATE instances SET unreachable_since = NULL, probe_job_id = NULL").await;
    assert_eq!(both(&admin, "agents", &["list", "--unreachable"]).await, "No agent matches.\n");
}
