//! Tokens that are rejected.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use nas_cron_testing::corpora::json_oddities;
use nas_cron_testing::portal::{PORTAL_URL, Portal, all_claims, unsigned};
use nas_cron_testing::time::now;
use serde_json::{Value, json};

use super::fixture::{Answer, CANCEL, LIST, PROVISION, World};

/// Returns the response to this token, which must be the same for every endpoint.
async fn refusal(world: &World, token: &str) -> Answer {
    let answer = world.call("GET", LIST, Some(token), "").await;
    let body = world.body(&json!({})).to_string();
    for path in [PROVISION, CANCEL] {
        assert_eq!(world.call("POST", path, Some(token), body.clone()).await.visible(), answer.visible());
    }
    answer
}

async fn assert_rejected(world: &World, what: &str, token: &str) {
    let answer = refusal(world, token).await;
    assert_eq!(
        (answer.status, answer.body["error"].as_str()),
        (401, Some("invalid_token")),
        "{what}: {answer:?}"
    );
    answer.refused(401, "invalid_token");
    let challenge = answer.header("www-authenticate").expect(what);
    assert!(challenge.starts_with("Bearer"), "{what}: {challenge}");
}

fn hs256(secret: &[u8], header: &Value, claims: &Value) -> String {
    let message = unsigned(header, claims);
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret);
    format!("{message}.{}", URL_SAFE_NO_PAD.encode(ring::hmac::sign(&key, message.as_bytes())))
}

#[tokio::test]
async fn tokens_with_invalid_utf8_are_rejected_even_where_nothing_reads_it() {
    let world = World::start().await;
    let claims = all_claims(&json!({"client_id": "agent:inst-1", "org_id": "org-1"}));
    let (header, claims) = (world.portal.header().to_string(), claims.to_string());
    let with = |json: &str, more: &[u8]| [&json.as_bytes()[..json.len() - 1], more, b"}"].concat();
    let sound =
        world.portal.sign_bytes(&with(&header, b",\"x\":1"), &with(&claims, ",\"x\":\"ä\"".as_bytes()));
    assert_eq!(world.call("GET", LIST, Some(&sound), "").await.status, 200, "the base is good");
    for invalid in [&b",\"x\":\"\xff\""[..], b",\"x\xff\":1", b",\"x\":[\"\xc0\xaf\"]"] {
        let in_claims = world.portal.sign_bytes(header.as_bytes(), &with(&claims, invalid));
        assert_rejected(&world, "in the claims", &in_claims).await;
        let in_header = world.portal.sign_bytes(&with(&header, invalid), claims.as_bytes());
        assert_rejected(&world, "in the header", &in_header).await;
    }
}

#[tokio::test]
async fn tokens_with_json_that_readers_could_read_differently_are_401() {
    let world = World::start().await;
    let claims = all_claims(&json!({"client_id": "agent:inst-1", "org_id": "org-1"})).to_string();
    let header = world.portal.header().to_string();
    for oddity in json_oddities() {
        for token in [
            world.portal.sign_bytes(&oddity.put_into(&header), claims.as_bytes()),
            world.portal.sign_bytes(header.as_bytes(), &oddity.put_into(&claims)),
        ] {
            let answer = world.call("GET", LIST, Some(&token), "").await;
            if oddity.refused {
                answer.refused(401, "invalid_token");
            } else {
                assert_eq!(answer.status, 200, "{}: {answer:?}", oddity.why);
            }
        }
    }
    let with = |json: &str, member: &str| json.replacen('{', &format!("{{{member},"), 1);
    for member in [
        r#""Alg":"none""#,
        r#""KID":"x""#,
        r#""\u212aid":"x""#,
        r#""CRIT":["x"]"#,
        r#""b64":false"#,
        r#""b64":true"#,
    ] {
        let token = world.portal.sign_bytes(with(&header, member).as_bytes(), claims.as_bytes());
        assert_rejected(&world, member, &token).await;
    }
    for member in [
        r#""Exp":1"#,
        r#""EXP":99999999999"#,
        r#""Client_id":"agent:inst-2""#,
        r#""Org_ID":"org-2""#,
        r#""PURPOSE":"cron_fire""#,
        r#""\u017fid":"sid-1""#,
        r#""Aud":"agent:inst-2""#,
        r#""nbf":1e16"#,
        r#""iat":-1e300"#,
    ] {
        let token = world.portal.sign_bytes(header.as_bytes(), with(&claims, member).as_bytes());
        assert_rejected(&world, member, &token).await;
    }
    assert_eq!(world.portal.fetches(), 1, "none of them causes a fetch");
}

#[tokio::test]
async fn contract_only_asymmetric_algorithms_of_the_portals_keys_are_accepted() {
    let world = World::start().await;
    let portal = &world.portal;
    let good = json!({"client_id": "agent:inst-1", "org_id": "org-1"});
    let claims = all_claims(&good);
    assert_eq!(world.call("GET", LIST, Some(&portal.sign(good)), "").await.status, 200, "the base is good");
    let header = |alg: &str| {
        let mut header = portal.header();
        header["alg"] = json!(alg);
        header
    };
    for alg in ["none", "None", "NONE", "nOnE", ""] {
        assert_rejected(&world, alg, &format!("{}.", unsigned(&header(alg), &claims))).await;
        assert_rejected(&world, alg, &portal.sign_as_is(&header(alg), &claims)).await;
    }
    // The classic attack: the public key as an HMAC secret.
    let jwk = &portal.jwks()["keys"][0];
    let (x, y) = (jwk["x"].as_str().unwrap(), jwk["y"].as_str().unwrap());
    let point = [URL_SAFE_NO_PAD.decode(x).unwrap(), URL_SAFE_NO_PAD.decode(y).unwrap()].concat();
    for secret in [&point[..], &[&[4], &point[..]].concat(), jwk.to_string().as_bytes(), x.as_bytes(), b""] {
        assert_rejected(&world, "HS256", &hs256(secret, &header("HS256"), &claims)).await;
        assert_rejected(&world, "HS256 as ES256", &hs256(secret, &header("ES256"), &claims)).await;
    }
    for alg in ["RS256", "ES384", "EdDSA", "PS256", "HS512", "ES256K"] {
        assert_rejected(&world, alg, &portal.sign_as_is(&header(alg), &claims)).await;
    }
    let other = Portal::start().await;
    let forged = other.sign_as_is(&portal.header(), &claims);
    assert_rejected(&world, "another key with the portal's kid", &forged).await;
    let mut critical = portal.header();
    critical["crit"] = json!(["b64"]);
    assert_rejected(&world, "crit", &portal.sign_as_is(&critical, &claims)).await;
    assert_eq!(portal.fetches(), 1, "none of them causes a fetch");
}

#[tokio::test]
async fn contract_expired_premature_foreign_and_malformed_tokens_are_401() {
    let world = World::start().await;
    let now = now().timestamp();
    let sign = |changes: Value| {
        let mut claims = json!({"client_id": "agent:inst-1", "org_id": "org-1"});
        claims.as_object_mut().unwrap().extend(changes.as_object().unwrap().clone());
        world.portal.sign(claims)
    };
    for (what, changes) in [
        ("expired", json!({"exp": now - 31})),
        ("long expired", json!({"exp": 0})),
        ("no expiry", json!({"exp": null})),
        ("an expiry that is not a number", json!({"exp": "tomorrow"})),
        ("not yet valid", json!({"nbf": now + 60})),
        ("issued in the future", json!({"iat": now + 60})),
        ("no issuer", json!({"iss": null})),
        ("another issuer", json!({"iss": "https://portal.example"})),
        ("almost the issuer", json!({"iss": format!("{PORTAL_URL}/")})),
        ("almost the issuer", json!({"iss": PORTAL_URL.to_uppercase()})),
        ("issuers", json!({"iss": [PORTAL_URL]})),
        ("a purpose", json!({"purpose": "cron_fire"})),
        ("another purpose", json!({"purpose": ""})),
        ("an odd purpose", json!({"purpose": false})),
        ("a client that is not a text", json!({"client_id": 7})),
        ("a session that is not a text", json!({"sid": ["sid-1"]})),
    ] {
        assert_rejected(&world, what, &sign(changes)).await;
    }
    let null_purpose = world.portal.sign_as_is(
        &world.portal.header(),
        &json!({"iss": PORTAL_URL, "exp": now + 60, "client_id": "agent:inst-1", "purpose": null}),
    );
    assert_rejected(&world, "a purpose that is null", &null_purpose).await;

    let good = sign(json!({}));
    let [header, claims, signature] = good.split('.').collect::<Vec<_>>()[..] else { panic!() };
    let other = URL_SAFE_NO_PAD.encode(all_claims(&json!({"client_id": "agent:inst-2"})).to_string());
    for (what, token) in [
        ("claims exchanged", format!("{header}.{other}.{signature}")),
        ("no signature", format!("{header}.{claims}.")),
        ("two parts", format!("{header}.{claims}")),
        ("four parts", format!("{good}.{signature}")),
        ("no token", "x".to_owned()),
        ("dots", "..".to_owned()),
        ("padded", format!("{header}.{claims}.{signature}==")),
        ("as an AgentAssertion", URL_SAFE_NO_PAD.encode(r#"{"agent_runtime_id":"inst-1"}"#)),
    ] {
        assert_rejected(&world, what, &token).await;
    }
    // 30 s of leeway.
    for changes in [json!({"exp": now - 10}), json!({"nbf": now + 10}), json!({"iat": now + 10})] {
        let answer = world.call("GET", LIST, Some(&sign(changes.clone())), "").await;
        assert_eq!(answer.status, 200, "{changes}: {answer:?}");
    }
    let answer = world.call("GET", LIST, Some(&format!("{}.a.b", "x".repeat(20_000))), "").await;
    assert!(matches!(answer.status, 401 | 431), "{answer:?}");
    assert_eq!(world.tables().await["one_shots"], Value::Null);
}

#[tokio::test]
async fn contract_a_missing_token_is_401_with_a_challenge() {
    let world = World::start().await;
    for (authorization, word) in [
        (None, "invalid_token"),
        (Some("Basic dXNlcjpwYXNz"), "invalid_token"),
        (Some("Bearer"), "invalid_token"),
        (Some("AgentAssertion e30"), "scheme_not_enabled"),
    ] {
        for (method, path) in [("GET", LIST), ("POST", PROVISION), ("POST", CANCEL)] {
            let headers = authorization.map(|value| ("authorization", value.to_owned()));
            let answer = world.call_with(method, path, headers, "").await;
            answer.refused(401, word);
            assert_eq!(
                answer.header("www-authenticate"),
                Some("Bearer"),
                "{path}: no error in the challenge without a token"
            );
        }
    }
    // A token is accepted only in the header.
    let path = format!("{LIST}?access_token={}", world.token);
    world.call("GET", &path, None, "").await.refused(401, "invalid_token");
    let cookie = [("cookie", format!("access_token={}", world.token))];
    world.call_with("GET", LIST, cookie, "").await.refused(401, "invalid_token");
    // The scheme is case-insensitive.
    for scheme in ["bearer", "BEARER"] {
        let header = [("authorization", format!("{scheme} {}", world.token))];
        assert_eq!(world.call_with("GET", LIST, header, "").await.status, 200, "{scheme}");
    }
}

#[tokio::test]
async fn contract_audiences_are_checked_only_when_configured() {
    let world = World::with(|s| s.with("NAS_CRON_PORTAL_AUDIENCES", "hermes-cli-vps,other")).await;
    let sign =
        |aud: Value| world.portal.sign(json!({"client_id": "agent:inst-1", "org_id": "org-1", "aud": aud}));
    for aud in [json!("hermes-cli-vps"), json!("other"), json!(["somebody", "other"])] {
        let answer = world.call("GET", LIST, Some(&sign(aud.clone())), "").await;
        assert_eq!(answer.status, 200, "{aud}: {answer:?}");
    }
    for aud in [
        json!("somebody"),
        json!([]),
        json!(["somebody"]),
        json!(7),
        Value::Null,
        json!("other "),
        json!("hermes-cli-vps,other"),
    ] {
        assert_rejected(&world, &aud.to_string(), &sign(aud)).await;
    }
}

#[tokio::test]
async fn invariant_7_a_fire_token_is_refused_by_the_agent_api() {
    let world = World::start().await;
    world.arm("job-1", 0).await;
    let fire = world.agents.wait_for("job-1", 1).await;
    let claims: Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(fire.token.split('.').nth(1).unwrap()).unwrap())
            .unwrap();
    assert_eq!((&claims["iss"], &claims["purpose"]), (&json!(PORTAL_URL), &json!("cron_fire")), "{claims}");
    assert_rejected(&world, "a fire token", &fire.token).await;
    assert_eq!(world.service.get("/healthz").await.0, 200);
    for path in ["/api/admin/agents", "/api/admin/agents/inst-1", "/api/agent-cron/relay"] {
        let answer = world.call("GET", path, Some(&fire.token), "").await;
        assert!((400..500).contains(&answer.status), "{path}: {answer:?}");
    }
    // If fire tokens are signed with the portal's keys, only the purpose distinguishes them from access tokens.
    let mut as_if = claims.clone();
    as_if["client_id"] = json!("agent:inst-1");
    assert_rejected(&world, "the portal's fire token", &world.portal.sign(as_if.clone())).await;
    as_if["purpose"] = Value::Null;
    let opened = world.call("GET", LIST, Some(&world.portal.sign(as_if)), "").await;
    assert_eq!(opened.status, 200, "accepted without the purpose: {opened:?}");
}
