//! The pages about the whole service: now, the load, and the backends with the keys.

use nas_cron_testing::browser::{Tab, Window};
use nas_cron_testing::service::ADMIN_TOKEN;
use nas_cron_testing::world::eventually;

use super::fixture::Ops;

/// Attempts in the last day, so that plots have shapes.
pub(super) const FIRES: &str = "
    INSERT INTO fire_minutes
    SELECT date_trunc('minute', now()) - n * interval '1 min', 100 + n % 60, n % 7, n % 3, 0,
           array_fill(0, ARRAY[9]) || ARRAY[40 + n % 30, 50, n % 20, 1]
    FROM generate_series(1, 1440) AS n";

/// Returns the link whose text contains this.
fn link<'a>(html: &'a str, text: &str) -> &'a str {
    let before = &html[..html.find(text).unwrap_or_else(|| panic!("{text}: {html}"))];
    before.rsplit("<a href=\"").next().unwrap().split('"').next().unwrap()
}

#[tokio::test]
async fn front_page_shows_problems_with_fixes_and_numbers_that_lead_to_their_lists() {
    let ops = Ops::new().await;
    ops.armed("job-dead").await;
    // Within the hour that the load shows.
    ops.world.arm("job-due", 1_800_000).await;
    ops.world.sql(FIRES).await;
    ops.world
        .sql(
            "UPDATE one_shots SET state = 'dead', dead_since = now(), next_attempt_at = NULL, last_outcome = 'failed'
             WHERE job_id = 'job-dead'",
        )
        .await;
    let operator = ops.admin().await;
    let page = operator.get("/ops").await;
    assert_eq!(page.status, 200, "{}", page.html);
    assert!(page.html.contains("1 dead letter, 0 stuck: these jobs do not run"), "{}", page.html);
    let fix = "<code>nas-cron jobs list --state dead,stuck</code>";
    assert!(page.html.contains(fix), "the fix can be copied: {}", page.html);
    let fixing = operator.get(link(&page.html, "Dead letters and stuck one-shots")).await;
    assert!(fixing.status == 200 && fixing.html.contains("<h1>Dead letters"), "{}", fixing.html);
    let list = operator.get(link(&page.html, "<span>dead letters</span>")).await;
    assert_eq!(list.status, 200, "{}", list.html);
    assert!(list.html.contains("job-dead") && !list.html.contains("job-due"), "{}", list.html);
    let failed = link(&page.html, "Jobs whose latest attempt failed");
    assert_eq!((failed, page.html.matches(failed).count()), ("/ops/jobs?outcome=failed", 2), "{}", page.html);
    let list = operator.get(failed).await;
    assert!(list.html.contains("job-dead") && !list.html.contains("job-due"), "{}", list.html);
    assert_eq!(page.html.matches("<figure class=\"plot\"").count(), 5);
    assert_eq!(page.html.matches("<svg class=\"plot-svg\"").count(), 5, "all plots have shapes");
    let keys = page.html.split("<h2 id=\"keys\">").nth(1).unwrap().split("</section>").next().unwrap();
    for text in [">active<", "/ops/backends#keys", "generate and publish the next key"] {
        assert!(keys.contains(text), "{text}: {keys}");
    }
    assert_eq!(link(&page.html, "<span>held one-shots</span>"), "/ops/jobs?parked=hold");
    assert_eq!(link(&page.html, "<span>waiting for agents</span>"), "/ops/jobs?parked=unreachable");
    for text in ["Replicas", "running", env!("CARGO_PKG_VERSION"), "postgres, since", "nas-cron status"] {
        assert!(page.html.contains(text), "{text}: {}", page.html);
    }

    let load = operator.get("/ops/load").await;
    let due = operator
        .get(&link(&load.html, "1</a></td>\n<td role=\"cell\" data-label=\"Command\"").replace("&#38;", "&"))
        .await;
    assert!(due.html.contains("job-due") && !due.html.contains("job-dead"), "{}", due.html);
    assert!(load.html.contains("nas-cron jobs list --parked=none --next-attempt-from"), "{}", load.html);

    let backends = operator.get("/ops/backends").await;
    for text in [
        "nas-cron backend switch --dry-run nats",
        "generate and publish the next key",
        "successor published <time class=\"when\"",
        ">active<",
        "running",
    ] {
        assert!(backends.html.contains(text), "{text}: {}", backends.html);
    }
    assert_eq!(operator.get("/ops?nonsense=1").await.status, 400);
}

#[tokio::test]
async fn operator_of_an_org_sees_its_own_problems_and_nothing_of_the_service() {
    let ops = Ops::new().await;
    ops.armed("report").await;
    ops.world.sql(FIRES).await;
    ops.world.sql("UPDATE one_shots SET state = 'dead', dead_since = now(), next_attempt_at = NULL").await;
    for (org, problem) in [("org-1", true), ("org-2", false)] {
        let token = ops.token(&format!("{org}-viewer"), "viewer", Some(org)).await;
        let operator = ops.signed_in(&token).await;
        let page = operator.get("/ops").await;
        assert_eq!(page.html.contains("1 dead letter, 0 stuck"), problem, "{}", page.html);
        assert!(!page.html.contains("<figure") && !page.html.contains(">Replicas<"), "{}", page.html);
        for path in ["/ops/load", "/ops/backends"] {
            let page = operator.get(path).await;
            assert_eq!(page.status, 200);
            assert!(page.html.contains("An admin token without an org sees"), "{}", page.html);
            assert!(!page.html.contains("id=\"live\""), "{}", page.html);
        }
    }
}

#[tokio::test]
async fn front_page_reports_unreachable_agents_and_leads_to_them() {
    let ops = Ops::new().await;
    ops.armed("one").await;
    ops.world
        .sql(
            "UPDATE one_shots SET state = 'waiting', retrying_since = now();
             UPDATE instances SET unreachable_since = now() - interval '10 min', probe_job_id = 'one'",
        )
        .await;
    let operator = ops.admin().await;
    let page = operator.get("/ops").await;
    assert!(page.html.contains("1 agent: of each, one job is tried"), "{}", page.html);
    assert!(page.html.contains("data-copy=\"nas-cron agents list --unreachable\""), "{}", page.html);
    assert!(!page.html.contains("None. Everything"), "{}", page.html);
    let list = operator.get(link(&page.html, "Unreachable agents</a>")).await;
    assert!(list.status == 200 && list.html.contains("inst-1"), "{}", list.html);
}

#[tokio::test]
async fn front_page_shows_a_new_problem_without_being_loaded_again() {
    let ops = Ops::new().await;
    ops.armed("report").await;
    ops.world.sql(FIRES).await;
    let tab = Tab::open(Window::default()).await;
    assert_eq!(tab.goto(&ops.url("/ops")).await, 200);
    tab.fill("#token", ADMIN_TOKEN).await;
    tab.click("main button").await;
    tab.visible("h1:text('Now')").await;
    assert!(tab.text("section:has(#problems)").await.contains("None."));
    ops.world.sql("UPDATE one_shots SET state = 'dead', dead_since = now(), next_attempt_at = NULL").await;
    eventually("the problem is shown", async || {
        tab.text("section:has(#problems)").await.contains("1 dead letter").then_some(())
    })
    .await;
    tab.click(".tiles a:has-text('dead letters')").await;
    tab.visible("table >> text=report").await;
    assert_eq!(tab.problems().await, Vec::<String>::new());
}
