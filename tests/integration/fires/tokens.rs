//! The fire as an agent receives it: token, body and path.

use std::collections::HashSet;

use nas_cron_testing::agent::{Fire, Reply};
use nas_cron_testing::jwt::verify;
use nas_cron_testing::service::{Service, client};
use nas_cron_testing::time::{fire_at, lateness_ms};
use nas_cron_testing::world::{World, eventually};
use serde_json::{Value, json};

/// Verifies the tokens of a job's two attempts with both JWKS paths.
async fn judge(world: &World, fires: &[Fire], alg: &str, issuer: &str) {
    let mut tokens = HashSet::new();
    for path in ["/.well-known/jwks.json", "/api/agent-cron/jwks.json"] {
        let (status, jwks) = world.service.get(path).await;
        assert_eq!(status, 200, "{path}");
        for fire in fires {
            let (header, mut claims) = verify(&fire.token, &jwks);
            assert_eq!(header, json!({"alg": alg, "typ": "JWT", "kid": jwks["keys"][0]["kid"]}));
            assert!(header["kid"].as_str().is_some_and(|kid| !kid.is_empty()));

            let mut take = |name: &str| claims.as_object_mut().unwrap().remove(name).expect(name);
            let jti = take("jti");
            let [iat, nbf, exp] =
                ["iat", "nbf", "exp"].map(|name| take(name).as_i64().expect("whole seconds"));
            assert_eq!(
                claims,
                json!({
                    "iss": issuer, "aud": "agent:inst-1", "purpose": "cron_fire",
                    "job_id": fire.job_id, "fire_at": fire.fire_at,
                }),
                "these, byte for byte, and nothing more"
            );
            assert!((60..=120).contains(&(exp - iat)), "{exp} - {iat}");
            assert_eq!(nbf, iat);
            let age = fire.arrived.timestamp() - iat;
            assert!((0..60).contains(&age), "minted for this attempt, and never in the future: {age} s old");
            assert!(jti.as_str().is_some_and(|jti| jti.len() >= 16), "{jti}");
            tokens.insert((fire.arrived, jti.to_string()));
        }
    }
    let jtis: HashSet<&String> = tokens.iter().map(|one| &one.1).collect();
    assert_eq!(jtis.len(), fires.len(), "one jti per attempt");
}

async fn two_attempts(world: &World, token: &str) -> Vec<Fire> {
    world.agents.answer(|_, before| Reply::status(if before == 0 { 500 } else { 202 }));
    world.service.provision(token, "a1b2c3", &fire_at(300), &world.callback()).await;
    world.agents.wait_for("a1b2c3", 2).await;
    world.agents.fires_of("a1b2c3")
}

#[tokio::test]
async fn contract_fire_the_token_is_es256_by_default_with_exactly_these_claims() {
    // A portal URL in an unusual form: agents compare its bytes.
    const ISSUER: &str = "https://Portal.Test:443/base/";
    let world = World::with(|s| s.with("NAS_CRON_PORTAL_URL", ISSUER)).await;
    let token = world.portal.sign(json!({"iss": ISSUER, "org_id": "org-1", "sid": "sid-1"}));
    let fires = two_attempts(&world, &token).await;
    judge(&world, &fires, "ES256", ISSUER).await;
}

#[tokio::test]
async fn contract_fire_the_token_is_rs256_where_that_is_configured() {
    let world = World::with(|s| s.with("NAS_CRON_SIGNING_ALG", "RS256")).await;
    let fires = two_attempts(&world, &world.token).await;
    judge(&world, &fires, "RS256", nas_cron_testing::portal::PORTAL_URL).await;
}

#[tokio::test]
async fn jti_of_a_fire_token_is_the_attempts_id_in_history_and_log() {
    let world = World::new().await;
    let fires = two_attempts(&world, &world.token).await;
    let jwks = world.service.get("/.well-known/jwks.json").await.1;
    let jtis: Vec<_> = fires.iter().map(|fire| verify(&fire.token, &jwks).1["jti"].clone()).collect();
    world.ended("a1b2c3", 2).await;
    let (_, shown, _) = world.settings.run(&["jobs", "show", "inst-1", "a1b2c3", "--json"]).await;
    let shown: Value = serde_json::from_str(&shown).expect("JSON");
    let mut recorded: Vec<_> =
        shown["attempts"].as_array().unwrap().iter().map(|one| one["attempt_id"].clone()).collect();
    recorded.reverse();
    assert_eq!(recorded, jtis);
    // One line per outcome.
    let logged = eventually("both outcomes are in the log", async || {
        let log = world.service.log();
        let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
        let ended: Vec<_> = lines.filter(|line| line["job.id"] == "a1b2c3").collect();
        (ended.len() == 2).then_some(ended)
    })
    .await;
    let ids: Vec<_> = logged.iter().map(|line| line["fire.attempt_id"].clone()).collect();
    assert_eq!(ids, jtis, "{logged:#?}");
    assert!(logged.iter().all(|line| line["agent.id"] == "inst-1"), "{logged:#?}");
}

#[tokio::test]
async fn contract_fire_a_token_lives_as_long_as_configured() {
    for (ttl, seconds) in [("60s", 60), ("120s", 120)] {
        let world = World::with(|s| s.with("NAS_CRON_FIRE_TOKEN_TTL", ttl)).await;
        world.arm("job", -5_000).await;
        let fire = world.agents.wait_for("job", 1).await;
        let (_, claims) = verify(&fire.token, &world.service.get("/.well-known/jwks.json").await.1);
        assert_eq!(claims["exp"].as_i64().unwrap() - claims["iat"].as_i64().unwrap(), seconds);
    }
}

#[tokio::test]
async fn a_one_shot_fires_with_a_token_and_the_exact_bytes_of_its_fire_at() {
    let world = World::new().await;
    let (at, schedule) = world.arm("job-1", 1_500).await;
    let (_, listed) = world.listed("job-1").await.unwrap();
    assert_eq!((&listed["fire_at"], &listed["schedule_id"]), (&json!(at), &json!(schedule)), "byte for byte");
    let fire = world.agents.wait_for("job-1", 1).await;
    let late = lateness_ms(&at, fire.arrived);
    assert!(late >= 0.0, "{late} ms late");
    assert!(!fire.token.is_empty());
}

#[tokio::test]
async fn contract_fire_the_body_is_exactly_job_id_and_fire_at() {
    let world = World::new().await;
    for (job, at) in [
        ("naïve \"job\"/1", "2026-01-02T03:04:05+05:45"),
        ("micros", "2026-01-02T03:04:05.000001-08:00"),
        ("zulu", "2026-01-02T03:04:05Z"),
    ] {
        world.service.provision(&world.token, job, at, &world.callback()).await;
        let fire = world.agents.wait_for(job, 1).await;
        assert_eq!(fire.body, json!({"job_id": job, "fire_at": at}), "the bytes that came, and nothing more");
        assert_eq!(fire.headers["content-type"], "application/json");
        assert_eq!(fire.headers.get_all("authorization").iter().count(), 1);
        assert_eq!(fire.headers["authorization"].to_str().unwrap(), format!("Bearer {}", fire.token));
        world.delivered(job).await;
    }
}

#[tokio::test]
async fn client_9_the_callback_path_is_exact_with_and_without_slash_and_prefix() {
    let world = World::new().await;
    for (job, base, path) in [
        ("plain", "inst-1", "/inst-1/api/cron/fire"),
        ("slash", "inst-1/", "/inst-1/api/cron/fire"),
        ("prefix", "inst-1/deep", "/inst-1/deep/api/cron/fire"),
        ("prefix-slash", "inst-1/deep/", "/inst-1/deep/api/cron/fire"),
    ] {
        let callback = world.agents.callback(base);
        world.service.provision(&world.token, job, &fire_at(-1_000), &callback).await;
        assert_eq!(world.agents.wait_for(job, 1).await.path, path);
        world.delivered(job).await;
    }
    assert_eq!(world.agents.strays(), [""; 0]);
}

#[tokio::test]
async fn invariant_7_a_fire_token_is_refused_by_the_agent_api() {
    let world = World::new().await;
    world.arm("job", -1_000).await;
    let fire = world.agents.wait_for("job", 1).await;
    let callback = world.callback();

    // The worst case: the portal signs with the key that signs fires (it was imported), so only the purpose distinguishes a
    // fire token from an access token.
    let own = world.service.get("/.well-known/jwks.json").await.1;
    let portals = client().get(world.portal.jwks_url()).send().await.unwrap().json::<Value>().await.unwrap();
    let keys =
        [own["keys"].as_array().unwrap().clone(), portals["keys"].as_array().unwrap().clone()].concat();
    let pinned = std::env::temp_dir().join(format!("nas-cron-test-{}.jwks.json", std::process::id()));
    std::fs::write(&pinned, json!({"keys": keys}).to_string()).unwrap();
    let trusting = Service::start(
        &world
            .settings
            .clone()
            .without("NAS_CRON_PORTAL_JWKS_URL")
            .with("NAS_CRON_PORTAL_JWKS_FILE", pinned.to_str().unwrap()),
    )
    .await;
    std::fs::remove_file(&pinned).unwrap();
    trusting.list(&world.token).await;

    for service in [&world.service, &trusting] {
        let body = json!({"job_id": "x", "fire_at": fire_at(60_000), "agent_callback_url": callback, "dedup_key": "x"});
        let (provision, said) = service.post("/api/agent-cron/provision", &fire.token, &body).await;
        assert_eq!((provision, &said["error"]), (401, &json!("invalid_token")));
        let (cancel, _) =
            service.post("/api/agent-cron/cancel", &fire.token, &json!({"job_id": "job"})).await;
        let list = client().get(format!("{}/api/agent-cron/list", service.url)).bearer_auth(&fire.token);
        assert_eq!((cancel, list.send().await.unwrap().status().as_u16()), (401, 401));
    }
    let (_, said) = trusting.post("/api/agent-cron/cancel", &fire.token, &json!({"job_id": "job"})).await;
    assert!(
        said["error_description"].as_str().unwrap().contains("purpose"),
        "known, and refused for that: {said}"
    );
}

#[tokio::test]
async fn invariant_8_no_token_and_no_answer_of_an_agent_is_in_the_log() {
    let world =
        World::with(|s| s.with("NAS_CRON_LOG_FILTER", "trace").with("NAS_CRON_RETRY_DEFINITE_BASE", "100ms"))
            .await;
    world.agents.answer(|_, before| {
        let body = r#"{"oops":"the agent's own secret"}"#;
        Reply { body, ..Reply::status(if before == 0 { 500 } else { 202 }) }
    });
    world.arm("job", -1_000).await;
    world.agents.wait_for("job", 2).await;
    world.delivered("job").await;
    let log = world.service.log();
    assert!(log.contains("delivered"), "the log is complete");
    for fire in world.agents.fires() {
        let signature = fire.token.rsplit('.').next().unwrap();
        assert!(!log.contains(signature) && !log.contains(&fire.token), "a fire token is in the log");
    }
    for secret in [world.token.rsplit('.').next().unwrap(), "the agent's own secret", "MDEyMzQ1Njc4"] {
        assert!(!log.contains(secret), "{secret}");
    }
    assert!(!log.contains("PRIVATE KEY"));
}
