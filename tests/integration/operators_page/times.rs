//! Times on pages: relative to now, in UTC, and in the time zone of the browser.

use chrono::{DateTime, SecondsFormat};
use nas_cron_testing::browser::Window;
use nas_cron_testing::service::ADMIN_TOKEN;

use super::browser::sign_in;
use super::fixture::{Ops, job};
use super::story::quiet;

/// The beginning of a time.
const TIME: &str = "<time class=\"when\" datetime=\"";
/// The beginning of the time since which a state lasts.
const LASTING: &str = "<time class=\"when lasting\" datetime=\"";

#[tokio::test]
async fn reason_for_which_a_job_has_not_fired_has_its_times_in_utc() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    // A year ago it would not have been armed in this database.
    ops.world.sql("UPDATE instances SET created_at = now() - interval '1 year'").await;
    quiet(&ops, "dormant").await;
    let (fire_at, _) = ops.world.arm("armed", 3_600_000).await;
    for name in ["retried", "cancelled"] {
        ops.armed(name).await;
    }
    ops.world.service.cancel(&ops.world.token, "cancelled").await;
    ops.world
        .sql(
            "UPDATE one_shots SET state = 'waiting', attempts = 2, retrying_since = now(), last_outcome = 'failed',
                                  last_error = '<b>busy'
             WHERE job_id = 'retried'",
        )
        .await;
    let require = async |name: &str, words: &str| {
        let page = operator.get(&job(name)).await;
        let why = page.html.split("class=\"why\"").nth(1).expect("the reason").split("</p>").next().unwrap();
        assert!(why.contains(words), "{words}: {why}");
        assert!(why.contains("&nbsp;UTC</span></time>"), "{why}");
    };
    let instant = DateTime::parse_from_rfc3339(&fire_at).unwrap().to_utc();
    let instant = instant.to_rfc3339_opts(SecondsFormat::Millis, true);
    require("armed", &format!("fires {TIME}{instant}\"")).await;
    require("dormant", &format!("which was expected {TIME}")).await;
    require("cancelled", &format!("it was cancelled {TIME}")).await;
    let error = "ended with: <q class=\"theirs\">&lt;b&gt;busy</q>; the next one fires ";
    require("retried", &format!("{error}{TIME}")).await;

    ops.world.sql("INSERT INTO holds (scope, scope_id) VALUES ('org', 'org-1')").await;
    require("armed", &format!("org org-1 has been on hold {LASTING}")).await;
    ops.world.sql("DELETE FROM holds").await;
    ops.world
        .sql("UPDATE instances SET unreachable_since = now() - interval '10 min', probe_job_id = 'retried'")
        .await;
    require("armed", &format!("its callback has been unreachable {LASTING}")).await;
    require("armed", &format!("job retried, the probe, is tried again {TIME}")).await;
    require("retried", &format!("this job is the probe, and is tried again {TIME}")).await;
}

#[tokio::test]
async fn result_of_a_form_has_its_time_in_utc() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    for name in ["armed", "dead"] {
        ops.armed(name).await;
    }
    ops.world
        .sql("UPDATE one_shots SET state = 'dead', dead_since = now(), next_attempt_at = NULL WHERE job_id = 'dead'")
        .await;
    for (name, action, words) in [
        ("armed", "fire_job", "The job fires, due "),
        ("dead", "redrive_job", "The job fires with a fresh retry budget, due "),
    ] {
        let form = operator.get(&job(name)).await.form(action);
        let page = operator.done(action, &form).await;
        let notice = page.html.split("<div class=\"notice done\"").nth(1).expect("a result");
        let notice = notice.split("</div>").next().unwrap();
        assert!(notice.contains(&format!("{words}{TIME}")), "{notice}");
        assert!(notice.contains("&nbsp;UTC</span></time>."), "{notice}");
    }
}

#[tokio::test]
async fn local_times_follow_utc_and_no_line_begins_with_their_separator() {
    let ops = Ops::new().await;
    ops.armed("nightly").await;
    let first = sign_in(&ops, Window::default(), ADMIN_TOKEN).await;
    let (page, list) = (job("nightly"), "/ops/jobs".to_owned());
    for width in [360, 1280] {
        let tab = first.again(Window { width, ..Window::default() }).await;
        // In a list, the local time has a line of its own.
        for (path, is_separated) in [(&page, true), (&list, false)] {
            tab.goto(&ops.url(path)).await;
            let local = tab.text("main time.when .local").await;
            assert!(local.starts_with(|first: char| first.is_ascii_digit()), "{path} {width}: {local}");
            let utc = tab.text("main time.when .utc").await;
            assert_eq!(utc.ends_with("UTC ·"), is_separated, "{path} {width}: {utc}");
            if is_separated {
                assert_eq!(tab.lines("main time.when .utc").await, 1, "{path} {width}");
            }
        }
        assert_eq!(tab.problems().await, Vec::<String>::new());
        tab.close().await;
    }
}
