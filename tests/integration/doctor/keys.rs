//! Keys, URLs, and who may administer.

use nas_cron_testing::portal::Portal;

use super::fixture::{NOBODY, bare, examined, says, served};

#[tokio::test]
async fn a_signing_key_sealed_with_another_key_is_reported() {
    let (_world, settings) = served(|settings| settings).await;
    let other =
        settings.clone().with("NAS_CRON_KEY_ENCRYPTION_KEY", "YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY=");
    let report =
        says(&other, "signing key", "wrong", "cannot be used here", "NAS_CRON_KEY_ENCRYPTION_KEY").await;
    assert_eq!(report.line("agents' JWKS").0, "ok", "its public half is nobody's secret: {report:#?}");
    let none = settings.without("NAS_CRON_KEY_ENCRYPTION_KEY");
    says(&none, "signing key", "wrong", "cannot be used here", "NAS_CRON_KEY_ENCRYPTION_KEY").await;
}

#[tokio::test]
async fn missing_signing_keys_are_ok_before_the_first_start_and_reported_afterwards() {
    let (settings, _portal, _) = bare().await;
    let report =
        says(&settings, "signing key", "ok", "none yet: `nas-cron serve` makes the first one", "").await;
    assert_eq!(report.line("agents' JWKS").0, "skipped");
    let no_key = settings.without("NAS_CRON_KEY_ENCRYPTION_KEY");
    says(&no_key, "signing key", "wrong", "none can be made", "openssl rand -base64 32").await;

    let (mut world, settings) = served(|settings| settings).await;
    world.service.kill9();
    world.sql("UPDATE signing_keys SET state = 'retired', retired_at = now()").await;
    says(&settings, "signing key", "wrong", "none is active", "nas-cron keys activate").await;
}

#[tokio::test]
async fn an_unusable_agents_jwks_is_reported() {
    let (world, settings) = served(|settings| settings).await;
    let at = |url: String| settings.clone().with("NAS_CRON_AGENTS_JWKS_URL", url);
    let mend = "NAS_CRON_AGENTS_JWKS_URL";
    says(&at(world.portal.jwks_url()), "agents' JWKS", "wrong", "agents refuse every fire", mend).await;
    says(&at(format!("{}/nowhere", world.service.url)), "agents' JWKS", "wrong", "404", mend).await;
    says(&at(format!("{}/healthz", world.service.url)), "agents' JWKS", "wrong", "is no key set", mend).await;
    // Agents may see more than this machine.
    let away = at(format!("http://{NOBODY}/jwks.json"));
    says(&away, "agents' JWKS", "warning", "cannot be reached from here", "curl").await;
}

#[tokio::test]
async fn an_unavailable_portal_jwks_is_reported() {
    let (settings, portal, _) = bare().await;
    says(&settings, "portal's keys", "ok", "1 usable", "").await;
    portal.leave().await;
    says(&settings, "portal's keys", "wrong", "the portal is unavailable", "NAS_CRON_PORTAL_JWKS_URL").await;
    let file = std::env::temp_dir().join(format!("{}.json", uuid::Uuid::new_v4()));
    let pinned = settings.without("NAS_CRON_PORTAL_JWKS_URL");
    let pinned = pinned.with("NAS_CRON_PORTAL_JWKS_FILE", file.to_str().unwrap());
    says(&pinned, "portal's keys", "wrong", "No such file", "NAS_CRON_PORTAL_JWKS_FILE").await;
    std::fs::write(&file, r#"{"keys":[]}"#).unwrap();
    says(&pinned, "portal's keys", "wrong", "none of its keys", "NAS_CRON_PORTAL_JWKS_FILE").await;
    std::fs::write(&file, Portal::start().await.jwks().to_string()).unwrap();
    says(&pinned, "portal's keys", "ok", "1 usable", "").await;
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
