//! Addresses that the service dials, and addresses that it never dials.

use nas_cron_testing::raw_agent::{RawAgent, Step};
use nas_cron_testing::service::Settings;
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::World;

const ACCEPT: &[Step] = &[Step::Read, Step::Send("HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")];

fn quick(settings: Settings) -> Settings {
    settings.with("NAS_CRON_RETRY_DEFINITE_BASE", "200ms").with("NAS_CRON_FIRE_FLOOR", "100ms")
}

/// Arms one job per callback, each for its own instance, and returns their errors after two attempts.
async fn refused(world: &World, callbacks: &[String]) -> Vec<String> {
    let mut armed = Vec::new();
    for (number, callback) in callbacks.iter().enumerate() {
        let name = format!("inst-a{number}");
        let token = world.instance(&name).await;
        world.service.provision(&token, &name, &fire_at(-1_000), callback).await;
        armed.push((name, token));
    }
    let mut errors = Vec::new();
    for ((name, token), callback) in armed.iter().zip(callbacks) {
        let history = world.ended(name, 2).await;
        assert!(
            history.iter().all(|one| one.outcome != "delivered" && one.status.is_none()),
            "{callback}: {history:?}"
        );
        let list = world.service.list(token).await;
        let entry = &list["armed"][0];
        assert!(entry["attempts"].as_i64() >= Some(2), "{callback}: retried and visible: {list}");
        errors.push(format!("{callback}: {}", entry["last_error"].as_str().unwrap_or_default()));
        world.service.cancel(token, name).await;
    }
    errors
}

#[tokio::test]
async fn contract_fire_private_addresses_are_never_dialled_by_default() {
    let world = World::with(|s| quick(s).without("NAS_CRON_CALLBACK_ALLOW")).await;
    let v4 = RawAgent::start("127.0.0.1:0", ACCEPT).await.unwrap();
    let port = v4.address.port();
    // On a machine without IPv6 there is nothing to dial.
    let v6 = RawAgent::start(&format!("[::1]:{port}"), ACCEPT).await.ok();
    let hosts = [
        "127.0.0.1",
        "[::1]",
        "[::ffff:127.0.0.1]",
        "localhost",
        "0.0.0.0",
        "[::]",
        "10.0.0.1",
        "169.254.169.254",
        "[fd00::1]",
        "[64:ff9b::7f00:1]",
    ];
    let callbacks: Vec<String> = hosts.iter().map(|host| format!("https://{host}:{port}")).collect();
    for error in refused(&world, &callbacks).await {
        assert!(error.contains("public"), "it names the reason: {error}");
    }
    assert_eq!(v4.connections() + v6.map_or(0, |v6| v6.connections()), 0);
}

#[tokio::test]
async fn private_address_in_another_form_is_not_dialled_if_it_was_stored_before_the_rule() {
    let world = World::with(|s| quick(s).without("NAS_CRON_CALLBACK_ALLOW")).await;
    let agent = RawAgent::start("127.0.0.1:0", ACCEPT).await.unwrap();
    for (number, host) in
        ["127.1", "0x7f.1", "2130706433", "0177.0.0.1", "127.0.0.1.", "0x7f.1."].into_iter().enumerate()
    {
        let job = format!("job-{number}");
        world.service.provision(&world.token, &job, &fire_at(3_600_000), "https://agent.example").await;
        let stored = format!(
            "UPDATE one_shots SET callback_url = 'https://{host}:{}', fire_at = now(), next_attempt_at = now()
             WHERE job_id = '{job}'",
            agent.address.port()
        );
        world.sql(&stored).await;
        world.sql("NOTIFY nas_cron_due").await;
        let history = world.ended(&job, 1).await;
        let error = history[0].error.as_deref().unwrap_or_default();
        assert!(error.contains("public"), "{host}: {history:?}");
    }
    assert_eq!(agent.connections(), 0);
}

#[tokio::test]
async fn contract_fire_plain_http_is_never_dialled_by_default() {
    let world = World::with(|s| quick(s).without("NAS_CRON_CALLBACK_ALLOW")).await;
    let agent = RawAgent::start("127.0.0.1:0", ACCEPT).await.unwrap();
    let port = agent.address.port();
    let callbacks = [
        format!("http://127.0.0.1:{port}"),
        format!("http://localhost:{port}"),
        "http://agent.example".to_owned(),
        "http://8.8.8.8".to_owned(),
    ];
    let errors = refused(&world, &callbacks).await;
    for error in &errors[1..] {
        assert!(error.contains("https"), "it names the fix: {error}");
    }
    assert_eq!(agent.connections(), 0);
}

#[tokio::test]
async fn contract_fire_only_allowed_addresses_are_dialled() {
    let world = World::with(|s| quick(s).with("NAS_CRON_CALLBACK_ALLOW", "127.0.0.5")).await;
    let allowed = RawAgent::start("127.0.0.5:0", ACCEPT).await.unwrap();
    let beside = RawAgent::start("127.0.0.6:0", ACCEPT).await.unwrap();
    world.service.provision(&world.token, "job", &fire_at(-1_000), &allowed.url()).await;
    world.delivered("job").await;
    refused(&world, &[beside.url()]).await;
    assert_eq!((allowed.connections(), beside.connections()), (1, 0));
}

#[tokio::test]
async fn contract_fire_proxies_of_the_environment_are_ignored() {
    let proxy = RawAgent::start("127.0.0.1:0", ACCEPT).await.unwrap();
    let url = proxy.url();
    let names = ["HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy", "ALL_PROXY", "all_proxy"];
    let world = World::with(|s| {
        let set = names.into_iter().fold(quick(s), |settings, name| settings.with(name, url.clone()));
        set.with("NO_PROXY", "").with("no_proxy", "")
    })
    .await;
    world.arm("job", -1_000).await;
    world.agents.wait_for("job", 1).await;
    world.delivered("job").await;
    assert_eq!(proxy.connections(), 0, "neither for fires nor for the portal's keys");
}
