//! Actions on the whole service: signing keys, the scheduler backend, and webhooks.

use nas_cron_testing::nats::NatsServers;
use nas_cron_testing::service::Settings;
use nas_cron_testing::world::eventually;
use serde_json::{Value, json};
use uuid::Uuid;

use super::fixture::{Operator, Ops, Page, with};
use crate::webhooks::receiver::Receiver;

/// Returns the fields of a form as if another page had sent it, at another time.
fn again(fields: &[(String, String)], page: &Page) -> Vec<(String, String)> {
    let token = page.html.split("name=\"form_token\" value=\"").nth(1).unwrap().split('"').next().unwrap();
    with(&with(fields, "form_token", token), "submission_id", &Uuid::new_v4().to_string())
}

/// Sends the form of a page that has none for this operator. It is refused with this role, and has a line in the audit log.
async fn refused(ops: &Ops, operator: &Operator, action: &str, form: &[(String, String)], role: &str) {
    let before = ops.audit(&format!("action={action}")).await.len();
    let page = operator.act(action, &again(form, &operator.get("/ops/jobs").await)).await;
    assert_eq!(page.status, 403, "{}", page.html);
    assert!(page.html.contains(role), "{role}: {}", page.html);
    let lines = ops.audit(&format!("action={action}")).await;
    assert_eq!((lines.len(), &lines[0]["outcome"]), (before + 1, &json!("refused")), "{lines:?}");
}

/// Returns the outcomes and subjects of an action, the latest first.
async fn lines(ops: &Ops, action: &str) -> Vec<(String, Value)> {
    let lines = ops.audit(&format!("action={action}")).await;
    let outcome = |line: &Value| line["outcome"].as_str().unwrap().to_owned();
    lines.iter().map(|line| (outcome(line), line["subject"].clone())).collect()
}

#[tokio::test]
async fn keys_are_rotated_withdrawn_and_replaced_at_once_on_their_page() {
    let ops = Ops::new().await;
    let admin = ops.admin().await;
    let page = admin.get("/ops/backends").await;
    assert!(page.forms("withdraw_key").is_empty() && page.forms("activate_key").is_empty(), "{}", page.html);
    let rotate = page.form("rotate_keys");
    let begun = admin.done("rotate_keys", &rotate).await;
    assert!(begun.html.contains("Rotation begun: key "), "{}", begun.html);
    // The page shows the new key at once, although it is read once in 5 s for all who only look at it.
    assert!(begun.html.contains(">next</span>"), "{}", begun.html);
    let withdraw = begun.form("withdraw_key");
    assert!(begun.forms("activate_key").is_empty(), "the service activates it: {}", begun.html);
    let twice = admin.done("rotate_keys", &rotate).await;
    assert!(twice.html.contains("Rotation begun: key "), "{}", twice.html);
    assert_eq!(lines(&ops, "rotate_keys").await.len(), 1, "it took effect once");

    let viewer = ops.signed_in(&ops.token("looker", "viewer", None).await).await;
    let desk = ops.signed_in(&ops.token("desk", "operator", None).await).await;
    let of_org = ops.signed_in(&ops.token("acme", "admin", Some("org-1")).await).await;
    for (operator, role) in
        [(&viewer, "needs the role admin"), (&desk, "needs the role admin"), (&of_org, "is limited to org")]
    {
        let seen = operator.get("/ops/backends").await;
        assert!(
            seen.forms("withdraw_key").is_empty() && seen.forms("rotate_keys").is_empty(),
            "{}",
            seen.html
        );
        refused(&ops, operator, "withdraw_key", &withdraw, role).await;
    }

    let page = admin.done("withdraw_key", &withdraw).await;
    assert!(page.html.contains("is withdrawn: it is no longer published"), "{}", page.html);
    assert!(!page.html.contains(">next</span>"), "{}", page.html);
    let stale = admin.done("withdraw_key", &again(&withdraw, &page)).await;
    assert!(stale.html.contains("Nothing was changed.") && stale.html.contains("is gone"), "{}", stale.html);
    let at_once = page.forms("rotate_keys").pop().unwrap();
    assert!(at_once.contains(&("now".to_owned(), "true".to_owned())), "{at_once:?}");
    let page = admin.done("rotate_keys", &at_once).await;
    assert!(page.html.contains("is active: it signs fire tokens from now on"), "{}", page.html);
    let rotated = lines(&ops, "rotate_keys").await;
    assert_eq!((rotated[0].0.as_str(), &rotated[0].1["now"]), ("done", &json!("true")), "{rotated:?}");
    assert!(rotated[0].1["kid"].is_string() && rotated[1].1["kid"].is_string(), "{rotated:?}");
    let stale = admin.done("rotate_keys", &again(&at_once, &page)).await;
    assert!(
        stale.html.contains("Nothing was changed.") && stale.html.contains("the keys were changed meanwhile"),
        "{}",
        stale.html
    );
    let status = admin.act("rotate_keys", &with(&again(&at_once, &page), "now", "maybe")).await.status;
    assert_eq!(status, 400);
    let status = admin.act("withdraw_key", &with(&again(&withdraw, &page), "kid", "a\0b")).await.status;
    assert_eq!(status, 400, "also a text that no database stores");

    // With an imported key, the operator activates.
    let page = admin.done("rotate_keys", &page.form("rotate_keys")).await;
    assert!(page.html.contains("Rotation begun"), "{}", page.html);
    ops.world.sql("UPDATE signing_keys SET imported = true WHERE state = 'next'").await;
    let page = admin.get("/ops/backends").await;
    assert!(
        page.html.contains("by hand: add it to the agents&#39; JWKS")
            || page.html.contains("by hand: add it")
    );
    let page = admin.done("activate_key", &page.form("activate_key")).await;
    assert!(
        page.html.contains("NAS_CRON_AGENTS_JWKS_URL"),
        "it checks what the command checks: {}",
        page.html
    );
}

#[tokio::test]
async fn backend_is_switched_after_a_count_and_the_pages_show_what_is_left() {
    let servers = NatsServers::one().await;
    let urls = servers.urls().join(",");
    let ops = Ops::with(|settings| settings.with("NAS_CRON_NATS_URLS", urls)).await;
    for job in ["a", "b", "c"] {
        ops.armed(job).await;
    }
    let (admin, other) = (ops.admin().await, ops.admin().await);
    let page = admin.get("/ops/backends").await;
    assert!(page.html.contains("href=\"/ops/backends/switch?backend=nats\""), "{}", page.html);
    assert!(!page.html.contains("backend=qstash"), "not configured: {}", page.html);
    let plan = admin.get("/ops/backends/switch?backend=nats").await;
    let count = "A switch from postgres to nats would move up to 3 one-shots. Nothing was changed.";
    assert!(plan.html.contains(count), "{}", plan.html);
    for (query, status, problem) in [
        ("backend=qstash", 409, "qstash is not configured here"),
        ("backend=redis", 400, "unknown value"),
        ("", 400, "is missing"),
        ("backend=nats&force=true", 400, "unknown parameter"),
    ] {
        let page = admin.get(&format!("/ops/backends/switch?{query}")).await;
        assert_eq!(page.status, status, "{query}: {}", page.html);
        assert!(page.html.contains(problem), "{query}: {}", page.html);
    }
    let form = plan.form("switch_backend");
    let viewer = ops.signed_in(&ops.token("looker", "viewer", None).await).await;
    assert!(!viewer.get("/ops/backends").await.html.contains("/ops/backends/switch"));
    assert_eq!(viewer.get("/ops/backends/switch?backend=nats").await.status, 403);
    refused(&ops, &viewer, "switch_backend", &form, "needs the role admin").await;

    let page = admin.done("switch_backend", &form).await;
    assert!(
        page.html.contains("<h1>Backends and keys") && page.html.contains("nats is active"),
        "{}",
        page.html
    );
    assert!(page.html.contains("<dd>nats</dd>"), "the page shows the switch at once: {}", page.html);
    eventually("the replica has moved them", async || {
        (ops.count("one_shots WHERE awaits = 'nats'").await == 3).then_some(())
    })
    .await;

    // A plan that is out of date changes nothing.
    let back = other.get("/ops/backends/switch?backend=postgres").await.form("switch_backend");
    for backend in ["postgres", "nats"] {
        let plan = admin.get(&format!("/ops/backends/switch?backend={backend}")).await;
        admin.done("switch_backend", &plan.form("switch_backend")).await;
    }
    let page = other.done("switch_backend", &back).await;
    assert!(
        page.html.contains("Nothing was changed.") && page.html.contains("switched to nats meanwhile"),
        "{}",
        page.html
    );
    let plan = other.get("/ops/backends/switch?backend=nats").await;
    assert!(plan.html.contains("nats is already active."), "{}", plan.html);
    assert!(plan.forms("switch_backend").is_empty(), "{}", plan.html);
    let switched = lines(&ops, "switch_backend").await;
    let outcomes: Vec<_> = switched.iter().map(|(outcome, _)| outcome.as_str()).collect();
    assert_eq!(outcomes, ["refused", "done", "done", "done", "refused"]);
    assert_eq!(switched[1].1, json!({"backend": "nats"}));

    // A wake-up that no replica has cancelled yet, at a backend that is not configured here.
    ops.world
        .sql(
            "INSERT INTO wake_ups (schedule_id, generation, backend, instance_id, job_id, due_at, state, next_try_at)
             SELECT gen_random_uuid(), 1, 'qstash', 'inst-1', 'gone', now() + interval '1 h', 'unwanted', now() + interval '1 h'",
        )
        .await;
    let words = "switch to nats is unfinished: 0 one-shots to move, 0 wake-ups to arm, 1 to cancel";
    for path in ["/ops", "/ops/backends"] {
        eventually("the page shows it", async || admin.get(path).await.html.contains(words).then_some(()))
            .await;
    }
}

#[tokio::test]
async fn webhook_is_tested_stopped_and_gets_an_event_again_on_its_page() {
    let at_once = |settings: Settings| {
        settings.with("NAS_CRON_EVENT_GROUP_WAIT", "0s").with("NAS_CRON_EVENT_GROUP_INTERVAL", "0s")
    };
    let ops = Ops::with(at_once).await;
    let (admin, receiver) = (ops.admin().await, Receiver::start().await);
    let body = json!({ "url": format!("{}?token=s3cret", receiver.url) });
    let (status, created) = ops.world.service.admin("POST", "/api/admin/webhooks", Some(&body)).await;
    assert_eq!(status, 201, "{created}");
    let webhook_id = created["webhook_id"].as_str().unwrap();
    let path = format!("/ops/webhook?webhook_id={webhook_id}");
    assert!(admin.get("/ops/events").await.html.contains(&format!("href=\"{path}\"")));
    let page = admin.get(&path).await;
    assert!(page.html.contains("None yet."), "{}", page.html);
    let page = admin.done("test_webhook", &page.form("test_webhook")).await;
    assert!(page.html.contains("The receiver accepted the test within"), "{}", page.html);
    for secret in ["s3cret", created["secret"].as_str().unwrap()] {
        assert!(!page.html.contains(secret), "{}", page.html);
    }
    let first = receiver.wait_for(1).await[0].id().to_owned();
    assert!(page.html.contains(&first), "{}", page.html);

    let form = page.form("redeliver_event");
    let page = admin.done("redeliver_event", &form).await;
    assert!(page.html.contains("The event waits for its delivery, with the same ID."), "{}", page.html);
    assert_eq!(receiver.wait_for(2).await[1].id(), first);
    admin.done("redeliver_event", &form).await;
    assert_eq!(lines(&ops, "redeliver_event").await.len(), 1, "it took effect once");

    let viewer = ops.signed_in(&ops.token("looker", "viewer", None).await).await;
    let seen = viewer.get(&path).await;
    assert!(seen.html.contains(&first) && !seen.html.contains("/ops/actions/"), "{}", seen.html);
    refused(&ops, &viewer, "redeliver_event", &form, "needs the role operator").await;
    let page = admin.get(&path).await;
    let disable = page.form("update_webhook");
    let desk = ops.signed_in(&ops.token("desk", "operator", None).await).await;
    let seen = desk.get(&path).await;
    assert!(
        !seen.forms("test_webhook").is_empty() && seen.forms("update_webhook").is_empty(),
        "{}",
        seen.html
    );
    refused(&ops, &desk, "update_webhook", &disable, "needs the role admin").await;
    let of_org = ops.signed_in(&ops.token("acme", "admin", Some("org-1")).await).await;
    assert_eq!(of_org.get(&path).await.status, 404);
    let foreign = again(&disable, &of_org.get("/ops/jobs").await);
    assert_eq!(of_org.act("update_webhook", &foreign).await.status, 404);

    let page = admin.done("update_webhook", &disable).await;
    assert!(
        page.html.contains("The webhook is disabled") && page.html.contains(">disabled<"),
        "{}",
        page.html
    );
    assert!(page.forms("redeliver_event").is_empty(), "{}", page.html);
    let stale = admin.done("redeliver_event", &again(&form, &page)).await;
    assert!(stale.html.contains("the webhook is disabled: enable it first"), "{}", stale.html);
    let page = admin.done("update_webhook", &page.form("update_webhook")).await;
    assert!(page.html.contains("The webhook is enabled"), "{}", page.html);
    let changed = lines(&ops, "update_webhook").await;
    let subject = |enabled: &str| json!({"webhook_id": webhook_id, "enabled": enabled});
    assert_eq!(changed[0], ("done".to_owned(), subject("true")));
    assert_eq!(changed[1], ("done".to_owned(), subject("false")));
    for (query, status) in [
        ("webhook_id=nonsense".to_owned(), 400),
        (String::new(), 400),
        (format!("webhook_id={}", Uuid::new_v4()), 404),
        (format!("webhook_id={webhook_id}&before=x"), 400),
    ] {
        assert_eq!(admin.get(&format!("/ops/webhook?{query}")).await.status, status, "{query}");
    }
}
