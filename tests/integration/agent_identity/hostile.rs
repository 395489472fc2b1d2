//! Invalid credentials: each is rejected with the right error code, changes nothing, and leaves no secret in the log.

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE, URL_SAFE_NO_PAD};
use nas_cron_testing::service::{ADMIN_TOKEN, Service};
use nas_cron_testing::world::World;
use serde_json::{Value, json};

use super::fixture::{
    CANCEL, Identity, Key, LIST, PROVISION, REGISTER, call, envelope, line, list, on, register, registered,
    stamp_in, tables,
};

/// Runs rejected calls, and asserts that they changed nothing.
async fn nothing_changes(world: &World, rejected_calls: impl AsyncFnOnce()) {
    let before = tables(world).await;
    rejected_calls().await;
    assert_eq!(tables(world).await, before);
}

/// A world without pending writes about its agent.
async fn settled() -> (World, Identity) {
    let world = World::with(|s| on(s).with("NAS_CRON_LOG_FILTER", "trace")).await;
    let agent = Identity::new(&world.service, &world.token).await;
    world
        .sql(
            "UPDATE agent_tasks SET last_used_at = now() + interval '1 hour';
             UPDATE instances SET pulled_at = now() + interval '1 hour'",
        )
        .await;
    (world, agent)
}

async fn unasserted(service: &Service, presented: &str, error: &str) -> String {
    list(service, &format!("AgentAssertion {presented}")).await.unasserted(error).to_owned()
}

/// Adds L, the order of the group, to the second half of a signature. A lax verifier accepts the result too.
fn plus_order(signature: &str) -> String {
    let order = hex::decode("edd3f55c1a631258d69cf7a2def9de1400000000000000000000000000000010").unwrap();
    let mut bytes = STANDARD.decode(signature).unwrap();
    let mut carry = 0_u16;
    for (byte, more) in bytes[32..].iter_mut().zip(order) {
        let sum = u16::from(*byte) + u16::from(more) + carry;
        [*byte, _] = sum.to_le_bytes();
        carry = sum >> 8;
    }
    STANDARD.encode(bytes)
}

#[tokio::test]
async fn malformed_envelopes_are_refused() {
    let (world, agent) = settled().await;
    let service = &world.service;
    let good = || agent.fields(&agent.task, &stamp_in(0));
    nothing_changes(&world, async || {
        for field in ["agent_runtime_id", "task_id", "timestamp", "signature"] {
            let mut fields = good();
            fields.as_object_mut().unwrap().remove(field);
            let said = unasserted(service, &envelope(&fields), "invalid_assertion").await;
            assert_eq!(said, format!("{field}: is missing"));
            for other in [json!(null), json!(7), json!([good()[field]]), json!({}), json!(false)] {
                let mut fields = good();
                fields[field] = other;
                unasserted(service, &envelope(&fields), "invalid_assertion").await;
            }
            let doubled = good().to_string().replacen('{', &format!("{{\"{field}\":{},", good()[field]), 1);
            unasserted(service, &URL_SAFE_NO_PAD.encode(doubled), "invalid_assertion").await;
        }
        let text = good().to_string();
        for presented in [
            text.clone(),
            format!("{}=", envelope(&good())),
            format!("{}.", envelope(&good())),
            format!("{} x", envelope(&good())),
            format!("{},", envelope(&good())),
            STANDARD.encode(format!("{{\"x\":\"~~~???~~~\",{}", &text[1..])),
            URL_SAFE_NO_PAD.encode(&text[1..]),
            URL_SAFE_NO_PAD.encode(format!("[{text}]")),
            URL_SAFE_NO_PAD.encode(format!("{text}{text}")),
            URL_SAFE_NO_PAD.encode("null"),
            URL_SAFE_NO_PAD.encode([0xff; 100]),
            URL_SAFE_NO_PAD.encode("{\"x\":".repeat(200)),
            URL_SAFE_NO_PAD.encode(format!("{{\"x\":\"{}\",{}", "x".repeat(2_000), &text[1..])),
            "A".repeat(6_000),
            "====".to_owned(),
        ] {
            unasserted(service, &presented, "invalid_assertion").await;
        }
        for signature in [
            URL_SAFE.encode([0xff; 64]),
            good()["signature"].as_str().unwrap().trim_end_matches('=').to_owned(),
            hex::encode([7; 64]),
            STANDARD.encode([7; 63]),
            STANDARD.encode([7; 65]),
            String::new(),
        ] {
            let mut fields = good();
            fields["signature"] = json!(signature);
            let said = unasserted(service, &envelope(&fields), "invalid_assertion").await;
            assert!(said.starts_with("signature: must be"), "{said}");
        }
    })
    .await;
    assert_eq!(list(service, &agent.assertion()).await.status, 200);
}

#[tokio::test]
async fn assertions_with_another_signature_are_refused() {
    let (world, agent) = settled().await;
    let service = &world.service;
    let other_key = Key::fresh();
    nothing_changes(&world, async || {
        let (id, task, at) = (&agent.id, &agent.task, &stamp_in(0));
        for message in [
            format!("{task}:{id}:{at}"),
            format!("{id}:{at}:{task}"),
            format!("{at}:{id}:{task}"),
            format!("{id}:{at}"),
            format!("{id}:{task}:{at}\n"),
            format!("{id}:{task}"),
            format!("{id}:{task}:{}", stamp_in(1)),
            String::new(),
        ] {
            let mut fields = agent.fields(task, at);
            fields["signature"] = json!(agent.key.sign(&message));
            let said = unasserted(service, &envelope(&fields), "invalid_assertion").await;
            assert!(said.starts_with("signature: is not a signature of"), "{message}: {said}");
        }
        let good = agent.fields(task, at);
        let signature = good["signature"].as_str().unwrap();
        for forged in [
            other_key.sign(&format!("{id}:{task}:{at}")),
            plus_order(signature),
            STANDARD.encode([0; 64]),
            STANDARD.encode([0xff; 64]),
        ] {
            let mut fields = good.clone();
            fields["signature"] = json!(forged);
            unasserted(service, &envelope(&fields), "invalid_assertion").await;
            // The signature is checked before the task, so that the error reveals nothing about the task.
            fields["task_id"] = json!("7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d");
            unasserted(service, &envelope(&fields), "invalid_assertion").await;
        }
        for (field, forged) in
            [("task_id", "7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d".to_owned()), ("timestamp", stamp_in(-30))]
        {
            let mut fields = good.clone();
            fields[field] = json!(forged);
            unasserted(service, &envelope(&fields), "invalid_assertion").await;
        }
        // A signature for an assertion is not valid for a task registration.
        let path = format!("/v1/agent/{id}/task/register");
        let body = json!({"timestamp": at, "signature": signature});
        call(service, "POST", &path, None, Some(&body)).await.unasserted("invalid_assertion");
        let body = json!({"timestamp": at, "signature": other_key.sign(&format!("{id}:{at}"))});
        call(service, "POST", &path, None, Some(&body)).await.unasserted("invalid_assertion");
        let body = json!({"timestamp": at, "signature": plus_order(&agent.key.sign(&format!("{id}:{at}")))});
        call(service, "POST", &path, None, Some(&body)).await.unasserted("invalid_assertion");
    })
    .await;
    assert_eq!(list(service, &agent.assertion()).await.status, 200);
}

#[tokio::test]
async fn assertions_more_than_five_minutes_off_are_refused() {
    let (world, agent) = settled().await;
    let service = &world.service;
    // Unit tests cover the exact boundary, with a clock that stands still.
    for seconds in [-250, -1, 0, 1, 250] {
        let presented = envelope(&agent.fields(&agent.task, &stamp_in(seconds)));
        assert_eq!(list(service, &format!("AgentAssertion {presented}")).await.status, 200, "{seconds}");
    }
    nothing_changes(&world, async || {
        for seconds in [-302, -3_600, 400, 86_400] {
            let at = stamp_in(seconds);
            let presented = envelope(&agent.fields(&agent.task, &at));
            let said = unasserted(service, &presented, "invalid_assertion").await;
            assert!(
                said.starts_with("timestamp: differs from the service's clock by more than 5 minutes"),
                "{said}"
            );
            let body = json!({"timestamp": at, "signature": agent.key.sign(&format!("{}:{at}", agent.id))});
            let path = format!("/v1/agent/{}/task/register", agent.id);
            call(service, "POST", &path, None, Some(&body)).await.unasserted("invalid_assertion");
        }
        for at in ["2027-01-15T08:00:00+00:00", "2027-02-30T08:00:00Z", "now", "", "1800000000"] {
            let presented = envelope(&agent.fields(&agent.task, at));
            unasserted(service, &presented, "invalid_assertion").await;
            let body = json!({"timestamp": at, "signature": agent.key.sign("x")});
            let path = format!("/v1/agent/{}/task/register", agent.id);
            let answer = call(service, "POST", &path, None, Some(&body)).await;
            assert!(answer.refused(400, "invalid_request").starts_with("timestamp: "), "{at}");
        }
    })
    .await;
}

#[tokio::test]
async fn a_key_is_valid_only_for_its_own_tasks() {
    let (world, agent) = settled().await;
    let service = &world.service;
    let stranger_token = world.instance("inst-2").await;
    let stranger = Identity::new(service, &stranger_token).await;
    let sibling = Identity::new(service, &world.token).await;
    nothing_changes(&world, async || {
        for task in [
            stranger.task.as_str(),
            &sibling.task,
            "7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d",
            "task-stored",
            "",
            &agent.task.to_uppercase(),
            &agent.id,
        ] {
            let presented = envelope(&agent.fields(task, &stamp_in(0)));
            unasserted(service, &presented, "unknown_task").await;
        }
        // Another identity's ID with one's own signature, and unknown IDs.
        let mut fields = stranger.fields(&stranger.task, &stamp_in(0));
        fields["agent_runtime_id"] = json!(agent.id);
        unasserted(service, &envelope(&fields), "invalid_assertion").await;
        for unknown in
            ["7f3f0c5e-0d5a-4f0a-9d1a-3f8f5f0c5e0d", "agent-runtime-1", "", &agent.id.to_uppercase()]
        {
            let mut fields = agent.fields(&agent.task, &stamp_in(0));
            fields["agent_runtime_id"] = json!(unknown);
            unasserted(service, &envelope(&fields), "unknown_agent").await;
            let at = stamp_in(0);
            let body = json!({"timestamp": at, "signature": agent.key.sign(&format!("{unknown}:{at}"))});
            if !unknown.is_empty() {
                let path = format!("/v1/agent/{unknown}/task/register");
                call(service, "POST", &path, None, Some(&body)).await.unasserted("unknown_agent");
            }
        }
    })
    .await;
}

#[tokio::test]
async fn only_valid_ed25519_public_key_lines_are_registered() {
    let (world, agent) = settled().await;
    let service = &world.service;
    let key = Key::fresh();
    let good = key.line();
    let small = [
        "0100000000000000000000000000000000000000000000000000000000000000",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "0000000000000000000000000000000000000000000000000000000000000000",
        "0000000000000000000000000000000000000000000000000000000000000080",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc85",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac03fa",
        // not canonical
        "0100000000000000000000000000000000000000000000000000000000000080",
        "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "eeffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        "edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
        // not on the curve
        "0200000000000000000000000000000000000000000000000000000000000000",
    ];
    let mut lines: Vec<String> = small.iter().map(|point| line(&hex::decode(point).unwrap())).collect();
    lines.extend([
        String::new(),
        "ssh-ed25519".to_owned(),
        good.replacen("ssh-ed25519", "ssh-rsa", 1),
        good.replacen("ssh-ed25519", "ecdsa-sha2-nistp256", 1),
        good.replacen("ssh-ed25519", "sk-ssh-ed25519@openssh.com", 1),
        good.replacen("ssh-ed25519", "ssh-ed25519-cert-v01@openssh.com", 1),
        good.replacen("ssh-ed25519", "Ssh-Ed25519", 1),
        good.replacen(' ', "\n", 1),
        format!("{good}\n"),
        format!("{good}="),
        format!("no-pty {good}"),
        format!("{good} {}", "x".repeat(1_024)),
        good[..good.len() - 4].to_owned(),
        line(&key.0.sign(b"").as_ref()[..31]),
        "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret-of-the-private-half".to_owned(),
    ]);
    nothing_changes(&world, async || {
        for line in &lines {
            let answer = register(service, &world.token, &json!({"agent_public_key": line})).await;
            let said = answer.refused(400, "invalid_request");
            assert!(said.starts_with("agent_public_key: ") && !said.contains("secret"), "{line}: {said}");
        }
        for (body, field) in [
            (json!({}), "agent_public_key"),
            (json!({"agent_public_key": null}), "agent_public_key"),
            (json!({"agent_public_key": [good]}), "agent_public_key"),
            (json!({"agent_public_key": {"x": 1}}), "agent_public_key"),
            (json!({"agent_public_key": 7}), "agent_public_key"),
            (json!({"agent_public_key": good, "replaces": []}), "replaces"),
        ] {
            let answer = register(service, &world.token, &body).await;
            assert!(answer.refused(400, "invalid_request").starts_with(field), "{body}: {answer:?}");
        }
        let path = format!("/v1/agent/{}/task/register", agent.id);
        for (body, field) in [
            (json!({}), "timestamp"),
            (json!({"timestamp": stamp_in(0)}), "signature"),
            (json!({"timestamp": 7, "signature": "x"}), "timestamp"),
            (json!({"timestamp": stamp_in(0), "signature": "x"}), "signature"),
            (json!({"timestamp": stamp_in(0), "signature": null}), "signature"),
            (json!({"timestamp": stamp_in(0), "signature": "x".repeat(40_000)}), "signature"),
        ] {
            let answer = call(service, "POST", &path, None, Some(&body)).await;
            assert!(answer.refused(400, "invalid_request").starts_with(field), "{body}: {answer:?}");
        }
    })
    .await;
}

#[tokio::test]
async fn key_registration_admin_api_and_relay_reject_assertions() {
    let (world, agent) = settled().await;
    let service = &world.service;
    let body = json!({"agent_public_key": Key::fresh().line()});
    nothing_changes(&world, async || {
        for authorization in [Some(agent.assertion()), None, Some(format!("Bearer {ADMIN_TOKEN}"))] {
            let answer = call(service, "POST", REGISTER, authorization.as_deref(), Some(&body)).await;
            answer.refused(401, "invalid_token");
            assert!(answer.challenges[0].starts_with("Bearer"), "{answer:?}");
        }
        for (method, path) in [
            ("GET", "/api/admin/agents"),
            ("DELETE", "/api/admin/agents/inst-1"),
            ("GET", "/api/admin/agents/inst-1/identities"),
        ] {
            call(service, method, path, Some(&agent.assertion()), None).await.refused_as_problem();
        }
        let (assertion, body) = (agent.assertion(), json!({}));
        let relay = call(service, "POST", "/api/agent-cron/relay", Some(&assertion), Some(&body)).await;
        assert_eq!(relay.status, 401);
        // Other schemes, and a credential under the wrong scheme.
        for (method, path) in [("GET", LIST), ("POST", PROVISION), ("POST", CANCEL)] {
            for authorization in ["Basic dTpw", "AgentAssertion", "AgentAssertion ", "Digest x", "e30"] {
                let answer = call(service, method, path, Some(authorization), None).await;
                answer.refused(401, "invalid_token");
                assert_eq!(answer.challenges, ["Bearer, AgentAssertion"], "{authorization}");
            }
            let assertion = agent.assertion();
            let presented = assertion.trim_start_matches("AgentAssertion ");
            call(service, method, path, Some(&format!("Bearer {presented}")), None)
                .await
                .refused(401, "invalid_token");
            let token = format!("AgentAssertion {}", world.token);
            call(service, method, path, Some(&token), None).await.unasserted("invalid_assertion");
        }
    })
    .await;
}

/// Invariant 8: no credential reaches a log, at any level.
#[tokio::test]
async fn presented_credentials_never_reach_the_log() {
    let world = World::with(|s| {
        on(s).with("NAS_CRON_LOG_FILTER", "trace").with("NAS_CRON_AGENT_TASK_IDS_ENCRYPTED", "false")
    })
    .await;
    let service = &world.service;
    let agent = Identity::new(service, &world.token).await;
    let mut presented: Vec<String> = Vec::new();
    let mut present = async |fields: Value| {
        presented.push(envelope(&fields));
        presented.extend(fields["signature"].as_str().map(str::to_owned));
        list(service, &format!("AgentAssertion {}", envelope(&fields))).await.status
    };
    let good = agent.fields(&agent.task, &stamp_in(0));
    assert_eq!(present(good.clone()).await, 200);
    assert_eq!(present(agent.fields(&agent.task, &stamp_in(-400))).await, 401);
    assert_eq!(present(agent.fields("task-of-nobody", &stamp_in(0))).await, 401);
    let mut odd = good.clone();
    odd["signature"] = json!(["secret-in-the-wrong-place"]);
    assert_eq!(present(odd).await, 401);
    let at = agent.second(1);
    let signature = agent.key.sign(&format!("{}:{at}", agent.id));
    let path = format!("/v1/agent/{}/task/register", agent.id);
    let body = json!({"timestamp": at, "signature": signature});
    assert_eq!(call(service, "POST", &path, None, Some(&body)).await.status, 200);
    let private = "-----BEGIN OPENSSH PRIVATE KEY-----\nsecret-of-the-private-half";
    register(service, &world.token, &json!({"agent_public_key": private}))
        .await
        .refused(400, "invalid_request");
    registered(service, &world.token, &agent.key.line()).await;
    presented.extend([
        signature,
        "secret-in-the-wrong-place".to_owned(),
        "secret-of-the-private-half".to_owned(),
        agent.task.clone(),
    ]);
    presented.extend(world.token.split('.').skip(1).map(str::to_owned));
    let log = service.log();
    assert!(log.contains(r#""level":"TRACE""#) && log.matches("request completed").count() > 5);
    for secret in &presented {
        assert_eq!(log.lines().find(|line| line.contains(secret.as_str())), None, "{secret}");
    }
}
