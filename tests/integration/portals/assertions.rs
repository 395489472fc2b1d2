//! Agents that call with assertions, with the portal's lookup as the directory.

use std::time::Duration;

use super::fixture::Fixture;
use crate::agent_identity::fixture::{Identity, LIST, call, on};

#[tokio::test]
async fn the_portals_denial_also_applies_to_calls_with_an_assertion() {
    let fixture =
        Fixture::looking_up(|settings| on(settings).with("NAS_CRON_LOOKUP_NEGATIVE_TTL", "100ms")).await;
    fixture.authority.has("inst-1", "org-1", "sid-1");
    let agent = Identity::new(&fixture.service, &fixture.portal.session_token("org-1", "sid-1")).await;
    let list = async || {
        let answer = call(&fixture.service, "GET", LIST, Some(&agent.assertion()), None).await;
        (answer.status, answer.body["error"].as_str().unwrap_or_default().to_owned())
    };
    let later = async || {
        fixture.sql("UPDATE instances SET looked_up_at = looked_up_at - interval '1 h'").await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    };
    let is = |status: u16, error: &str| (status, error.to_owned());
    assert_eq!(list().await, is(200, ""));
    assert_eq!(fixture.authority.lookups(), 1, "cached");

    fixture.authority.knows().instances.get_mut("agent:inst-1").unwrap()["enabled"] =
        serde_json::json!(false);
    later().await;
    assert_eq!(list().await, is(403, "access_denied"));
    fixture.authority.knows().instances.clear();
    later().await;
    // Not `unknown_agent`, on which the agent would discard its key: the portal may know the agent again.
    assert_eq!(list().await, is(403, "access_denied"));
    assert_eq!(list().await, is(403, "access_denied"), "also from the cache");
    // During an outage, a cached positive response stays usable. The lookup recovers by itself.
    fixture.authority.has("inst-1", "org-1", "sid-1");
    later().await;
    assert_eq!(list().await, is(200, ""));
    fixture.authority.leave().await;
    later().await;
    assert_eq!(list().await, is(200, ""));
    fixture.authority.come_back().await;
    // Its keys are not valid in another org.
    fixture.authority.has("inst-1", "org-2", "sid-2");
    later().await;
    fixture.list(&fixture.portal.client_token("org-2", "inst-1")).await.is(200, "");
    assert_eq!(list().await, is(401, "unknown_agent"));
}
