//! Refreshes, and the lifetime of refresh tokens.

use futures::future::join_all;
use nas_cron_testing::portal::PORTAL_URL;
use nas_cron_testing::service::Service;
use nas_cron_testing::time::fire_at;
use nas_cron_testing::world::eventually;
use serde_json::{Value, json};

use super::fixture::{FORM, WithForm as _, World, ask, claims, refresh, request};

#[tokio::test]
async fn an_enrolled_agent_gets_its_tokens_provisions_and_is_fired() {
    let world = World::new().await;
    let refresh_token = world.enroll("agent-1").await;
    let answer = refresh(&world.service, &refresh_token).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!((answer.header("cache-control"), answer.header("pragma")), ("no-store", "no-cache"));
    let mut body = answer.json();
    let access_token = answer.field("access_token");
    body.as_object_mut().unwrap().retain(|name, _| name != "access_token" && name != "refresh_token");
    assert_eq!(body, json!({"token_type": "Bearer", "expires_in": 3600, "scope": "agent_cron"}));

    let mut claims = claims(&access_token);
    let agent = world.agents(&["show", "agent-1"]).await;
    let lives = claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap();
    assert_eq!((lives, &claims["nbf"]), (3600, &claims["iat"]));
    claims.as_object_mut().unwrap().retain(|name, _| !["exp", "iat", "nbf", "jti"].contains(&name.as_str()));
    assert_eq!(
        claims,
        json!({
            "iss": PORTAL_URL, "aud": "hermes-cli-vps", "client_id": "hermes-cli-vps", "sub": "agent-1",
            "org_id": "org-1", "sid": agent["bootstrap_session_id"], "scope": "agent_cron",
        })
    );
    // A fire token, which has another audience and a purpose, is rejected.
    world.service.provision(&access_token, "job-1", &fire_at(0), &world.agents.callback("agent-1")).await;
    let fire = world.agents.wait_for("job-1", 1).await;
    let (status, body) =
        world.service.post("/api/agent-cron/cancel", &fire.token, &json!({"job_id": "x"})).await;
    assert_eq!((status, body["error"].as_str()), (401, Some("invalid_token")), "{body}");
}

#[tokio::test]
async fn refresh_token_is_valid_until_its_successor_is_used_and_its_reuse_ends_the_login() {
    let world = World::new().await;
    let first = world.enroll("agent-1").await;
    let second = refresh(&world.service, &first).await.field("refresh_token");
    // After a lost response, repeating the refresh returns the same token.
    assert_eq!(refresh(&world.service, &first).await.field("refresh_token"), second);
    assert_ne!(first, second);
    let third = refresh(&world.service, &second).await.field("refresh_token");
    assert_eq!(refresh(&world.service, &second).await.field("refresh_token"), third);

    let reused = refresh(&world.service, &first).await;
    assert_eq!(reused.error(), (400, "invalid_grant".to_owned()));
    // Real agents explain the error to users by this word.
    assert!(reused.field("error_description").contains("reuse"), "{reused:?}");
    for token in [&first, &second, &third] {
        assert_eq!(refresh(&world.service, token).await.error(), (400, "invalid_grant".to_owned()));
    }

    let shown = world.agents(&["show", "agent-1"]).await;
    assert_eq!(shown["login"]["ended_by"], "reused");
    let log = eventually("it is logged", async || {
        Some(world.service.log()).filter(|log| log.contains("a spent refresh token"))
    })
    .await;
    let logged: Vec<_> = log.lines().filter(|line| line.contains("a spent refresh token")).collect();
    assert_eq!(logged.len(), 1, "logged once, however often it is tried: {log}");
    assert!(logged[0].contains("agent-1") && logged[0].contains("WARN"), "{}", logged[0]);
    for secret in [&first, &second, &third] {
        assert!(!log.contains(&secret["nascron_rt_".len()..]), "a token is in the log");
    }
    let (_, found, _) = world.settings.run(&["doctor", "--json"]).await;
    let found: Value = serde_json::from_str(&found).unwrap();
    let logins = found["checks"].as_array().unwrap().iter().find(|one| one["check"] == "logins").unwrap();
    assert_eq!(logins["status"], "warning");
    assert!(logins["found"].as_str().unwrap().contains("agent-1"), "{logins}");
    let metrics = world.service.metrics().await;
    for (result, count) in [("granted", 4), ("reused", 4)] {
        let line = format!("nas_cron_token_requests_total{{result=\"{result}\"}} {count}");
        assert!(metrics.contains(&line), "{line} is not in {metrics}");
    }
}

#[tokio::test]
async fn concurrent_refreshes_on_two_replicas_neither_fork_nor_end_a_login() {
    let world = World::new().await;
    let other = Service::start(&world.settings).await;
    let mut token = world.enroll("agent-1").await;
    for round in 0..4 {
        let answers = join_all((0..24).map(|n| {
            let (service, token) = (if n % 2 == 0 { &world.service } else { &other }, token.clone());
            async move { refresh(service, &token).await }
        }))
        .await;
        let next = answers[0].field("refresh_token");
        for answer in answers {
            assert_eq!((answer.status, answer.field("refresh_token")), (200, next.clone()), "round {round}");
        }
        token = next;
    }
    let (number, ended): (i64, bool) = sqlx::query_as("SELECT number, ended_at IS NOT NULL FROM logins")
        .fetch_one(&world.pool)
        .await
        .unwrap();
    assert_eq!((number, ended), (3, false));
}

/// A spent token and a valid one are presented concurrently: the login ends, whichever comes first.
#[tokio::test]
async fn reuse_concurrent_with_a_refresh_ends_the_login() {
    let world = World::new().await;
    for round in 0..6 {
        let instance = format!("agent-{round}");
        let first = world.enroll(&instance).await;
        let second = refresh(&world.service, &first).await.field("refresh_token");
        let third = refresh(&world.service, &second).await.field("refresh_token");
        let (_, reused) = tokio::join!(refresh(&world.service, &third), refresh(&world.service, &first));
        assert_eq!(reused.error(), (400, "invalid_grant".to_owned()));
        for token in [&second, &third] {
            assert_eq!(refresh(&world.service, token).await.error(), (400, "invalid_grant".to_owned()));
        }
    }
}

/// After a restore, the rows are older than the agents' tokens. No agent loses its login.
#[tokio::test]
async fn restoring_a_database_backup_ends_no_login() {
    let world = World::new().await;
    let mut token = world.enroll("agent-1").await;
    for _ in 0..3 {
        token = refresh(&world.service, &token).await.field("refresh_token");
    }
    world.sql("UPDATE logins SET number = 0").await;
    let answer = refresh(&world.service, &token).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    assert_eq!(refresh(&world.service, &answer.field("refresh_token")).await.status, 200);
    let number: i64 = sqlx::query_scalar("SELECT number FROM logins").fetch_one(&world.pool).await.unwrap();
    assert_eq!(number, 4, "spent tokens are known again");
}

/// The standard form of RFC 6749, for clients other than hermes-agent.
#[tokio::test]
async fn the_refresh_token_may_be_in_the_form() {
    let world = World::new().await;
    let token = world.enroll("agent-1").await;
    let [grant, client] = FORM;
    let form = [grant, client, ("refresh_token", token.as_str()), ("scope", "whatever"), ("unknown", "")];
    let answer = ask(request(&world.service).form(&form)).await;
    assert_eq!(answer.status, 200, "{answer:?}");
    let both = ask(request(&world.service).header("x-nous-refresh-token", &token).form(&form)).await;
    assert_eq!(both.field("refresh_token"), answer.field("refresh_token"));
}
