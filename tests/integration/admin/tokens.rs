//! Creating, using, listing and revoking admin tokens, by API and by command.

use std::net::{IpAddr, Ipv4Addr};

use nas_cron_testing::service::{ADMIN_TOKEN, Service};
use nas_cron_testing::world::World;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use super::fixture::{Caller, command, config, create};

/// Returns the whole database as text, as a thief of a backup sees it.
async fn dump(world: &World) -> String {
    let mut text = String::new();
    for table in ["admin_tokens", "audit_log"] {
        let query = format!("SELECT COALESCE(string_agg(t::text, ' '), '') FROM {table} t");
        let rows: String =
            sqlx::query_scalar(sqlx::AssertSqlSafe(query)).fetch_one(&world.pool).await.unwrap();
        text += &rows;
    }
    text
}

#[tokio::test]
async fn created_token_is_printed_once_and_only_its_hash_is_stored() {
    let world = World::new().await;
    let by_command = command(&world, &["admin-tokens", "create", "desk", "--role", "viewer"]).await;
    let by_command = by_command.trim();
    let by_api = create(&world.service, "portal", "admin", None).await;
    for token in [by_command, &by_api] {
        assert!(token.starts_with("nca_") && token.len() == 47, "{token}");
        let listed = Caller::new(token).call(&world.service, "GET", "/api/admin/agents", None).await;
        assert_eq!(listed.status, 200, "{listed:?}");
        assert!(!dump(&world).await.contains(&token[4..]), "the database has no token");
        assert!(!world.service.log().contains(&token[4..]), "the log has no token");
    }
    let listed = command(&world, &["admin-tokens", "list", "--json"]).await;
    let listed: Value = serde_json::from_str(&listed).unwrap();
    let names: Vec<_> = listed["tokens"].as_array().unwrap().iter().map(|token| &token["name"]).collect();
    assert_eq!(names, ["desk", "portal"]);
    assert!(listed["tokens"][0]["last_used_at"].is_string() && !listed.to_string().contains("nca_"));
    assert!(listed["tokens"][0]["created_by"].as_str().unwrap().starts_with("cli:"), "{listed}");
    assert_eq!(listed["tokens"][1]["created_by"], "config");
    let of_api = config().call(&world.service, "GET", "/api/admin/tokens", None).await;
    assert_eq!(of_api.body["tokens"], listed["tokens"]);
}

#[tokio::test]
async fn revoked_token_is_rejected_at_once_by_every_replica() {
    let world = World::new().await;
    let other = Service::start(&world.settings).await;
    for by_command in [true, false] {
        let name = format!("token-{by_command}");
        let caller = Caller::new(&create(&world.service, &name, "viewer", None).await);
        for service in [&world.service, &other] {
            assert_eq!(caller.call(service, "GET", "/api/admin/agents", None).await.status, 200);
        }
        if by_command {
            let said = command(&world, &["admin-tokens", "revoke", &name]).await;
            assert_eq!(said, format!("Admin token {name} is revoked.\n"));
        } else {
            let revoked =
                config().call(&world.service, "DELETE", &format!("/api/admin/tokens/{name}"), None).await;
            assert_eq!(revoked.status, 204);
        }
        for service in [&world.service, &other] {
            let refused = caller.call(service, "GET", "/api/admin/agents", None).await;
            assert_eq!((refused.status, &refused.body["error"]), (401, &json!("invalid_token")));
        }
        let again = command(&world, &["admin-tokens", "revoke", &name]).await;
        assert_eq!(again, format!("Admin token {name} was already revoked.\n"));
    }
    let (status, _, error) = world.settings.run(&["admin-tokens", "revoke", "missing"]).await;
    assert!(!status.success() && error.contains("no admin token named `missing` exists"), "{error}");
}

#[tokio::test]
async fn use_of_a_token_is_recorded_at_most_once_a_minute() {
    let world = World::new().await;
    let caller = Caller::new(&create(&world.service, "desk", "viewer", None).await);
    let used = async || -> String {
        assert_eq!(caller.call(&world.service, "GET", "/api/admin/agents", None).await.status, 200);
        let query = "SELECT last_used_at::text || xmin::text FROM admin_tokens WHERE name = 'desk'";
        sqlx::query_scalar(query).fetch_one(&world.pool).await.unwrap()
    };
    let first = used().await;
    assert_eq!(used().await, first, "the row is not written again");
    world.sql("UPDATE admin_tokens SET last_used_at = now() - interval '61 s'").await;
    assert_ne!(used().await, first);
    let age = "SELECT last_used_at > now() - interval '30 s' FROM admin_tokens WHERE name = 'desk'";
    assert!(sqlx::query_scalar::<_, bool>(age).fetch_one(&world.pool).await.unwrap());
}

#[tokio::test]
async fn invalid_tokens_are_described_by_field_and_not_stored() {
    let world = World::new().await;
    let limited = Caller::new(&create(&world.service, "limited", "admin", Some("acme")).await);
    world.sql("UPDATE admin_tokens SET expires_at = '2099-01-01T00:00:00Z' WHERE name = 'limited'").await;
    let all = config();
    let new = |more: Value| {
        let mut body = json!({ "name": "new", "role": "viewer" });
        body.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        body
    };
    for (caller, body, status, problem) in [
        (&all, json!({ "role": "viewer" }), 400, "name: is missing"),
        (&all, new(json!({ "name": "a b" })), 400, "name: must be 1 to 64 letters"),
        (&all, new(json!({ "name": "config" })), 400, "name: must not be `config`"),
        (&all, new(json!({ "name": "limited" })), 409, "an admin token named `limited` exists or existed"),
        (&all, new(json!({ "role": "root" })), 400, "role: must be one of viewer, operator, admin"),
        (&all, new(json!({ "org_id": " " })), 400, "org_id: "),
        (&all, new(json!({ "expires_at": "tomorrow" })), 400, "expires_at: must be an RFC 3339 date-time"),
        (
            &all,
            new(json!({ "expires_at": "2020-01-01T00:00:00Z" })),
            400,
            "expires_at: must be in the future",
        ),
        (&all, new(json!({ "rolle": "admin" })), 400, "rolle: unknown field"),
        (&limited, new(json!({ "org_id": "other" })), 400, "org_id: must be `acme`"),
        (
            &limited,
            new(json!({ "expires_at": "2099-01-01T00:00:01Z" })),
            400,
            "expires_at: must be at most 2099",
        ),
    ] {
        let refused = caller.call(&world.service, "POST", "/api/admin/tokens", Some(&body)).await;
        let detail = refused.body["detail"].as_str().unwrap();
        assert!(refused.status == status && detail.starts_with(problem), "{body}: {refused:?}");
    }
    let names: Vec<String> =
        sqlx::query_scalar("SELECT name FROM admin_tokens").fetch_all(&world.pool).await.unwrap();
    assert_eq!(names, ["limited"]);
    // A new token has the creator's rights unless others are given.
    let made = limited.call(&world.service, "POST", "/api/admin/tokens", Some(&new(json!({})))).await;
    assert_eq!(
        (&made.body["org_id"], &made.body["expires_at"]),
        (&json!("acme"), &json!("2099-01-01T00:00:00Z"))
    );
}

#[tokio::test]
async fn token_expires_by_the_database_clock() {
    let world = World::new().await;
    let token =
        command(&world, &["admin-tokens", "create", "short", "--role", "viewer", "--expires-in", "90d"])
            .await;
    let caller = Caller::new(token.trim());
    let get = async || caller.call(&world.service, "GET", "/api/admin/agents", None).await.status;
    assert_eq!(get().await, 200);
    let query =
        "SELECT expires_at BETWEEN now() + interval '89 d' AND now() + interval '90 d' FROM admin_tokens";
    assert!(sqlx::query_scalar::<_, bool>(query).fetch_one(&world.pool).await.unwrap());
    world.sql("UPDATE admin_tokens SET expires_at = now()").await;
    assert_eq!(get().await, 401);
}

#[tokio::test]
async fn admin_api_is_off_until_a_token_exists() {
    let world = World::with(|settings| settings.without("NAS_CRON_ADMIN_TOKEN_SHA256")).await;
    let get =
        async |token: &str| Caller::new(token).call(&world.service, "GET", "/api/admin/agents", None).await;
    let off = get(ADMIN_TOKEN).await;
    assert_eq!((off.status, &off.body["error"]), (403, &json!("admin_api_off")));
    let token = command(&world, &["admin-tokens", "create", "first", "--role", "admin"]).await;
    assert_eq!(get(token.trim()).await.status, 200);
    assert_eq!(get(ADMIN_TOKEN).await.status, 401);
}

#[tokio::test]
async fn invalid_tokens_are_limited_per_address_and_lock_out_no_token_in_use() {
    let world = World::new().await;
    let address = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 77));
    let used = create(&world.service, "used", "viewer", None).await;
    let unused = Caller::new(&create(&world.service, "unused", "viewer", None).await).at(address);
    let used = Caller::new(&used).at(address);
    let get = async |caller: &Caller| caller.call(&world.service, "GET", "/api/admin/agents", None).await;
    assert_eq!(get(&used).await.status, 200);
    let invalid = Caller::new(&format!("nca_{}", "A".repeat(43))).at(address);
    let mut refused = get(&invalid).await;
    for _ in 0..1_000 {
        if refused.status == 429 {
            break;
        }
        assert_eq!(refused.status, 401);
        refused = get(&invalid).await;
    }
    assert_eq!((refused.status, &refused.body["error"]), (429, &json!("too_many_requests")));
    assert!(refused.headers["retry-after"].to_str().unwrap().parse::<u64>().unwrap() >= 1);
    assert_eq!(get(&used).await.status, 200, "a token that was valid is not limited");
    assert_eq!(get(&Caller::new(ADMIN_TOKEN).at(address)).await.status, 200);
    assert_eq!(
        get(&invalid.at(IpAddr::V4(Ipv4Addr::new(127, 0, 0, 78)))).await.status,
        401,
        "another address"
    );
    // A valid token that was not in use waits like any other call, and then works.
    nas_cron_testing::world::eventually("the limit ends", async || {
        (get(&unused).await.status == 200).then_some(())
    })
    .await;
}

#[tokio::test]
async fn valid_token_that_calls_too_fast_gets_429_with_the_time_to_wait() {
    let world =
        World::with(|settings| settings.with("NAS_CRON_LOG_FILTER", "error,nas_cron::app=info")).await;
    // The gate rejects it without a statement, and none waits for the answer to the one before: on a busy machine, too, they come
    // faster than 200 per second.
    let request = format!(
        "GET /api/admin/overview?nonsense=1 HTTP/1.1\r\nHost: a\r\nAuthorization: Bearer {ADMIN_TOKEN}\r\n\r\n"
    );
    let address = world.service.admin_url.strip_prefix("http://").unwrap().to_owned();
    let connections = (0..8).map(async |_| {
        let (mut answers, mut calls) = TcpStream::connect(&address).await.unwrap().into_split();
        let requests = request.repeat(1_000);
        let sending = tokio::spawn(async move { calls.write_all(requests.as_bytes()).await });
        let (mut text, mut piece) = (String::new(), vec![0; 65_536]);
        loop {
            let length = answers.read(&mut piece).await.unwrap();
            text += &String::from_utf8_lossy(&piece[..length]);
            let refused = text.split_once("HTTP/1.1 429").and_then(|(_, rest)| rest.split_once("\r\n\r\n"));
            if refused.is_some() || length == 0 || text.matches("HTTP/1.1 ").count() == 1_000 {
                sending.abort();
                return refused.map(|(head, _)| head.to_owned());
            }
        }
    });
    let heads = futures::future::join_all(connections).await;
    let head = heads.into_iter().flatten().next().expect("a call was refused");
    assert!(head.to_lowercase().contains("retry-after: 1\r\n"), "{head}");
    let caller = config();
    let answer = caller.call(&world.service, "GET", "/api/admin/overview?nonsense=1", None).await;
    assert!(matches!(answer.status, 400 | 429), "it works again, or soon");
}
