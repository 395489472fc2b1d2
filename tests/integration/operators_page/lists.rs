//! Agents, holds, webhooks and events.

use nas_cron_testing::time::fire_at;
use serde_json::Value;
use uuid::Uuid;

use super::fixture::{Ops, job, with};

#[tokio::test]
async fn agents_are_found_by_the_beginning_of_their_id_or_callback() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    ops.world
        .sql(
            "INSERT INTO instances (instance_id, org_id, callback_url) VALUES
                 ('alpha-1', 'org-1', 'https://alpha.agents.example'), ('alpha-2', 'org-2', 'http://[::1]:99'),
                 ('b%_', 'org-2', 'https://b.agents.example/x')",
        )
        .await;
    for (query, found) in [
        ("search=alpha", vec!["alpha-1", "alpha-2"]),
        ("search=alpha-2", vec!["alpha-2"]),
        ("search=alpha.agents", vec!["alpha-1"]),
        ("search=https%3A%2F%2Fb.", vec!["b%_"]),
        ("search=b%25", vec!["b%_"]),
        ("search=%25", vec![]),
        ("org_id=org-2", vec!["alpha-2", "b%_"]),
        ("search=alpha&org_id=org-1", vec!["alpha-1"]),
    ] {
        let page = operator.get(&format!("/ops/agents?{query}")).await;
        assert_eq!(page.status, 200, "{query}: {}", page.html);
        let cells = page.html.split("data-label=\"Agent\">").skip(1);
        let names: Vec<_> =
            cells.map(|cell| cell.split("</code>").next().unwrap().rsplit('>').next().unwrap()).collect();
        assert_eq!(names, found, "{query}");
    }
    let other = ops.signed_in(&ops.token("desk", "viewer", Some("org-2")).await).await;
    let page = other.get("/ops/agents?search=alpha").await;
    assert!(page.html.contains("alpha-2") && !page.html.contains("alpha-1"), "{}", page.html);
    assert_eq!(operator.get("/ops/agents?search=%01").await.status, 400);
    assert_eq!(operator.get("/ops/agents?after=%01").await.status, 400);
}

#[tokio::test]
async fn changes_of_a_job_are_those_of_its_own_agent() {
    let ops = Ops::new().await;
    ops.armed("same").await;
    let other = ops.world.instance("inst-2").await;
    ops.world
        .service
        .provision(&other, "same", &fire_at(3_600_000), &ops.world.agents.callback("inst-2"))
        .await;
    let operator = ops.admin().await;
    let of = |agent: &str| format!("/ops/job?instance_id={agent}&job_id=same");
    let page = operator.get(&of("inst-1")).await;
    operator.done("hold_job", &page.form("hold_job")).await;
    for (agent, lines) in [("inst-1", 1), ("inst-2", 0)] {
        let page = operator.get(&of(agent)).await;
        let link = page.html.split("href=\"/ops/audit?").nth(1).expect("a link to the audit log");
        let link = link.split('"').next().unwrap().replace("&#38;", "&");
        let audit = operator.get(&format!("/ops/audit?{link}")).await;
        assert_eq!(audit.html.matches("data-label=\"Action\"").count(), lines, "{agent}: {}", audit.html);
        assert_eq!(page.html.contains("hold_job by "), lines == 1, "{agent}: {}", page.html);
    }
}

#[tokio::test]
async fn page_of_an_agent_shows_its_contact_and_has_its_switches() {
    let ops = Ops::new().await;
    ops.armed("one").await;
    ops.world.sql("UPDATE instances SET skew_guard_ms = 4000, skew_learned_at = now(), busy_until = now() + interval '1 min', unreachable_since = now() - interval '10 min', probe_job_id = 'one'").await;
    let operator = ops.admin().await;
    let path = "/ops/agent?instance_id=inst-1";
    let page = operator.get(path).await;
    for text in [
        "unreachable <time class=\"when lasting\"",
        "4 s after their instant",
        "Busy until (Retry-After)",
        "Last armed a job",
    ] {
        assert!(page.html.contains(text), "{text}: {}", page.html);
    }
    let list = operator.get("/ops/agents?unreachable=true").await;
    for text in [
        "unreachable <time class=\"when lasting\"",
        "asked to wait, tried again <time",
        "clock is slow: fires 4 s later",
        "last contact ",
        "of 10,000",
    ] {
        assert!(list.html.contains(text), "{text}: {}", list.html);
    }
    ops.world.sql("UPDATE instances SET unreachable_since = NULL, probe_job_id = NULL").await;
    let page = operator.done("disable_agent", &page.form("disable_agent")).await;
    assert!(page.html.contains("The agent is disabled"), "{}", page.html);
    let page = operator.done("enable_agent", &page.form("enable_agent")).await;
    assert!(page.html.contains("The agent is enabled"), "{}", page.html);
    let page = operator.done("hold_instance", &page.form("hold_instance")).await;
    assert!(page.html.contains("No attempt starts any more for 1 one-shot of 1 agent."), "{}", page.html);
    assert_eq!(operator.get("/ops/agent?instance_id=unknown").await.status, 404);
    let actions: Vec<_> = ops
        .audit("subject=instance_id=inst-1")
        .await
        .iter()
        .map(|line| line["action"].as_str().unwrap().to_owned())
        .collect();
    assert_eq!(actions, ["hold_instance", "enable_agent", "disable_agent"]);
}

#[tokio::test]
async fn holds_of_the_service_and_of_an_org_begin_and_end_on_their_page() {
    let ops = Ops::new().await;
    ops.armed("one").await;
    let operator = ops.admin().await;
    let page = operator.get("/ops/holds").await;
    assert!(page.html.contains("Nothing is on hold"), "{}", page.html);
    let form = with(&page.form("hold_org"), "org_id", "org-1");
    let page = operator.done("hold_org", &with(&form, "reason", "a<b")).await;
    assert!(
        page.html.contains("a&lt;b") && page.html.contains("nas-cron release --org org-1"),
        "{}",
        page.html
    );
    let page = operator.done("hold_service", &page.form("hold_service")).await;
    let page = operator.done("release_service", &page.form("release_service")).await;
    let page = operator.done("release_org", &page.form("release_org")).await;
    assert!(
        page.html.contains("The hold is over") && page.html.contains("Nothing is on hold"),
        "{}",
        page.html
    );

    // An operator of an org holds this org only.
    let desk = ops.signed_in(&ops.token("desk", "operator", Some("org-1")).await).await;
    let page = desk.get("/ops/holds").await;
    assert!(page.forms("hold_service").is_empty(), "{}", page.html);
    let foreign = desk.act("hold_org", &with(&page.form("hold_org"), "org_id", "org-2")).await;
    assert_eq!(foreign.status, 404, "{}", foreign.html);
    let unknown = with(&operator.get("/ops/holds").await.form("hold_org"), "org_id", "nobody");
    assert_eq!(operator.act("hold_org", &unknown).await.status, 404);
    assert_eq!(ops.count("holds").await, 0);
}

#[tokio::test]
async fn webhooks_and_events_are_shown_without_secrets() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    assert!(operator.get("/ops/events").await.html.contains("No webhook exists"));
    let body = serde_json::json!({"url": format!("{}/hook?token=s3cret", ops.world.callback()), "description": "<i>desk</i>"});
    let (status, created) = ops.world.service.admin("POST", "/api/admin/webhooks", Some(&body)).await;
    assert_eq!(status, 201, "{created}");
    let page = operator.get("/ops/events").await;
    assert!(
        page.html.contains("/hook") && !page.html.contains("s3cret") && !page.html.contains("<i>"),
        "{}",
        page.html
    );
    assert!(!page.html.contains(created["secret"].as_str().unwrap()));
    ops.world
        .sql(
            r#"INSERT INTO events (event_id, type, occurred_at, last_at, count, data)
               VALUES (gen_random_uuid(), 'dead_letter.created', now(), now(), 7,
                       '{"items": [{"instance_id": "inst-1", "job_id": "<b>j", "attempts": 3, "reason": "expired"},
                                   {"replica": "host-1"}]}')"#,
        )
        .await;
    let page = operator.get("/ops/events").await;
    for words in
        ["job_id=%3Cb%3Ej", "&lt;b&gt;j", "attempts 3, reason expired", "replica host-1", "and 5 more"]
    {
        assert!(page.html.contains(words), "{words}: {}", page.html);
    }
    for (query, status) in [("type=webhook.tested", 200), ("type=nonsense", 400), ("before=x", 400)] {
        assert_eq!(operator.get(&format!("/ops/events?{query}")).await.status, status, "{query}");
    }
    let path = format!("/ops/webhook?webhook_id={}", created["webhook_id"].as_str().unwrap());
    let form = operator.get(&path).await.form("test_webhook");
    let unknown = with(&form, "webhook_id", &Uuid::new_v4().to_string());
    assert_eq!(operator.act("test_webhook", &unknown).await.status, 404);
}

#[tokio::test]
async fn one_shots_that_ended_before_an_attempt_are_part_of_the_story() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    let shown = async || {
        let path = "/api/admin/jobs/inst-1/job";
        let (status, body) = ops.world.service.admin("GET", path, None).await;
        assert_eq!(status, 200, "{body}");
        body
    };
    ops.world.arm("job", -1_000).await;
    ops.world.ended("job", 1).await;
    ops.armed("job").await;
    assert_eq!(shown().await["job"].get("superseded_fire_at"), None, "the delivered one was attempted");
    let untried = shown().await["job"]["fire_at_instant"].clone();
    let (at, _) = ops.world.arm("job", 7_200_000).await;
    let job_now = shown().await["job"].clone();
    assert_eq!((&job_now["superseded_fire_at"], &job_now["superseded_untried"]), (&untried, &1.into()));
    let page = operator.get(&job("job")).await;
    assert!(page.html.contains(", which had not been attempted"), "{}", page.html);
    // The same key again arms nothing, and supersedes nothing.
    ops.world.again("job", &at).await;
    assert_eq!(shown().await["job"]["superseded_untried"], 1);
    ops.world.arm("job", 10_800_000).await;
    let page = operator.get(&job("job")).await;
    assert!(page.html.contains(", the last of 2 in a row that had not been attempted"), "{}", page.html);
    let cancelled = shown().await["job"].clone();

    // Cancelled and armed again: the cancel and what it cancelled stay in the story.
    ops.world.service.cancel(&ops.world.token, "job").await;
    let gone = shown().await;
    assert_eq!(gone["latest_cancel"]["fire_at"], cancelled["fire_at_instant"], "{gone}");
    assert_eq!(gone["latest_cancel"]["armed_at"], cancelled["created_at"], "{gone}");
    assert_eq!(gone["latest_cancel"]["at"], gone["cancelled_at"], "{gone}");
    let armed = "Armed by its agent for";
    let page = operator.get(&job("job")).await;
    assert!(
        page.html.contains("Cancelled by its agent") && page.html.contains("the one-shot for"),
        "{}",
        page.html
    );
    assert_eq!(page.html.matches(armed).count(), 2, "the delivered one and the cancelled one: {}", page.html);
    ops.armed("job").await;
    let again = shown().await;
    assert_eq!(
        (&again["cancelled_at"], again["job"].get("superseded_fire_at")),
        (&Value::Null, None),
        "{again}"
    );
    let page = operator.get(&job("job")).await;
    assert!(page.html.contains("Cancelled by its agent"), "{}", page.html);
    assert_eq!(page.html.matches(armed).count(), 3, "{}", page.html);
    let other = ops.signed_in(&ops.token("desk", "viewer", Some("org-2")).await).await;
    assert_eq!(other.get(&job("job")).await.status, 404);
}

#[tokio::test]
async fn job_tells_its_story() {
    let ops = Ops::new().await;
    ops.world.arm("job", -1_000).await;
    ops.world.ended("job", 1).await;
    let operator = ops.admin().await;
    let page = operator.get(&job("job")).await;
    for text in ["Armed by its agent for", "Attempt 1: delivered, status 202", "after its instant, took"] {
        assert!(page.html.contains(text), "{text}: {}", page.html);
    }
    ops.armed("job").await;
    let page = operator.get(&job("job")).await;
    let page = operator.done("cancel_job", &page.form("cancel_job")).await;
    assert!(page.html.contains("Cancelled by <code class=\"id\">config</code>"), "{}", page.html);
    ops.armed("job").await;
    ops.world.service.cancel(&ops.world.token, "job").await;
    // Later than the operator's cancel.
    ops.world.sql("UPDATE cancelled_jobs SET cancelled_at = now() + interval '1 h'").await;
    assert!(operator.get(&job("job")).await.html.contains("Cancelled by its agent"));

    // Fires of the past days show the pattern.
    ops.world
        .sql(
            "INSERT INTO fires (attempt_id, instance_id, job_id, schedule_id, dedup_key, fire_at, attempt, started_at, ended_at, outcome, armed_at)
             SELECT gen_random_uuid(), 'inst-1', 'daily', gen_random_uuid(), n::text, date_trunc('day', now()) - n * interval '1 day', 1,
                    date_trunc('day', now()) - n * interval '1 day', date_trunc('day', now()) - n * interval '1 day' + interval '1 s',
                    'delivered', date_trunc('day', now()) - (n + 1) * interval '1 day'
             FROM generate_series(0, 9) n",
        )
        .await;
    ops.world
        .sql("UPDATE fires SET outcome = 'dropped', error = '<b>busy', answer = 'gateway <i>off', retry_after_s = 90 WHERE job_id = 'daily' AND dedup_key = '3'")
        .await;
    let page = operator.get(&job("daily")).await;
    for words in
        ["<q class=\"theirs\">&lt;b&gt;busy</q>", "answered <q class=\"theirs\">gateway &lt;i&gt;off</q>"]
    {
        assert!(page.html.contains(words), "the attempt has the agent's words: {words}: {}", page.html);
    }
    assert!(page.html.contains("asked to wait 1 min 30 s (Retry-After)"), "{}", page.html);
    assert!(page.html.contains("It fires daily at 00:00 UTC; the next fire is expected"), "{}", page.html);
}

#[tokio::test]
async fn empty_lists_name_the_reason() {
    let ops = Ops::new().await;
    let operator = ops.admin().await;
    let hook = serde_json::json!({ "url": format!("{}/hook", ops.world.callback()) });
    let (_, hook) = ops.world.service.admin("POST", "/api/admin/webhooks", Some(&hook)).await;
    let webhook = format!("/ops/webhook?webhook_id={}&before=1", hook["webhook_id"].as_str().unwrap());
    for (path, words) in [
        (
            "/ops/events?type=dead_letter.created",
            "No event of this type has happened since a webhook exists.",
        ),
        ("/ops/events?before=1", "No earlier event is kept."),
        ("/ops/events?before=1&type=dead_letter.created", "No earlier event of this type is kept."),
        ("/ops/audit?before=1", "No earlier line is kept."),
        ("/ops/audit?before=1&actor=none", "No earlier line matches."),
        ("/ops/audit?actor=none", "No line matches"),
        (&webhook, "No earlier delivery is kept."),
    ] {
        let page = operator.get(path).await;
        assert!(page.status == 200 && page.html.contains(words), "{path}: {}", page.html);
    }
}

#[tokio::test]
async fn numbers_of_a_hold_lead_to_what_they_count() {
    let ops = Ops::new().await;
    ops.armed("one").await;
    let operator = ops.admin().await;
    let agent = operator.get("/ops/agent?instance_id=inst-1").await;
    assert!(agent.forms("release_instance").is_empty(), "it is not on hold: {}", agent.html);
    ops.world
        .sql(
            "INSERT INTO holds (scope, scope_id) VALUES ('all', ''), ('org', 'org-1'), ('instance', 'inst-1');
             INSERT INTO job_holds (instance_id, job_id) VALUES ('inst-1', 'one')",
        )
        .await;
    let page = operator.get("/ops/holds").await;
    let cells: Vec<_> = page.html.split("data-label=\"Covers\"").skip(1).collect();
    assert_eq!(cells.len(), 4, "{}", page.html);
    for cell in cells {
        let cell = cell.split("</td>").next().unwrap();
        let links: Vec<_> =
            cell.split("href=\"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
        assert_eq!(links.len(), 3, "{cell}");
        for (link, is_listed) in links.into_iter().zip([true, true, false]) {
            let list = operator.get(&super::fixture::unescaped(link)).await;
            let has_it = list.html.contains("<code class=\"id\">one</code>")
                || list.html.contains("<code class=\"id\">inst-1</code>");
            let is_agent = list.html.contains("<code class=\"id whole\">inst-1</code>");
            assert!(list.status == 200 && (has_it || is_agent) == is_listed, "{link}: {}", list.html);
        }
    }
    let agent = operator.get("/ops/agent?instance_id=inst-1").await;
    assert_eq!(agent.forms("release_instance").len(), 1, "{}", agent.html);
    let viewer = ops.signed_in(&ops.token("looker", "viewer", None).await).await;
    let page = viewer.get("/ops/holds").await;
    assert!(page.html.contains("Covers") && !page.html.contains(">Action</th>"), "{}", page.html);
}
