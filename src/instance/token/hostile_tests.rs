//! Hostile access tokens, made with real keys: none is accepted, and none costs much more than a good one.

mod tables;

use nas_cron_base::testing::fastest;
use nas_cron_jwt::testing::{Signing, jwks};
use serde_json::{Value, json};

use super::*;
use crate::config::Orgs;
use crate::instance::key_set::KeySet;

const NOW: i64 = 1_800_000_000;
const ISSUER: &str = "https://portal.example";

/// A token that must be refused, and what is wrong with it.
type Hostile = (String, String);

fn rules() -> TokenRules {
    let orgs = Orgs::Only(["o1".to_owned()].into());
    TokenRules::new(ISSUER, ["cron".to_owned(), "agent:*".to_owned()]).for_orgs(orgs)
}

fn good_claims() -> Value {
    json!({
        "iss": ISSUER, "aud": "cron", "sub": "user", "client_id": "agent:i1", "sid": "s1", "org_id": "o1",
        "exp": NOW + 3600, "iat": NOW - 5, "nbf": NOW - 5,
    })
}

fn accepted(keys: &KeySet, token: &str) -> bool {
    let now = DateTime::from_timestamp(NOW, 0).unwrap();
    Presented::read(token, &rules(), now).is_ok_and(|presented| keys.verify(&presented).is_ok())
}

fn encoded(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// Signs any header and claims with the portal's key.
fn sign(portal: &Signing, header: impl AsRef<[u8]>, claims: impl AsRef<[u8]>) -> String {
    portal.sign_bytes(header.as_ref(), claims.as_ref())
}

/// A portal's key, the keys that contain it, and the hostile tokens made with it.
fn attacks() -> Vec<(Signing, KeySet, Vec<Hostile>)> {
    let pair = |portal: Signing, stranger: Signing, is_thorough: bool| {
        let keys = KeySet::from_jwks(&jwks([&portal])).unwrap();
        let mut found =
            [tables::headers(&portal, &stranger), tables::signatures(&portal, &stranger)].concat();
        if is_thorough {
            found.extend([tables::forms(&portal), tables::claims(&portal)].concat());
        }
        (portal, keys, found)
    };
    vec![
        pair(Signing::es256("k"), Signing::es256("k"), true),
        pair(Signing::es384("k"), Signing::es384("k"), false),
        pair(Signing::eddsa("k"), Signing::eddsa("k"), false),
        // All RSA keys of the tests share a key pair.
        pair(Signing::rsa(Algorithm::RS256, "k"), Signing::es256("k"), false),
        pair(Signing::rsa(Algorithm::PS256, "k"), Signing::es256("k"), false),
    ]
}

#[test]
fn no_hostile_token_is_accepted() {
    let mut count = 0;
    for (portal, keys, hostile) in attacks() {
        assert!(accepted(&keys, &portal.sign(&good_claims())), "the base is good");
        for (what, token) in hostile {
            // Twice, because a verified token is remembered.
            assert!(!accepted(&keys, &token) && !accepted(&keys, &token), "{what}");
            count += 1;
        }
    }
    assert!(count >= 500, "{count} tokens");
}

/// Each is compared with good tokens that are at least as long, because longer tokens take longer to read.
#[test]
fn no_hostile_token_takes_ten_times_as_long_as_a_good_one() {
    for (portal, keys, hostile) in attacks() {
        let portal = &portal;
        let good = |length: usize| {
            // Each has other claims: a token that was verified before is not verified again.
            (0..8).map(move |number| {
                let mut claims = good_claims();
                claims["x"] = json!(format!("{number}{}", "x".repeat(length)));
                portal.sign(&claims)
            })
        };
        let costs: Vec<_> = [0, 3_000, 11_000]
            .into_iter()
            .map(|length| {
                let times = good(length).map(|token| fastest(1, || assert!(accepted(&keys, &token))));
                (good(length).next().unwrap().len(), times.min().unwrap())
            })
            .collect();
        for (what, token) in hostile {
            let enough = costs.iter().find(|(length, _)| *length >= token.len()).or(costs.last());
            let limit = enough.unwrap().1 * 10;
            // A busy machine can disturb many calls in a row, but not all.
            let calm = (0..20).any(|_| fastest(5, || assert!(!accepted(&keys, &token))) < limit);
            assert!(calm, "{what}: more than {limit:?}");
        }
    }
}
