//! Tests of the rules for claims, and of verification with a key set.

use nas_cron_jwt::testing::{Signing, jwks};
use nas_cron_protocol::json::{MAX_INTEGER, Problem};
use serde_json::{Value, json};

use super::*;
use crate::instance::key_set::{KeySet, NotVerified};

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://portal.example";

fn now() -> DateTime<Utc> {
    DateTime::from_timestamp(NOW, 500_000_000).unwrap()
}

fn rules() -> TokenRules {
    TokenRules::new(ISSUER, [])
}

/// Valid claims with these changes; `null` removes a claim.
fn claims(changes: &Value) -> Value {
    let mut claims = json!({
        "iss": ISSUER, "aud": "hermes-cli-vps", "sub": "user", "client_id": "hermes-cli-vps", "sid": "s1",
        "org_id": "o1", "scope": "inference", "exp": NOW + 3600, "iat": NOW - 5, "oauth_contract_version": 3,
    });
    for (name, value) in changes.as_object().unwrap() {
        if value.is_null() {
            claims.as_object_mut().unwrap().remove(name);
        } else {
            claims[name] = value.clone();
        }
    }
    claims
}

fn judge(keys: &KeySet, rules: &TokenRules, token: &str) -> Result<AccessClaims, TokenError> {
    let presented = Presented::read(token, rules, now())?;
    keys.verify(&presented).map_err(|why| match why {
        NotVerified::Refused(error) => error,
        NotVerified::UnknownKey => TokenError::UnknownKey,
    })
}

#[test]
fn valid_token_returns_its_claims() {
    let portal = Signing::rsa(Algorithm::RS256, "k1");
    let keys = KeySet::from_jwks(&jwks([&portal])).unwrap();
    assert_eq!(
        judge(&keys, &rules(), &portal.sign(&claims(&json!({})))).unwrap(),
        AccessClaims {
            client_id: Some("hermes-cli-vps".to_owned()),
            sid: Some("s1".to_owned()),
            org_id: Some("o1".to_owned()),
            agent_instance_id: None,
            audience: None,
            issued_at: DateTime::from_timestamp(NOW - 5, 0),
        }
    );
}

#[test]
fn claims_are_checked_by_every_rule() {
    let portal = Signing::es256("k1");
    let keys = KeySet::from_jwks(&jwks([&portal])).unwrap();
    let cases: &[(&str, Value, Result<(), TokenError>)] = &[
        ("iss missing", json!({"iss": null}), Err(TokenError::Issuer)),
        ("iss with a slash", json!({"iss": "https://portal.example/"}), Err(TokenError::Issuer)),
        ("iss in capitals", json!({"iss": "https://Portal.example"}), Err(TokenError::Issuer)),
        ("iss as a list", json!({"iss": [ISSUER]}), Err(TokenError::Claims)),
        ("exp missing", json!({"exp": null}), Err(TokenError::NoExpiry)),
        ("exp as text", json!({"exp": "1900000000"}), Err(TokenError::Claims)),
        ("exp just past", json!({"exp": NOW - 29}), Ok(())),
        ("exp past the leeway", json!({"exp": NOW - 30}), Err(TokenError::Expired)),
        ("exp with a fraction", json!({"exp": 1_800_000_100.75}), Ok(())),
        ("exp in scientific notation", json!({"exp": 1.9e9}), Ok(())),
        ("exp at the maximum", json!({"exp": MAX_INTEGER}), Ok(())),
        (
            "exp beyond the maximum",
            json!({"exp": MAX_INTEGER + 1}),
            Err(TokenError::Unsound(Problem::Integer)),
        ),
        ("exp beyond the maximum, with an exponent", json!({"exp": 1e300}), Err(TokenError::Claims)),
        ("exp negative", json!({"exp": -1}), Err(TokenError::Expired)),
        ("exp at the minimum", json!({"exp": -9_007_199_254_740_991_i64}), Err(TokenError::Expired)),
        ("exp below the minimum", json!({"exp": i64::MIN}), Err(TokenError::Unsound(Problem::Integer))),
        ("exp as negative zero", json!({"exp": -0.0}), Err(TokenError::Unsound(Problem::NegativeZero))),
        ("nbf a little ahead", json!({"nbf": NOW + 30}), Ok(())),
        ("nbf ahead", json!({"nbf": NOW + 31}), Err(TokenError::NotYetValid)),
        ("iat a little ahead", json!({"iat": NOW + 30}), Ok(())),
        ("iat ahead", json!({"iat": NOW + 31}), Err(TokenError::IssuedAhead)),
        ("iat missing", json!({"iat": null}), Ok(())),
        ("a fire token", json!({"purpose": "cron_fire", "aud": "agent:i1"}), Err(TokenError::Purpose)),
        ("an empty purpose", json!({"purpose": ""}), Err(TokenError::Purpose)),
        ("aud is not checked", json!({"aud": {"odd": 1}}), Ok(())),
        ("sid as a number", json!({"sid": 7}), Err(TokenError::Claims)),
        ("agent_instance_id as a list", json!({"agent_instance_id": ["i1"]}), Err(TokenError::Claims)),
    ];
    for (name, changes, expected) in cases {
        let judged = judge(&keys, &rules(), &portal.sign(&claims(changes)));
        assert_eq!(judged.map(|_| ()), *expected, "{name}");
    }
    // A `purpose` of null also counts.
    let mut with_null = claims(&json!({}));
    with_null["purpose"] = Value::Null;
    assert_eq!(judge(&keys, &rules(), &portal.sign(&with_null)), Err(TokenError::Purpose));
}

#[test]
fn aud_is_checked_if_an_allow_list_is_set() {
    let portal = Signing::es256("k1");
    let keys = KeySet::from_jwks(&jwks([&portal])).unwrap();
    let rules = TokenRules::new(ISSUER, ["hermes-cli-vps".to_owned(), "cron".to_owned()]);
    for (aud, allowed) in [
        (json!("cron"), true),
        (json!(["x", "hermes-cli-vps"]), true),
        (json!("cro"), false),
        (json!([]), false),
        (json!(["x"]), false),
        (json!(["cron", 1]), false),
        (json!(1), false),
        (Value::Null, false),
    ] {
        let judged = judge(&keys, &rules, &portal.sign(&claims(&json!({ "aud": aud }))));
        assert_eq!(judged.map(|_| ()), if allowed { Ok(()) } else { Err(TokenError::Audience) }, "{aud}");
    }
}

#[test]
fn agents_audience_stands_for_the_tokens_own_client_only() {
    let portal = Signing::es256("k1");
    let keys = KeySet::from_jwks(&jwks([&portal])).unwrap();
    let rules = TokenRules::new(ISSUER, ["cron".to_owned(), "agent:*".to_owned()]);
    let agent = |client: Option<&str>| json!({"client_id": client, "aud": "agent:i1"});
    for (changes, allowed) in [
        (agent(Some("agent:i1")), true),
        (agent(None), true),
        (json!({"client_id": null, "azp": "agent:i1", "aud": ["agent:i1"]}), true),
        (json!({"client_id": null, "aud": ["agent:i1", "agent:i2"]}), true),
        (json!({"client_id": "agent:i2", "aud": ["agent:i1", "agent:i2"]}), true),
        (json!({"aud": "cron"}), true),
        // Obtained by one client for another.
        (agent(Some("agent:i2")), false),
        (agent(Some("hermes-cli-vps")), false),
        (agent(Some("")), false),
        (json!({"client_id": null, "azp": "agent:i2", "aud": "agent:i1"}), false),
        (json!({"client_id": "agent:i2", "azp": "agent:i1", "aud": "agent:i1"}), false),
        (json!({"client_id": null, "aud": "agent:"}), false),
        (json!({"client_id": null, "aud": "Agent:i1"}), false),
        (json!({"client_id": null, "aud": " agent:i1"}), false),
        (json!({"client_id": null, "aud": "agent"}), false),
        (json!({"client_id": null, "aud": "*"}), false),
        (json!({"client_id": null, "aud": ["agent:i1", 1]}), false),
    ] {
        let judged = judge(&keys, &rules, &portal.sign(&claims(&changes)));
        assert_eq!(judged.map(|_| ()), if allowed { Ok(()) } else { Err(TokenError::Audience) }, "{changes}");
    }
}

#[test]
fn audience_identifies_only_if_it_is_the_only_one_and_the_issuer_is_trusted_with_it() {
    let portal = Signing::es256("k1");
    let keys = KeySet::from_jwks(&jwks([&portal])).unwrap();
    let (strict, trusting) = (rules(), rules().with_agents_by_audience(true));
    for (aud, sole) in [
        (json!("agent:i1"), Some("agent:i1")),
        (json!(["agent:i1"]), Some("agent:i1")),
        (json!("agent:*"), Some("agent:*")),
        (json!(["agent:i1", "agent:i2"]), None),
        (json!(["agent:i1", "agent:i1"]), None),
        (json!(["agent:i1", "cron"]), None),
        (json!(["agent:i1", null]), None),
        (json!([["agent:i1"]]), None),
        (json!([]), None),
        (json!({"agent:i1": 1}), None),
        (json!(7), None),
        (Value::Null, None),
    ] {
        let token = portal.sign(&claims(&json!({ "aud": aud })));
        assert_eq!(judge(&keys, &trusting, &token).unwrap().audience.as_deref(), sole, "{aud}");
        assert_eq!(judge(&keys, &strict, &token).unwrap().audience, None, "{aud}");
    }
}

#[test]
fn a_claim_that_occurs_twice_is_rejected() {
    let portal = Signing::es256("k1");
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"ES256","kid":"k1"}"#);
    let rules = rules().with_agents_by_audience(true);
    for twice in [
        r#""aud":"agent:i2","aud":"agent:i1""#,
        r#""aud":"agent:i1","\u0061ud":"agent:i2""#,
        r#""aud":"agent:i1","agent_instance_id":"i1","agent_instance_id":"i2""#,
        r#""org_id":"o1","org_id":null"#,
        r#""client_id":null,"client_id":"agent:i1""#,
        r#""azp":"a","azp":"a""#,
        r#""sid":"a","sid":"b""#,
        r#""purpose":"a","purpose":"b""#,
    ] {
        let claims = format!(r#"{{"iss":"{ISSUER}","exp":{},{twice}}}"#, NOW + 60);
        let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &portal.key, portal.algorithm).unwrap();
        let read = Presented::read(&format!("{message}.{signature}"), &rules, now()).map(|_| ());
        assert_eq!(read, Err(TokenError::Unsound(Problem::RepeatedField)), "{twice}");
    }
}

#[test]
fn a_name_that_differs_from_a_known_one_in_case_is_rejected() {
    let portal = Signing::es256("k1");
    let case = Err(TokenError::Unsound(Problem::Case));
    let read = |header: &Value, claims: &Value| {
        Presented::read(&portal.sign_with_header(header, claims), &rules(), now()).map(|_| ())
    };
    let header = json!({"alg": "ES256", "kid": "k1"});
    for name in
        ["Exp", "ISS", "Purpose", "Aud", "org_Id", "\u{17f}id", "Client_ID", "agent_in\u{17f}tance_id"]
    {
        assert_eq!(read(&header, &claims(&json!({name: "x"}))), case, "{name}");
    }
    for name in ["Alg", "KID", "\u{212a}id", "Crit", "B64"] {
        let mut header = header.clone();
        header[name] = json!("x");
        assert_eq!(read(&header, &claims(&json!({}))), case, "{name}");
    }
    assert_eq!(read(&header, &claims(&json!({"Name": "x", "orgId": "o2", "SCOPE": "x"}))), Ok(()));
}

#[test]
fn invalid_utf8_in_header_or_claims_is_rejected_even_if_nothing_reads_it() {
    let portal = Signing::es256("k1");
    let signed = |header: &[u8], claims: &[u8]| {
        let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let signature =
            jsonwebtoken::crypto::sign(message.as_bytes(), &portal.key, portal.algorithm).unwrap();
        format!("{message}.{signature}")
    };
    let header = br#"{"alg":"ES256","kid":"k1"}"#;
    let sound = format!(r#"{{"iss":"{ISSUER}","exp":{},"name":"ä"}}"#, NOW + 60);
    let with = |json: &[u8], more: &[u8]| [&json[..json.len() - 1], more, b"}"].concat();
    let read =
        |header: &[u8], claims: &[u8]| Presented::read(&signed(header, claims), &rules(), now()).map(|_| ());
    assert_eq!(read(header, sound.as_bytes()), Ok(()));
    for invalid in [
        &b",\"x\":\"\xff\""[..],
        b",\"x\xff\":1",
        b",\"x\":{\"y\":[\"\xc0\xaf\"]}",
        b",\"x\":\"\xed\xa0\x80\"",
    ] {
        assert_eq!(read(header, &with(sound.as_bytes(), invalid)), Err(TokenError::Malformed), "{invalid:?}");
        assert_eq!(read(&with(header, invalid), sound.as_bytes()), Err(TokenError::Malformed), "{invalid:?}");
    }
}

#[test]
fn azp_replaces_a_missing_client_id_and_nbf_a_missing_iat() {
    let portal = Signing::es256("k1");
    let keys = KeySet::from_jwks(&jwks([&portal])).unwrap();
    let read = |changes| judge(&keys, &rules(), &portal.sign(&claims(&changes))).unwrap();
    assert_eq!(read(json!({"client_id": null, "azp": "agent:i1"})).client_id.unwrap(), "agent:i1");
    assert_eq!(read(json!({"azp": "agent:i1"})).client_id.unwrap(), "hermes-cli-vps");
    let age =
        |changes| read(changes).age(DateTime::from_timestamp(NOW, 0).unwrap()).map(|age| age.num_seconds());
    assert_eq!(age(json!({})), Some(5));
    assert_eq!(age(json!({"iat": null, "nbf": NOW - 60})), Some(60));
    assert_eq!(age(json!({"iat": null})), None);
    assert!(age(json!({"iat": -9_007_199_254_740_991_i64})).unwrap() > 0);
}

#[test]
fn only_allowed_asymmetric_algorithms_are_accepted() {
    let good = claims(&json!({}));
    for algorithm in ALLOWED_ALGORITHMS {
        let portal = match algorithm {
            Algorithm::ES256 => Signing::es256("k"),
            Algorithm::ES384 => Signing::es384("k"),
            Algorithm::EdDSA => Signing::eddsa("k"),
            _ => Signing::rsa(*algorithm, "k"),
        };
        let keys = KeySet::from_jwks(&jwks([&portal])).unwrap();
        assert!(judge(&keys, &rules(), &portal.sign(&good)).is_ok(), "{algorithm:?}");
    }

    let portal = Signing::rsa(Algorithm::RS256, "k");
    let keys = KeySet::from_jwks(&jwks([&portal])).unwrap();
    for alg in ["none", "None", "", "HS256", "HS512", "ES512", "rs256", "RSA-OAEP", "dir"] {
        let token = portal.sign_with_header(&json!({"alg": alg, "kid": "k"}), &good);
        assert_eq!(judge(&keys, &rules(), &token), Err(TokenError::Algorithm), "{alg}");
    }
    let unsigned = portal.sign_with_header(&json!({"alg": "none"}), &good);
    let (message, _) = unsigned.rsplit_once('.').unwrap();
    assert_eq!(judge(&keys, &rules(), &format!("{message}.")), Err(TokenError::Algorithm));
}

#[test]
fn public_key_cannot_serve_as_an_hmac_secret() {
    let portal = Signing::rsa(Algorithm::RS256, "k");
    let jwks = jwks([&portal]);
    let keys = KeySet::from_jwks(&jwks).unwrap();
    let forged = portal.sign_with_header(&json!({"alg": "HS256", "kid": "k"}), &claims(&json!({})));
    let (message, _) = forged.rsplit_once('.').unwrap();
    let secret = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &jwks);
    let tag = URL_SAFE_NO_PAD.encode(ring::hmac::sign(&secret, message.as_bytes()));
    assert_eq!(judge(&keys, &rules(), &format!("{message}.{tag}")), Err(TokenError::Algorithm));
}

#[test]
fn header_must_agree_with_the_type_and_algorithm_of_the_key() {
    let (rsa, ec) = (Signing::rsa(Algorithm::RS256, "rsa"), Signing::es256("ec"));
    let keys = KeySet::from_jwks(&jwks([&rsa, &ec])).unwrap();
    let good = claims(&json!({}));
    let with = |signing: &Signing, alg: &str, kid: &str| {
        judge(&keys, &rules(), &signing.sign_with_header(&json!({"alg": alg, "kid": kid}), &good))
    };
    assert!(with(&rsa, "RS256", "rsa").is_ok());
    assert_eq!(with(&ec, "ES256", "rsa"), Err(TokenError::KeyMismatch), "kid of another type");
    assert_eq!(with(&rsa, "RS256", "ec"), Err(TokenError::KeyMismatch));
    assert_eq!(with(&ec, "ES384", "ec"), Err(TokenError::KeyMismatch), "another curve");
    let pss = Signing::rsa(Algorithm::PS256, "rsa");
    assert_eq!(with(&pss, "PS256", "rsa"), Err(TokenError::KeyMismatch), "the key's own alg is RS256");
    assert_eq!(
        with(&Signing::es256("ec"), "ES256", "ec"),
        Err(TokenError::Signature),
        "another key with that kid"
    );
    assert_eq!(with(&ec, "ES256", "new"), Err(TokenError::UnknownKey));
    assert_eq!(with(&ec, "ES256", "EC"), Err(TokenError::UnknownKey), "kids are compared byte for byte");
}

#[test]
fn without_a_kid_all_keys_are_tried() {
    let (rsa, mut ec) = (Signing::rsa(Algorithm::RS256, "rsa"), Signing::es256("ec"));
    let keys = KeySet::from_jwks(&jwks([&rsa, &ec])).unwrap();
    ec.kid = None;
    let mut unknown = Signing::es256("");
    unknown.kid = None;
    let good = claims(&json!({}));
    assert!(judge(&keys, &rules(), &ec.sign(&good)).is_ok());
    assert_eq!(judge(&keys, &rules(), &unknown.sign(&good)), Err(TokenError::UnknownKey));
}

#[test]
fn malformed_tokens_are_rejected() {
    let portal = Signing::es256("k");
    let keys = KeySet::from_jwks(&jwks([&portal])).unwrap();
    let good = portal.sign(&claims(&json!({})));
    let parts: Vec<_> = good.split('.').collect();
    let (header, body, signature) = (parts[0], parts[1], parts[2]);
    let encoded = |text: &str| URL_SAFE_NO_PAD.encode(text);
    let twice = encoded(&format!(r#"{{"iss":"{ISSUER}","iss":"{ISSUER}","exp":{}}}"#, NOW + 60));
    let cases = [
        (String::new(), TokenError::Malformed),
        ("..".to_owned(), TokenError::Malformed),
        ("a.b".to_owned(), TokenError::Malformed),
        (format!("{good}.x"), TokenError::Malformed),
        (format!("{header}..{signature}"), TokenError::Malformed),
        (format!("{header}=.{body}.{signature}"), TokenError::Malformed),
        (format!("{}.{body}.{signature}", encoded("[\"ES256\"]")), TokenError::Malformed),
        (format!("{}.{body}.{signature}", encoded("{\"alg\":1}")), TokenError::Malformed),
        (format!("{}.{body}.{signature}", encoded("{\"alg\":\"ES256\",\"kid\":7}")), TokenError::Malformed),
        (
            format!("{header}.{}.{signature}", encoded("{\"exp\":1e999}")),
            TokenError::Unsound(Problem::Double),
        ),
        (format!("{header}.{twice}.{signature}"), TokenError::Unsound(Problem::RepeatedField)),
        (format!("{header}.{body}."), TokenError::Signature),
        (format!("{header}.{body}.!!!"), TokenError::Signature),
        (format!("{header}.{body}.{}", &signature[1..]), TokenError::Signature),
        (format!("{header}.{body}.{}", "A".repeat(86)), TokenError::Signature),
        ("x".repeat(MAX_TOKEN_LENGTH + 1), TokenError::TooLong),
        (
            portal.sign_with_header(
                &json!({"alg": "ES256", "kid": "k", "crit": ["b64"], "b64": false}),
                &claims(&json!({})),
            ),
            TokenError::Critical,
        ),
        (
            portal.sign_with_header(&json!({"alg": "ES256", "kid": "k", "b64": false}), &claims(&json!({}))),
            TokenError::Unencoded,
        ),
    ];
    for (token, expected) in cases {
        assert_eq!(judge(&keys, &rules(), &token), Err(expected), "{token:.80}");
    }
    let another = portal.sign(&claims(&json!({"sid": "s2"})));
    let body_of_another = another.split('.').nth(1).unwrap();
    let mixed = format!("{header}.{body_of_another}.{signature}");
    assert_eq!(judge(&keys, &rules(), &mixed), Err(TokenError::Signature));
}

#[test]
fn a_token_has_one_text() {
    let portal = Signing::es256("k");
    let keys = KeySet::from_jwks(&jwks([&portal])).unwrap();
    // The lengths leave unused bits in the last character of each part.
    let good = (0..3)
        .map(|length| portal.sign(&claims(&json!({"x": "x".repeat(length)}))))
        .find(|token| token.split('.').all(|part| part.len() % 4 != 0))
        .unwrap();
    assert!(judge(&keys, &rules(), &good).is_ok());
    let parts: Vec<_> = good.split('.').collect();
    for at in 0..3 {
        let last = parts[at].chars().last().unwrap();
        // The next character differs in the unused bits only.
        let alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
        let next = alphabet.chars().cycle().skip_while(|c| *c != last).nth(1).unwrap();
        let mut other: Vec<_> = parts.iter().map(ToString::to_string).collect();
        other[at].pop();
        other[at].push(next);
        assert!(judge(&keys, &rules(), &other.join(".")).is_err(), "part {at}");
        other[at] = format!("{}=", parts[at]);
        assert!(judge(&keys, &rules(), &other.join(".")).is_err(), "part {at}, padded");
    }
}

#[test]
fn debug_output_of_a_token_reveals_nothing() {
    let portal = Signing::es256("the-kid");
    let token = portal.sign(&claims(&json!({"sid": "the-sid"})));
    let presented = Presented::read(&token, &rules(), now()).unwrap();
    assert_eq!(format!("{presented:?}"), "Presented { algorithm: ES256, .. }");
}

proptest::proptest! {
    #[test]
    fn no_token_panics(token in "[A-Za-z0-9_.=-]{0,80}") {
        let _ = Presented::read(&token, &rules(), now());
    }

    #[test]
    fn no_header_or_claims_panic(header in "\\PC{0,60}", claims in "\\PC{0,60}") {
        let token = format!("{}.{}.AA", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
        let _ = Presented::read(&token, &rules(), now());
    }
}
