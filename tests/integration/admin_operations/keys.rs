//! Signing keys over the admin API.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nas_cron_testing::world::eventually;
use serde_json::{Value, json};

use super::fixture::Admin;

/// Returns `kid` and state of the keys, removed ones included.
async fn states(admin: &Admin) -> Vec<(String, String)> {
    let list = admin.ok("GET", "/api/admin/keys?all=true", None).await;
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    list["keys"].as_array().unwrap().iter().map(|key| (text(&key["kid"]), text(&key["state"]))).collect()
}

#[tokio::test]
async fn keys_are_rotated_withdrawn_and_activated_at_once_over_the_api() {
    let admin = Admin::new().await;
    let list = admin.ok("GET", "/api/admin/keys", None).await;
    let first = list["keys"][0]["kid"].as_str().unwrap().to_owned();
    assert_eq!((&list["rotation"], &list["keys"][0]["state"]), (&json!("automatic"), &json!("active")));
    assert_eq!(list["keys"][0]["private_key"], "database");
    assert_eq!(list["keys"][0]["upcoming"]["kind"], "generate", "{list}");

    let rotate = async |body: Value| admin.ok("POST", "/api/admin/keys/rotate", Some(&body)).await;
    let begun = rotate(json!({})).await;
    let next = begun["kid"].as_str().unwrap().to_owned();
    assert_eq!(begun["state"], "next", "{begun}");
    let again = rotate(json!({ "now": false })).await;
    assert_eq!((&again["kid"], &again["state"]), (&json!(next), &json!("next")), "one rotation");
    assert!(again["message"].as_str().unwrap().starts_with("A rotation has already begun"), "{again}");
    let early = admin.refused(409, "POST", &format!("/api/admin/keys/{next}/activate"), None).await;
    assert!(early.contains("agents' caches may not know it before"), "{early}");

    let withdrawn = admin.ok("DELETE", &format!("/api/admin/keys/{next}"), None).await;
    assert_eq!(withdrawn["state"], "gone");
    let twice = admin.refused(409, "DELETE", &format!("/api/admin/keys/{next}"), None).await;
    assert!(twice.contains("is gone"), "{twice}");
    admin.refused(409, "DELETE", &format!("/api/admin/keys/{first}"), None).await;
    let unknown = admin.refused(404, "POST", "/api/admin/keys/none/activate", None).await;
    assert!(unknown.starts_with("unknown key `none`"), "{unknown}");
    admin.refused(400, "POST", "/api/admin/keys/rotate", Some(&json!({"nwo": true}))).await;

    let now = rotate(json!({"now": true})).await;
    let active = now["kid"].as_str().unwrap().to_owned();
    let expected = [(first, "retired"), (next, "gone"), (active.clone(), "active")];
    let expected: Vec<_> = expected.into_iter().map(|(kid, state)| (kid, state.to_owned())).collect();
    assert_eq!(states(&admin).await, expected);
    // The running service signs with it, once it has read the keys again.
    let number = std::cell::Cell::new(0);
    eventually("a fire is signed with the new key", async || {
        number.set(number.get() + 1);
        let job = format!("job-{}", number.get());
        admin.world.arm(&job, 100).await;
        (kid_of(&admin.world.agents.wait_for(&job, 1).await.token) == active).then_some(())
    })
    .await;

    let log = admin.ok("GET", "/api/admin/audit", None).await;
    let lines: Vec<_> = log["lines"].as_array().unwrap().iter().rev().collect();
    let actions: Vec<_> = lines.iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(actions[..3], ["rotate_keys", "rotate_keys", "activate_key"]);
    assert_eq!(lines.last().unwrap()["subject"], json!({"kid": active, "now": "true"}), "{log}");
    let text = format!("{log}{}", admin.ok("GET", "/api/admin/keys?all=true", None).await);
    assert!(!text.contains("PRIVATE") && !text.contains("ciphertext") && !text.contains("\"d\""), "{text}");
}

/// Returns the `kid` in the header of a JWT.
fn kid_of(token: &str) -> String {
    let header = token.split('.').next().unwrap();
    let header = URL_SAFE_NO_PAD.decode(header).unwrap();
    let header: Value = serde_json::from_slice(&header).unwrap();
    header["kid"].as_str().unwrap().to_owned()
}
