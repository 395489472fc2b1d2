//! The portal's lookup: positive, negative and invalid responses, and their cache.

use futures::future::join_all;
use nas_cron_testing::service::ADMIN_TOKEN;
use nas_cron_testing::world::eventually;
use serde_json::{Value, json};

use super::authority::{Fault, LOOKUP_TOKEN};
use super::fixture::Fixture;

#[tokio::test]
async fn an_instance_is_looked_up_once_by_session_or_client_and_then_cached() {
    let fixture = Fixture::looking_up(|settings| settings.with("NAS_CRON_LOG_FILTER", "debug")).await;
    fixture.authority.has("inst-1", "org-1", "sid-1");
    fixture.authority.has("inst 2&c", "org-2", "sid-2");
    let token = fixture.portal.session_token("org-1", "sid-1");
    fixture.provision(&token, "job", -1).await.is(200, "");
    eventually("it is fired", async || (fixture.agents.fires_of("job").len() == 1).then_some(())).await;
    // By its client, too: both use the same row.
    fixture.list(&fixture.portal.client_token("org-1", "inst-1")).await.is(200, "");
    fixture.list(&token).await.is(200, "");
    assert_eq!(fixture.authority.knows().lookups, ["v=1&sid=sid-1&org=org-1"]);
    fixture.list(&fixture.portal.client_token("org-2", "inst 2&c")).await.is(200, "");
    fixture.list(&fixture.portal.sign(json!({"azp": "agent:inst 2&c"}))).await.is(200, "");
    assert_eq!(fixture.authority.knows().lookups[1..], ["v=1&client=agent%3Ainst+2%26c&org=org-2"]);

    let known: Value = fixture
        .value("SELECT jsonb_agg(to_jsonb(i) - 'looked_up_at' ORDER BY instance_id DESC) FROM instances i WHERE looked_up_at > now() - interval '1 h'")
        .await;
    assert_eq!(
        (
            &known[0]["instance_id"],
            &known[0]["org_id"],
            &known[0]["bootstrap_session_id"],
            &known[0]["enabled"]
        ),
        (&json!("inst-1"), &json!("org-1"), &json!("sid-1"), &json!(true))
    );
    assert_eq!(known[1]["bootstrap_session_id"], "sid-2");
    let page = fixture.service.metrics().await;
    assert!(page.contains("nas_cron_directory_lookups_total{outcome=\"found\"} 2"), "{page}");
    assert!(fixture.authority.knows().unauthorized.is_empty(), "the token is sent");
    let shown = fixture.service.admin("GET", "/api/admin/agents/inst-1", None).await.1;
    assert!(shown["looked_up_at"].is_string() && shown["denied_by_portal"].is_null(), "{shown}");
    let log = fixture.service.log();
    for secret in [LOOKUP_TOKEN, ADMIN_TOKEN, &token] {
        assert!(!log.contains(secret), "{secret}");
    }
}

#[tokio::test]
async fn a_denial_is_503_for_a_young_token_then_invalid_client_and_cached_for_its_ttl() {
    let fixture = Fixture::looking_up(|settings| {
        settings.with("NAS_CRON_LOOKUP_TTL", "1h").with("NAS_CRON_LOOKUP_NEGATIVE_TTL", "1h")
    })
    .await;
    for no_by_404 in [false, true] {
        fixture.authority.knows().no_by_404 = no_by_404;
        let sid = format!("sid-{no_by_404}");
        let before = fixture.authority.lookups();
        fixture.list(&fixture.portal.session_token("org-1", &sid)).await.not_now();
        let token = fixture.portal.session_token("org-1", &sid);
        let answers = join_all((0..20).map(|_| fixture.list(&token))).await;
        answers.iter().for_each(super::fixture::Answer::not_now);
        fixture.list(&fixture.old_session("org-1", &sid)).await.is(403, "invalid_client");
        assert_eq!(fixture.authority.lookups() - before, 1, "one lookup for all of them");
    }
    // An instance of another org looks like one that does not exist.
    fixture.authority.has("inst-1", "org-1", "sid-1");
    fixture.list(&fixture.old_client("org-2", "inst-1")).await.is(403, "invalid_client");
    fixture.list(&fixture.old_session("org-2", "sid-1")).await.is(403, "invalid_client");
    fixture.list(&fixture.old_client("org-1", "inst-1")).await.is(200, "");
}

#[tokio::test]
async fn an_invalid_lookup_response_is_never_a_denial_and_the_token_is_not_sent_elsewhere() {
    let fixture = Fixture::looking_up(|settings| settings).await;
    let elsewhere = super::authority::Authority::start().await;
    let says = |status: u16, body: &str| Fault::Says(status, body.to_owned());
    let other = json!({"instance": {"instance_id": "somebody-else", "org_id": "org-1"}}).to_string();
    let faults = [
        ("bare-404", says(404, "not found")),
        ("their-404", says(404, r#"{"error":"not_found"}"#)),
        ("401", says(401, r#"{"instance":null}"#)),
        ("403", says(403, "{}")),
        ("500", says(500, r#"{"instance":null}"#)),
        ("html", says(200, "<html>It works!</html>")),
        ("empty", says(200, "{}")),
        ("other", says(200, &other)),
        ("204", says(204, "")),
        ("long", says(200, &format!(r#"{{"instance":null,"x":"{}"}}"#, "x".repeat(70_000)))),
        ("redirect", Fault::Redirects(elsewhere.lookup_url())),
    ];
    for (name, fault) in &faults {
        fixture.authority.knows().faults.insert(format!("agent:{name}"), fault.clone());
    }
    // With an old token, a negative response would be final.
    let answers = join_all(faults.iter().map(async |(name, _)| {
        let answer = fixture.list(&fixture.old_client("org-1", name)).await;
        (name, answer)
    }))
    .await;
    for (name, answer) in &answers {
        assert_eq!(answer.word(), (503, "temporarily_unavailable"), "{name}: {answer:?}");
        answer.not_now();
    }
    assert_eq!(elsewhere.lookups(), 0, "redirects are not followed");
    assert_eq!(fixture.value::<i64>("SELECT count(*) FROM instances").await, 0);
    let page = fixture.service.metrics().await;
    assert!(page.contains("nas_cron_directory_lookups_total{outcome=\"invalid\"}"), "{page}");
    assert!(page.contains("nas_cron_directory_lookups_total{outcome=\"unavailable\"}"), "{page}");
}

#[tokio::test]
async fn concurrent_lookups_of_one_instance_are_a_single_flight() {
    let fixture = Fixture::looking_up(|settings| settings).await;
    fixture.authority.has("inst-1", "org-1", "sid-1");
    fixture.authority.knows().takes = std::time::Duration::from_millis(700);
    let token = fixture.portal.session_token("org-1", "sid-1");
    let answers = join_all((0..200).map(|_| fixture.list(&token))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(fixture.authority.lookups(), 1);
}

#[tokio::test]
async fn a_lookup_is_repeated_after_its_cache_ttl() {
    let fixture = Fixture::looking_up(|settings| settings).await;
    fixture.authority.has("inst-1", "org-1", "sid-1");
    let token = fixture.portal.session_token("org-1", "sid-1");
    fixture.list(&token).await.is(200, "");
    // The default TTL is one minute.
    fixture.sql("UPDATE instances SET looked_up_at = looked_up_at - interval '30 s'").await;
    fixture.list(&token).await.is(200, "");
    assert_eq!(fixture.authority.lookups(), 1);
    // Late in the TTL, a use starts a lookup in the background.
    fixture.sql("UPDATE instances SET looked_up_at = looked_up_at - interval '20 s'").await;
    fixture.list(&token).await.is(200, "");
    eventually("it is looked up in the background", async || {
        (fixture.authority.lookups() == 2).then_some(())
    })
    .await;
    eventually("the response is stored", async || {
        let young =
            fixture.value::<bool>("SELECT looked_up_at > now() - interval '40 s' FROM instances").await;
        young.then_some(())
    })
    .await;
    fixture.sql("UPDATE instances SET looked_up_at = looked_up_at - interval '61 s'").await;
    fixture.list(&token).await.is(200, "");
    assert_eq!(fixture.authority.lookups(), 3);
}

#[tokio::test]
async fn the_doctor_checks_lookup_and_introspection() {
    let fixture = Fixture::with(|settings, authority| {
        super::fixture::introspected(super::fixture::looked_up(settings, authority), authority)
    })
    .await;
    let checks = async |settings: &nas_cron_testing::service::Settings| {
        let (_, out, _) = settings.run(&["doctor", "--json"]).await;
        let report: Value = serde_json::from_str(&out).expect(&out);
        let line = |name: &str| {
            report["checks"].as_array().unwrap().iter().find(|line| line["check"] == name).unwrap().clone()
        };
        (line("directory"), line("introspection"))
    };
    let (directory, introspection) = checks(&fixture.settings).await;
    assert_eq!((&directory["status"], &introspection["status"]), (&json!("ok"), &json!("ok")), "{directory}");
    let nowhere = format!("{}/nowhere?key=hunter2", fixture.service.url);
    let wrong = fixture
        .settings
        .clone()
        .with("NAS_CRON_LOOKUP_URL", &nowhere)
        .with("NAS_CRON_INTROSPECTION_URL", format!("{}/nowhere", fixture.service.url));
    let (directory, introspection) = checks(&wrong).await;
    assert_eq!(directory["status"], "wrong", "a plain 404 is an invalid response: {directory}");
    assert_eq!(introspection["status"], "wrong", "{introspection}");
    assert!(!directory.to_string().contains("hunter2"), "{directory}");
}
