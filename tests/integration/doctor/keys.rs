//! Checks of keys, URLs and the admin API.

use nas_cron_testing::portal::Portal;

use super::fixture::{NOTHING_LISTENS, bare, examined, reports, served};

#[tokio::test]
async fn a_signing_key_encrypted_with_another_key_is_reported() {
    let (_world, settings) = served(|settings| settings).await;
    let other =
        settings.clone().with("NAS_CRON_KEY_ENCRYPTION_KEY", "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY=");
    let report =
        reports(&other, "signing key", "wrong", "is unusable here", "NAS_CRON_KEY_ENCRYPTION_KEY").await;
    assert_eq!(report.line("agents' JWKS").0, "ok", "the public half needs no decryption: {report:#?}");
    let none = settings.without("NAS_CRON_KEY_ENCRYPTION_KEY");
    let report =
        reports(&none, "signing key", "wrong", "is unusable here", "the key that encrypted it").await;
    let (_, found, fix) = report.line("signing key");
    assert!(!format!("{found} {fix}").contains("openssl rand"), "a new key does not help: {report:#?}");
}

#[tokio::test]
async fn missing_signing_keys_are_ok_before_the_first_start_and_reported_afterwards() {
    let (settings, _portal, _) = bare().await;
    let report =
        reports(&settings, "signing key", "ok", "none yet: `nas-cron serve` creates the first one", "").await;
    assert_eq!(report.line("agents' JWKS").0, "skipped");
    let no_key = settings.without("NAS_CRON_KEY_ENCRYPTION_KEY");
    reports(&no_key, "signing key", "wrong", "could not create one", "openssl rand -base64 32").await;

    let (mut world, settings) = served(|settings| settings).await;
    world.service.kill9();
    world.sql("UPDATE signing_keys SET state = 'retired', retired_at = now()").await;
    reports(&settings, "signing key", "wrong", "no key is active", "nas-cron keys activate").await;
}

#[tokio::test]
async fn an_unusable_agents_jwks_is_reported() {
    let (world, settings) = served(|settings| settings).await;
    let at = |url: String| settings.clone().with("NAS_CRON_AGENTS_JWKS_URL", url);
    let fix = "NAS_CRON_AGENTS_JWKS_URL";
    reports(&at(world.portal.jwks_url()), "agents' JWKS", "wrong", "agents reject every fire", fix).await;
    reports(&at(format!("{}/nowhere", world.service.url)), "agents' JWKS", "wrong", "404", fix).await;
    reports(&at(format!("{}/healthz", world.service.url)), "agents' JWKS", "wrong", "is not a JWKS", fix)
        .await;
    // Agents may reach more than this machine.
    let unreachable = at(format!("http://{NOTHING_LISTENS}/jwks.json"));
    reports(&unreachable, "agents' JWKS", "warning", "is unreachable from here", "curl").await;
}

#[tokio::test]
async fn an_unavailable_portal_jwks_is_reported() {
    let (settings, portal, _) = bare().await;
    reports(&settings, "portal's keys", "ok", "1 usable", "").await;
    portal.leave().await;
    reports(&settings, "portal's keys", "wrong", "the portal is unavailable", "NAS_CRON_PORTAL_JWKS_URL")
        .await;
    let file = std::env::temp_dir().join(format!("{}.json", uuid::Uuid::new_v4()));
    let pinned = settings.without("NAS_CRON_PORTAL_JWKS_URL");
    let pinned = pinned.with("NAS_CRON_PORTAL_JWKS_FILE", file.to_str().unwrap());
    reports(&pinned, "portal's keys", "wrong", "No such file", "NAS_CRON_PORTAL_JWKS_FILE").await;
    std::fs::write(&file, r#"{"keys":[]}"#).unwrap();
    reports(&pinned, "portal's keys", "wrong", "none of its keys", "NAS_CRON_PORTAL_JWKS_FILE").await;
    std::fs::write(&file, Portal::start().await.jwks().to_string()).unwrap();
    reports(&pinned, "portal's keys", "ok", "1 usable", "").await;
    std::fs::remove_file(&file).unwrap();
}

#[tokio::test]
async fn warnings_alone_exit_with_0() {
    let (_world, settings) = served(|settings| settings).await;
    let settings =
        settings.with("NAS_CRON_PUBLIC_URL", "http://nas.example").without("NAS_CRON_ADMIN_TOKEN_SHA256");
    let report = examined(&settings, |report| report.complaints() == ["public URLs", "admin API"]).await;
    assert_eq!(report.code, Some(0), "{report:#?}");
    assert!(report.line("public URLs").1.starts_with("plain http in public_url:"), "{report:#?}");
}
