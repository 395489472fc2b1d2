//! Denials by the portal and by the operator, and moves of instances and sessions.

use std::time::Duration;

use nas_cron_testing::service::Settings;
use nas_cron_testing::world::eventually;
use serde_json::{Value, json};

use super::fixture::Fixture;

/// Settings with very short cache TTLs.
fn short_ttls(settings: Settings) -> Settings {
    settings.with("NAS_CRON_LOOKUP_TTL", "1s").with("NAS_CRON_LOOKUP_NEGATIVE_TTL", "100ms")
}

/// Makes the cached responses expire.
async fn later(fixture: &Fixture) {
    fixture.sql("UPDATE instances SET looked_up_at = looked_up_at - interval '1 h'").await;
    tokio::time::sleep(Duration::from_millis(150)).await;
}

async fn denied(fixture: &Fixture) -> Option<String> {
    fixture.value("SELECT denied_by_portal::text FROM instances WHERE instance_id = 'inst-1'").await
}

#[tokio::test]
async fn fires_of_an_instance_unknown_to_the_portal_are_held_until_it_is_known_again() {
    let fixture = Fixture::looking_up(short_ttls).await;
    fixture.authority.has("inst-1", "org-1", "sid-1");
    let token = fixture.old_client("org-1", "inst-1");
    fixture.provision(&token, "job", 8_000).await.is(200, "");
    fixture.authority.knows().instances.clear();
    later(&fixture).await;
    fixture.list(&token).await.is(403, "invalid_client");
    fixture.list(&fixture.portal.client_token("org-1", "inst-1")).await.not_now();
    assert_eq!(denied(&fixture).await.as_deref(), Some("unknown"));
    let shown = fixture.service.admin("GET", "/api/admin/agents/inst-1", None).await.1;
    assert_eq!(
        (&shown["denied_by_portal"], &shown["on_hold"], &shown["enabled"]),
        (&json!("unknown"), &json!(true), &json!(true))
    );
    let (_, told, _) = fixture.settings.run(&["agents", "show", "inst-1"]).await;
    assert!(told.contains("denied: the portal reports it as unknown"), "{told}");
    eventually("it is parked", async || {
        fixture.value::<bool>("SELECT parked IS NOT NULL FROM one_shots").await.then_some(())
    })
    .await;
    assert_eq!(fixture.agents.fires_of("job").len(), 0);

    fixture.authority.has("inst-1", "org-1", "sid-1");
    tokio::time::sleep(Duration::from_millis(150)).await;
    fixture.list(&token).await.is(200, "");
    assert_eq!(denied(&fixture).await, None);
    eventually("it is fired", async || (fixture.agents.fires_of("job").len() == 1).then_some(())).await;
}

#[tokio::test]
async fn a_denial_of_the_portal_and_a_disabling_by_the_operator_are_independent() {
    let fixture = Fixture::looking_up(short_ttls).await;
    fixture.authority.has("inst-1", "org-1", "sid-1");
    let token = fixture.old_session("org-1", "sid-1");
    fixture.list(&token).await.is(200, "");
    // The operator's setting stays, whatever the portal reports.
    assert!(fixture.settings.run(&["agents", "disable", "inst-1"]).await.0.success());
    for _ in 0..2 {
        later(&fixture).await;
        fixture.list(&token).await.is(403, "access_denied");
    }
    assert!(!fixture.value::<bool>("SELECT enabled FROM instances").await);
    assert!(fixture.settings.run(&["agents", "enable", "inst-1"]).await.0.success());
    fixture.list(&token).await.is(200, "");
    // The portal's denial stays until the portal reports otherwise.
    fixture.authority.knows().instances.values_mut().for_each(|one| one["enabled"] = json!(false));
    // A lookup that began before may still return the old state.
    eventually("the portal's denial arrives", async || {
        later(&fixture).await;
        (fixture.list(&token).await.word() == (403, "access_denied")).then_some(())
    })
    .await;
    assert_eq!(denied(&fixture).await.as_deref(), Some("disabled"));
    assert!(fixture.value::<bool>("SELECT enabled FROM instances").await);
    // An operator can clear the denial; the next lookup restores it.
    let (_, out, _) = fixture.settings.run(&["agents", "enable", "inst-1"]).await;
    assert!(out.contains("is enabled;") && denied(&fixture).await.is_none(), "{out}");
    later(&fixture).await;
    fixture.list(&token).await.is(403, "access_denied");
    // So can a registration with `enabled`; one without it keeps the denial.
    for (registration, kept) in [
        (json!({"org_id": "org-1", "callback_url": "https://agent.test/a"}), true),
        (json!({"org_id": "org-1", "enabled": true}), false),
    ] {
        let (status, body) =
            fixture.service.admin("PUT", "/api/admin/agents/inst-1", Some(&registration)).await;
        assert_eq!((status, denied(&fixture).await.is_some()), (200, kept), "{body}");
    }
    later(&fixture).await;
    fixture.list(&token).await.is(403, "access_denied");
    fixture.authority.has("inst-1", "org-1", "sid-1");
    later(&fixture).await;
    fixture.list(&token).await.is(200, "");
    assert_eq!(denied(&fixture).await, None);
}

#[tokio::test]
async fn an_instance_that_moves_takes_its_jobs_along_and_its_old_orgs_tokens_stop() {
    let fixture = Fixture::looking_up(short_ttls).await;
    fixture.authority.has("inst-1", "org-1", "sid-1");
    fixture.provision(&fixture.old_client("org-1", "inst-1"), "job", 3_600_000).await.is(200, "");
    fixture.authority.knows().instances.clear();
    fixture.authority.has("inst-1", "org-2", "sid-2");
    later(&fixture).await;
    let answer = fixture.list(&fixture.old_session("org-2", "sid-2")).await;
    assert_eq!(answer.body["armed"][0]["job_id"], "job", "{answer:?}");
    let row: Value = fixture.value("SELECT to_jsonb(i) FROM instances i").await;
    assert_eq!((&row["org_id"], &row["bootstrap_session_id"]), (&json!("org-2"), &json!("sid-2")));
    assert!(row["callback_url"].is_string(), "the callback, which the agent sets, stays: {row}");
    later(&fixture).await;
    fixture.list(&fixture.old_client("org-1", "inst-1")).await.is(403, "invalid_client");
    fixture.list(&fixture.old_session("org-1", "sid-1")).await.is(403, "invalid_client");
    assert_eq!(
        denied(&fixture).await,
        None,
        "a negative response for another org does not deny the instance"
    );
    fixture.list(&fixture.old_client("org-2", "inst-1")).await.is(200, "");
}

#[tokio::test]
async fn moved_instance_is_moved_by_the_first_call_and_never_denied() {
    let fixture = Fixture::looking_up(short_ttls).await;
    fixture.authority.has("inst-1", "org-1", "sid-1");
    fixture.provision(&fixture.old_client("org-1", "inst-1"), "job", 3_600_000).await.is(200, "");
    // To another org and back: called first with the client of the old org, then with the old session.
    for (moved_to, old) in
        [("org-2", fixture.old_client("org-1", "inst-1")), ("org-1", fixture.old_session("org-2", "sid-1"))]
    {
        fixture.authority.knows().instances.clear();
        fixture.authority.has("inst-1", moved_to, "sid-1");
        later(&fixture).await;
        fixture.list(&old).await.is(403, "invalid_client");
        let row: Value = fixture.value("SELECT to_jsonb(i) FROM instances i").await;
        assert_eq!((&row["org_id"], &row["denied_by_portal"]), (&json!(moved_to), &Value::Null), "{row}");
        let answer = fixture.list(&fixture.old_client(moved_to, "inst-1")).await;
        assert_eq!(answer.body["armed"][0]["job_id"], "job", "{answer:?}");
    }
    // A denied instance recovers when a call with its old token finds it in another org.
    fixture.authority.knows().instances.clear();
    later(&fixture).await;
    fixture.list(&fixture.old_client("org-1", "inst-1")).await.is(403, "invalid_client");
    assert_eq!(denied(&fixture).await.as_deref(), Some("unknown"));
    fixture.authority.has("inst-1", "org-3", "sid-3");
    tokio::time::sleep(Duration::from_millis(150)).await;
    fixture.list(&fixture.old_client("org-1", "inst-1")).await.is(403, "invalid_client");
    assert_eq!(denied(&fixture).await, None);
}

#[tokio::test]
async fn a_disabled_instance_is_cached_like_any_denial() {
    let fixture = Fixture::looking_up(|settings| settings.with("NAS_CRON_LOOKUP_NEGATIVE_TTL", "50s")).await;
    fixture.authority.has("inst-1", "org-1", "sid-1");
    fixture.authority.knows().instances.values_mut().for_each(|one| one["enabled"] = json!(false));
    let token = fixture.old_client("org-1", "inst-1");
    for _ in 0..5 {
        fixture.list(&token).await.is(403, "access_denied");
    }
    assert_eq!(fixture.authority.lookups(), 1, "one lookup per TTL");
}

#[tokio::test]
async fn a_session_moves_to_the_instance_named_by_the_portal() {
    let fixture = Fixture::looking_up(short_ttls).await;
    fixture.authority.has("inst-1", "org-1", "sid-1");
    let token = fixture.old_session("org-1", "sid-1");
    fixture.provision(&token, "first", 3_600_000).await.is(200, "");
    // The portal gives the session to another instance.
    fixture.authority.has("inst-2", "org-1", "sid-1");
    later(&fixture).await;
    assert_eq!(fixture.list(&token).await.body["armed"], json!([]), "another instance's list");
    let session: Option<String> =
        fixture.value("SELECT bootstrap_session_id FROM instances WHERE instance_id = 'inst-1'").await;
    assert_eq!(session, None);
    // Now the session belongs to no instance, but its former instance still exists.
    fixture.authority.knows().instances.remove("sid-1@org-1");
    fixture.authority.knows().instances.get_mut("agent:inst-2").unwrap()["bootstrap_session_id"] =
        json!("sid-3");
    later(&fixture).await;
    fixture.list(&token).await.is(403, "invalid_client");
    let row: Value = fixture.value("SELECT to_jsonb(i) FROM instances i WHERE instance_id = 'inst-2'").await;
    assert_eq!(
        (&row["denied_by_portal"], &row["bootstrap_session_id"]),
        (&Value::Null, &json!("sid-3")),
        "{row}"
    );
    // Both the session and the instance are unknown: the instance is denied.
    fixture.sql("UPDATE instances SET bootstrap_session_id = NULL WHERE instance_id = 'inst-2'").await;
    fixture.sql("UPDATE instances SET bootstrap_session_id = 'sid-1' WHERE instance_id = 'inst-1'").await;
    fixture.authority.knows().instances.clear();
    later(&fixture).await;
    fixture.list(&token).await.is(403, "invalid_client");
    assert_eq!(denied(&fixture).await.as_deref(), Some("unknown"));
}

#[tokio::test]
async fn denied_instances_with_held_fires_are_looked_up_again() {
    let fixture = Fixture::looking_up(short_ttls).await;
    for instance in ["inst-1", "inst-2", "inst-3"] {
        fixture.authority.has(instance, "org-1", instance);
    }
    let token = fixture.old_client("org-1", "inst-1");
    fixture.provision(&token, "job", 3_600_000).await.is(200, "");
    fixture.list(&fixture.old_client("org-1", "inst-2")).await.is(200, "");
    fixture.list(&fixture.old_client("org-1", "inst-3")).await.is(200, "");
    fixture.sql(
        "UPDATE instances SET denied_by_portal = 'unknown', looked_up_at = now() - interval '1 h' WHERE instance_id <> 'inst-3'",
    )
    .await;
    let db = nas_cron_testing::database::connect(fixture.settings.get("NAS_CRON_DATABASE_URL"));
    let five_minutes = Duration::from_mins(5);
    let again = nas_cron::db::lookups::to_ask_again(&db, five_minutes, 32).await.unwrap();
    // The running service may have rechecked them first.
    if !again.is_empty() {
        let names: Vec<_> = again.iter().map(nas_cron_protocol::InstanceId::as_str).collect();
        assert_eq!(names, ["inst-1"], "the others have nothing to fire, or are not denied");
        let again = nas_cron::db::lookups::to_ask_again(&db, five_minutes, 32).await.unwrap();
        assert!(again.is_empty(), "another replica has them");
        let asked_again =
            "SELECT looked_up_at < now() - interval '50 min' FROM instances WHERE instance_id = 'inst-1'";
        assert!(fixture.value::<bool>(asked_again).await, "no answer yet");
    }

    // The recheck of the service ends the denial.
    fixture.sql("UPDATE instances SET looked_up_at = now() - interval '1 h', asked_again_at = NULL").await;
    let at = nas_cron::config::Lookup {
        url: fixture.authority.lookup_url().parse().unwrap(),
        token: super::authority::LOOKUP_TOKEN.into(),
        ttl: Duration::from_mins(1),
        negative_ttl: Duration::from_secs(1),
        stale: five_minutes,
    };
    nas_cron::instance::Lookup::new(&at, db).unwrap().recheck_denied().await;
    assert_eq!(denied(&fixture).await, None);
}

#[tokio::test]
async fn a_denial_takes_effect_while_lookups_of_other_instances_fail() {
    let fixture = Fixture::looking_up(short_ttls).await;
    fixture.authority.has("inst-1", "org-1", "sid-1");
    let token = fixture.old_client("org-1", "inst-1");
    fixture.list(&token).await.is(200, "");
    fixture.authority.knows().instances.clear();
    let fault = super::authority::Fault::Says(500, String::new());
    fixture.authority.knows().faults.insert("agent:odd".to_owned(), fault);
    let odd = fixture.old_client("org-1", "odd");
    tokio::select! {
        answer = fixture.list(&odd) => panic!("it should wait for the portal: {answer:?}"),
        () = async {
            eventually("the lookup has failed", async || fixture.service.log().contains("endpoint call failed").then_some(())).await;
            later(&fixture).await;
            // Served from the cache at once, with a lookup in the background.
            fixture.list(&token).await.is(200, "");
            eventually("the negative response arrives", async || denied(&fixture).await).await;
        } => {}
    }
    fixture.list(&token).await.is(403, "invalid_client");
}
