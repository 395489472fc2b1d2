//! Further issuers beside the built-in portal.

use nas_cron_testing::database::database;
use nas_cron_testing::portal::Portal;
use nas_cron_testing::service::Service;
use nas_cron_testing::time::now;
use serde_json::json;

use super::fixture::{World, refresh, settings};

/// Each issuer's tokens are accepted for its own agents only.
#[tokio::test]
async fn agents_of_another_issuer_work_beside_enrolled_ones() {
    let (_, url) = database().await;
    let other = Portal::start().await;
    let file = std::env::temp_dir().join(format!("nas-cron-beside-{:016x}.toml", rand::random::<u64>()));
    let table = format!(
        "[[issuer]]\nissuer = 'https://other.test'\njwks_url = '{}'\naudiences = ['cron']\norgs = ['org-2']\n",
        other.jwks_url()
    );
    std::fs::write(&file, table).unwrap();
    let both = settings(&url).await.with("NAS_CRON_ISSUERS_FILE", file.to_str().unwrap());
    let service = Service::start(&both).await;
    std::fs::remove_file(&file).unwrap();
    let world = World::on(&url).await;
    let enrolled = refresh(&world.service, &world.enroll("agent-1").await).await.field("access_token");
    world.agents(&["add", "agent-2", "--org", "org-2", "--session", "sid-2"]).await;
    let theirs = |org: &str, sid: &str| {
        other.sign(json!({
            "iss": "https://other.test", "aud": "cron", "client_id": "hermes-cli-vps", "org_id": org, "sid": sid,
            "iat": now().timestamp() - 700,
        }))
    };
    service.list(&enrolled).await;
    service.list(&theirs("org-2", "sid-2")).await;
    let cancel = json!({"job_id": "x"});
    for (token, status, error) in [
        (theirs("org-1", "sid-2"), 401, "invalid_token"),
        // For other issuers' tokens, an unknown session is `invalid_client`.
        (theirs("org-2", "sid-3"), 403, "invalid_client"),
    ] {
        let (actual, body) = service.post("/api/agent-cron/cancel", &token, &cancel).await;
        assert_eq!((actual, body["error"].as_str()), (status, Some(error)), "{body}");
    }
}
