//! A verifier of fire tokens that shares no code with the service: it only uses the JWKS.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::Value;

/// Verifies the signature with the key that the header names, and returns header and claims.
pub fn verify(token: &str, jwks: &Value) -> (Value, Value) {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else { panic!("{} parts", parts.len()) };
    let signed = &token[..header.len() + 1 + claims.len()];
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).expect("base64url without padding");
    let parse = |text: &str| serde_json::from_slice::<Value>(&decode(text)).expect("JSON");
    let (header, claims) = (parse(header), parse(claims));
    let keys: Vec<&Value> = jwks["keys"]
        .as_array()
        .expect("a JWK Set")
        .iter()
        .filter(|key| key["kid"] == header["kid"])
        .collect();
    let [key] = keys[..] else { panic!("{} keys are called {}", keys.len(), header["kid"]) };
    assert_eq!((&key["alg"], key["use"].as_str()), (&header["alg"], Some("sig")));
    let member = |name: &str| decode(key[name].as_str().expect(name));
    let verified = match (header["alg"].as_str(), key["kty"].as_str()) {
        (Some("ES256"), Some("EC")) => {
            assert_eq!(key["crv"], "P-256");
            let point = [vec![4], member("x"), member("y")].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(signed.as_bytes(), &decode(signature))
        }
        (Some("RS256"), Some("RSA")) => RsaPublicKeyComponents { n: member("n"), e: member("e") }.verify(
            &RSA_PKCS1_2048_8192_SHA256,
            signed.as_bytes(),
            &decode(signature),
        ),
        other => panic!("{other:?}"),
    };
    verified.expect("the signature is the key's");
    (header, claims)
}
