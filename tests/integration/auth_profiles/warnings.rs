//! An unknown profile causes a warning, not an error, until it is registered.

use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::World;
use serde_json::{Value, json};

use super::fixture::{INSTANCE, ORG, REGISTRY, SERVICE, admin, default, done, listed, patch, provision};

const FAR: i64 = 3_600_000;

/// The warning about this profile.
pub(crate) fn unknown(auth: &str) -> Value {
    json!({
        "code": "auth_profile_unknown",
        "message": format!(
            "unknown auth profile `{auth}`: not registered for the instance, its org or the service; fires carry it \
             anyway, and it can be registered later"
        ),
    })
}

#[tokio::test]
async fn unknown_profile_causes_a_warning_everywhere_until_it_is_registered() {
    let world = World::new().await;
    let at = json!({"fire_at": fire_at(FAR), "dedup_key": "key"});
    let mut with_auth = at.clone();
    with_auth["auth"] = json!("claude:new");
    let warnings = async || {
        let responses = [
            provision(&world, "job", 0, &with_auth).await,
            // The same key without `auth`, another job, a new key without `auth`, and a `PATCH`.
            provision(&world, "job", 0, &at).await,
            provision(&world, "other", FAR, &json!({"auth": "claude:new"})).await,
            provision(&world, "other", FAR + 1_000, &json!({})).await,
            patch(&world, "job", json!("claude:new")).await,
            listed(&world, "job").await,
        ];
        responses.map(|response| response.get("warnings").cloned())
    };
    let warned: [Option<Value>; 6] = std::array::from_fn(|_| Some(json!([unknown("claude:new")])));
    let silent: [Option<Value>; 6] = std::array::from_fn(|_| None);
    assert_eq!(warnings().await, warned);
    let profiles = json!({"profiles": ["claude:new"]});
    // It may be registered in any scope that contains the instance.
    done(&world, "PUT", REGISTRY, &world.token, Some(&profiles)).await;
    assert_eq!(warnings().await, silent);
    done(&world, "DELETE", REGISTRY, &world.token, None).await;
    assert_eq!(warnings().await, warned);
    for place in [INSTANCE, ORG, SERVICE] {
        admin(&world, "PUT", place, Some(&profiles)).await;
        assert_eq!(warnings().await, silent, "{place}");
        admin(&world, "DELETE", &format!("{place}?auth=claude:new"), None).await;
        assert_eq!(warnings().await, warned, "{place}");
    }
    // The registries of another org and of another instance do not count.
    world.service.register("inst-2", "org-1", None).await;
    for place in ["/api/admin/auth-profiles/orgs/org-2", "/api/admin/auth-profiles/instances/inst-2"] {
        admin(&world, "PUT", place, Some(&profiles)).await;
    }
    assert_eq!(warnings().await, warned);
}

#[tokio::test]
async fn unknown_default_causes_a_warning_when_it_is_set_and_not_for_each_job() {
    let world = World::new().await;
    default(&world, ORG, json!("claude:lost")).await;
    let answer = provision(&world, "job", FAR, &json!({})).await;
    assert_eq!(answer.get("warnings"), None, "{answer}");
    let listed = listed(&world, "job").await;
    assert_eq!(listed["effective_auth"], json!({"auth": "claude:lost", "source": "org"}));
    assert_eq!((listed.get("auth"), listed.get("warnings")), (None, None));
    let seen = done(&world, "GET", REGISTRY, &world.token, None).await;
    assert_eq!(seen["warnings"], json!([unknown("claude:lost")]));
    admin(&world, "PUT", SERVICE, Some(&json!({"profiles": ["claude:lost"]}))).await;
    assert_eq!(done(&world, "GET", REGISTRY, &world.token, None).await.get("warnings"), None);
}
