//! A verifier of fire tokens that shares no code with the service: it only uses the JWKS.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, RSA_PKCS1_2048_8192_SHA256, RsaPublicKeyComponents, UnparsedPublicKey,
};
use serde_json::Value;

/// Verifies the signature with the key that the header names, and returns header and claims.
pub fn verify(token: &str, jwks: &Value) -> (Value, Value) {
    try_verify(token, jwks).unwrap_or_else(|fault| panic!("{fault}"))
}

/// Verifies the signature with the key that the header names. Returns header and claims, or the fault.
pub fn try_verify(token: &str, jwks: &Value) -> Result<(Value, Value), String> {
    let parts: Vec<&str> = token.split('.').collect();
    let [header, claims, signature] = parts[..] else { return Err(format!("{} parts", parts.len())) };
    let signed = &token[..header.len() + 1 + claims.len()];
    let decode = |text: &str| URL_SAFE_NO_PAD.decode(text).map_err(|error| error.to_string());
    let parse =
        |text: &str| serde_json::from_slice::<Value>(&decode(text)?).map_err(|error| error.to_string());
    let (header, claims) = (parse(header)?, parse(claims)?);
    let keys = jwks["keys"].as_array().ok_or("not a JWK Set")?;
    let keys: Vec<&Value> = keys.iter().filter(|key| key["kid"] == header["kid"]).collect();
    let [key] = keys[..] else { return Err(format!("{} keys are called {}", keys.len(), header["kid"])) };
    if key["alg"] != header["alg"] || key["use"] != "sig" {
        return Err(format!("{key} does not sign {}", header["alg"]));
    }
    let member = |name: &str| decode(key[name].as_str().ok_or_else(|| name.to_owned())?);
    let verified = match (header["alg"].as_str(), key["kty"].as_str(), key["crv"].as_str()) {
        (Some("ES256"), Some("EC"), Some("P-256")) => {
            let point = [vec![4], member("x")?, member("y")?].concat();
            UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point)
                .verify(signed.as_bytes(), &decode(signature)?)
        }
        (Some("RS256"), Some("RSA"), _) => RsaPublicKeyComponents { n: member("n")?, e: member("e")? }
            .verify(&RSA_PKCS1_2048_8192_SHA256, signed.as_bytes(), &decode(signature)?),
        other => return Err(format!("{other:?}")),
    };
    verified.map_err(|_| "the signature is not the key's".to_owned())?;
    Ok((header, claims))
}
