//! Everything once at trace level: what the service and its commands write has none of the secrets that were used.

use std::fs;
use std::time::Duration;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nas_cron_testing::agent::Reply;
use nas_cron_testing::database::database;
use nas_cron_testing::service::{Service, client};
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::{World, eventually};
use serde_json::{Value, json};

use super::search::{Secret, Seen};
use super::verbose::{always_used, command, service, signing_keys, verbose};
use crate::agent_identity::fixture::{Identity, on};
use crate::operators_page::fixture::{Operator, every_page};
use crate::own_portal::fixture::{self as own_portal, refresh, refresh_token};
use crate::relay::caller::{RELAY_URL, silent_emulator, with_qstash};
use crate::traces::collector::Collector;
use crate::webhooks::receiver::Receiver;

const LOOKUP_TOKEN: &str = "token-of-the-lookup";
const CLIENT_SECRET: &str = "secret-of-the-introspection";
const OTLP_HEADER: &str = "header-of-the-collector";

#[tokio::test]
#[expect(clippy::too_many_lines, reason = "one run of everything, in its order")]
async fn no_secret_that_is_used_is_logged_printed_shown_or_exported() {
    let mut seen = Seen::default();
    let mut secrets = always_used();
    secrets.extend([
        Secret::new("lookup token", LOOKUP_TOKEN),
        Secret::new("client secret", CLIENT_SECRET),
        Secret::new("header of the collector", OTLP_HEADER),
    ]);
    let collector = Collector::start().await;
    let emulator = silent_emulator().await;
    let account = emulator.settings();
    secrets.push(Secret::new("QStash token", &account.token));
    secrets.push(Secret::new("QStash key", &account.current_key));
    secrets.push(Secret::new("next QStash key", &account.next_key));
    let receiver = Receiver::start().await;

    // A service with QStash, a collector, agent identities, lookups and introspection.
    let world = World::with(|settings| {
        on(verbose(with_qstash(settings, &emulator)))
            .with("NAS_CRON_ADMIN_LISTEN", "127.0.0.1:0")
            .with("NAS_CRON_OTLP_ENDPOINT", collector.endpoint("accept"))
            .with("NAS_CRON_OTLP_HEADERS", format!("x-secret={OTLP_HEADER}"))
            .with("NAS_CRON_EVENT_GROUP_WAIT", "0s")
            .with("NAS_CRON_EVENT_GROUP_INTERVAL", "0s")
            .with("NAS_CRON_RETRY_GIVE_UP_AFTER", "1s")
            .with("NAS_CRON_RETRY_CAP", "1s")
            .with("NAS_CRON_RETRY_AMBIGUOUS_FLOOR", "1s")
    })
    .await;
    secrets.extend(Secret::jwt("access token", &world.token));

    // Webhooks, with a secret that is rotated.
    let create = json!({ "url": receiver.url });
    let (status, created) = world.service.admin("POST", "/api/admin/webhooks", Some(&create)).await;
    assert_eq!(status, 201, "{created}");
    let path = format!("/api/admin/webhooks/{}", created["webhook_id"].as_str().unwrap());
    let (_, rotated) = world.service.admin("POST", &format!("{path}/rotate-secret"), None).await;
    for shown in [&created, &rotated] {
        let secret =
            shown["secret"].as_str().unwrap_or_else(|| panic!("{shown}")).trim_start_matches("whsec_");
        secrets.push(Secret::new("secret of a webhook", STANDARD.decode(secret).unwrap()));
    }
    let (status, tested) = world.service.admin("POST", &format!("{path}/test"), None).await;
    assert_eq!((status, &tested["accepted"]), (200, &json!(true)), "{tested}");
    seen.add("the test of a webhook", tested.to_string());

    // Agents: assertions, provisions, retries, dead letters, and wake-ups over the relay.
    let identity = Identity::new(&world.service, &world.token).await;
    let assertion = identity.assertion();
    secrets.push(Secret::new("assertion", assertion.split(' ').next_back().unwrap()));
    let list = format!("{}/api/agent-cron/list", world.service.url);
    let listed = client().get(&list).header("authorization", &assertion).send().await.unwrap();
    assert_eq!(listed.status(), 200);
    seen.add("an answer to an assertion", listed.text().await.unwrap());
    world.agents.answer(|fire, earlier| match (fire.job_id.as_str(), earlier) {
        ("bad", _) => Reply::status(500),
        (_, 0) => Reply::busy("1"),
        _ => Reply::accepted(),
    });
    for job in ["good", "bad"] {
        let at = fire_at(0);
        let schedule = world.service.provision(&world.token, job, &at, &world.callback()).await;
        let body = json!({ "instance_id": "inst-1", "job_id": job, "schedule_id": schedule, "fire_at": at })
            .to_string();
        let signature = emulator.sign(RELAY_URL, body.as_bytes());
        secrets.extend(Secret::jwt("relay signature", &signature));
        let relay = format!("{}/api/agent-cron/relay", world.service.url);
        let answer =
            client().post(relay).header("upstash-signature", signature).body(body).send().await.unwrap();
        seen.add("an answer of the relay", answer.text().await.unwrap());
        secrets.extend(Secret::jwt("fire token", &world.agents.wait_for(job, 1).await.token));
    }
    secrets.extend(Secret::jwt("fire token", &world.agents.wait_for("good", 2).await.token));
    eventually("one is dead", async || {
        let list = world.service.list(&world.token).await;
        (list["dead"].as_array().unwrap().len() == 1).then_some(())
    })
    .await;

    // Callers with invalid credentials, and everything that is shown.
    for token in [
        "opaque-token-without-an-issuer",
        "eyJhbGciOiJFUzI1NiJ9.c2VjcmV0LW9mLW5vYm9keS1hdC1hbGw.c2lnbmF0dXJlLW9mLW5vYm9keQ",
    ] {
        secrets.push(Secret::new("invalid token", token));
        for path in ["/api/agent-cron/list", "/api/admin/agents", "/nowhere"] {
            let url = format!("{}{path}?access_token={token}", world.service.url);
            seen.add(path, client().get(url).bearer_auth(token).send().await.unwrap().text().await.unwrap());
        }
    }
    let create = json!({ "name": "desk", "role": "admin" });
    let (status, token) = world.service.admin("POST", "/api/admin/tokens", Some(&create)).await;
    assert_eq!(status, 201, "{token}");
    let token = token["token"].as_str().unwrap();
    secrets.push(Secret::new("created admin token", token));
    let mut operator = Operator::at(&world.service.admin_url);
    assert_eq!(operator.sign_in(&[("token", "a-wrong-admin-token")]).await.status, 401);
    secrets.push(Secret::new("wrong admin token", "a-wrong-admin-token"));
    assert_eq!(operator.sign_in(&[("token", token)]).await.status, 303);
    let cookie = operator.cookie.clone().expect("a session");
    secrets.push(Secret::new("session", cookie.split_once('=').unwrap().1));
    for path in every_page("inst-1", "bad") {
        let page = operator.get(&path).await;
        seen.add(path, page.html);
    }
    let (_, document) = world.service.admin("GET", "/openapi.json", None).await;
    for path in document["paths"].as_object().unwrap().keys().filter(|path| !path.contains('{')) {
        let (_, answer) = world.service.admin("GET", path, None).await;
        seen.add(path, answer.to_string());
    }

    // Commands.
    for arguments in [
        &["config", "show"][..],
        &["config", "show", "--json"],
        &["doctor"],
        &["doctor", "--json"],
        &["status"],
        &["keys", "list", "--json"],
        &["keys", "rewrap"],
        &["keys", "rotate"],
        &["webhooks", "list", "--json"],
        &["admin-tokens", "list", "--json"],
        &["agents", "list", "--json"],
        &["agents", "show", "inst-1", "--json"],
        &["jobs", "show", "inst-1", "bad", "--json"],
        &["audit"],
        &["backend", "status"],
        &["export", "-"],
        &["migrate", "--dry-run"],
        &["serve", "--listen", "nowhere"],
    ] {
        command(&mut seen, &world.settings, arguments).await;
    }
    // A span of the fire, which the collector gets later.
    collector.span("fire", ("job.id", "good")).await;
    for export in collector.exports() {
        seen.add("an export of traces", format!("{:?} {:?}", export.resource, export.spans));
    }
    for call in receiver.calls() {
        seen.add("an event", call.event.to_string());
    }
    service(&mut seen, "the service", &world.service).await;

    // A service that asks a portal, which is unavailable.
    let asking = verbose(world.settings.clone())
        .with("NAS_CRON_DIRECTORY", "lookup")
        .with("NAS_CRON_LOOKUP_URL", "http://127.0.0.1:9/lookup")
        .with("NAS_CRON_LOOKUP_TOKEN", LOOKUP_TOKEN)
        .with("NAS_CRON_INTROSPECTION_URL", "http://127.0.0.1:9/introspect")
        .with("NAS_CRON_INTROSPECTION_CLIENT_ID", "nas-cron")
        .with("NAS_CRON_INTROSPECTION_CLIENT_SECRET", CLIENT_SECRET);
    let asks = Service::start(&asking).await;
    for token in [world.portal.client_token("org-1", "inst-9").as_str(), "an-opaque-access-token"] {
        let url = format!("{}/api/agent-cron/list", asks.url);
        let answer = client().get(url).bearer_auth(token).send().await.unwrap();
        assert_eq!(answer.status(), 503);
        seen.add("an answer while the portal is unavailable", answer.text().await.unwrap());
        secrets.extend(Secret::jwt("access token", token));
    }
    secrets.push(Secret::new("opaque token", "an-opaque-access-token"));
    command(&mut seen, &asking, &["doctor"]).await;
    command(&mut seen, &asking, &["config", "show"]).await;
    service(&mut seen, "the service with a portal", &asks).await;

    // A service with the built-in portal: logins, refreshes, and one that is reused.
    let (_, url) = database().await;
    let settings = verbose(own_portal::settings(&url).await);
    let portal = Service::start(&settings).await;
    let callback = world.agents.callback("agent-1");
    let enroll = ["agents", "enroll", "agent-1", "--org", "org-1", "--callback-url", &callback, "--json"];
    let (_, out, said) = settings.run(&enroll).await;
    seen.add("stderr of an enrollment", said);
    let mut token = refresh_token(&serde_json::from_str::<Value>(&out).expect(&out));
    let first = token.clone();
    for _ in 0..3 {
        let granted = refresh(&portal, &token).await;
        secrets.push(Secret::new("refresh token", token.trim_start_matches("nascron_rt_")));
        secrets.extend(Secret::jwt("access token of the built-in portal", &granted.field("access_token")));
        portal.list(&granted.field("access_token")).await;
        token = granted.field("refresh_token");
    }
    let reused = refresh(&portal, &first).await;
    assert_eq!(reused.status, 400);
    seen.add("the answer to a reused token", reused.text);
    seen.add("the answer to an unknown token", refresh(&portal, "nascron_rt_unknown").await.text);
    command(&mut seen, &settings, &["doctor"]).await;
    service(&mut seen, "the portal", &portal).await;

    for url in [&world.url, &url] {
        secrets.extend(signing_keys(url).await);
    }
    assert!(seen.places() > 100 && secrets.len() > 30, "{} places, {} secrets", seen.places(), secrets.len());
    let leaks = seen.leaks(&secrets);
    assert!(leaks.is_empty(), "{}", leaks.join("\n"));
}

/// The agent's and the operator's files, with the most open umask.
#[tokio::test]
async fn files_with_secrets_are_their_owners_whatever_the_umask() {
    use std::os::unix::fs::PermissionsExt;
    let (_, url) = database().await;
    let settings =
        own_portal::settings(&url).await.launched_by(&["sh", "-c", "umask 000 && exec \"$0\" \"$@\""]);
    let portal = Service::start(&settings).await;
    let home = tempfile();
    let path = home.to_str().unwrap();
    let arguments = [
        "agents",
        "enroll",
        "agent-1",
        "--org",
        "org-1",
        "--callback-url",
        "http://127.0.0.1:9",
        "--home",
        path,
    ];
    let (status, _, said) = settings.run(&arguments).await;
    assert!(status.success(), "{said}");
    let export = home.join("state.jsonl");
    let (status, _, said) = settings.run(&["export", export.to_str().unwrap()]).await;
    assert!(status.success(), "{said}");
    let mut files = Vec::new();
    let mut folders = vec![home.clone()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(folder).unwrap().flatten() {
            if entry.path().is_dir() { folders.push(entry.path()) } else { files.push(entry.path()) }
        }
    }
    assert!(files.iter().any(|file| file.ends_with("auth.json")), "{files:?}");
    let secret = ["auth.json", "state.jsonl", "nous_auth.json"];
    for file in files.iter().filter(|file| secret.iter().any(|name| file.ends_with(name))) {
        let mode = fs::metadata(file).unwrap().permissions().mode() & 0o777;
        assert_eq!(mode, 0o600, "{}", file.display());
    }
    fs::remove_dir_all(home).unwrap();
    assert!(tokio::time::timeout(Duration::from_mins(1), portal.stop()).await.unwrap().success());
}

/// Returns a new folder.
fn tempfile() -> std::path::PathBuf {
    let folder = std::env::temp_dir().join(format!("nas-cron-home-{:016x}", rand::random::<u64>()));
    fs::create_dir(&folder).unwrap();
    folder
}
