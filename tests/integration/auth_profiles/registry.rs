//! The registry of known profiles, over the agent API and the admin API.

use futures::future::join_all;
use nas_cron_testing::service::client;
use nas_cron_testing::world::World;
use serde_json::{Value, json};

use super::fixture::{INSTANCE, ORG, REGISTRY, SERVICE, admin, call, carried, default, done, provision};

fn known(entries: &[(&str, &str)]) -> Value {
    entries.iter().map(|(auth, scope)| json!({"auth": auth, "scope": scope})).collect()
}

fn defaults(instance: Option<&str>, org: Option<&str>, service: Option<&str>) -> Value {
    json!({"instance": instance, "org": org, "service": service})
}

#[tokio::test]
async fn an_agent_lists_its_own_its_orgs_and_the_services_profiles_and_replaces_its_own() {
    let world = World::new().await;
    let get = async || done(&world, "GET", REGISTRY, &world.token, None).await;
    let put = async |body: Value| done(&world, "PUT", REGISTRY, &world.token, Some(&body)).await;
    assert_eq!(get().await, json!({"profiles": [], "defaults": defaults(None, None, None)}));

    let both = ["claude:work", "claude:budget", "claude:work"];
    let first = put(json!({"profiles": both, "default": "claude:work"})).await;
    let own = known(&[("claude:budget", "instance"), ("claude:work", "instance")]);
    assert_eq!(first, json!({"profiles": own, "defaults": defaults(Some("claude:work"), None, None)}));
    assert_eq!(
        put(json!({"profiles": both})).await,
        first,
        "repeating changes nothing, and an absent default stays"
    );
    assert_eq!(get().await, first);

    admin(&world, "PUT", ORG, Some(&json!({"profiles": ["claude:work", "openai:org"]}))).await;
    admin(&world, "PUT", SERVICE, Some(&json!({"profiles": ["claude:work"], "default": "claude:work"})))
        .await;
    assert_eq!(
        get().await,
        json!({
            "profiles": known(&[
                ("claude:budget", "instance"), ("claude:work", "instance"), ("claude:work", "org"),
                ("claude:work", "service"), ("openai:org", "org"),
            ]),
            "defaults": defaults(Some("claude:work"), None, Some("claude:work")),
        })
    );

    let seen = put(json!({"profiles": ["claude:night"], "default": null})).await;
    assert_eq!(seen["defaults"], defaults(None, None, Some("claude:work")));
    assert_eq!(seen["profiles"][0], json!({"auth": "claude:night", "scope": "instance"}));
    assert_eq!(seen["profiles"].as_array().unwrap().len(), 4, "the profiles of the org and the service stay");

    put(json!({"profiles": ["claude:a", "claude:b", "claude:c"], "default": "claude:a"})).await;
    let instance = |seen: &Value| -> Vec<String> {
        let all = seen["profiles"].as_array().unwrap().iter();
        let own = all.filter(|one| one["scope"] == "instance");
        own.map(|one| one["auth"].as_str().unwrap().to_owned()).collect()
    };
    for _ in 0..2 {
        let seen = done(&world, "DELETE", &format!("{REGISTRY}?auth=claude:b"), &world.token, None).await;
        assert_eq!(instance(&seen), ["claude:a", "claude:c"]);
    }
    let seen = done(&world, "DELETE", REGISTRY, &world.token, None).await;
    assert_eq!(instance(&seen), [""; 0]);
    assert_eq!(seen["defaults"]["instance"], "claude:a", "the default is not part of the list");
    assert_eq!(seen["profiles"].as_array().unwrap().len(), 3, "the org's and the service's stay");
}

#[tokio::test]
async fn an_invalid_field_is_named_and_nothing_is_changed() {
    let world = World::new().await;
    let before = done(
        &world,
        "PUT",
        REGISTRY,
        &world.token,
        Some(&json!({"profiles": ["claude:kept"], "default": "claude:kept"})),
    )
    .await;
    let many: Vec<String> = (0..201).map(|number| format!("claude:p-{number}")).collect();
    for (body, begins) in [
        (json!({}), "profiles: is missing"),
        (json!({"default": "claude:a"}), "profiles: is missing"),
        (json!({"profiles": null}), "profiles: "),
        (json!({"profiles": "claude:a"}), "profiles: "),
        (json!({"profiles": [7]}), "profiles[0]: must be a string, not a number"),
        (json!({"profiles": ["claude:a", "b"]}), "profiles[1]: must be provider:name"),
        (json!({"profiles": ["claude:a"], "default": "b"}), "default: must be provider:name"),
        (
            json!({"profiles": ["claude:a"], "default": true}),
            "default: must be false, a profile or a list of profiles, not true",
        ),
        (json!({"profiles": many}), "profiles: must be at most 200"),
    ] {
        let (status, answer) = call(&world, "PUT", REGISTRY, &world.token, Some(&body)).await;
        let description = answer["error_description"].as_str().unwrap();
        assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_request")), "{answer}");
        assert!(description.starts_with(begins), "{description}");
        for place in [SERVICE, ORG, INSTANCE] {
            let (status, answer) = world.service.admin("PUT", place, Some(&body)).await;
            assert_eq!((status, answer["error"].as_str()), (400, Some("invalid_request")), "{answer}");
            assert!(answer["detail"].as_str().unwrap().starts_with(begins), "{answer}");
        }
    }
    for (query, begins) in [
        ("?auth=b", "auth: must be provider:name"),
        ("?auth=", "auth: "),
        ("?profile=claude:a", "profile: unknown parameter"),
        ("?auth=claude:a&auth=claude:b", "auth: must occur only once"),
    ] {
        let (status, answer) =
            call(&world, "DELETE", &format!("{REGISTRY}{query}"), &world.token, None).await;
        assert_eq!(status, 400, "{answer}");
        assert!(answer["error_description"].as_str().unwrap().starts_with(begins), "{answer}");
        let (status, answer) = world.service.admin("DELETE", &format!("{ORG}{query}"), None).await;
        assert_eq!(status, 400, "{answer}");
    }
    assert_eq!(done(&world, "GET", REGISTRY, &world.token, None).await, before);
    let full: Vec<String> = (0..200).map(|number| format!("claude:p-{number}")).collect();
    let seen = done(&world, "PUT", REGISTRY, &world.token, Some(&json!({"profiles": full}))).await;
    assert_eq!(seen["profiles"].as_array().unwrap().len(), 200);
}

#[tokio::test]
async fn of_two_concurrent_replacements_one_wins_completely() {
    let world = World::new().await;
    let lists: Vec<Vec<String>> =
        (0..8).map(|list| (0..40).map(|number| format!("claude:l{list}-n{number}")).collect()).collect();
    for _ in 0..3 {
        join_all(lists.iter().map(|list| {
            let world = &world;
            async move { done(world, "PUT", REGISTRY, &world.token, Some(&json!({"profiles": list}))).await }
        }))
        .await;
        let seen = done(&world, "GET", REGISTRY, &world.token, None).await;
        let mut seen: Vec<&str> =
            seen["profiles"].as_array().unwrap().iter().map(|one| one["auth"].as_str().unwrap()).collect();
        seen.sort_unstable();
        let whole = lists.iter().any(|list| {
            let mut list = list.clone();
            list.sort_unstable();
            list == seen
        });
        assert!(whole, "{seen:?}");
    }
}

#[tokio::test]
async fn the_portal_sets_profiles_at_each_scope_and_sees_inherited_ones() {
    let world = World::new().await;
    let body = |name: &str| json!({"profiles": [name], "default": name});
    let service = admin(&world, "PUT", SERVICE, Some(&body("claude:service"))).await;
    assert_eq!(
        service,
        json!({"profiles": known(&[("claude:service", "service")]), "defaults": defaults(None, None, Some("claude:service"))})
    );
    let org = admin(&world, "PUT", ORG, Some(&body("claude:org"))).await;
    assert_eq!(
        org,
        json!({
            "profiles": known(&[("claude:org", "org"), ("claude:service", "service")]),
            "defaults": defaults(None, Some("claude:org"), Some("claude:service")),
        })
    );
    let instance = admin(&world, "PUT", INSTANCE, Some(&body("claude:instance"))).await;
    let all = known(&[("claude:instance", "instance"), ("claude:org", "org"), ("claude:service", "service")]);
    assert_eq!(
        instance,
        json!({
            "profiles": all,
            "defaults": defaults(Some("claude:instance"), Some("claude:org"), Some("claude:service")),
        })
    );
    for (place, seen) in [(SERVICE, service), (ORG, org), (INSTANCE, instance.clone())] {
        assert_eq!(admin(&world, "GET", place, None).await, seen);
    }
    assert_eq!(done(&world, "GET", REGISTRY, &world.token, None).await, instance);

    let left = admin(&world, "DELETE", ORG, None).await;
    assert_eq!(left["profiles"], known(&[("claude:service", "service")]));
    assert_eq!(left["defaults"]["org"], "claude:org");
    // IDs may contain any character.
    let odd = "/api/admin/auth-profiles/orgs/a%2Fb%3F";
    let seen = admin(&world, "PUT", odd, Some(&body("claude:odd"))).await;
    assert_eq!(seen["profiles"][0], json!({"auth": "claude:odd", "scope": "org"}));
    assert_eq!(admin(&world, "GET", ORG, None).await, left, "another org's profiles do not change");
}

#[tokio::test]
async fn the_admin_routes_require_the_admin_token_and_a_known_instance() {
    let world = World::new().await;
    let nobody = "/api/admin/auth-profiles/instances/nobody";
    let body = json!({"profiles": ["claude:work"], "default": "claude:work"});
    for (method, body) in [("GET", None), ("PUT", Some(&body)), ("DELETE", None)] {
        let (status, answer) = world.service.admin(method, nobody, body).await;
        assert_eq!((status, answer["error"].as_str()), (404, Some("not_found")), "{method}: {answer}");
        for place in [SERVICE, ORG, INSTANCE] {
            // An agent's token is not an admin token.
            let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
            let request = client().request(method, format!("{}{place}", world.service.url));
            let answer =
                request.bearer_auth(&world.token).json(&json!({"profiles": []})).send().await.unwrap();
            assert_eq!(answer.status(), 401);
            assert_eq!(answer.headers()["content-type"], "application/problem+json");
        }
    }
    let stored: i64 = sqlx::query_scalar(
        "SELECT (SELECT count(*) FROM auth_profiles) + (SELECT count(*) FROM auth_defaults)",
    )
    .fetch_one(&world.pool)
    .await
    .unwrap();
    assert_eq!(stored, 0);
}

#[tokio::test]
async fn a_removed_instances_profiles_are_not_inherited_by_its_successor() {
    let world = World::new().await;
    default(&world, ORG, json!("claude:org")).await;
    admin(&world, "PUT", INSTANCE, Some(&json!({"profiles": ["claude:own"], "default": "claude:own"}))).await;
    provision(&world, "job", 3_600_000, &json!({"auth": "claude:own"})).await;
    let (status, _) = world.service.admin("DELETE", "/api/admin/agents/inst-1", None).await;
    assert_eq!(status, 204);
    world.service.register("inst-1", "org-1", Some("sid-1")).await;
    let seen = admin(&world, "GET", INSTANCE, None).await;
    assert_eq!(
        (&seen["profiles"], &seen["defaults"]),
        (&json!([]), &defaults(None, Some("claude:org"), None))
    );
    provision(&world, "job", 0, &json!({})).await;
    assert_eq!(carried(&world.agents.wait_for("job", 1).await).as_deref(), Some("claude:org"));
}
