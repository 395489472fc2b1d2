//! Malformed requests and invented tokens. Each error is OAuth-shaped; on any other, real agents would delete their
//! tokens.

use nas_cron_testing::service::client;
use nas_cron_testing::world::eventually;
use reqwest::Method;

use super::fixture::{Answer, FORM, WithForm as _, World, ask, refresh, request};

/// Checks the form of an OAuth error (RFC 6749), and that its description is safe. Returns its status and word.
fn require_oauth(answer: &Answer, what: &str) -> (u16, String) {
    let body = answer.json();
    let fields: Vec<_> = body.as_object().unwrap_or_else(|| panic!("{what}: {body}")).keys().collect();
    assert_eq!(fields, ["error", "error_description"], "{what}");
    assert!(answer.header("content-type").starts_with("application/json"), "{what}");
    assert_eq!(answer.header("cache-control"), "no-store", "{what}");
    // Real agents take this word for a stolen token.
    assert!(!answer.field("error_description").contains("reuse"), "{what}: {body}");
    answer.error()
}

#[tokio::test]
async fn malformed_requests_get_oauth_errors_and_end_no_login() {
    let world = World::new().await;
    let service = &world.service;
    let token = world.enroll("agent-1").await;
    let [grant, client_id] = FORM;
    let good = |form: &[(&str, &str)]| request(service).header("x-nous-refresh-token", &token).form(form);
    let url = format!("{}/api/oauth/token", service.url);
    let twice =
        request(service).header("x-nous-refresh-token", &token).header("x-nous-refresh-token", &token);
    let raw = |content_type: Option<&str>, body: &str| {
        let request = request(service).header("x-nous-refresh-token", &token).body(body.to_owned());
        content_type.map_or_else(
            || request.try_clone().unwrap(),
            |one| request.try_clone().unwrap().header("content-type", one),
        )
    };
    let form = "grant_type=refresh_token&client_id=hermes-cli-vps";
    let long = format!("{form}&padding={}", "x".repeat(70_000));
    let cases = [
        ("GET", client().get(&url), 405, "method_not_allowed", ""),
        ("PUT", client().request(Method::PUT, &url).form(&FORM), 405, "method_not_allowed", ""),
        ("JSON", request(service).json(&"{}"), 400, "invalid_request", "Content-Type"),
        ("no content type", raw(None, form), 400, "invalid_request", "Content-Type"),
        ("another content type", raw(Some("text/plain"), form), 400, "invalid_request", "Content-Type"),
        ("no grant", good(&[client_id]), 400, "invalid_request", "grant_type"),
        ("an empty grant", good(&[("grant_type", ""), client_id]), 400, "invalid_request", "grant_type"),
        (
            "another grant",
            good(&[("grant_type", "password"), client_id]),
            400,
            "unsupported_grant_type",
            "grant_type",
        ),
        ("two grants", good(&[grant, grant, client_id]), 400, "invalid_request", "grant_type"),
        ("no client", good(&[grant]), 400, "invalid_request", "client_id"),
        (
            "another client",
            good(&[grant, ("client_id", "agent:agent-1")]),
            400,
            "invalid_client",
            "client_id",
        ),
        ("two clients", good(&[grant, client_id, ("client_id", "x")]), 400, "invalid_request", "client_id"),
        ("no token", request(service).form(&FORM), 400, "invalid_request", "refresh_token"),
        (
            "an empty header",
            request(service).header("x-nous-refresh-token", " ").form(&FORM),
            400,
            "invalid_request",
            "refresh_token",
        ),
        ("two headers", twice.form(&FORM), 400, "invalid_request", "x-nous-refresh-token"),
        (
            "two tokens",
            good(&[grant, client_id, ("refresh_token", "x")]),
            400,
            "invalid_request",
            "refresh_token",
        ),
        ("too long", raw(Some("application/x-www-form-urlencoded"), &long), 413, "invalid_request", "65536"),
        (
            "no form at all",
            raw(Some("application/x-www-form-urlencoded"), "\u{0}%%%=&&&"),
            400,
            "invalid_request",
            "grant_type",
        ),
    ];
    for (what, request, status, error, named) in cases {
        let answer = ask(request).await;
        assert_eq!(require_oauth(&answer, what), (status, error.to_owned()), "{what}: {answer:?}");
        assert!(answer.field("error_description").contains(named), "{what}: {answer:?}");
        assert!(!answer.text.contains(&token), "{what}");
    }
    // A content type in another case and with a parameter.
    let sloppy = raw(Some("Application/X-WWW-Form-Urlencoded; charset=utf-8"), form);
    assert_eq!(ask(sloppy).await.status, 200);
}

#[tokio::test]
async fn forged_refresh_tokens_get_the_same_error_without_a_database_query() {
    let world = World::new().await;
    let good = world.enroll("agent-1").await;
    let mut altered = good.clone();
    let last = altered.pop().unwrap();
    altered.push(if last == 'A' { 'E' } else { 'A' });
    // A login that never existed, with a wrong tag.
    let foreign = format!("nascron_rt_{}", "A".repeat(75));
    let answers = [
        refresh(&world.service, &altered).await,
        refresh(&world.service, &foreign).await,
        refresh(&world.service, "garbage").await,
        refresh(&world.service, &"x".repeat(5_000)).await,
    ];
    for answer in &answers {
        assert_eq!(require_oauth(answer, "a forged token"), (400, "invalid_grant".to_owned()));
        assert_eq!(answer.text, answers[0].text);
    }
    assert_eq!(refresh(&world.service, &good).await.status, 200);
    // They are rejected even without the table of logins.
    world.sql("ALTER TABLE logins RENAME TO logins_away").await;
    assert_eq!(refresh(&world.service, &foreign).await.error(), (400, "invalid_grant".to_owned()));
    // A defect of the service is a temporary error for the agent.
    assert_eq!(refresh(&world.service, &good).await.error(), (503, "temporarily_unavailable".to_owned()));
    let log = eventually("the defect is logged", async || {
        Some(world.service.log()).filter(|log| log.contains("request failed"))
    })
    .await;
    assert!(!log.contains("did not issue the refresh token"), "invented tokens are not logged: {log}");
    world.sql("ALTER TABLE logins_away RENAME TO logins").await;
    assert_eq!(refresh(&world.service, &good).await.status, 200);
}
