//! Checks of the active backend and of the external backends.

use nas_cron_testing::nats::NatsServers;
use nas_cron_testing::qstash_emulator::Emulator;
use nas_cron_testing::service::Settings;

use super::fixture::{NOTHING_LISTENS, bare, examined, reports, served};

fn with_qstash(settings: Settings, emulator: &Emulator) -> Settings {
    let account = emulator.settings();
    settings
        .with("NAS_CRON_QSTASH_URL", emulator.url())
        .with("NAS_CRON_QSTASH_TOKEN", &account.token)
        .with("NAS_CRON_QSTASH_CURRENT_SIGNING_KEY", &account.current_key)
        .with("NAS_CRON_QSTASH_NEXT_SIGNING_KEY", &account.next_key)
}

#[tokio::test]
async fn an_unconfigured_active_backend_is_reported() {
    let (world, settings) = served(|settings| settings).await;
    let report = reports(&settings, "active backend", "ok", "postgres, activated", "").await;
    assert_eq!(report.line("direct mode").0, "ok");
    for (backend, needs) in [("nats", "NAS_CRON_NATS_URLS"), ("qstash", "NAS_CRON_QSTASH_TOKEN")] {
        world.sql(&format!("UPDATE active_backend SET backend = '{backend}'")).await;
        let report = reports(&settings, "active backend", "wrong", "not configured here", needs).await;
        assert!(report.line("active backend").2.contains("nas-cron backend switch postgres"));
    }
}

#[tokio::test]
async fn direct_mode_is_reported_with_its_limits() {
    let (world, settings) = served(|settings| settings).await;
    let emulator = Emulator::quick().await;
    world.sql("UPDATE active_backend SET backend = 'qstash_direct'").await;
    let settings = with_qstash(settings, &emulator);
    let report =
        reports(&settings, "direct mode", "warning", "invariant 3", "docs/backends.md, \"Direct mode\"")
            .await;
    let found = report.line("direct mode").1;
    for given_up in ["invariant 4", "invariant 5", "invariant 7", "only from QStash's log"] {
        assert!(found.contains(given_up), "{given_up}: {found}");
    }
    assert!(report.line("active backend").1.starts_with("qstash_direct, activated"), "{report:#?}");
}

#[tokio::test]
async fn an_unreachable_nats_server_is_reported() {
    let servers = NatsServers::one().await;
    let (_world, settings) = served(|settings| settings).await;
    let settings = settings.with("NAS_CRON_NATS_URLS", servers.urls().join(","));
    let report = examined(&settings, |report| report.complaints().is_empty()).await;
    assert_eq!((report.code, report.line("NATS").0), (Some(0), "ok"), "{report:#?}");
    drop(servers);
    let report = reports(&settings, "NATS", "wrong", "could not be reached", "NAS_CRON_NATS_URLS").await;
    assert!(report.line("NATS").2.contains("nas-cron backend switch postgres"), "{report:#?}");
    let missing = settings.with("NAS_CRON_NATS_CREDENTIALS_FILE", "/nowhere/nats.creds");
    reports(&missing, "NATS", "wrong", "/nowhere/nats.creds", "`nas-cron serve` does not start").await;
}

#[tokio::test]
async fn an_unreachable_qstash_and_wrong_signing_keys_are_reported() {
    let emulator = Emulator::quick().await;
    let (settings, _portal, _) = bare().await;
    let settings = with_qstash(settings, &emulator);
    let report = reports(&settings, "QStash", "ok", "reachable", "").await;
    assert_eq!(report.line("QStash").0, "ok");
    reports(&settings, "QStash's keys", "ok", "the current and the next key", "").await;
    emulator.rotate_keys();
    let fix = "NAS_CRON_QSTASH_NEXT_SIGNING_KEY";
    reports(&settings, "QStash's keys", "warning", "after its next rotation", fix).await;
    emulator.rotate_keys();
    reports(&settings, "QStash's keys", "wrong", "every wake-up is refused", fix).await;

    let stranger = settings.clone().with("NAS_CRON_QSTASH_TOKEN", "WRONG-TOKEN");
    let report = reports(&stranger, "QStash", "wrong", "refused", "NAS_CRON_QSTASH_TOKEN").await;
    assert!(!report.json.to_string().contains("WRONG-TOKEN"), "{report:#?}");
    emulator.go_down().await;
    let report = reports(&settings, "QStash", "wrong", "could not be reached", "NAS_CRON_QSTASH_URL").await;
    assert_eq!(report.line("QStash's keys").0, "skipped", "{report:#?}");
}

#[tokio::test]
async fn a_relay_url_that_leads_elsewhere_is_reported() {
    let emulator = Emulator::quick().await;
    let (world, settings) = served(|settings| settings).await;
    let at = |url: String| with_qstash(settings.clone(), &emulator).with("NAS_CRON_RELAY_URL", url);
    let ours = at(format!("{}/api/agent-cron/relay", world.service.url));
    let report = reports(&ours, "relay", "warning", "leads to the service", "public https URL").await;
    assert!(report.line("relay").1.ends_with("but its host is not public"), "{report:#?}");
    let fix = "route the unchanged path to the service";
    reports(&at(format!("{}/api/agent-cron/rely", world.service.url)), "relay", "wrong", "answers 404", fix)
        .await;
    reports(&at(world.portal.jwks_url()), "relay", "wrong", "answers 405", fix).await;
    reports(
        &at(format!("https://{NOTHING_LISTENS}/relay")),
        "relay",
        "warning",
        "could not be reached from here",
        "401",
    )
    .await;
    let unused = examined(&settings, |report| report.line("relay").0 == "skipped").await;
    assert!(unused.line("relay").1.ends_with("only QStash calls it"));
}
