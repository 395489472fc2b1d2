//! Forms that change something: where they must come from, who may send them, and that each takes effect once.

use nas_cron_testing::service::ADMIN_TOKEN;
use nas_cron_testing::world::eventually;
use uuid::Uuid;

use super::fixture::{Ops, job, with};

#[tokio::test]
async fn form_that_is_not_from_a_page_of_the_session_changes_nothing() {
    let ops = Ops::new().await;
    ops.armed("job").await;
    let (operator, other) = (ops.admin().await, ops.admin().await);
    let form = operator.get(&job("job")).await.form("cancel_job");
    let path = "/ops/actions/cancel_job";
    let same = [("sec-fetch-site", "same-origin")];
    let json = [("sec-fetch-site", "same-origin"), ("content-type", "application/json")];
    let foreign = other.get(&job("job")).await.form("cancel_job");
    let foreign = &foreign.iter().find(|(name, _)| name == "form_token").unwrap().1;
    let changed = |name: &str, value: &str| {
        with(&with(&form, "submission_id", &Uuid::new_v4().to_string()), name, value)
    };
    let refusals = [
        (403, operator.post_with(path, &changed("form_token", ""), &same).await),
        (403, operator.post_with(path, &changed("form_token", foreign), &same).await),
        (403, operator.post_with(path, &form, &[("sec-fetch-site", "cross-site")]).await),
        (403, operator.post_with(path, &form, &[("origin", "https://evil.example")]).await),
        (400, operator.post_with(path, &form, &json).await),
        (400, operator.post_with(path, &changed("submission_id", "x"), &same).await),
        (400, operator.post_with(path, &changed("schedule_id", "x"), &same).await),
        (400, operator.post_with(path, &changed("job_id", "a\u{1}"), &same).await),
        (400, operator.post_with(path, &changed("job_id", "a\0"), &same).await),
        (404, operator.post_with("/ops/actions/put_agent", &form, &same).await),
        (404, operator.post_with("/ops/actions/nonsense", &form, &same).await),
        (413, operator.post_with(path, &changed("reason", &"x".repeat(600_000)), &same).await),
    ];
    for (status, page) in refusals {
        assert_eq!(page.status, status, "{}", page.html);
        assert!(
            page.html.contains("<h1>") && page.html.contains("class=\"failure\""),
            "it explains: {}",
            page.html
        );
    }
    assert_eq!(operator.get(path).await.status, 405, "a GET changes nothing");
    assert!(ops.world.listed("job").await.is_some());
    // A form that failed before its action has no line, and a refused one changed nothing.
    let lines = ops.audit("action=cancel_job").await;
    assert!(lines.iter().all(|line| line["outcome"] == "refused"), "{lines:?}");
    assert!(lines.len() <= 3, "{lines:?}");

    let page = operator.done("cancel_job", &with(&form, "submission_id", &Uuid::new_v4().to_string())).await;
    assert!(page.html.contains("The job is cancelled."), "{}", page.html);
    assert!(ops.world.listed("job").await.is_none());
}

#[tokio::test]
async fn form_that_arrives_twice_takes_effect_once() {
    let ops = Ops::new().await;
    ops.armed("job").await;
    let operator = ops.admin().await;
    let form = operator.get(&job("job")).await.form("fire_job");
    let (one, two) = tokio::join!(operator.act("fire_job", &form), operator.act("fire_job", &form));
    assert_eq!((one.status, two.status), (303, 303));
    assert_eq!(one.header("location"), two.header("location"), "both see the result of the first");
    ops.world.ended("job", 1).await;
    let again = operator.done("fire_job", &form).await;
    assert!(again.html.contains("The job fires"), "{}", again.html);
    assert_eq!(ops.audit("action=fire_job").await.len(), 1);
    assert_eq!(ops.world.history("job").await.len(), 1);
}

#[tokio::test]
async fn form_whose_browser_leaves_is_carried_out_and_answered() {
    let ops = Ops::new().await;
    ops.armed("job").await;
    let operator = ops.admin().await;
    let form = operator.get(&job("job")).await.form("cancel_job");
    let mut slow = ops.world.pool.begin().await.unwrap();
    sqlx::query("SELECT FROM one_shots FOR UPDATE").execute(&mut *slow).await.unwrap();
    let sent = operator.act("cancel_job", &form);
    let left = tokio::time::timeout(std::time::Duration::from_millis(1_500), sent).await;
    assert!(left.is_err(), "the cancel waits for the lock");
    slow.rollback().await.unwrap();
    eventually("the form is answered", async || {
        (ops.count("operator_submissions WHERE outcome = 'done' AND answer IS NOT NULL").await == 1)
            .then_some(())
    })
    .await;
    assert!(ops.world.listed("job").await.is_none());
    let lines = ops.audit("action=cancel_job").await;
    assert_eq!((lines.len(), &lines[0]["outcome"]), (1, &"done".into()), "{lines:?}");
    let again = operator.done("cancel_job", &form).await;
    assert!(again.html.contains("The job is cancelled."), "{}", again.html);
}

#[tokio::test]
async fn only_a_refusal_is_said_to_have_changed_nothing() {
    let ops = Ops::new().await;
    ops.armed("job").await;
    let operator = ops.admin().await;
    for (number, outcome) in ["done", "refused", "failed"].into_iter().enumerate() {
        let id = Uuid::from_u128(number as u128);
        ops.world
            .sql(&format!(
                "INSERT INTO operator_submissions (session_hash, submission_id, outcome, answer)
                 SELECT session_hash, '{id}', '{outcome}', 'the answer' FROM operator_sessions"
            ))
            .await;
        let page = operator.get(&format!("{}&sent={id}", job("job"))).await;
        assert!(page.html.contains("the answer"), "{}", page.html);
        assert_eq!(page.html.contains("Nothing was changed."), outcome == "refused", "{}", page.html);
    }
}

#[tokio::test]
async fn form_of_a_page_that_is_out_of_date_changes_nothing_and_shows_the_present_state() {
    let ops = Ops::new().await;
    ops.armed("job").await;
    let operator = ops.admin().await;
    let page = operator.get(&job("job")).await;
    ops.world.arm("job", 7_200_000).await;
    for action in ["fire_job", "cancel_job"] {
        let page = operator.done(action, &page.form(action)).await;
        assert!(
            page.html.contains("Nothing was changed.") && page.html.contains("current one-shot is"),
            "{}",
            page.html
        );
        // The form of the page that is shown now works.
        assert!(page.form(action).iter().any(|(name, _)| name == "schedule_id"));
    }
    assert!(ops.world.listed("job").await.is_some());
    let lines = ops.audit("subject=job_id=job").await;
    assert_eq!(lines.iter().filter(|line| line["outcome"] == "refused").count(), 2, "{lines:?}");
}

#[tokio::test]
async fn viewers_hand_made_form_is_refused_with_a_line_in_the_audit_log() {
    let ops = Ops::new().await;
    ops.armed("job").await;
    let form = ops.admin().await.get(&job("job")).await.form("fire_job");
    let viewer = ops.signed_in(&ops.token("looker", "viewer", None).await).await;
    let page = viewer.get(&job("job")).await;
    let form_token =
        page.html.split("name=\"form_token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let hand_made =
        with(&with(&form, "form_token", form_token), "submission_id", &Uuid::new_v4().to_string());
    let refused = viewer.act("fire_job", &hand_made).await;
    assert_eq!(refused.status, 403, "{}", refused.html);
    assert!(refused.html.contains("needs the role operator"), "{}", refused.html);
    let lines = ops.audit("action=fire_job").await;
    assert_eq!(lines.len(), 1, "{lines:?}");
    assert_eq!((lines[0]["actor"].as_str(), lines[0]["outcome"].as_str()), (Some("looker"), Some("refused")));
    assert!(ops.world.history("job").await.is_empty());
    assert!(ops.world.listed("job").await.is_some());
}

#[tokio::test]
async fn form_about_a_job_or_an_agent_of_another_org_finds_nothing() {
    let ops = Ops::new().await;
    ops.armed("job").await;
    let admin = ops.admin().await;
    let other = ops.signed_in(&ops.token("desk-2", "operator", Some("org-2")).await).await;
    let own = other.get("/ops/jobs").await;
    let token = own.html.split("name=\"form_token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    let (of_job, of_agent) = (admin.get(&job("job")).await, admin.get("/ops/agent?instance_id=inst-1").await);
    for (page, action) in [
        (&of_job, "fire_job"),
        (&of_job, "cancel_job"),
        (&of_job, "hold_job"),
        (&of_agent, "hold_instance"),
        (&of_agent, "disable_agent"),
    ] {
        let form = with(&page.form(action), "form_token", token);
        let refused = other.act(action, &form).await;
        assert_eq!(refused.status, 404, "{action}: {}", refused.html);
        let lines = ops.audit(&format!("action={action}")).await;
        assert_eq!((lines.len(), &lines[0]["outcome"]), (1, &"refused".into()), "{lines:?}");
    }
    assert!(ops.world.listed("job").await.is_some());
    assert_eq!(ops.count("holds").await + ops.count("job_holds").await, 0);
    assert_eq!(ops.count("instances WHERE NOT enabled").await, 0);
    assert!(ops.world.history("job").await.is_empty());
}

#[tokio::test]
async fn every_change_has_a_line_with_its_origin_and_no_secret() {
    let ops = Ops::new().await;
    ops.armed("job").await;
    let operator = ops.admin().await;
    let form = operator.get(&job("job")).await.form("hold_job");
    let page = operator.done("hold_job", &with(&form, "reason", "database maintenance")).await;
    assert!(page.html.contains("The job is on hold"), "{}", page.html);
    assert!(page.html.contains("database maintenance"), "{}", page.html);
    let page = operator.done("release_job", &page.form("release_job")).await;
    assert!(page.html.contains("The hold is over"), "{}", page.html);
    let lines = ops.audit("subject=job_id=job").await;
    let actions: Vec<_> = lines.iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["release_job", "hold_job"]);
    for line in &lines {
        assert_eq!((line["actor"].as_str(), line["outcome"].as_str()), (Some("config"), Some("done")));
        assert_eq!(line["origin"], "127.0.0.1, operators' page");
    }
    let secret = form.iter().find(|(name, _)| name == "form_token").unwrap().1.clone();
    let stored = ops
        .count(&format!("audit_log a WHERE a::text LIKE '%{secret}%' OR a::text LIKE '%{ADMIN_TOKEN}%'"))
        .await;
    assert_eq!(stored, 0);
    assert!(!ops.world.service.log().contains(&secret));
}
