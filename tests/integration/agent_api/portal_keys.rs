//! The portal's keys: rotated, unknown, and during an outage of the portal. These tests wait in real time: for the 10 s
//! between two fetches, or for the 13 s until a request's deadline.

use std::time::{Duration, Instant};

use futures::future::join_all;
use nas_cron_testing::portal::{Portal, all_claims};
use nas_cron_testing::service::Service;
use serde_json::json;

use super::fixture::{LIST, World, until};

/// Generous for the 13 s of a request: without a deadline, it would wait for the end of the outage.
const BUDGET: Duration = Duration::from_mins(1);

/// The cases run concurrently, because they mostly wait.
#[tokio::test]
async fn contract_an_unknown_key_is_401_only_after_a_fetch_that_began_after_the_request() {
    tokio::join!(
        invented_kids_cannot_starve_a_new_key_of_the_portal(),
        during_a_portal_outage_known_keys_stay_valid_and_unknown_ones_are_503(),
        request_waits_for_a_portal_that_is_unavailable_at_the_start(),
    );
}

async fn invented_kids_cannot_starve_a_new_key_of_the_portal() {
    let world = World::start().await;
    until("the fetch at the start", async || (world.portal.fetches() == 1).then_some(())).await;
    let other = Portal::start().await;
    let invented: Vec<_> = (0..40)
        .map(|i| {
            let header = json!({"alg": "ES256", "kid": format!("invented-{i}")});
            let claims = all_claims(&json!({"client_id": "agent:inst-1", "org_id": "org-1"}));
            other.sign_as_is(&header, &claims)
        })
        .collect();
    world.portal.rotate();
    let rotated = world.portal.session_token("org-1", "sid-1");
    let began = Instant::now();
    let invented_calls = join_all(invented.iter().map(|token| world.call("GET", LIST, Some(token), "")));
    let legitimate = async {
        let answers = join_all((0..5).map(|_| world.call("GET", LIST, Some(&rotated), ""))).await;
        (answers, began.elapsed())
    };
    // Requests with a known key do not wait meanwhile.
    let known = async {
        world.service.list(&world.token).await;
        began.elapsed()
    };
    let (invented_calls, (legitimate, fetched), known) = tokio::join!(invented_calls, legitimate, known);
    assert!(began.elapsed() < BUDGET, "{:?}", began.elapsed());
    assert!(known < fetched, "{known:?} with a known key, {fetched:?} with one that had to be fetched");
    for answer in legitimate {
        assert_eq!(answer.status, 200, "accepted within the request: {answer:?}");
    }
    for answer in invented_calls {
        answer.refused(401, "invalid_token");
    }
    // On a busy machine, some requests arrive after that fetch has begun, and wait for the next one.
    assert!(
        (2..=3).contains(&world.portal.fetches()),
        "one fetch for all of them: {}",
        world.portal.fetches()
    );
    // The old key stays valid while it is published.
    world.service.list(&world.token).await;
}

async fn during_a_portal_outage_known_keys_stay_valid_and_unknown_ones_are_503() {
    let world = World::start().await;
    until("the fetch at the start", async || {
        world.service.log().contains("portal keys fetched").then_some(())
    })
    .await;
    world.portal.leave().await;
    world.portal.rotate();
    let unknown = world.portal.session_token("org-1", "sid-1");
    let began = Instant::now();
    let asking = async { (world.call("GET", LIST, Some(&unknown), "").await, began.elapsed()) };
    let ((answer, waited), armed) = tokio::join!(asking, async {
        for i in 0..20 {
            world.arm(&format!("job-{i}"), 3_600_000).await;
        }
        began.elapsed()
    });
    answer.not_now();
    assert!(armed < waited, "no other request waits: {armed:?}, {waited:?}");
    assert!(waited < BUDGET, "{waited:?}");
    // A token with invalid claims is rejected without the portal.
    let expired = world.portal.sign(json!({"client_id": "agent:inst-1", "exp": 1}));
    world.call("GET", LIST, Some(&expired), "").await.refused(401, "invalid_token");
    // The first request that needs the portal works after the outage.
    world.portal.come_back().await;
    assert_eq!(world.call("GET", LIST, Some(&unknown), "").await.status, 200);
}

async fn request_waits_for_a_portal_that_is_unavailable_at_the_start() {
    let world = World::start().await;
    let portal = &world.portal;
    portal.leave().await;
    // Another replica, which has not fetched any key.
    let replica = Service::start(&world.settings).await;
    let (listed, ()) = tokio::join!(replica.list(&world.token), async {
        until("a fetch has failed", async || {
            replica.log().contains("fetching the portal's keys failed").then_some(())
        })
        .await;
        portal.come_back().await;
    });
    assert_eq!(listed["armed"], json!([]));
}

#[tokio::test]
async fn contract_pinned_keys_work_without_the_portal_and_an_unknown_one_is_401_at_once() {
    let world = World::start().await;
    let file = std::env::temp_dir().join(format!("nas-cron-portal-keys-{}.jwks.json", std::process::id()));
    std::fs::write(&file, world.portal.jwks().to_string()).unwrap();
    world.portal.leave().await;
    let settings = world
        .settings
        .clone()
        .without("NAS_CRON_PORTAL_JWKS_URL")
        .with("NAS_CRON_PORTAL_JWKS_FILE", file.to_str().unwrap());
    let replica = Service::start(&settings).await;
    std::fs::remove_file(&file).unwrap();
    replica.list(&world.token).await;
    world.portal.rotate();
    let unknown = world.portal.session_token("org-1", "sid-1");
    let (status, body) = replica.post("/api/agent-cron/cancel", &unknown, &json!({"job_id": "j"})).await;
    assert_eq!((status, body["error"].as_str()), (401, Some("invalid_token")), "{body}");
}
