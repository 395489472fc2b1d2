//! The admin API on a listener of its own.

use nas_cron_testing::service::{ADMIN_TOKEN, client};
use nas_cron_testing::world::World;

use super::fixture::config;

#[tokio::test]
async fn admin_api_is_served_only_on_its_own_listener_if_it_has_one() {
    let world = World::with(|settings| settings.with("NAS_CRON_ADMIN_LISTEN", "127.0.0.3:0")).await;
    let service = &world.service;
    assert!(service.admin_url.starts_with("http://127.0.0.3:"), "{}", service.admin_url);
    let there = config().call(service, "GET", "/api/admin/agents/inst-1", None).await;
    assert_eq!((there.status, there.body["org_id"].as_str()), (200, Some("org-1")));
    let get = async |base: &str, path: &str| {
        client().get(format!("{base}{path}")).bearer_auth(ADMIN_TOKEN).send().await.unwrap()
    };
    assert_eq!(get(&service.url, "/api/admin/agents/inst-1").await.status(), 404);
    assert_eq!(get(&service.admin_url, "/.well-known/jwks.json").await.status(), 404);
    assert_eq!(get(&service.admin_url, "/api/agent-cron/list").await.status(), 404);

    // Each listener describes what it serves.
    let paths = async |base: &str| -> Vec<String> {
        let document: serde_json::Value = get(base, "/openapi.json").await.json().await.unwrap();
        document["paths"].as_object().unwrap().keys().cloned().collect()
    };
    let (public, admin) = (paths(&service.url).await, paths(&service.admin_url).await);
    assert!(public.iter().any(|path| path == "/api/agent-cron/provision"), "{public:?}");
    assert!(public.iter().all(|path| !path.starts_with("/api/admin")), "{public:?}");
    assert!(!admin.is_empty() && admin.iter().all(|path| path.starts_with("/api/admin")), "{admin:?}");

    let metrics = service.metrics().await;
    assert!(metrics.contains(r#"nas_cron_open_connections{listener="admin"}"#), "{metrics}");
    assert!(world.service.stop().await.success(), "it stops with the others");
}
