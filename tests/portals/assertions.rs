//! An agent that calls with its key alone, where the portal has the directory.

use std::time::Duration;

use crate::bed::Bed;
use crate::keyed::{Identity, LIST, call, on};

#[tokio::test]
async fn the_portals_word_holds_for_an_agent_that_calls_with_its_key_too() {
    let bed = Bed::looking_up(|settings| on(settings).with("NAS_CRON_LOOKUP_NEGATIVE_TTL", "100ms")).await;
    bed.authority.has("inst-1", "org-1", "sid-1");
    let agent = Identity::new(&bed.service, &bed.portal.session_token("org-1", "sid-1")).await;
    let list = async || {
        let answer = call(&bed.service, "GET", LIST, Some(&agent.assertion()), None).await;
        (answer.status, answer.body["error"].as_str().unwrap_or_default().to_owned())
    };
    let later = async || {
        bed.sql("UPDATE instances SET looked_up_at = looked_up_at - interval '1 h'").await;
        tokio::time::sleep(Duration::from_millis(150)).await;
    };
    let is = |status: u16, error: &str| (status, error.to_owned());
    assert_eq!(list().await, is(200, ""));
    assert_eq!(bed.authority.lookups(), 1, "remembered");

    bed.authority.knows().instances.get_mut("agent:inst-1").unwrap()["enabled"] = serde_json::json!(false);
    later().await;
    assert_eq!(list().await, is(403, "access_denied"));
    bed.authority.knows().instances.clear();
    later().await;
    // On `unknown_agent` it would give its key up, which is as good as ever when the portal knows it again.
    assert_eq!(list().await, is(403, "access_denied"));
    assert_eq!(list().await, is(403, "access_denied"), "from memory, too");
    // Away, what was a yes is still one; and it comes back by itself.
    bed.authority.has("inst-1", "org-1", "sid-1");
    later().await;
    assert_eq!(list().await, is(200, ""));
    bed.authority.leave().await;
    later().await;
    assert_eq!(list().await, is(200, ""));
    bed.authority.come_back().await;
    // It leaves its keys behind when it moves.
    bed.authority.has("inst-1", "org-2", "sid-2");
    later().await;
    bed.list(&bed.portal.client_token("org-2", "inst-1")).await.is(200, "");
    assert_eq!(list().await, is(401, "unknown_agent"));
}
