//! `nas-cron agents enroll`.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::time::Duration;

use nas_cron_testing::portal::PORTAL_URL;
use nas_cron_testing::service::Service;
use serde_json::{Value, json};
use tokio::time::timeout;

use super::fixture::{World, refresh, refresh_token};

#[tokio::test]
async fn enroll_prints_the_login_and_configuration_of_the_agent() {
    let world = World::new().await;
    let enrolled = world.enroll_with("agent-1", &[]).await;
    assert_eq!(enrolled["login"], "begun");
    assert_eq!(enrolled["environment"], json!({"HERMES_PORTAL_BASE_URL": PORTAL_URL}));
    assert_eq!(
        enrolled["config"]["cron"],
        json!({"provider": "chronos", "chronos": {
            "portal_url": PORTAL_URL, "callback_url": world.agents.callback("agent-1"),
            "expected_audience": "agent:agent-1", "nas_jwks_url": format!("{PORTAL_URL}/api/agent-cron/jwks.json"),
        }})
    );
    let login = &enrolled["auth"]["providers"]["nous"];
    assert_eq!(
        (&login["client_id"], &login["portal_base_url"]),
        (&json!("hermes-cli-vps"), &json!(PORTAL_URL))
    );
    assert!(login["expires_at"].as_str().unwrap() < "2000", "it must refresh at once: {login}");
    let callback = world.agents.callback("agent-1");
    let (_, text, _) = world
        .settings
        .run(&["agents", "enroll", "agent-1", "--org", "org-1", "--callback-url", &callback])
        .await;
    for part in
        ["auth.json", "config.yaml", "provider: chronos", "export HERMES_PORTAL_BASE_URL=https://portal.test"]
    {
        assert!(text.contains(part), "{part} is not in {text}");
    }
    assert!(text.contains(&refresh_token(&enrolled)), "the same login again");
}

#[tokio::test]
async fn repeating_an_enrollment_keeps_the_login_and_a_new_login_ends_it() {
    let world = World::new().await;
    let first = world.enroll("agent-1").await;
    let answer = refresh(&world.service, &first).await;
    let (access_token, second) = (answer.field("access_token"), answer.field("refresh_token"));
    let again = world.enroll_with("agent-1", &[]).await;
    assert_eq!((&again["login"], refresh_token(&again)), (&json!("kept"), first.clone()));
    let third = refresh(&world.service, &second).await.field("refresh_token");
    let again = world.enroll_with("agent-1", &[]).await;
    assert_eq!(refresh_token(&again), second, "the printed token is valid");
    world.service.list(&access_token).await;

    let new = world.enroll_with("agent-1", &["--new-login"]).await;
    assert_eq!(new["login"], "replaced");
    assert_eq!(refresh(&world.service, &third).await.error(), (400, "invalid_grant".to_owned()));
    let (status, body) =
        world.service.post("/api/agent-cron/cancel", &access_token, &json!({"job_id": "x"})).await;
    assert_eq!(
        (status, body["error"].as_str()),
        (401, Some("invalid_token")),
        "the old session has ended: {body}"
    );
    assert_eq!(refresh(&world.service, &refresh_token(&new)).await.status, 200);
    let shown = world.agents(&["show", "agent-1"]).await;
    assert!(shown["login"]["refreshed_at"].is_string() && shown["login"]["ended_at"].is_null(), "{shown}");
}

#[tokio::test]
async fn enrolling_keeps_a_registered_session_and_replaces_it_after_a_token_reuse() {
    let world = World::new().await;
    world.agents(&["add", "agent-1", "--org", "org-1", "--session", "sid-1"]).await;
    let session = |enrolled: &Value| enrolled["agent"]["bootstrap_session_id"].as_str().unwrap().to_owned();
    let enrolled = world.enroll_with("agent-1", &[]).await;
    assert_eq!(session(&enrolled), "sid-1");
    let first = refresh_token(&enrolled);
    let second = refresh(&world.service, &first).await.field("refresh_token");
    refresh(&world.service, &second).await;
    assert_eq!(refresh(&world.service, &first).await.status, 400);
    let after = world.enroll_with("agent-1", &[]).await;
    assert_eq!(after["login"], "begun");
    assert_ne!(session(&after), "sid-1", "access tokens of the old login may exist");
    assert_eq!(refresh(&world.service, &refresh_token(&after)).await.status, 200);
}

#[tokio::test]
async fn concurrent_enrollments_make_one_login() {
    let world = World::new().await;
    let enrolled = futures::future::join_all((0..4).map(|_| world.enroll("agent-1"))).await;
    assert!(enrolled.iter().all(|token| *token == enrolled[0]), "several logins");
}

#[tokio::test]
async fn enroll_rejects_unusable_settings_before_it_changes_anything() {
    let world = World::new().await;
    let callback = world.agents.callback("agent-1");
    let enroll = ["agents", "enroll", "agent-1", "--org", "org-1", "--callback-url", &callback];
    let refused =
        async |settings: &nas_cron_testing::service::Settings, arguments: &[&str], code: i32, named: &str| {
            let (status, out, said) = settings.run(arguments).await;
            assert_eq!((status.code(), out.as_str()), (Some(code), ""), "{said}");
            assert!(said.contains(named), "{named} is not in {said}");
        };
    let off = world.settings.clone().without("NAS_CRON_OWN_PORTAL");
    refused(&off, &enroll, 2, "own_portal").await;
    let no_key = world.settings.clone().without("NAS_CRON_KEY_ENCRYPTION_KEY");
    refused(&no_key, &enroll, 2, "NAS_CRON_KEY_ENCRYPTION_KEY").await;
    let other_key = world.settings.clone().with("NAS_CRON_KEY_ENCRYPTION_KEY", OTHER_KEY);
    refused(&other_key, &enroll, 1, "NAS_CRON_KEY_ENCRYPTION_KEY").await;
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM instances").fetch_one(&world.pool).await.unwrap();
    assert_eq!(count, 0);
    world.enroll("agent-1").await;
    let elsewhere =
        ["agents", "enroll", "agent-1", "--org", "org-2", "--callback-url", &callback, "--new-login"];
    refused(&world.settings, &elsewhere, 1, "--move-org").await;
}

/// Another key-encryption key than that of the issued tokens.
const OTHER_KEY: &str = "QUJDREVGR0hJSktMTU5PUFFSU1RVVldYWVowMTIzNDU=";

/// With another key, every agent would get `invalid_grant` and delete its tokens.
#[tokio::test]
async fn another_key_encryption_key_fails_the_start_and_ends_no_login() {
    let world = World::new().await;
    world.enroll("agent-1").await;
    world.enroll("agent-2").await;
    // As if the signing keys were in files, so that the logins alone depend on the key.
    world.sql("UPDATE logins SET key_id = decode('0011223344556677', 'hex')").await;
    let (status, _, said) =
        timeout(Duration::from_mins(1), world.settings.run(&["serve"])).await.expect("it refuses to start");
    assert_eq!(status.code(), Some(1), "{said}");
    assert!(said.contains("another key-encryption key") && said.contains("--new-login"), "{said}");
    assert!(said.contains("(agent-1, agent-2)"), "{said}");
    // No enrollment creates a login with a second key.
    let callback = world.agents.callback("agent-1");
    for (instance, more) in [("agent-1", &[][..]), ("agent-3", &[]), ("agent-3", &["--new-login"])] {
        let enroll = ["agents", "enroll", instance, "--org", "org-1", "--callback-url", &callback];
        let (status, _, said) = world.settings.run(&[&enroll, more].concat()).await;
        assert!(!status.success() && said.contains("--new-login"), "{said}");
    }
    let count: i64 =
        sqlx::query_scalar("SELECT count(*) FROM instances").fetch_one(&world.pool).await.unwrap();
    assert_eq!(count, 2, "no agent is registered");
    // If the key is lost, new logins replace the old ones.
    world.enroll_with("agent-1", &["--new-login"]).await;
    world.enroll_with("agent-2", &["--new-login"]).await;
    Service::start(&world.settings).await;
}

/// A token of an old session gets `invalid_token`, after which agents refresh it. On `invalid_client`, real agents
/// would stop for good.
#[tokio::test]
async fn token_of_an_old_session_is_invalid_token_at_any_age() {
    let world = World::new().await;
    let first = world.enroll("agent-1").await;
    let minted = refresh(&world.service, &first).await.field("access_token");
    let claims = super::fixture::claims(&minted);
    world.sql("UPDATE instances SET bootstrap_session_id = 'another'").await;
    // The same token, as if it had been issued a quarter of an hour ago.
    let old = super::keys::minted_ago(&world, &claims, Duration::from_mins(15)).await;
    for token in [&minted, &old] {
        let (status, body) =
            world.service.post("/api/agent-cron/cancel", token, &json!({"job_id": "x"})).await;
        assert_eq!((status, body["error"].as_str()), (401, Some("invalid_token")), "{body}");
    }
    let fresh = refresh(&world.service, &first).await.field("access_token");
    world.service.list(&fresh).await;
}

/// The last login must stay known, because its tokens may have leaked: the next one gets a new session.
#[tokio::test]
async fn a_login_is_not_pruned_before_its_successor_begins() {
    let world = World::new().await;
    let db = nas_cron_testing::database::connect(&world.url);
    let prune = async || nas_cron::db::logins::prune(&db, Duration::from_hours(1)).await.unwrap();
    let session = |enrolled: &Value| enrolled["agent"]["bootstrap_session_id"].as_str().unwrap().to_owned();
    let enrolled = world.enroll_with("agent-1", &[]).await;
    world.sql("UPDATE logins SET ended_at = now() - interval '30 days', ended_by = 'reused'").await;
    assert_eq!(prune().await, 0);
    let after = world.enroll_with("agent-1", &[]).await;
    assert_ne!(session(&after), session(&enrolled));
    assert_eq!(prune().await, 1);
    assert_eq!(refresh(&world.service, &refresh_token(&after)).await.status, 200);
}

/// A folder that is removed after the test.
struct Scratch(PathBuf);

impl Drop for Scratch {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

#[tokio::test]
async fn enroll_writes_a_home_and_does_not_overwrite_files() {
    let world = World::new().await;
    let home = Scratch(std::env::temp_dir().join(format!("nas-cron-enroll-{:016x}", rand::random::<u64>())));
    let folder = home.0.to_str().unwrap();
    let enrolled = world.enroll_with("agent-1", &["--home", folder]).await;
    assert!(enrolled["auth"].is_null(), "written files are not printed");
    let auth = std::fs::read(home.0.join("auth.json")).unwrap();
    let auth_mode = std::fs::metadata(home.0.join("auth.json")).unwrap().permissions().mode();
    assert_eq!(auth_mode & 0o777, 0o600);
    let config = std::fs::read_to_string(home.0.join("config.yaml")).unwrap();
    assert!(config.contains("expected_audience: \"agent:agent-1\""), "{config}");

    let callback = world.agents.callback("agent-1");
    let again =
        ["agents", "enroll", "agent-1", "--org", "org-1", "--callback-url", &callback, "--home", folder];
    let (status, out, said) = world.settings.run(&[&again[..], &["--new-login"]].concat()).await;
    assert!(!status.success() && said.contains("--force") && out.is_empty(), "{said}");
    assert_eq!(std::fs::read(home.0.join("auth.json")).unwrap(), auth);
    let token = serde_json::from_slice::<Value>(&auth).unwrap()["providers"]["nous"]["refresh_token"].clone();
    let answer = refresh(&world.service, token.as_str().unwrap()).await;
    assert_eq!(answer.status, 200, "the login has not ended: {answer:?}");

    let (status, out, said) = world.settings.run(&[&again[..], &["--force", "--new-login"]].concat()).await;
    assert!(
        status.success() && out.contains("config.yaml already exists; add this part to it"),
        "{out}{said}"
    );
    assert!(!out.contains("nascron_rt_"), "written files are not printed");
    assert_ne!(std::fs::read(home.0.join("auth.json")).unwrap(), auth);
}
