//! Outages of the portal: no agent is rejected, and no job's chain ends.

use std::cell::Cell;
use std::time::{Duration, Instant};

use nas_cron_testing::service::Service;
use nas_cron_testing::time::now;
use serde_json::json;

use super::fixture::{Fixture, introspected, looked_up};

#[tokio::test]
async fn invariant_9_no_provision_fails_while_lookup_introspection_and_keys_are_unavailable() {
    let fixture =
        Fixture::with(|settings, authority| introspected(looked_up(settings, authority), authority)).await;
    for agent in ["jwt", "opaque", "known"] {
        fixture.authority.has(agent, "org-1", agent);
    }
    let opaque = json!({"active": true, "client_id": "agent:opaque", "org_id": "org-1", "exp": now().timestamp() + 3600});
    fixture.authority.knows().tokens.insert("opaque-token".to_owned(), opaque);
    let known = fixture.portal.session_token("org-1", "known");
    fixture.list(&known).await.is(200, "");
    fixture.sql("UPDATE instances SET looked_up_at = looked_up_at - interval '1 h'").await;

    fixture.authority.leave().await;
    fixture.portal.leave().await;
    // The token has a new key, too.
    fixture.portal.rotate();
    let jwt = fixture.portal.client_token("org-1", "jwt");
    let is_unavailable = Cell::new(true);
    let returns = async {
        tokio::time::sleep(Duration::from_secs(8)).await;
        is_unavailable.set(false);
        fixture.portal.come_back().await;
        fixture.authority.come_back().await;
    };
    let cached = async {
        fixture.provision(&known, "known", 3_600_000).await.is(200, "");
        assert!(is_unavailable.get(), "cached responses are used without waiting for the portal");
    };
    let (jwt, opaque, (), ()) = tokio::join!(
        fixture.provision(&jwt, "jwt", 3_600_000),
        fixture.provision("opaque-token", "opaque", 3_600_000),
        cached,
        returns,
    );
    jwt.is(200, "");
    opaque.is(200, "");
    assert_eq!(fixture.value::<i64>("SELECT count(*) FROM one_shots").await, 3);
}

#[tokio::test]
async fn cached_lookups_survive_a_restart_during_an_outage_until_they_are_too_old() {
    let mut fixture = Fixture::looking_up(|settings| settings).await;
    for agent in ["inst-1", "inst-2", "denied"] {
        fixture.authority.has(agent, "org-1", agent);
        fixture.list(&fixture.old_client("org-1", agent)).await.is(200, "");
    }
    fixture.sql("INSERT INTO instances (instance_id, org_id) VALUES ('registered', 'org-1')").await;
    fixture.sql("UPDATE instances SET looked_up_at = now() - interval '6 days'").await;
    fixture.sql("UPDATE instances SET looked_up_at = NULL WHERE instance_id = 'registered'").await;
    fixture
        .sql("UPDATE instances SET looked_up_at = now() - interval '8 days' WHERE instance_id = 'inst-2'")
        .await;
    fixture.sql("UPDATE instances SET denied_by_portal = 'unknown' WHERE instance_id = 'denied'").await;
    fixture.authority.leave().await;
    fixture.service.kill9();
    let service = Service::start(&fixture.settings).await;

    fixture
        .provision_at(&service, &fixture.old_session("org-1", "inst-1"), "job", 3_600_000)
        .await
        .is(200, "");
    fixture.list_at(&service, &fixture.old_client("org-1", "registered")).await.is(200, "");
    // While the circuit is open, no request waits for the portal.
    for _ in 0..10 {
        fixture.list_at(&service, &fixture.old_client("org-1", "inst-1")).await.is(200, "");
    }
    let (old, denied, unknown) = (
        fixture.old_client("org-1", "inst-2"),
        fixture.old_client("org-1", "denied"),
        fixture.old_client("org-1", "never-seen"),
    );
    let (old, denied, unknown) = tokio::join!(
        fixture.list_at(&service, &old),
        fixture.list_at(&service, &denied),
        fixture.list_at(&service, &unknown),
    );
    for answer in [old, denied, unknown] {
        answer.not_now();
    }
    fixture.authority.come_back().await;
    fixture.list_at(&service, &fixture.old_client("org-1", "denied")).await.is(200, "");
    fixture.list_at(&service, &fixture.old_client("org-1", "never-seen")).await.is(403, "invalid_client");
}

#[tokio::test]
async fn a_hanging_portal_does_not_block_cached_instances() {
    let fixture = Fixture::looking_up(|settings| settings).await;
    fixture.authority.has("inst-1", "org-1", "sid-1");
    let token = fixture.old_session("org-1", "sid-1");
    fixture.list(&token).await.is(200, "");
    fixture.sql("UPDATE instances SET looked_up_at = looked_up_at - interval '1 h'").await;
    fixture.authority.knows().takes = Duration::from_mins(10);
    let began = Instant::now();
    fixture.provision(&token, "job", 3_600_000).await.is(200, "");
    let took = began.elapsed();
    assert!(took >= Duration::from_secs(1), "it tried the portal: {took:?}");
    assert!(took < Duration::from_mins(1), "it did not wait for the portal's response: {took:?}");
}
