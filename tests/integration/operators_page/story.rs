//! The story of an operator in a real browser, and what goes wrong in between.

use nas_cron_testing::browser::{Tab, Window};
use nas_cron_testing::database::database;
use nas_cron_testing::proxy::Proxy;
use nas_cron_testing::service::{ADMIN_TOKEN, Settings};
use nas_cron_testing::world::World;

use super::browser::sign_in;
use super::fixture::{Ops, job};
use super::now::FIRES;
use crate::database_faults::fixture::{address_of, at};

/// Stores a daily job of `inst-1` that was delivered yesterday, and that its agent has not armed again.
pub(super) async fn quiet(ops: &Ops, name: &str) {
    let callback = ops.world.callback();
    ops.world
        .sql(&format!(
            "INSERT INTO fires (attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at, ended_at, outcome,
                                http_status, armed_at)
             SELECT gen_random_uuid(), 'inst-1', '{name}', gen_random_uuid(), n::text, d.at, 1, d.at + interval '3 ms',
                    d.at + interval '250 ms', 'delivered', 202, d.at - interval '1 day'
             FROM generate_series(1, 9) n, LATERAL (SELECT now() - interval '1 hour' - n * interval '1 day' AS at) d;
             INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state, last_outcome,
                                    last_status, created_at, updated_at, last_started_at)
             SELECT instance_id, job_id, schedule_id, dedup_key, fire_at::text, fire_at, '{callback}', 'delivered', 'delivered', 202,
                    armed_at, ended_at, started_at
             FROM fires WHERE job_id = '{name}' ORDER BY started_at DESC LIMIT 1;
             INSERT INTO awaited_rearms (instance_id, job_id, schedule_id, delivered_at, recurrence, expected_at, check_at, closes_after,
                                         dormant_since)
             SELECT instance_id, job_id, schedule_id, updated_at, 'daily', fire_at + interval '1 day', fire_at + interval '1 day',
                    '30 days', now() - interval '50 min'
             FROM one_shots WHERE job_id = '{name}'"
        ))
        .await;
}

#[tokio::test]
async fn operator_finds_the_job_of_a_quiet_agent_reads_why_fixes_it_and_sees_it_fire() {
    let ops = Ops::new().await;
    // A year ago it would not have been armed in this database.
    ops.world.sql("UPDATE instances SET created_at = now() - interval '1 year'").await;
    quiet(&ops, "nightly-report").await;
    ops.armed("other").await;
    let tab = sign_in(&ops, Window::default(), ADMIN_TOKEN).await;
    tab.goto(&ops.url("/ops")).await;
    tab.click("a:has-text('Dormant') >> nth=0").await;
    tab.click("table >> text=nightly-report").await;
    let why = tab.text("section.why").await;
    assert!(why.contains("dormant") && why.contains("its agent has not armed the next one"), "{why}");
    assert!(why.contains("nas-cron jobs nudge inst-1 nightly-report"), "{why}");
    assert!(tab.text("section:has(#story)").await.contains("It fires daily at "));
    tab.click("summary:has-text('Fire once more')").await;
    assert!(tab.text(".action:has-text('Fire once more') details").await.contains("may run the job again"));
    tab.click("button:text-is('Fire once more')").await;
    assert!(
        tab.text(".notice").await.starts_with("The job fires once more"),
        "{}",
        tab.text(".notice").await
    );
    ops.world.agents.wait_for("nightly-report", 1).await;
    // The agent works again, and arms the next fire. The page shows both without being loaded again.
    ops.world.arm("nightly-report", 86_400_000).await;
    tab.visible(".timeline li:has-text('Attempt 1: delivered, status 202') >> nth=0").await;
    tab.visible("section.why .badge:text-is('armed')").await;
    tab.click("text=Changes of this job in the audit log").await;
    let line = tab.text("tbody tr").await;
    assert!(line.contains("nudge_job") && line.contains("config") && line.contains("done"), "{line}");
    assert_eq!(tab.problems().await, Vec::<String>::new());
}

#[tokio::test]
async fn session_that_ends_before_a_click_leads_to_the_sign_in_and_changes_nothing() {
    let ops = Ops::new().await;
    ops.armed("job").await;
    let tab = sign_in(&ops, Window::default(), ADMIN_TOKEN).await;
    tab.goto(&ops.url(&job("job"))).await;
    ops.world.sql("UPDATE operator_sessions SET expires_at = now() - interval '1 s'").await;
    tab.click("button:text-is('Fire now')").await;
    let said = tab.text("main").await;
    assert!(said.contains("Your session has ended, so nothing was changed."), "{said}");
    assert!(ops.world.history("job").await.is_empty());
    tab.fill("#token", ADMIN_TOKEN).await;
    tab.press("Enter").await;
    tab.visible("h1:has-text('Job job')").await;
}

#[tokio::test]
async fn page_reports_an_unavailable_database_and_works_when_it_is_back() {
    let (_db, url) = database().await;
    let proxy = Proxy::start(address_of(&url)).await;
    let through = at(&url, proxy.address());
    let change = |settings: Settings| {
        settings.with("NAS_CRON_ADMIN_LISTEN", "127.0.0.1:0").with("NAS_CRON_DATABASE_URL", through)
    };
    let ops = Ops { world: World::on(url.clone(), change).await };
    ops.armed("job").await;
    let tab = sign_in(&ops, Window::default(), ADMIN_TOKEN).await;
    tab.goto(&ops.url(&job("job"))).await;
    proxy.cut().await;
    tab.visible("#stale:has-text('Not refreshed since')").await;
    tab.click("button:text-is('Fire now')").await;
    assert!(tab.text("main").await.contains("temporarily unavailable"), "{}", tab.text("main").await);
    assert_eq!(tab.goto(&ops.url("/ops/jobs")).await, 503);
    proxy.restore().await;
    nas_cron_testing::world::eventually("the page is back", async || {
        tab.click("text=Try again").await;
        (tab.count("h1:text-is('Jobs')").await == 1).then_some(())
    })
    .await;
    assert!(tab.text("table").await.contains("job"));
    assert!(ops.world.history("job").await.is_empty(), "nothing was changed");
}

#[tokio::test]
async fn page_does_not_refresh_itself_while_a_part_of_it_is_in_use() {
    let ops = Ops::new().await;
    ops.armed("job").await;
    let tab = sign_in(&ops, Window::default(), ADMIN_TOKEN).await;
    tab.goto(&ops.url(&job("job"))).await;
    assert!(
        tab.text("time.when .local >> nth=0").await.contains("CET"),
        "local times can be read without a mouse"
    );
    tab.click("summary:has-text('Cancel')").await;
    ops.world.sql("UPDATE one_shots SET state = 'dead', dead_since = now(), next_attempt_at = NULL").await;
    tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    assert_eq!(tab.text("section.why .badge").await, "armed");
    assert_eq!(tab.count("details[open]").await, 1);
    tab.click("summary:has-text('Cancel')").await;
    tab.click("h1").await;
    tab.visible("section.why .badge:text-is('dead')").await;
    assert_eq!(tab.count("#stale").await, 0);
}

#[tokio::test]
async fn page_does_not_refresh_itself_while_its_window_is_left() {
    let ops = Ops::new().await;
    ops.armed("job").await;
    let tab = sign_in(&ops, Window::default(), ADMIN_TOKEN).await;
    tab.goto(&ops.url(&job("job"))).await;
    tab.focus(false).await;
    ops.world.sql("UPDATE one_shots SET state = 'dead', dead_since = now(), next_attempt_at = NULL").await;
    tokio::time::sleep(std::time::Duration::from_secs(7)).await;
    assert_eq!(tab.text("section.why .badge").await, "armed");
    tab.focus(true).await;
    tab.visible("section.why .badge:text-is('dead')").await;
}

#[tokio::test]
async fn form_that_a_viewer_makes_in_the_browser_is_refused_and_changes_nothing() {
    let ops = Ops::new().await;
    ops.armed("job").await;
    let viewer = ops.token("looker", "viewer", None).await;
    let tab = sign_in(&ops, Window::default(), &viewer).await;
    tab.goto(&ops.url(&job("job"))).await;
    assert_eq!(tab.count("main form[method=post]").await, 0);
    // The form that signs out has the session's token.
    let form_token = tab.attribute("input[name=form_token]", "value").await;
    let submission = uuid::Uuid::new_v4().to_string();
    let fields = [
        ("form_token", form_token.as_str()),
        ("submission_id", &submission),
        ("instance_id", "inst-1"),
        ("job_id", "job"),
        ("back", "/ops"),
    ];
    tab.send(&ops.url("/ops/actions/fire_job"), &fields).await;
    let said = tab.text("main").await;
    assert!(said.contains("needs the role operator"), "{said}");
    let lines = ops.audit("action=fire_job").await;
    assert_eq!((lines.len(), &lines[0]["outcome"]), (1, &"refused".into()), "{lines:?}");
    assert!(ops.world.history("job").await.is_empty());
}

#[tokio::test]
async fn page_is_operated_by_keyboard() {
    let ops = Ops::new().await;
    ops.armed("job").await;
    let tab = sign_in(&ops, Window::default(), ADMIN_TOKEN).await;
    tab.goto(&ops.url("/ops/jobs")).await;
    tab.press("Tab").await;
    assert_eq!(tab.focused().await, "Skip to the content");
    tab.press("Enter").await;
    let mut seen = Vec::new();
    for _ in 0..30 {
        tab.press("Tab").await;
        seen.push(tab.focused().await);
        if seen.last().is_some_and(|label| label == "job") {
            break;
        }
    }
    assert!(seen.contains(&"All".to_owned()) && seen.contains(&"add".to_owned()), "{seen:?}");
    // The box of the job comes before its link.
    tab.press("Tab").await;
    tab.press("Enter").await;
    tab.visible("h1:has-text('Job job')").await;
}

/// Writes the pictures of docs/operators-page.md if `NAS_CRON_PICTURES` names their folder: `make pictures`.
#[tokio::test]
async fn pages_for_the_documentation_are_complete() {
    let folder = std::env::var_os("NAS_CRON_PICTURES").map(std::path::PathBuf::from);
    let ops = Ops::new().await;
    ops.world.sql("UPDATE instances SET created_at = now() - interval '1 year'").await;
    quiet(&ops, "nightly-report").await;
    scene(&ops).await;
    ops.world.sql(FIRES).await;
    let first = sign_in(&ops, Window::default(), ADMIN_TOKEN).await;
    let wide = |theme| Window { theme, ..Window::default() };
    let narrow = Window { width: 360, height: 740, theme: "dark", scripts: true };
    for (name, window, path, text) in [
        ("now", wide("light"), "/ops".to_owned(), "Needs attention"),
        ("jobs", wide("light"), "/ops/jobs".to_owned(), "invoice-sync"),
        ("job", wide("light"), job("nightly-report"), "has not armed the next one"),
        ("dead-letters", wide("dark"), "/ops/dead-letters".to_owned(), "connection refused"),
        ("agent", wide("light"), "/ops/agent?instance_id=atlas-2".to_owned(), "unreachable"),
        ("job-on-a-phone", narrow, job("nightly-report"), "has not armed the next one"),
    ] {
        let tab: Tab = first.again(window).await;
        assert_eq!(tab.goto(&ops.url(&path)).await, 200, "{path}");
        assert!(tab.text("main").await.contains(text), "{path}: {}", tab.text("main").await);
        if let Some(folder) = &folder {
            // The plots of the front page are below its problems, and the story of a job below its facts.
            let whole = matches!(name, "now" | "job");
            tab.screenshot(&folder.join(format!("operators-page-{name}.png")), whole).await;
        }
        assert_eq!(tab.problems().await, Vec::<String>::new());
        tab.close().await;
    }
}

/// Stores agents and jobs of a day in a deployment.
async fn scene(ops: &Ops) {
    ops.world
        .sql(
            "INSERT INTO instances (instance_id, org_id, callback_url) VALUES
                 ('atlas-1', 'acme', 'https://atlas-1.agents.example'), ('atlas-2', 'acme', 'https://atlas-2.agents.example'),
                 ('boreas-7', 'globex', 'https://boreas-7.agents.example');
             INSERT INTO one_shots (instance_id, job_id, schedule_id, dedup_key, fire_at_text, fire_at, callback_url, state, next_attempt_at,
                                    parked, dead_since, attempts, last_outcome, last_status, last_error, retrying_since, created_at)
             SELECT i.instance_id, j.job, gen_random_uuid(), j.job, at::text, at, i.callback_url, j.state::one_shot_state,
                    CASE WHEN j.state IN ('armed', 'waiting') THEN now() + j.next END, j.parked::park_reason,
                    CASE WHEN j.state = 'dead' THEN now() - interval '20 min' END, j.attempts, j.outcome::fire_outcome, j.status, j.error,
                    CASE WHEN j.state = 'waiting' THEN now() - interval '20 min' END, now() - interval '1 day'
             FROM (VALUES
                 ('atlas-1', 'invoice-sync', 'armed', interval '12 min', NULL, 0, NULL, NULL::int2, NULL),
                 ('atlas-1', 'weekly-digest', 'armed', interval '3 days', NULL, 0, NULL, NULL, NULL),
                 ('atlas-1', 'crm-import', 'waiting', interval '4 min', NULL, 3, 'failed', 503, 'the agent answered 503: worker pool exhausted'),
                 ('atlas-2', 'backup', 'waiting', interval '2 min', NULL, 5, 'failed', NULL, 'connection refused'),
                 ('atlas-2', 'cleanup', 'armed', interval '-3 min', 'unreachable', 0, NULL, NULL, NULL),
                 ('atlas-2', 'mailbox', 'dead', NULL, NULL, 8, 'failed', NULL, 'connection refused'),
                 ('boreas-7', 'price-watch', 'armed', interval '40 s', NULL, 0, 'delivered', 202, NULL),
                 ('boreas-7', 'stock-report', 'dead', NULL, NULL, 8, 'failed', 500, 'the agent answered 500: <html>Internal error</html>')
             ) j (agent, job, state, next, parked, attempts, outcome, status, error)
             JOIN instances i ON i.instance_id = j.agent
             CROSS JOIN LATERAL (SELECT now() + COALESCE(j.next, interval '-1 h') AS at) t;
             UPDATE instances SET unreachable_since = now() - interval '20 min', probe_job_id = 'backup', skew_guard_ms = 2000,
                                  skew_learned_at = now() - interval '3 h'
             WHERE instance_id = 'atlas-2'",
        )
        .await;
}
