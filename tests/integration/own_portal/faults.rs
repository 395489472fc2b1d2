//! Temporary faults never get a permanent error, on which an agent would delete its tokens.

use std::time::{Duration, Instant};

use nas_cron_dev::private_postgres::PrivatePostgres;
use nas_cron_testing::database::{connect, database, server_options};
use nas_cron_testing::proxy::Proxy;
use nas_cron_testing::service::Service;
use nas_cron_testing::world::eventually;

use super::fixture::{Answer, World, refresh};

fn require_unavailable(answer: &Answer) {
    assert_eq!(answer.error(), (503, "temporarily_unavailable".to_owned()), "{answer:?}");
    assert!(answer.header("retry-after").parse::<u32>().unwrap() > 0);
}

#[tokio::test]
async fn disabled_and_removed_agents_get_no_permanent_error() {
    let world = World::new().await;
    let first = world.enroll("agent-1").await;
    let second = refresh(&world.service, &first).await.field("refresh_token");
    world.agents(&["disable", "agent-1"]).await;
    for token in [&second, &first, &second] {
        // The successor does not count as used, because no tokens were issued for it.
        require_unavailable(&refresh(&world.service, token).await);
    }
    world.agents(&["enable", "agent-1"]).await;
    assert_eq!(refresh(&world.service, &first).await.field("refresh_token"), second);

    let (status, _) = world
        .service
        .admin(
            "PUT",
            "/api/admin/agents/agent-1",
            Some(&serde_json::json!({"org_id": "org-1", "bootstrap_session_id": null})),
        )
        .await;
    assert_eq!(status, 200);
    require_unavailable(&refresh(&world.service, &second).await);
    // Enrolling again creates a session and keeps the login.
    let again = world.enroll_with("agent-1", &[]).await;
    assert_eq!(again["login"], "kept");
    assert_eq!(refresh(&world.service, &second).await.status, 200);

    world.agents(&["remove", "agent-1"]).await;
    // It cannot be distinguished from an agent whose row is missing in this database for another reason.
    require_unavailable(&refresh(&world.service, &second).await);
}

#[tokio::test]
async fn switching_the_built_in_portal_off_ends_no_login() {
    let world = World::new().await;
    let token = world.enroll("agent-1").await;
    let portal = nas_cron_testing::portal::Portal::start().await;
    let off = world
        .settings
        .clone()
        .without("NAS_CRON_OWN_PORTAL")
        .with("NAS_CRON_PORTAL_JWKS_URL", portal.jwks_url());
    let off = Service::start(&off).await;
    require_unavailable(&refresh(&off, &token).await);
    assert_eq!(refresh(&world.service, &token).await.status, 200);
}

#[tokio::test]
async fn a_refresh_without_a_signing_key_is_503() {
    let world = World::new().await;
    let token = world.enroll("agent-1").await;
    // The next key is published for 15 minutes before it signs.
    world
        .sql(
            "DELETE FROM signing_keys WHERE state <> 'active'; \
               UPDATE signing_keys SET state = 'retired', retired_at = now()",
        )
        .await;
    let not_now = eventually("no key signs", async || {
        let answer = refresh(&world.service, &token).await;
        (answer.status != 200).then_some(answer)
    })
    .await;
    require_unavailable(&not_now);
    world.sql("UPDATE signing_keys SET state = 'active', retired_at = NULL WHERE state = 'retired'").await;
    eventually("it signs again", async || {
        (refresh(&world.service, &token).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn refreshes_survive_a_restart_of_the_database() {
    let mut server =
        tokio::task::spawn_blocking(|| PrivatePostgres::start(server_options()).unwrap()).await.unwrap();
    server.create_database("portal").unwrap();
    let url = server.tcp_url("portal").unwrap();
    nas_cron::db::migrate::migrate(&connect(&url)).await.unwrap();
    let world = World::on(&url).await;
    let first = world.enroll("agent-1").await;
    let restarting = tokio::task::spawn_blocking(move || {
        server.stop_server();
        std::thread::sleep(Duration::from_secs(2));
        server.start_server().unwrap();
        server
    });
    let (mut token, began) = (first, Instant::now());
    while !restarting.is_finished() {
        let answer = refresh(&world.service, &token).await;
        if answer.status == 200 {
            token = answer.field("refresh_token");
        } else {
            // On a busy machine a restart may take longer than a request.
            require_unavailable(&answer);
            assert!(began.elapsed() > Duration::from_secs(9), "{answer:?}");
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let _server = restarting.await.unwrap();
    assert_eq!(refresh(&world.service, &token).await.status, 200);
}

/// Returns a service whose database connection can be cut.
async fn behind_a_proxy() -> (World, Service, Proxy) {
    let (_, url) = database().await;
    let parsed: url::Url = url.parse().unwrap();
    let to = format!("{}:{}", parsed.host_str().unwrap(), parsed.port().unwrap()).parse().unwrap();
    let proxy = Proxy::start(to).await;
    let mut through = parsed.clone();
    through.set_ip_host(proxy.address().ip()).unwrap();
    through.set_port(Some(proxy.address().port())).unwrap();
    let world = World::on(&url).await;
    let behind =
        Service::start(&world.settings.clone().with("NAS_CRON_DATABASE_URL", through.as_str())).await;
    (world, behind, proxy)
}

/// After the outage, the keys are too stale to sign.
#[tokio::test]
async fn a_refresh_waits_out_an_8_s_database_outage() {
    let (world, behind, proxy) = behind_a_proxy().await;
    let token = world.enroll("agent-1").await;
    proxy.cut().await;
    let (answer, ()) = tokio::join!(refresh(&behind, &token), async {
        tokio::time::sleep(Duration::from_secs(8)).await;
        proxy.restore().await;
    });
    assert_eq!(answer.status, 200, "{answer:?}");
}

#[tokio::test]
async fn a_lasting_database_outage_is_503_within_the_request_budget() {
    let (world, behind, proxy) = behind_a_proxy().await;
    let token = world.enroll("agent-1").await;
    proxy.cut().await;
    let began = Instant::now();
    require_unavailable(&refresh(&behind, &token).await);
    // Generous for the 13 s of a request: without a deadline, it would wait for the end of the outage.
    assert!(began.elapsed() < Duration::from_mins(1), "{:?}", began.elapsed());
    proxy.restore().await;
    eventually("it recovers", async || (refresh(&behind, &token).await.status == 200).then_some(())).await;
}
