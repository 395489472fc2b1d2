//! Access tokens and the keys that sign them.

use serde_json::{Value, json};

use crate::support::portal::Portal;
use crate::support::service::Service;
use crate::world::{World, claims, refresh};

#[tokio::test]
async fn a_retired_key_s_tokens_open_hop_1_still_and_a_new_key_s_at_once_everywhere() {
    let world = World::new().await;
    let other = Service::start(&world.settings).await;
    let token = world.enroll("agent-1").await;
    let old = refresh(&world.service, &token).await.field("access_token");
    let (status, _, said) = world.settings.run(&["keys", "rotate", "--now", "--yes"]).await;
    assert!(status.success(), "{said}");
    let kid = |token: &str| header(token)["kid"].clone();
    // By whichever replica has looked at the keys first: the other one has to look before it can say anything.
    let new = crate::support::world::eventually("the new key signs", async || {
        let new = refresh(&world.service, &token).await.field("access_token");
        (kid(&new) != kid(&old)).then_some(new)
    })
    .await;
    for service in [&other, &world.service] {
        for access_token in [&new, &old] {
            service.list(access_token).await;
        }
    }
    assert_eq!(claims(&new)["sid"], claims(&old)["sid"]);
}

fn header(token: &str) -> Value {
    use base64::Engine;
    let header = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').next().unwrap());
    serde_json::from_slice(&header.unwrap()).unwrap()
}

#[tokio::test]
async fn another_portal_s_tokens_are_refused_once_the_keys_were_looked_at() {
    let world = World::new().await;
    world.enroll("agent-1").await;
    let stranger = Portal::start().await;
    let forged = stranger.sign(json!({"client_id": "agent:agent-1", "org_id": "org-1"}));
    let (status, body) = world.service.post("/api/agent-cron/cancel", &forged, &json!({"job_id": "x"})).await;
    assert_eq!((status, body["error"].as_str()), (401, Some("invalid_token")), "{body}");
    assert_eq!(stranger.fetches(), 0);
}
