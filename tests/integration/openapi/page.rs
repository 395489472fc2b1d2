//! `/docs`: the document as a page.

use nas_cron_testing::service::client;
use nas_cron_testing::world::World;
use reqwest::Response;

async fn get(base: &str, path: &str) -> Response {
    client().get(format!("{base}{path}")).send().await.unwrap()
}

fn header<'a>(response: &'a Response, name: &str) -> &'a str {
    response.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

#[tokio::test]
async fn page_loads_only_its_own_viewer_and_document() {
    let world = World::new().await;
    let page = get(&world.service.url, "/docs").await;
    assert_eq!((page.status().as_u16(), header(&page, "content-type")), (200, "text/html; charset=utf-8"));
    let policy = header(&page, "content-security-policy").to_owned();
    for directive in
        ["default-src 'none'", "script-src 'self'", "connect-src 'self'", "frame-ancestors 'none'"]
    {
        assert!(policy.split("; ").any(|one| one == directive), "{policy}");
    }
    assert!(!policy.contains("://") && !policy.contains("unsafe-eval"), "{policy}");
    assert_eq!(header(&page, "x-content-type-options"), "nosniff");

    // Every file that the page names is served, relative to it.
    let text = page.text().await.unwrap();
    let named = |attribute: &str| {
        let (_, rest) = text.split_once(&format!("{attribute}=\"")).expect("an attribute");
        format!("/{}", rest.split('"').next().unwrap())
    };
    let viewer = get(&world.service.url, &named(" src")).await;
    assert_eq!(
        (
            viewer.status().as_u16(),
            header(&viewer, "content-type"),
            header(&viewer, "x-content-type-options")
        ),
        (200, "text/javascript; charset=utf-8", "nosniff")
    );
    assert!(header(&viewer, "cache-control").contains("immutable"));
    assert_eq!(get(&world.service.url, &named("spec-url")).await.status(), 200);
}

#[tokio::test]
async fn page_is_only_on_the_listener_of_the_admin_api() {
    let world = World::with(|settings| settings.with("NAS_CRON_ADMIN_LISTEN", "127.0.0.3:0")).await;
    assert_eq!(get(&world.service.admin_url, "/docs").await.status(), 200);
    assert_eq!(get(&world.service.url, "/docs").await.status(), 404);
}
