//! The operators' page in a real browser.

use nas_cron_testing::browser::{Tab, Window};
use nas_cron_testing::service::ADMIN_TOKEN;

use super::fixture::{Ops, every_page, job};

/// Signs in with the form.
pub(super) async fn sign_in(ops: &Ops, window: Window, token: &str) -> Tab {
    let tab = Tab::open(window).await;
    assert_eq!(tab.goto(&ops.url("/ops/jobs")).await, 200);
    tab.fill("#token", token).await;
    tab.click("main button").await;
    tab.visible("h1:text('Jobs')").await;
    tab
}

#[tokio::test]
async fn operator_fires_a_job_and_finds_the_action_in_the_audit_log() {
    let ops = Ops::new().await;
    ops.armed("nightly").await;
    let tab = sign_in(&ops, Window::default(), ADMIN_TOKEN).await;
    tab.click("table >> text=nightly").await;
    assert!(
        tab.text("section.why").await.contains("armed fires in 59 min"),
        "{}",
        tab.text("section.why").await
    );
    assert_eq!(tab.text(".action:has-text('Fire now') code").await, "nas-cron jobs fire inst-1 nightly");
    tab.double_click("button:text-is('Fire now')").await;
    assert!(tab.text(".notice").await.starts_with("The job fires"), "{}", tab.text(".notice").await);
    // The page shows the fire without being loaded again.
    tab.visible("#live .timeline li:has-text('delivered, status 202')").await;
    tab.click("text=Changes of this job in the audit log").await;
    assert_eq!(tab.count("tbody tr").await, 1, "a double click has one effect");
    assert!(tab.text("tbody tr").await.contains("fire_job"));
    assert_eq!(tab.problems().await, Vec::<String>::new());
    assert_eq!(ops.world.history("nightly").await.len(), 1);
}

#[tokio::test]
async fn page_works_without_scripts() {
    let ops = Ops::new().await;
    ops.armed("nightly").await;
    let tab = sign_in(&ops, Window { scripts: false, ..Window::default() }, ADMIN_TOKEN).await;
    tab.click("table >> text=nightly").await;
    tab.click("summary:has-text('Hold')").await;
    tab.fill("input[name=reason]", "maintenance").await;
    tab.click("button:text-is('Hold')").await;
    assert!(tab.text(".notice").await.contains("The job is on hold"));
    assert_eq!(tab.count("button.copy:visible").await, 0, "what needs the script is hidden");
    tab.click("text=Sign out").await;
    assert!(tab.text("main").await.contains("You are signed out."));
}

#[tokio::test]
async fn pages_are_accessible_and_fit_in_both_themes_and_widths() {
    let ops = Ops::new().await;
    ops.armed("nightly").await;
    let long = "x".repeat(255);
    ops.armed(&long).await;
    ops.world
        .sql(
            "UPDATE one_shots SET last_outcome = 'failed', last_status = 503, last_error = repeat('long', 200), state = 'dead',
                                  dead_since = now(), next_attempt_at = NULL
             WHERE job_id <> 'nightly'",
        )
        .await;
    ops.world
        .sql("INSERT INTO holds (scope, scope_id, reason) VALUES ('org', 'org-1', repeat('reason', 50))")
        .await;
    let webhook = serde_json::json!({"url": format!("{}/{}", ops.world.callback(), "p".repeat(200))});
    let (status, webhook) = ops.world.service.admin("POST", "/api/admin/webhooks", Some(&webhook)).await;
    assert_eq!(status, 201, "{webhook}");
    let webhook = format!("/api/admin/webhooks/{}", webhook["webhook_id"].as_str().unwrap());
    assert_eq!(ops.world.service.admin("POST", &format!("{webhook}/test"), None).await.0, 200);
    let first = sign_in(&ops, Window::default(), ADMIN_TOKEN).await;
    ops.world.sql(super::now::FIRES).await;
    let mut paths = every_page("inst-1", "nightly");
    let page = |path: &str| path.split('?').next().map(str::to_owned);
    paths.dedup_by(|one, before| page(one) == page(before));
    let webhook = webhook.replace("/api/admin/webhooks/", "/ops/webhook?webhook_id=");
    paths.extend([job(&long), webhook, "/ops/nothing".to_owned()]);
    let mut found = Vec::new();
    for theme in ["light", "dark"] {
        for width in [1280, 360] {
            let tab = first.again(Window { width, theme, ..Window::default() }).await;
            for path in &paths {
                tab.goto(&ops.url(path)).await;
                let wider = tab.overflow().await;
                let violations = tab.accessibility().await;
                if wider > 0 || !violations.is_empty() {
                    found.push(format!("{path} {theme} {width}: {wider} px too wide {violations:?}"));
                }
            }
            found.extend(tab.problems().await);
            tab.close().await;
        }
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}
