//! Project Wycheproof's signatures, which attack the arithmetic and the encodings of signature verification.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use jsonwebtoken::{Algorithm, DecodingKey, crypto};
use serde_json::Value;
use wycheproof_ng_ecdsa::TestName as Ecdsa;
use wycheproof_ng_eddsa::TestName as Eddsa;
use wycheproof_ng_rsa_signature::rsa_pkcs1_verify::TestName as Pkcs1;
use wycheproof_ng_rsa_signature::rsa_pss_verify::TestName as Pss;

fn bytes(hexadecimal: &Value) -> Vec<u8> {
    hex::decode(hexadecimal.as_str().expect("a string")).expect("hexadecimal")
}

fn key(group: &Value) -> DecodingKey {
    let public = &group["publicKey"];
    match group["type"].as_str().expect("a string") {
        "EcdsaP1363Verify" => DecodingKey::from_ec_der(&bytes(&public["uncompressed"])),
        "EddsaVerify" => DecodingKey::from_ed_der(&bytes(&public["pk"])),
        _ => DecodingKey::from_rsa_der(&bytes(&group["publicKeyAsn"])),
    }
}

/// Verifies all signatures of a set. Returns the number of tests, those that were wrongly accepted, and the valid ones
/// that were not accepted.
fn judge(set: &str, algorithm: Algorithm) -> (usize, Vec<String>, Vec<String>) {
    crate::install();
    let set: Value = serde_json::from_str(set).expect("JSON");
    let (mut count, mut accepted, mut refused) = (0, Vec::new(), Vec::new());
    for group in set["testGroups"].as_array().expect("groups") {
        let key = key(group);
        for test in group["tests"].as_array().expect("tests") {
            count += 1;
            let signature = URL_SAFE_NO_PAD.encode(bytes(&test["sig"]));
            let verified = crypto::verify(&signature, &bytes(&test["msg"]), &key, algorithm).unwrap_or(false);
            let name = || format!("{}: {} {}", test["tcId"], test["comment"], test["flags"]);
            match test["result"].as_str() {
                Some("valid") if !verified => refused.push(name()),
                Some("invalid") if verified => accepted.push(name()),
                _ => {}
            }
        }
    }
    (count, accepted, refused)
}

#[test]
fn wycheproof_signatures_are_judged_correctly() {
    use Algorithm::{ES256, ES384, EdDSA, PS256, PS384, PS512, RS256, RS384, RS512};
    let sets = [
        (Ecdsa::EcdsaSecp256r1Sha256P1363.json_data(), ES256),
        (Ecdsa::EcdsaSecp384r1Sha384P1363.json_data(), ES384),
        (Eddsa::Ed25519.json_data(), EdDSA),
        (Pkcs1::Rsa2048Sha256.json_data(), RS256),
        (Pkcs1::Rsa2048Sha384.json_data(), RS384),
        (Pkcs1::Rsa2048Sha512.json_data(), RS512),
        (Pkcs1::Rsa3072Sha256.json_data(), RS256),
        (Pkcs1::Rsa4096Sha512.json_data(), RS512),
        (Pss::RsaPss2048Sha256Mgf1SaltLen32.json_data(), PS256),
        (Pss::RsaPss2048Sha384Mgf1SaltLen48.json_data(), PS384),
        (Pss::RsaPss4096Sha512Mgf1SaltLen64.json_data(), PS512),
    ];
    let mut total = 0;
    for (set, algorithm) in sets {
        let (count, accepted, refused) = judge(set, algorithm);
        assert_eq!((accepted, refused), (Vec::new(), Vec::new()), "{algorithm:?}");
        total += count;
    }
    assert!(total >= 2_000, "{total} signatures");
}

/// RFC 7518, 3.3 to 3.5: each algorithm has one hash function, one length of the salt, and RSA keys of 2048 bits or more.
#[test]
fn wycheproof_signatures_of_other_algorithms_are_refused() {
    for (set, algorithm) in [
        (Ecdsa::EcdsaSecp256r1Sha512P1363.json_data(), Algorithm::ES256),
        (Ecdsa::EcdsaSecp256k1Sha256P1363.json_data(), Algorithm::ES256),
        (Ecdsa::EcdsaSecp256r1Sha256P1363.json_data(), Algorithm::ES384),
        (Eddsa::Ed448.json_data(), Algorithm::EdDSA),
        (Pkcs1::Rsa2048Sha256.json_data(), Algorithm::PS256),
        (Pkcs1::Rsa2048Sha256.json_data(), Algorithm::RS384),
        (Pss::RsaPss2048Sha256Mgf1SaltLen0.json_data(), Algorithm::PS256),
        (Pss::RsaPss2048Sha1Mgf1SaltLen20.json_data(), Algorithm::PS256),
        (Pss::RsaPss2048Sha256Mgf1Sha1_20.json_data(), Algorithm::PS256),
        (Pss::RsaPss2048Sha256Mgf1SaltLen32.json_data(), Algorithm::RS256),
    ] {
        let set: Value = serde_json::from_str(set).expect("JSON");
        let valid = set["testGroups"].as_array().expect("groups").iter().flat_map(|group| {
            let tests = group["tests"].as_array().expect("tests").iter();
            tests.filter(|test| test["result"] == "valid").map(move |test| (group, test))
        });
        let mut count = 0;
        for (group, test) in valid {
            let signature = URL_SAFE_NO_PAD.encode(bytes(&test["sig"]));
            let verified = crypto::verify(&signature, &bytes(&test["msg"]), &key(group), algorithm);
            assert!(!verified.unwrap_or(false), "{algorithm:?} {test}");
            count += 1;
        }
        assert!(count >= 5, "{count} signatures for {algorithm:?}");
    }
}
