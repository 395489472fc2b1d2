//! Credentials of NATS at trace level: accepted, refused, and where they do not belong.

use std::fs;
use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nas_cron_testing::nats::{Login, NatsServers, Setup};
use nas_cron_testing::service::{Service, Settings};
use nas_cron_testing::world::{World, eventually};

use super::search::{Secret, Seen};
use super::verbose::{always_used, command, service, verbose};

/// A password in the URL of a server, as other clients of NATS accept it.
const IN_THE_URL: &str = "pass-of-the-nats-user";

/// Adds these servers, and a credentials file.
fn on(settings: Settings, servers: &NatsServers, credentials: &Path) -> Settings {
    let options = servers.options();
    let text = |path: &Path| path.to_str().unwrap().to_owned();
    verbose(settings)
        .with("NAS_CRON_BACKEND", "nats")
        .with("NAS_CRON_NATS_URLS", servers.urls().join(","))
        .with("NAS_CRON_NATS_CREDENTIALS_FILE", text(credentials))
        .with("NAS_CRON_NATS_CA_FILE", text(&options.tls_ca_file.unwrap()))
        .with("NAS_CRON_NATS_CERTIFICATE_FILE", text(&options.tls_cert_file.unwrap()))
        .with("NAS_CRON_NATS_KEY_FILE", text(&options.tls_key_file.unwrap()))
        // The built-in loop does not take over.
        .with("NAS_CRON_WATCHDOG_GRACE", "1h")
}

/// Returns the secrets in a credentials file: the user's JWT, and the seed of its key.
fn credentials(path: &Path) -> Vec<Secret> {
    let text = fs::read_to_string(path).unwrap();
    let block = |name: &str| {
        let (_, block) = text.split_once(&format!("-----BEGIN {name}-----\n")).expect(name);
        block.lines().next().expect(name).to_owned()
    };
    let mut secrets: Vec<_> = Secret::jwt("JWT of a NATS user", &block("NATS USER JWT")).collect();
    secrets.push(Secret::new("seed of a NATS user", block("USER NKEY SEED")));
    secrets
}

/// Returns the secrets in the file of a private key: its number, and a line that has a part of it.
fn private_key(path: &Path) -> [Secret; 2] {
    let pem = fs::read_to_string(path).unwrap();
    let lines: Vec<_> = pem.lines().filter(|line| !line.starts_with("-----")).collect();
    let der = STANDARD.decode(lines.concat()).unwrap();
    [Secret::new("key of a NATS client", &der[36..68]), Secret::new("line of that key", lines[1])]
}

#[tokio::test]
async fn no_credential_of_nats_is_logged_printed_or_shown() {
    let mut servers = NatsServers::start(Setup { login: Login::Credentials, tls: true, ..Setup::OPEN }).await;
    let (mut seen, mut secrets) = (Seen::default(), always_used());
    secrets.extend(credentials(&servers.credentials_file()));
    secrets.extend(credentials(&servers.foreign_credentials_file()));
    secrets.extend(private_key(&servers.options().tls_key_file.unwrap()));
    secrets.push(Secret::new("password in a URL", IN_THE_URL));

    // Wake-ups, before and after the connection is lost.
    let world = World::with(|settings| on(settings, &servers, &servers.credentials_file())).await;
    secrets.extend(Secret::jwt("access token", &world.token));
    world.arm("before", 6_000).await;
    secrets.extend(Secret::jwt("fire token", &world.agents.wait_for("before", 1).await.token));
    servers.kill(0).await;
    eventually("the loss is noticed", async || {
        world.service.log().contains("connection to NATS lost").then_some(())
    })
    .await;
    command(&mut seen, &world.settings, &["doctor"]).await;
    servers.restart(0).await;
    eventually("the connection is back", async || {
        (world.service.log().matches("connected to NATS").count() >= 2).then_some(())
    })
    .await;
    world.arm("after", 6_000).await;
    secrets.extend(Secret::jwt("fire token", &world.agents.wait_for("after", 1).await.token));
    for arguments in [
        &["config", "show"][..],
        &["config", "show", "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["status"],
        &["backend", "status"],
    ] {
        command(&mut seen, &world.settings, arguments).await;
    }
    service(&mut seen, "the service", &world.service).await;

    // Credentials that the servers refuse.
    let refused = on(world.settings.clone(), &servers, &servers.foreign_credentials_file());
    let stranger = Service::spawn(&refused).await;
    eventually("the refusal is logged", async || {
        stranger.log().contains("connecting to NATS failed").then_some(())
    })
    .await;
    command(&mut seen, &refused, &["doctor"]).await;
    service(&mut seen, "the service with other credentials", &stranger).await;

    // Credentials in a URL, with and without its scheme.
    for scheme in ["nats://", ""] {
        let url = format!("{scheme}nas-cron:{IN_THE_URL}@127.0.0.1:4222");
        let settings = world.settings.clone().with("NAS_CRON_NATS_URLS", url);
        let (status, _, said) = settings.run(&["serve"]).await;
        assert!(!status.success() && said.contains("contains credentials"), "{said}");
        seen.add("the refusal of a URL", said);
        for arguments in [&["config", "show"][..], &["config", "show", "--json"], &["doctor"]] {
            command(&mut seen, &settings, arguments).await;
        }
    }
    let leaks = seen.leaks(&secrets);
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}
