//! Access tokens: what nas-cron accepts, `PyJWT` accepts with the same claims.

use chrono::Utc;
use futures::FutureExt;
use jsonwebtoken::Algorithm;
use nas_cron::instance::{Issuers, KeySet, PortalKeys, TokenRules};
use nas_cron_jwt::testing::{Signing, jwks};
use nas_cron_testing::corpora::json_oddities;
use rand::seq::IndexedRandom;
use serde_json::{Map, Value, json};
use tokio::time::Instant;

use super::python;

const ISSUER: &str = "https://portal.example";

fn pick(from: &[Value]) -> Value {
    from.choose(&mut rand::rng()).expect("not empty").clone()
}

/// Returns claims, some of which break a rule.
fn some_claims(now: i64) -> Value {
    // The other library reads its clock later than this test.
    let times = |offsets: &[i64]| -> Vec<Value> {
        offsets.iter().map(|offset| json!(now + offset)).chain([Value::Null]).collect()
    };
    let with_fraction =
        |offset: i64| json!(f64::from(u32::try_from(now + offset).expect("before 2106")) + 0.5);
    let values = [
        (
            "iss",
            vec![
                json!(ISSUER),
                json!(ISSUER),
                json!(ISSUER),
                json!(ISSUER),
                json!("other"),
                json!([ISSUER]),
                Value::Null,
            ],
        ),
        (
            "exp",
            [
                vec![json!("soon"), json!(1e300), json!(true), with_fraction(600)],
                times(&[3_600, 3_600, 3_600, 3_600, 600, -3_600]),
            ]
            .concat(),
        ),
        ("nbf", [vec![Value::Null; 6], vec![with_fraction(-60)], times(&[-60, -60, 10, 3_600])].concat()),
        ("iat", [vec![Value::Null; 4], vec![with_fraction(-60)], times(&[-60, -60, 10, 3_600])].concat()),
        ("aud", vec![json!("cron"), json!(["cron", "x"]), json!(["cron"]), Value::Null]),
        ("sub", vec![json!("user"), json!("user"), Value::Null]),
        ("jti", vec![json!("id"), Value::Null]),
        ("client_id", vec![json!("agent:i1"), json!("agent:i1"), json!("agent:i2"), Value::Null]),
        ("org_id", vec![json!("o1"), Value::Null]),
    ];
    let present = values.into_iter().map(|(name, values)| (name.to_owned(), pick(&values)));
    Value::Object(present.filter(|(_, value)| !value.is_null()).collect::<Map<_, _>>())
}

#[tokio::test]
async fn accepted_tokens_have_the_same_claims_for_another_library() {
    let portals = [
        Signing::es256("es256"),
        Signing::es384("es384"),
        Signing::eddsa("eddsa"),
        Signing::rsa(Algorithm::RS256, "rs256"),
    ];
    let set = jwks(&portals);
    #[expect(clippy::disallowed_methods, reason = "the other library reads the machine's clock")]
    let now = Utc::now();
    let mut tokens = Vec::new();
    for portal in &portals {
        let header = json!({"alg": format!("{:?}", portal.algorithm), "kid": portal.kid}).to_string();
        for _ in 0..500 {
            tokens.push(
                portal.sign_bytes(header.as_bytes(), some_claims(now.timestamp()).to_string().as_bytes()),
            );
        }
        let good =
            json!({"iss": ISSUER, "exp": now.timestamp() + 3_600, "client_id": "agent:i1"}).to_string();
        for oddity in json_oddities() {
            tokens.push(portal.sign_bytes(&oddity.put_into(&header), good.as_bytes()));
            tokens.push(portal.sign_bytes(header.as_bytes(), &oddity.put_into(&good)));
        }
        // Damaged at any place.
        let whole = portal.sign_bytes(header.as_bytes(), good.as_bytes());
        for at in (0..whole.len()).step_by(3) {
            let mut damaged = whole.clone();
            damaged.replace_range(at..=at, if damaged.as_bytes()[at] == b'A' { "B" } else { "A" });
            tokens.push(damaged);
        }
    }

    let keys = PortalKeys::pinned(KeySet::from_jwks(&set).unwrap());
    let issuers = Issuers::portal(TokenRules::new(ISSUER, []), keys);
    let asked =
        json!({"jwks": serde_json::from_slice::<Value>(&set).unwrap(), "issuer": ISSUER, "tokens": tokens});
    let theirs = python(&json!({ "tokens": asked })).await;
    let (mut both, mut neither) = (0, 0);
    for (token, theirs) in tokens.iter().zip(theirs["tokens"].as_array().unwrap()) {
        let verified = issuers.verify(token, now, Instant::now()).now_or_never();
        match verified.expect("pinned keys are not waited for") {
            Ok(ours) => {
                assert!(theirs.is_object(), "refused by PyJWT: {token}");
                assert_eq!(ours.claims.client_id.as_deref(), theirs["client_id"].as_str(), "{token}");
                assert_eq!(ours.claims.org_id.as_deref(), theirs["org_id"].as_str(), "{token}");
                both += 1;
            }
            // nas-cron is stricter: with JSON, with the types of claims, and with tokens that carry a purpose.
            Err(_) => neither += usize::from(theirs.is_null()),
        }
    }
    assert!(both >= 200 && neither >= 500, "{both} accepted by both, {neither} refused by both");
}
