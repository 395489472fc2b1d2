//! The search for agents by the beginning of their ID or callback: over the API and with commands.

use serde_json::{Value, json};

use super::fixture::Admin;
use super::server::{both, remote};

/// Returns the agents of a page.
fn ids(page: &Value) -> Vec<&str> {
    page["agents"].as_array().unwrap().iter().map(|agent| agent["instance_id"].as_str().unwrap()).collect()
}

/// Returns the path of a search with these parameters.
fn path(pairs: &[(&str, &str)]) -> String {
    let query = url::form_urlencoded::Serializer::new(String::new()).extend_pairs(pairs).finish();
    format!("/api/admin/agents?{query}")
}

/// A service with agents whose IDs and callbacks begin alike.
async fn found() -> Admin {
    let admin = Admin::new().await;
    admin
        .world
        .sql(
            "INSERT INTO instances (instance_id, org_id, callback_url, enabled) VALUES
                 ('alpha-1', 'org-1', 'https://alpha.agents.example', true),
                 ('alpha-2', 'org-2', 'http://httpbin.example:99', true),
                 ('alpha-3', 'org-2', NULL, false),
                 ('b%_', 'org-2', 'https://b.agents.example/x', true),
                 ('-ü', 'org-2', NULL, true);
             UPDATE instances SET created_at = '2020-01-01', updated_at = '2020-01-01'",
        )
        .await;
    admin
}

#[tokio::test]
async fn agents_are_found_by_the_beginning_of_their_id_or_callback() {
    let admin = found().await;
    for (pairs, expected) in [
        (&[("search", "alpha")][..], &["alpha-1", "alpha-2", "alpha-3"][..]),
        (&[("search", "alpha."), ("enabled", "true")], &["alpha-1"]),
        (&[("search", "https://b.")], &["b%_"]),
        (&[("search", "httpbin.")], &["alpha-2"]),
        (&[("search", "b%")], &["b%_"]),
        (&[("search", "%")], &[]),
        (&[("search", "Alpha")], &[]),
        (&[("search", "-ü")], &["-ü"]),
        (&[("search", "alpha"), ("org_id", "org-2")], &["alpha-2", "alpha-3"]),
        (&[("search", "httpbin."), ("org_id", "org-2")], &["alpha-2"]),
        (&[("search", "alpha"), ("enabled", "true")], &["alpha-1", "alpha-2"]),
        (&[("search", "alpha"), ("enabled", "false")], &["alpha-3"]),
        (&[("search", "alpha"), ("unreachable", "true")], &[]),
    ] {
        let page = admin.ok("GET", &path(pairs), None).await;
        assert_eq!(ids(&page), expected, "{pairs:?}");
        assert_eq!((&page["next"], &page["more_callbacks"]), (&Value::Null, &Value::Null), "{pairs:?}");
    }
    for text in ["", "a\nb", &"ü".repeat(128)] {
        let problem = admin.refused(400, "GET", &path(&[("search", text)]), None).await;
        assert_eq!(problem, "search: must have 1 to 255 bytes, and no control characters");
    }
}

#[tokio::test]
async fn search_of_a_token_with_an_org_finds_no_agent_of_another_one() {
    let admin = found().await;
    let own = admin.token_of("org-1", "viewer").await;
    for (pairs, expected) in [
        (&[("search", "alpha")][..], &["alpha-1"][..]),
        (&[("search", "http")], &["alpha-1"]),
        (&[("search", "alpha"), ("enabled", "true")], &["alpha-1"]),
        (&[("search", "alpha"), ("enabled", "false")], &[]),
        (&[("search", "alpha"), ("org_id", "org-2")], &[]),
        (&[("search", "httpbin.")], &[]),
    ] {
        let (status, page) = admin.call_as(&own, "GET", &path(pairs), None).await;
        assert_eq!((status, ids(&page)), (200, expected.to_vec()), "{pairs:?}: {page}");
    }
}

#[tokio::test]
async fn pages_of_a_search_are_complete_and_their_cursor_is_a_place_in_any_list() {
    let admin = found().await;
    let search = |more: &[(&str, &str)]| path(&[&[("search", "alpha"), ("limit", "1")], more].concat());
    for org in [None, Some("org-2")] {
        let of: Vec<_> = org.map(|org| ("org_id", org)).into_iter().collect();
        let (mut all, mut after) = (Vec::new(), None::<String>);
        loop {
            let cursor = after.as_deref().map(|after| ("after", after));
            let more: Vec<_> = of.iter().copied().chain(cursor).collect();
            let page = admin.ok("GET", &search(&more), None).await;
            all.extend(ids(&page).into_iter().map(str::to_owned));
            let Some(next) = page["next"].as_str() else { break };
            after = Some(next.to_owned());
        }
        let expected =
            if org.is_some() { &["alpha-2", "alpha-3"][..] } else { &["alpha-1", "alpha-2", "alpha-3"] };
        assert_eq!(all, expected);
    }
    // The ID of an agent, also of one that the search does not find.
    let page = admin.ok("GET", &path(&[("search", "alpha"), ("after", "alpha-17")]), None).await;
    assert_eq!(ids(&page), ["alpha-2", "alpha-3"]);
    let page =
        admin.ok("GET", &path(&[("after", "alpha-3"), ("org_id", "org-2"), ("limit", "1")]), None).await;
    assert_eq!(ids(&page), ["b%_"]);
}

#[tokio::test]
async fn search_reports_that_it_does_not_list_all_callbacks() {
    let admin = Admin::new().await;
    admin
        .world
        .sql(
            "INSERT INTO instances (instance_id, org_id, callback_url)
             SELECT 'agent-' || n, 'org-' || 1 + n % 2, 'https://gateway.example/' || n FROM generate_series(1, 1001) n",
        )
        .await;
    let more = async |pairs: &[(&str, &str)]| {
        let page = admin.ok("GET", &path(pairs), None).await;
        page["more_callbacks"].clone()
    };
    assert_eq!(more(&[("search", "gateway."), ("limit", "1000")]).await, json!(true));
    assert_eq!(more(&[("search", "gateway."), ("after", "agent-500"), ("limit", "1")]).await, json!(true));
    assert_eq!(more(&[("search", "gateway."), ("org_id", "org-1")]).await, Value::Null);
    assert_eq!(more(&[("search", "gateway.example/10")]).await, Value::Null);
    assert_eq!(more(&[("search", "agent-")]).await, Value::Null);

    let hint =
        "Not all are listed: more than 1,000 callbacks begin with this text. Use a longer one, or --org.\n";
    let table = both(&admin, "agents", &["list", "--search", "gateway."]).await;
    assert!(table.contains(hint) && table.contains("\nMore agents follow: --after agent-"), "{table}");
    let page = both(&admin, "agents", &["list", "--search", "gateway.", "--limit", "10000", "--json"]).await;
    let page: Value = serde_json::from_str(&page).unwrap();
    assert_eq!(
        (ids(&page).len(), &page["more_callbacks"], &page["next"]),
        (1_000, &json!(true), &Value::Null)
    );
    let table = both(&admin, "agents", &["list", "--search", "gateway.", "--org", "org-1"]).await;
    assert!(!table.contains(hint), "{table}");
}

#[tokio::test]
async fn command_searches_on_the_database_and_through_the_server() {
    let admin = found().await;
    let names = async |arguments: &[&str]| {
        let page = both(&admin, "agents", &[&["list", "--json"], arguments].concat()).await;
        let page: Value = serde_json::from_str(&page).unwrap();
        ids(&page).into_iter().map(str::to_owned).collect::<Vec<_>>()
    };
    assert_eq!(names(&["--search", "alpha"]).await, ["alpha-1", "alpha-2", "alpha-3"]);
    assert_eq!(names(&["--search", "alpha", "--org", "org-2", "--enabled"]).await, ["alpha-2"]);
    assert_eq!(names(&["--search", "alpha", "--disabled"]).await, ["alpha-3"]);
    assert_eq!(names(&["--search", "alpha", "--limit", "1", "--after", "alpha-1"]).await, ["alpha-2"]);
    assert_eq!(names(&["--search=-ü"]).await, ["-ü"]);
    let table = both(&admin, "agents", &["list", "--search", "b.agents"]).await;
    assert!(table.contains("b%_") && !table.contains("alpha"), "{table}");
    assert_eq!(both(&admin, "agents", &["list", "--search", "nobody"]).await, "No agent matches.\n");
    let long = "ü".repeat(128);
    for text in ["", long.as_str()] {
        assert_eq!(both(&admin, "agents", &["list", "--search", text]).await, "");
    }
    let own = remote(&admin).with("NAS_CRON_ADMIN_TOKEN", &admin.token_of("org-2", "viewer").await);
    let server = ["agents", "--server", &admin.world.service.url, "list", "--search", "alpha", "--json"];
    let (status, out, error) = own.run(&server).await;
    assert!(status.success(), "{error}");
    assert_eq!(ids(&serde_json::from_str(&out).unwrap()), ["alpha-2", "alpha-3"]);
}
