//! The list of the auth profiles of all places.

use serde_json::json;

use super::fixture::Admin;

impl Admin {
    /// Lists entries by these conditions, page by page, as `place profile`.
    async fn entries(&self, query: &str) -> Vec<String> {
        let (mut found, mut after) = (Vec::new(), String::new());
        loop {
            let page = self.ok("GET", &format!("/api/admin/auth-profiles?{query}{after}"), None).await;
            for entry in page["entries"].as_array().unwrap() {
                let kind = if entry["default"] == true { " default" } else { "" };
                found.push(format!("{}{}{kind}", entry["scope_id"].as_str().unwrap(), entry["auth"]));
            }
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => return found,
            }
        }
    }
}

#[tokio::test]
async fn entries_of_all_places_are_listed_page_by_page_and_by_org() {
    let admin = Admin::new().await;
    assert_eq!(admin.entries("").await, [""; 0]);
    let put = async |place: &str, profiles: &[&str], default: Option<&str>| {
        let mut body = json!({ "profiles": profiles });
        body["default"] = json!(default);
        admin.ok("PUT", &format!("/api/admin/auth-profiles/{place}"), Some(&body)).await;
    };
    put("service", &["p:all"], Some("p:all")).await;
    put("orgs/org-1", &["p:b", "p:a"], Some("p:b")).await;
    put("orgs/org-2", &["p:c"], None).await;
    put("orgs/a", &[], Some("p:z")).await;
    put("instances/inst-1", &["p:own"], Some("p:own")).await;
    put("instances/other", &["p:theirs"], None).await;
    let all = [
        "\"p:all\"",
        "\"p:all\" default",
        "a\"p:z\" default",
        "org-1\"p:a\"",
        "org-1\"p:b\"",
        "org-1\"p:b\" default",
        "org-2\"p:c\"",
        "inst-1\"p:own\"",
        "inst-1\"p:own\" default",
        "other\"p:theirs\"",
    ];
    let own = [
        "org-1\"p:a\"",
        "org-1\"p:b\"",
        "org-1\"p:b\" default",
        "inst-1\"p:own\"",
        "inst-1\"p:own\" default",
    ];
    for limit in [1, 2, 3, 1_000] {
        assert_eq!(admin.entries(&format!("limit={limit}")).await, all, "{limit}");
        assert_eq!(admin.entries(&format!("limit={limit}&org_id=org-1")).await, own, "{limit}");
    }
    assert_eq!(admin.entries("org_id=none").await, [""; 0]);

    let token = admin.token_of("org-1", "viewer").await;
    let seen = async |query: &str| {
        let (status, page) =
            admin.call_as(&token, "GET", &format!("/api/admin/auth-profiles{query}"), None).await;
        assert_eq!(status, 200, "{page}");
        page["entries"].as_array().unwrap().len()
    };
    assert_eq!((seen("").await, seen("?org_id=org-1").await, seen("?org_id=org-2").await), (5, 5, 0));

    let page = admin.ok("GET", "/api/admin/auth-profiles?limit=1", None).await;
    let next = page["next"].as_str().unwrap();
    let problem =
        admin.refused(400, "GET", &format!("/api/admin/auth-profiles?org_id=org-1&after={next}"), None).await;
    assert!(problem.contains("belongs to another selection"), "{problem}");
    admin.refused(400, "GET", "/api/admin/auth-profiles?after=x", None).await;
}
