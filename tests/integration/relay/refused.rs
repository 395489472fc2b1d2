//! Requests without a valid signature of the backend: refused before any query.

use nas_cron_testing::world::{World, eventually};
use serde_json::{Value, json};

use super::caller::{Answer, Caller, RELAY_URL, claims, sign, sign_as};

/// Returns the reasons in the warnings about requests to the relay.
fn reasons(caller: &Caller) -> Vec<String> {
    let warnings = caller.lines("WARN").into_iter();
    let of_the_relay =
        warnings.filter(|line| line["message"].as_str().is_some_and(|text| text.contains("relay")));
    of_the_relay.map(|line| line["reason"].as_str().unwrap_or_default().to_owned()).collect()
}

/// Waits until the log has this many such warnings. It is read from a pipe, with a delay.
async fn warned(caller: &Caller, count: usize) -> Vec<String> {
    eventually(&format!("{count} warnings"), async || Some(reasons(caller)).filter(|all| all.len() >= count))
        .await
}

fn is_refused(answer: &Answer, why: &str) {
    assert_eq!(
        (answer.status, answer.body["error"].as_str()),
        (401, Some("invalid_signature")),
        "{why}: {answer:?}"
    );
    assert_eq!(answer.headers["www-authenticate"], "Signature", "{why}");
    assert_eq!(answer.headers["content-type"], "application/problem+json", "{why}");
}

/// A forged request: its description, the reason for its refusal, and its headers.
type Forgery = (&'static str, &'static str, Vec<(&'static str, String)>);

fn forged(caller: &Caller, body: &[u8]) -> Vec<Forgery> {
    let key = caller.emulator.settings().current_key.as_str();
    let good = claims(body);
    let with = |name: &str, value: Value| {
        let mut claims = good.clone();
        claims[name] = value;
        claims
    };
    let now = good["iat"].as_i64().unwrap();
    let signed = sign(key, &good);
    let parts: Vec<&str> = signed.split('.').collect();
    let none = sign_as(key, &json!({"alg": "none"}), &good);
    let unsigned_none = format!("{}.", none.rsplit_once('.').unwrap().0);
    let other_body = sign(key, &claims(b"{}"));
    let elsewhere = |url: &str| sign(key, &with("sub", json!(url)));
    let signature = |value: String| vec![("upstash-signature", value)];
    vec![
        ("unsigned", "unsigned", vec![]),
        ("a bearer token", "unsigned", vec![("authorization", format!("Bearer {}", caller.world.token))]),
        ("empty", "malformed", signature(String::new())),
        ("no JWT", "malformed", signature("sig_something".to_owned())),
        ("four parts", "malformed", signature(format!("{signed}.e30"))),
        (
            "two signatures",
            "malformed",
            vec![("upstash-signature", signed.clone()), ("upstash-signature", signed.clone())],
        ),
        ("a foreign key", "key", signature(sign("sig_of_somebody_else", &good))),
        ("an empty key", "key", signature(sign_as("\0", &json!({"alg": "HS256"}), &good))),
        ("altered claims", "key", signature(format!("{}.e30.{}", parts[0], parts[2]))),
        ("without its tag", "key", signature(format!("{}.{}.", parts[0], parts[1]))),
        ("alg none", "algorithm", signature(unsigned_none)),
        ("alg none with a tag", "algorithm", signature(none)),
        ("alg HS512", "algorithm", signature(sign_as(key, &json!({"alg": "HS512", "typ": "JWT"}), &good))),
        ("expired", "expired", signature(sign(key, &with("exp", json!(now - 1))))),
        ("not yet", "not_yet", signature(sign(key, &with("nbf", json!(now + 600))))),
        ("another issuer", "issuer", signature(sign(key, &with("iss", json!("Somebody"))))),
        ("another body", "body", signature(other_body)),
        ("another host", "url", signature(elsewhere("https://attacker.test/api/agent-cron/relay"))),
        ("another path", "url", signature(elsewhere("https://cron.example.test/api/agent-cron/provision"))),
        ("http", "url", signature(elsewhere("http://cron.example.test/api/agent-cron/relay"))),
        ("a slash more", "url", signature(elsewhere(&format!("{RELAY_URL}/")))),
        (
            "the URL that the headers name",
            "url",
            vec![
                ("upstash-signature", elsewhere("https://attacker.test/api/agent-cron/relay")),
                ("host", "attacker.test".to_owned()),
                ("x-forwarded-host", "attacker.test".to_owned()),
                ("x-forwarded-proto", "https".to_owned()),
                ("forwarded", "host=attacker.test;proto=https".to_owned()),
                ("x-original-url", "/api/agent-cron/relay".to_owned()),
            ],
        ),
        (
            "the address it came to",
            "url",
            signature(elsewhere(&format!("{}/api/agent-cron/relay", caller.world.service.url))),
        ),
    ]
}

async fn send(caller: &Caller, body: &[u8], headers: &[(&'static str, String)]) -> Answer {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
    caller.send(body, &headers).await
}

#[tokio::test]
async fn every_forgery_is_401_and_logged_once_with_its_reason_and_no_secret() {
    let caller = Caller::new().await;
    let wake_up = caller.due("job", 0.0).await;
    let mut expected = Vec::new();
    for (what, reason, headers) in forged(&caller, &wake_up) {
        let answer = send(&caller, &wake_up, &headers).await;
        is_refused(&answer, what);
        expected.push(reason.to_owned());
        assert_eq!(warned(&caller, expected.len()).await, expected, "{what}: one warning");
    }
    for reason in ["unsigned", "malformed", "key", "algorithm", "expired", "not_yet", "issuer", "body", "url"]
    {
        let count = expected.iter().filter(|one| *one == reason).count();
        let counted = caller
            .counted("nas_cron_relay_requests_rejected_total", &[&format!("reason=\"{reason}\"")])
            .await;
        assert_eq!(counted, count as u64, "{reason}");
    }
    caller.says_no_secret();
    assert!(
        !caller.world.service.log().contains("attacker.test"),
        "the log contains nothing from the forged requests"
    );
    assert_eq!(caller.counted("nas_cron_wake_ups_total", &[]).await, 0);
    assert_eq!(caller.world.agents.fires().len(), 0);
    // The one-shot has not changed.
    assert_eq!(caller.wake(&wake_up).await.said(), (200, "delivered"));
}

/// A query would be answered with 503, because the database is unreachable.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_forgery_causes_no_database_query() {
    let (caller, proxy) = Caller::behind_a_proxy().await;
    let wake_up = caller.due("job", 0.0).await;
    proxy.cut().await;
    for (what, _, headers) in forged(&caller, &wake_up) {
        is_refused(&send(&caller, &wake_up, &headers).await, what);
    }
    // A valid request reaches the database.
    assert_eq!(caller.wake(&wake_up).await.status, 503);
}

#[tokio::test]
async fn an_oversized_request_is_413_signed_or_not() {
    let caller = Caller::new().await;
    let long = vec![b'x'; 64 * 1024 + 1];
    for answer in [caller.wake(&long).await, caller.send(&long, &[]).await] {
        assert_eq!(
            (answer.status, answer.body["error"].as_str()),
            (413, Some("invalid_request")),
            "{answer:?}"
        );
    }
    assert_eq!(warned(&caller, 2).await, ["oversized", "oversized"]);
    assert_eq!(caller.counted("nas_cron_relay_requests_rejected_total", &["reason=\"oversized\""]).await, 2);
    // A body of exactly the maximum length is accepted.
    let mut longest = caller.due("job", 0.0).await;
    longest.resize(64 * 1024, b' ');
    assert_eq!(caller.wake(&longest).await.said(), (200, "delivered"));
    caller.says_no_secret();
}

#[tokio::test]
async fn both_signing_keys_are_accepted_and_host_headers_are_ignored() {
    let caller = Caller::new().await;
    let account = caller.emulator.settings().clone();
    for (job, key) in [("current", &account.current_key), ("next", &account.next_key)] {
        let wake_up = caller.due(job, 0.0).await;
        let signature = sign(key, &claims(&wake_up));
        let headers = [
            ("upstash-signature", signature.as_str()),
            ("host", "attacker.test"),
            ("x-forwarded-host", "attacker.test"),
            ("x-forwarded-proto", "http"),
        ];
        assert_eq!(caller.send(&wake_up, &headers).await.said(), (200, "delivered"), "{job}");
    }
    assert_eq!(reasons(&caller), [""; 0]);
}

#[tokio::test]
async fn the_signature_covers_the_exact_bytes_of_the_body() {
    let caller = Caller::new().await;
    let wake_up = caller.due("job", 0.0).await;
    let signature = caller.signed(&wake_up);
    let value: Value = serde_json::from_slice(&wake_up).unwrap();
    let pretty = serde_json::to_vec_pretty(&value).unwrap();
    let mut ended = wake_up.clone();
    ended.push(b'\n');
    for body in [&pretty, &ended, &Vec::new(), &wake_up[1..].to_vec()] {
        is_refused(&caller.post(body, &signature).await, "the same JSON in other bytes");
    }
    assert_eq!(caller.post(&pretty, &caller.signed(&pretty)).await.said(), (200, "delivered"));
}

#[tokio::test]
async fn without_a_configured_backend_every_request_is_refused() {
    let world = World::new().await;
    let emulator = super::caller::silent_emulator().await;
    let caller = Caller { world, emulator };
    let body = Caller::body("job", "0190a5e4-7c1e-7000-8000-000000000000", "2026-06-18T12:00:00Z");
    is_refused(&caller.wake(&body).await, "signed");
    is_refused(&caller.send(&body, &[]).await, "unsigned");
    assert_eq!(warned(&caller, 2).await, ["unsigned", "unsigned"]);
}

#[tokio::test]
async fn the_relay_accepts_only_post() {
    let caller = Caller::new().await;
    for method in ["GET", "PUT", "DELETE", "HEAD"] {
        let url = format!("{}/api/agent-cron/relay", caller.world.service.url);
        let method = reqwest::Method::from_bytes(method.as_bytes()).unwrap();
        let answer = nas_cron_testing::service::client().request(method.clone(), url).send().await.unwrap();
        assert_eq!(answer.status().as_u16(), 405, "{method}");
    }
}
