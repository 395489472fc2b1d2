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

/// Returns what is wrong with a page: it is too wide, or axe finds violations. Everything on it is unfolded.
async fn faults(tab: &Tab, what: &str, window: Window) -> Option<String> {
    tab.unfold().await;
    let (wider, violations) = (tab.overflow().await, tab.accessibility().await);
    let Window { theme, width, .. } = window;
    (wider > 0 || !violations.is_empty())
        .then(|| format!("{what} {theme} {width}: {wider} px too wide {violations:?}"))
}

/// Every theme and width.
fn windows() -> impl Iterator<Item = Window> {
    let window = |theme, width| Window { theme, width, ..Window::default() };
    ["light", "dark"].into_iter().flat_map(move |theme| [1280, 360].map(|width| window(theme, width)))
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
    paths.extend([job(&long), webhook]);
    // Results of forms.
    for (number, outcome) in ["done", "refused", "failed"].into_iter().enumerate() {
        let id = format!("00000000-0000-4000-8000-00000000000{number}");
        ops.world
            .sql(&format!(
                "INSERT INTO operator_submissions (session_hash, submission_id, outcome, answer)
                 SELECT session_hash, '{id}', '{outcome}', 'the job `nightly`, due `2027-01-15T09:03:00.000Z` ' || repeat('x', 300) FROM operator_sessions"
            ))
            .await;
        paths.push(format!("{}&sent={id}", job("nightly")));
    }
    paths.extend(
        [
            "/ops/nothing",
            "/ops/jobs?state=dead&error=long&instance_id=inst-1",
            "/ops/batch?operation=hold_job&instance_id=inst-1",
            "/ops/batch?operation=cancel_job&instance_id=inst-1",
            "/ops/batch?operation=fire_job&job_id=unknown",
            "/ops/sign-in?ended=true",
        ]
        .map(str::to_owned),
    );
    let mut found = Vec::new();
    for window in windows() {
        let tab = first.again(window).await;
        for path in &paths {
            tab.goto(&ops.url(path)).await;
            found.extend(faults(&tab, path, window).await);
        }
        tab.goto(&ops.url("/ops/jobs")).await;
        for checkbox in ["nightly", long.as_str()] {
            tab.check(&format!("input[aria-label='Select job {checkbox}']")).await;
        }
        tab.click("button:text-is('Selected …')").await;
        tab.visible("h1:has-text('2 jobs')").await;
        found.extend(faults(&tab, "selected jobs", window).await);
        found.extend(tab.problems().await);
        tab.close().await;

        let outside = Tab::open(window).await;
        outside.goto(&ops.url("/ops/sign-in")).await;
        outside.fill("#token", "nonsense").await;
        outside.click("main button").await;
        outside.visible("[role=alert]").await;
        found.extend(faults(&outside, "refused sign-in", window).await);
        outside.close().await;
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn pages_without_anything_are_accessible_and_fit() {
    let ops = Ops::new().await;
    let first = sign_in(&ops, Window::default(), ADMIN_TOKEN).await;
    ops.world.sql("DELETE FROM instances").await;
    let mut found = Vec::new();
    for window in windows() {
        let tab = first.again(window).await;
        for path in [
            "/ops",
            "/ops/load",
            "/ops/backends",
            "/ops/jobs",
            "/ops/jobs?state=dead",
            "/ops/dead-letters",
            "/ops/agents",
            "/ops/agents?search=none",
            "/ops/holds",
            "/ops/events",
            "/ops/audit?actor=none",
        ] {
            assert_eq!(tab.goto(&ops.url(path)).await, 200, "{path}");
            assert!(tab.count(".empty, .plot-empty").await > 0, "{path}");
            found.extend(faults(&tab, path, window).await);
        }
        found.extend(tab.problems().await);
        tab.close().await;
    }
    assert!(found.is_empty(), "{}", found.join("\n"));
}

#[tokio::test]
async fn short_ids_have_one_line_beside_long_texts() {
    let ops = Ops::new().await;
    ops.armed("price-watch").await;
    ops.armed(&"x".repeat(255)).await;
    ops.world
        .sql("UPDATE one_shots SET last_outcome = 'failed', last_status = 503, last_error = repeat('long words ', 50)")
        .await;
    let tab = sign_in(&ops, Window::default(), ADMIN_TOKEN).await;
    assert_eq!(tab.goto(&ops.url("/ops/jobs")).await, 200);
    for label in ["Job", "Agent", "Org"] {
        let cell = format!("tr:has-text('price-watch') td[data-label={label}] .id");
        assert_eq!(tab.lines(&cell).await, 1, "{label}");
    }
    assert_eq!(tab.overflow().await, 0);
}
