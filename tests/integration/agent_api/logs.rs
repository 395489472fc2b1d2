//! Invariant 8: no token, key or callback body ever reaches a log, at any level.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use nas_cron_testing::agent::Reply;
use nas_cron_testing::portal::{Portal, all_claims};
use nas_cron_testing::service::{ADMIN_TOKEN, KEY_ENCRYPTION_KEY, client};
use nas_cron_testing::time::fire_at;
use serde_json::{Value, json};
use sqlx::Row;

use super::fixture::{CANCEL, LIST, PROVISION, World, dying_within, until};

const VPS: &str = "hermes-cli-vps";
const PASSWORD: &str = "pass-of-the-database";

#[tokio::test]
async fn invariant_8_no_token_key_or_callback_body_reaches_a_log() {
    let world = World::with(|s| {
        let url = s.get("NAS_CRON_DATABASE_URL").replacen("postgres@", &format!("postgres:{PASSWORD}@"), 1);
        assert!(url.contains(PASSWORD));
        dying_within(s, "1ms", "1ms").with("NAS_CRON_DATABASE_URL", url).with("NAS_CRON_LOG_FILTER", "trace")
    })
    .await;
    let mut secrets = vec![
        ("admin token", ADMIN_TOKEN.to_owned()),
        ("key-encryption key", KEY_ENCRYPTION_KEY.to_owned()),
        (
            "key-encryption key, decoded",
            String::from_utf8(STANDARD.decode(KEY_ENCRYPTION_KEY).unwrap()).unwrap(),
        ),
        ("database password", PASSWORD.to_owned()),
        ("the body of an accepted answer", "secret-of-202".to_owned()),
        ("the body of a refusal", "secret-of-500".to_owned()),
        ("the body of a fire", r#"{"job_id""#.to_owned()),
        ("the body of a fire, in a JSON line", r#"{\"job_id\""#.to_owned()),
        ("the body of a provision", "secret-of-the-body".to_owned()),
        ("the path of a callback", "secret-of-the-path".to_owned()),
    ];
    let mut token = |what: &'static str, token: &str| {
        // Claims and signature; the header is not secret.
        secrets.extend(
            token.split('.').skip(1).filter(|part| part.len() > 20).map(|part| (what, part.to_owned())),
        );
    };

    // All responses of the agent API, over both versions of HTTP.
    let other = Portal::start().await;
    let tokens = [
        ("session token", world.token.clone()),
        ("client token", world.portal.client_token("org-1", "inst-1")),
        ("token of an unknown instance", world.portal.client_token("org-1", "inst-9")),
        ("expired token", world.portal.sign(json!({"client_id": "agent:inst-1", "exp": 1}))),
        ("forged token", other.sign_as_is(&world.portal.header(), &all_claims(&json!({"sid": "sid-1"})))),
        ("odd token", world.portal.sign(json!({"client_id": 7, "sid": "secret-of-the-body"}))),
    ];
    let http2 =
        reqwest::Client::builder().tls_certs_only([]).no_proxy().http2_prior_knowledge().build().unwrap();
    let bodies = [
        world.body(&json!({"note": "secret-of-the-body"})),
        world.body(&json!({"job_id": 7, "note": "secret-of-the-body"})),
        world.body(&json!({"dedup_key": {"secret-of-the-body": 1}})),
        world.body(&json!({"agent_callback_url": "https://secret-of-the-body:x@agent.example"})),
    ];
    for (what, one) in &tokens {
        token(what, one);
        for http in [&client(), &http2] {
            let url = |path: &str| format!("{}{path}?access_token={one}", world.service.url);
            for path in [LIST, "/nowhere/secret-of-the-path", "/api/admin/agents"] {
                http.get(url(path)).bearer_auth(one).send().await.unwrap();
            }
            http.get(url("/api/admin/agents")).bearer_auth(ADMIN_TOKEN).send().await.unwrap();
            for body in &bodies {
                for path in ["/api/agent-cron/provision", CANCEL] {
                    http.post(url(path)).bearer_auth(one).json(body).send().await.unwrap();
                }
            }
        }
    }

    // Fires that are accepted, and fires that fail until their budget is spent.
    world.agents.answer(|fire, _| {
        if fire.job_id == "lost" {
            Reply::status(404)
        } else if fire.job_id == "bad" {
            Reply { body: "secret-of-500", ..Reply::status(500) }
        } else {
            Reply { body: r#"{"status":"accepted","note":"secret-of-202"}"#, ..Reply::accepted() }
        }
    });
    world.arm("good", 0).await;
    world.arm("bad", 0).await;
    for job in ["good", "bad"] {
        token("fire token", &world.agents.wait_for(job, 1).await.token);
    }
    world.list_until("both are over", |list| list["dead"][0]["last_error"] == "secret-of-500").await;
    let callback = format!("{}/secret-of-the-path", world.agents.callback("nobody"));
    world.service.provision(&world.token, "lost", &fire_at(0), &callback).await;
    world.list_until("it is dead", |list| list["dead"].as_array().unwrap().len() == 2).await;

    let keys = sqlx::query("SELECT private_key, private_nonce FROM signing_keys")
        .fetch_all(&world.pool)
        .await
        .unwrap();
    for key in &keys {
        let sealed: Vec<u8> = key.get("private_key");
        secrets.extend([("sealed key", hex::encode(&sealed)), ("sealed key", STANDARD.encode(&sealed))]);
        secrets.push(("sealed key", format!("{sealed:?}")));
    }
    assert!(!keys.is_empty());
    let log = world.service.log();
    assert!(log.contains(r#""level":"TRACE""#), "the log has all levels");
    assert!(log.matches("request completed").count() > 50, "each request is logged");
    for (what, secret) in &secrets {
        let line = log.lines().find(|line| line.contains(secret.as_str()));
        assert_eq!(line, None, "{what} is in the log");
    }
}

#[tokio::test]
async fn log_lines_of_a_request_name_its_instance_job_and_request_id() {
    let world = World::start().await;
    let call = async |method: &str, path: &str, id: &str, body: Value| {
        let headers = [("authorization", format!("Bearer {}", world.token)), ("x-request-id", id.to_owned())];
        world.call_with(method, path, headers, body.to_string()).await
    };
    let armed = call("POST", PROVISION, "arm-1", world.body(&json!({}))).await;
    call("POST", PROVISION, "bad-2", world.body(&json!({"fire_at": "soon"})))
        .await
        .refused(400, "invalid_request");
    call("PATCH", "/api/agent-cron/jobs/job-1", "change-3", json!({"auth": "claude:work"})).await;
    call("POST", CANCEL, "cancel-4", json!({"job_id": "job-1"})).await;
    call("GET", LIST, "list-5", json!({})).await;
    for (id, job, schedule) in [
        ("arm-1", json!("job-1"), json!(armed.schedule_id())),
        ("bad-2", Value::Null, Value::Null),
        ("change-3", json!("job-1"), Value::Null),
        ("cancel-4", json!("job-1"), Value::Null),
        ("list-5", Value::Null, Value::Null),
    ] {
        let request = until(&format!("{id} is in the log"), async || {
            let log = world.service.log();
            let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
            let spans = lines
                .filter(|line| line["message"] == "request completed")
                .map(|line| line["spans"][0].clone());
            spans.into_iter().find(|span| span["request.id"] == id)
        })
        .await;
        let named = ["agent.id", "job.id", "schedule.id"].map(|field| request[field].clone());
        assert_eq!(named, [json!("inst-1"), job, schedule], "{request}");
    }
}

#[tokio::test]
async fn refused_callers_are_logged_with_the_reason_and_their_claims() {
    let world = World::start().await;
    world.sql("INSERT INTO instances (instance_id, org_id, enabled) VALUES ('off', 'org-1', false)").await;
    let sign = |claims: Value| world.portal.sign(claims);
    let other = Portal::start().await;
    let claims =
        |client: &str, sid: Option<&str>, org: &str| json!({"client_id": client, "sid": sid, "org_id": org});
    let forged = all_claims(&claims("agent:forged", None, "org-1"));
    let by_audience = json!({"aud": "agent:inst-1", "org_id": "org-1"});
    let cases = [
        // status, token, reason, verified, [client, audience, sid, org]
        (401, None, "missing bearer token", false, [Value::Null, Value::Null, Value::Null, Value::Null]),
        (
            401,
            Some("opaque".to_owned()),
            "not a signed JWT",
            false,
            [Value::Null, Value::Null, Value::Null, Value::Null],
        ),
        (
            401,
            Some(sign(json!({"client_id": "agent:late", "org_id": "org-1", "sid": "s", "exp": 1}))),
            "expired",
            false,
            [json!("agent:late"), json!(VPS), json!("s"), json!("org-1")],
        ),
        (
            401,
            Some(other.sign_as_is(&world.portal.header(), &forged)),
            "signature is invalid",
            false,
            [json!("agent:forged"), json!(VPS), Value::Null, json!("org-1")],
        ),
        (
            403,
            Some(sign(json!({"client_id": VPS, "sid": "sid-1"}))),
            "has a `sid` and no `org_id`",
            true,
            [json!(VPS), json!(VPS), json!("sid-1"), Value::Null],
        ),
        (
            403,
            Some(sign(by_audience)),
            "names an agent only in `aud`",
            true,
            [Value::Null, json!("agent:inst-1"), Value::Null, json!("org-1")],
        ),
        (
            403,
            Some(sign(claims("agent:off", None, "org-1"))),
            "is disabled",
            true,
            [json!("agent:off"), json!(VPS), Value::Null, json!("org-1")],
        ),
        (
            503,
            Some(sign(claims(VPS, Some("sid-9"), "org-1"))),
            "is not registered yet",
            true,
            [json!(VPS), json!(VPS), json!("sid-9"), json!("org-1")],
        ),
    ];
    for (number, (status, token, reason, _, _)) in cases.iter().enumerate() {
        // Twice: the repetition is not logged.
        for id in [format!("case-{number}"), format!("again-{number}")] {
            let authorization = token.as_ref().map(|token| ("authorization", format!("Bearer {token}")));
            let answer = world
                .call_with("GET", LIST, authorization.into_iter().chain([("x-request-id", id)]), "")
                .await;
            assert_eq!(answer.status, *status, "{reason}: {answer:?}");
            let description = answer.body["error_description"].as_str().unwrap();
            assert!(description.contains(reason), "the answer has the reason, too: {answer:?}");
        }
    }
    // Requests are logged after their refusals.
    let log = until("every request is in the log", async || {
        let log = world.service.log();
        (log.matches("request completed").count() >= 2 * cases.len()).then_some(log)
    })
    .await;
    let lines = log.lines().filter_map(|line| serde_json::from_str::<Value>(line).ok());
    let lines: Vec<_> = lines.filter(|line| line["message"] == "caller not admitted").collect();
    assert_eq!(lines.len(), cases.len(), "{lines:#?}");
    for ((number, (_, _, reason, verified, claimed)), line) in cases.iter().enumerate().zip(&lines) {
        assert_eq!(line["spans"][0]["request.id"], format!("case-{number}"), "{line}");
        assert!(line["reason"].as_str().unwrap().contains(reason), "{line}");
        assert_eq!((&line["level"], &line["claimed.verified"]), (&json!("INFO"), &json!(verified)), "{line}");
        let found = ["client", "audience", "sid", "org"].map(|name| line[format!("claimed.{name}")].clone());
        assert_eq!(found, *claimed, "{line}");
    }
    for (_, token, ..) in &cases {
        for part in token.iter().flat_map(|token| token.split('.').skip(1)) {
            assert!(!log.contains(part), "a part of a token is in the log");
        }
    }
}
