//! Opaque tokens and their introspection (RFC 7662).

use std::time::Duration;

use futures::future::join_all;
use nas_cron_testing::portal::PORTAL_URL;
use nas_cron_testing::time::now;
use nas_cron_testing::world::eventually;
use serde_json::{Value, json};

use super::authority::{Authority, CLIENT, Fault};
use super::fixture::{Fixture, introspected};

/// The introspection response for a valid token, with these changes; `null` removes a field.
fn active(changes: &Value) -> Value {
    let now = now().timestamp();
    let mut response = json!({
        "active": true, "client_id": "hermes-cli-vps", "org_id": "org-1", "sid": "sid-1", "token_type": "Bearer",
        "iat": now - 700, "exp": now + 3600,
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            response.as_object_mut().unwrap().remove(name);
        } else {
            response[name] = value.clone();
        }
    }
    response
}

#[tokio::test]
async fn an_opaque_token_provisions_and_is_introspected_once_and_never_logged() {
    let fixture = Fixture::introspecting(|settings| settings.with("NAS_CRON_LOG_FILTER", "debug")).await;
    fixture.authority.knows().tokens.insert("pat_1~opaque.token/+=".to_owned(), active(&json!({})));
    for job in ["one", "two"] {
        fixture.provision("pat_1~opaque.token/+=", job, -1).await.is(200, "");
    }
    eventually("both are fired", async || (fixture.agents.fires().len() == 2).then_some(())).await;
    let asked = fixture.authority.knows().introspected.clone();
    assert_eq!(asked.len(), 1, "{asked:?}");
    assert_eq!(
        (asked[0]["token"].as_str(), asked[0]["token_type_hint"].as_str(), asked[0].len()),
        ("pat_1~opaque.token/+=", "access_token", 2)
    );
    assert!(fixture.authority.knows().unauthorized.is_empty(), "by HTTP Basic, each half encoded");
    let log = fixture.service.log();
    for secret in ["pat_1", CLIENT.1, "hunter2"] {
        assert!(!log.contains(secret), "{secret}");
    }
    let page = fixture.service.metrics().await;
    assert!(page.contains("nas_cron_introspections_total{outcome=\"active\"} 1"), "{page}");
}

#[tokio::test]
async fn introspected_claims_are_checked_by_the_portals_rules() {
    let fixture =
        Fixture::introspecting(|settings| settings.with("NAS_CRON_PORTAL_AUDIENCES", "nas-cron")).await;
    let audience = json!("nas-cron");
    let now = now().timestamp();
    for (name, response, expected) in [
        ("good", active(&json!({"aud": audience})), (200, "")),
        ("several", active(&json!({"aud": ["x", "nas-cron"], "iss": PORTAL_URL})), (200, "")),
        ("no-expiry", active(&json!({"aud": audience, "exp": null})), (200, "")),
        ("client", active(&json!({"aud": audience, "client_id": "agent:inst-1", "sid": null})), (200, "")),
        ("leeway", active(&json!({"aud": audience, "exp": now - 5})), (200, "")),
        ("inactive", json!({"active": false}), (401, "invalid_token")),
        ("no-audience", active(&json!({})), (401, "invalid_token")),
        ("other-audience", active(&json!({"aud": "x"})), (401, "invalid_token")),
        (
            "other-issuer",
            active(&json!({"aud": audience, "iss": "https://other.test"})),
            (401, "invalid_token"),
        ),
        ("slash", active(&json!({"aud": audience, "iss": format!("{PORTAL_URL}/")})), (401, "invalid_token")),
        ("fire", active(&json!({"aud": audience, "purpose": "cron_fire"})), (401, "invalid_token")),
        ("expired", active(&json!({"aud": audience, "exp": now - 40})), (401, "invalid_token")),
        ("early", active(&json!({"aud": audience, "nbf": now + 90})), (401, "invalid_token")),
        ("refresh", active(&json!({"aud": audience, "token_type": "refresh_token"})), (401, "invalid_token")),
        ("bound", active(&json!({"aud": audience, "token_type": "DPoP"})), (401, "invalid_token")),
        ("nobody", active(&json!({"aud": audience, "sid": null})), (403, "invalid_client")),
        ("unknown", active(&json!({"aud": audience, "sid": "sid-9"})), (403, "invalid_client")),
        ("other-org", active(&json!({"aud": audience, "org_id": "org-9"})), (403, "invalid_client")),
    ] {
        fixture.authority.knows().tokens.insert(name.to_owned(), response);
        let answer = fixture.list(name).await;
        assert_eq!(answer.word(), expected, "{name}: {answer:?}");
        // The cache gives the same result.
        assert_eq!(fixture.list(name).await.word(), expected, "{name}");
    }
    let asked = fixture.authority.introspected();
    assert_eq!(fixture.list("never-issued").await.word(), (401, "invalid_token"));
    assert_eq!(fixture.list("never-issued").await.word(), (401, "invalid_token"));
    assert_eq!(fixture.authority.introspected(), asked + 1, "inactive tokens are cached, too");
}

#[tokio::test]
async fn jwts_are_never_introspected_and_opaque_tokens_are_rejected_without_introspection() {
    let fixture = Fixture::introspecting(|settings| settings).await;
    let header = fixture.portal.header();
    let now = now().timestamp();
    let fire = json!({"iss": PORTAL_URL, "aud": "agent:inst-1", "purpose": "cron_fire", "exp": now + 60, "job_id": "j"});
    let good = fixture.portal.session_token("org-1", "sid-1");
    let (signed, _) = good.rsplit_once('.').unwrap();
    let (head, _) = good.split_once('.').unwrap();
    for token in [
        fixture.portal.sign_as_is(&header, &fire),
        fixture.portal.sign(json!({"iss": "https://nobody.test"})),
        fixture.portal.sign(json!({"exp": now - 60})),
        format!("{signed}."),
        format!("{head}.garbage.garbage"),
        format!("{head}.."),
        "x".repeat(17_000),
        "not~a\"token".to_owned(),
    ] {
        fixture.list(&token).await.is(401, "invalid_token");
    }
    fixture.list(&good).await.is(200, "");
    assert_eq!(fixture.authority.introspected(), 0);

    let bare = Fixture::with(|settings, _| settings).await;
    bare.list("opaque").await.is(401, "invalid_token");
}

#[tokio::test]
async fn concurrent_introspections_of_one_token_are_a_single_flight() {
    let fixture = Fixture::introspecting(|settings| settings).await;
    fixture.authority.knows().tokens.insert("opaque".to_owned(), active(&json!({})));
    fixture.authority.knows().takes = Duration::from_millis(700);
    let answers = join_all((0..200).map(|_| fixture.list("opaque"))).await;
    assert!(answers.iter().all(|answer| answer.status == 200), "{answers:?}");
    assert_eq!(fixture.authority.introspected(), 1);
}

#[tokio::test]
async fn during_an_introspection_outage_cached_answers_hold_until_exp_and_unknown_tokens_are_503() {
    let fixture = Fixture::introspecting(|settings| settings.with("NAS_CRON_INTROSPECTION_TTL", "1s")).await;
    for (name, response) in [
        ("long", active(&json!({}))),
        ("short", active(&json!({"exp": now().timestamp() + 3}))),
        ("no-expiry", active(&json!({"exp": null}))),
        ("revoked", active(&json!({}))),
    ] {
        fixture.authority.knows().tokens.insert(name.to_owned(), response);
        fixture.list(name).await.is(200, "");
    }
    // A revoked token is accepted only until its cache TTL ends.
    fixture.authority.knows().tokens.remove("revoked");
    tokio::time::sleep(Duration::from_millis(1_100)).await;
    fixture.list("revoked").await.is(401, "invalid_token");

    fixture.authority.leave().await;
    tokio::time::sleep(Duration::from_secs(2)).await;
    fixture.list("long").await.is(200, "");
    fixture.list("no-expiry").await.is(200, "");
    // It has passed its `exp`, within the leeway: it may have been revoked, which cannot be checked now.
    let (short, unknown) = tokio::join!(fixture.list("short"), fixture.list("never-seen"));
    short.not_now();
    unknown.not_now();
    fixture.authority.come_back().await;
    fixture.list("never-seen").await.is(401, "invalid_token");
}

fn texts<const N: usize>(texts: [&str; N]) -> Vec<String> {
    texts.map(str::to_owned).to_vec()
}

#[tokio::test]
async fn an_opaque_token_is_sent_to_the_issuer_of_its_prefix_and_otherwise_to_the_portal() {
    let second = Authority::start().await;
    let folder = std::env::temp_dir().join(format!("nas-cron-portals-{}", uuid::Uuid::new_v4()));
    std::fs::create_dir(&folder).unwrap();
    std::fs::write(folder.join("secret"), CLIENT.1).unwrap();
    let file = folder.join("issuers.toml");
    let text = format!(
        "[[issuer]]\nissuer = 'https://second.test'\norgs = ['org-1']\nintrospection_url = '{}'\n\
         introspection_client_id = '{}'\nintrospection_client_secret_file = 'secret'\ntoken_prefix = '2nd_'\n",
        second.introspection_url(),
        CLIENT.0
    );
    std::fs::write(&file, text).unwrap();
    let fixture =
        Fixture::introspecting(|settings| settings.with("NAS_CRON_ISSUERS_FILE", file.to_str().unwrap()))
            .await;
    fixture.sql("INSERT INTO instances (instance_id, org_id) VALUES ('inst-2', 'org-2')").await;

    second.knows().tokens.insert("2nd_a".to_owned(), active(&json!({"iss": "https://second.test"})));
    fixture.authority.knows().tokens.insert("first".to_owned(), active(&json!({})));
    fixture.list("first").await.is(200, "");
    fixture.list("2nd_a").await.is(200, "");
    // A token is rejected even if the other issuer calls it active.
    fixture.authority.knows().tokens.insert("2nd_b".to_owned(), active(&json!({})));
    second.knows().tokens.insert("2n".to_owned(), active(&json!({})));
    fixture.list("2nd_b").await.is(401, "invalid_token");
    fixture.list("2n").await.is(401, "invalid_token");
    let shown = |authority: &Authority| {
        let asked = authority.knows().introspected.clone();
        asked.iter().map(|form| form["token"].clone()).collect::<Vec<_>>()
    };
    assert_eq!(
        (shown(&fixture.authority), shown(&second)),
        (texts(["first", "2n"]), texts(["2nd_a", "2nd_b"]))
    );
    // The issuer's rules apply: it is limited to org-1.
    let other_org = active(&json!({"client_id": "agent:inst-2", "org_id": "org-2", "sid": null}));
    second.knows().tokens.insert("2nd_other-org".to_owned(), other_org);
    fixture.list("2nd_other-org").await.is(401, "invalid_token");
    let unnamed = active(&json!({"client_id": "agent:inst-2", "org_id": null, "sid": null}));
    second.knows().tokens.insert("2nd_unnamed".to_owned(), unnamed);
    fixture.list("2nd_unnamed").await.is(403, "invalid_client");

    // A JWT of an issuer without keys is introspected at that issuer; a fire token is sent to no issuer.
    let jwt = fixture.portal.sign(json!({"iss": "https://second.test"}));
    let with_purpose = fixture.portal.sign(json!({"iss": "https://second.test", "purpose": "cron_fire"}));
    second.knows().tokens.insert(jwt.clone(), active(&json!({})));
    let (first_asked, second_asked) = (fixture.authority.introspected(), second.introspected());
    fixture.list(&jwt).await.is(200, "");
    fixture.list(&with_purpose).await.is(401, "invalid_token");
    assert_eq!((fixture.authority.introspected(), second.introspected()), (first_asked, second_asked + 1));

    // During an outage of the portal, its tokens are sent to no other issuer, and are not rejected.
    fixture.authority.knows().faults.insert("lost".to_owned(), Fault::Says(401, "{}".to_owned()));
    fixture.authority.knows().faults.insert("odd".to_owned(), Fault::Says(200, "{\"active\":1}".to_owned()));
    fixture.authority.leave().await;
    let asked = second.introspected();
    second.knows().tokens.insert("found".to_owned(), active(&json!({})));
    second.knows().tokens.insert("2nd_found".to_owned(), active(&json!({})));
    let (found, theirs) = tokio::join!(fixture.list("found"), fixture.list("2nd_found"));
    found.not_now();
    theirs.is(200, "");
    assert_eq!(second.introspected(), asked + 1);
    fixture.authority.come_back().await;
    let (lost, odd) = tokio::join!(fixture.list("lost"), fixture.list("odd"));
    lost.not_now();
    odd.not_now();
    assert!(second.knows().unauthorized.is_empty());
    std::fs::remove_dir_all(folder).unwrap();
}

#[tokio::test]
async fn introspection_and_lookup_work_together() {
    let fixture = Fixture::with(|settings, authority| {
        introspected(super::fixture::looked_up(settings, authority), authority)
    })
    .await;
    fixture.authority.has("inst-1", "org-1", "sid-1");
    fixture.authority.knows().tokens.insert("opaque".to_owned(), active(&json!({})));
    fixture.provision("opaque", "job", -1).await.is(200, "");
    eventually("it is fired", async || (fixture.agents.fires_of("job").len() == 1).then_some(())).await;
    assert_eq!((fixture.authority.introspected(), fixture.authority.lookups()), (1, 1));
}
