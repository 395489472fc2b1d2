//! Verifies that QStash made a request, by the JWT in `Upstash-Signature`.
//!
//! The rules are those of the two official receivers (`PyPI` `qstash`, npm `@upstash/qstash`). Where the two differ,
//! the stricter rule applies. `tests/integration/qstash/signatures.rs` compares all three on one table. Like the
//! official receivers, this one tolerates no clock skew.

use base64::Engine;
use base64::alphabet::URL_SAFE;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig, general_purpose};
use chrono::{DateTime, Utc};
use ring::{digest, hmac};
use secrecy::{ExposeSecret, SecretString};
use serde_json::{Map, Value};

use crate::backends::Refusal;

/// `iss` of every signature.
const ISSUER: &str = "Upstash";
/// Names that [`check_header`] looks up.
const HEADER: &[&str] = &["alg", "kid", "crit", "b64"];
/// Names that [`check_claims`] looks up.
const CLAIMS: &[&str] = &["iss", "sub", "body", "exp", "nbf", "iat", "jti", "aud"];

/// base64url with or without padding, in its canonical form only.
const BASE64: GeneralPurpose = GeneralPurpose::new(
    &URL_SAFE,
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent),
);

/// The accepted signing keys: the account's current key, and the next one, which signs after a rotation.
#[derive(Clone, Debug)]
pub struct SigningKeys(Vec<hmac::Key>);

/// An empty signing key, with which anyone could sign.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a QStash signing key is empty")]
pub struct EmptyKey;

impl SigningKeys {
    /// Creates the keys from their text in the QStash console, `sig_…`.
    pub fn new(current: &SecretString, next: Option<&SecretString>) -> Result<Self, EmptyKey> {
        let key = |key: &SecretString| match key.expose_secret().as_bytes() {
            [] => Err(EmptyKey),
            bytes => Ok(hmac::Key::new(hmac::HMAC_SHA256, bytes)),
        };
        std::iter::once(current).chain(next).map(key).collect::<Result<_, _>>().map(Self)
    }

    /// Returns true if one of the keys made `tag`. Takes the same time for each key.
    fn has_made(&self, signed: &[u8], tag: &[u8]) -> bool {
        self.0.iter().fold(false, |made, key| made | hmac::verify(key, signed, tag).is_ok())
    }
}

/// Verifies `signature`, the value of `Upstash-Signature`, for a request to `url` with this body.
/// The claims are read only after the signature is verified.
///
/// `url` is the destination of the published message, byte for byte. Never take it from the request.
pub fn verify(
    signature: &[u8],
    keys: &SigningKeys,
    url: &str,
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<(), Refusal> {
    let mut parts = signature.split(|byte| *byte == b'.');
    let (Some(header), Some(payload), Some(tag), None) =
        (parts.next(), parts.next(), parts.next(), parts.next())
    else {
        return Err(Refusal::Malformed);
    };
    let signed = &signature[..header.len() + 1 + payload.len()];
    let tag = decode(tag)?;
    check_header(&object(header, HEADER)?)?;
    if !keys.has_made(signed, &tag) {
        return Err(Refusal::Key);
    }
    check_claims(&object(payload, CLAIMS)?, url, body, now)
}

fn check_header(header: &Map<String, Value>) -> Result<(), Refusal> {
    if header.get("alg").and_then(Value::as_str) != Some("HS256") {
        return Err(Refusal::Algorithm);
    }
    // RFC 7515, section 4.1.11: critical extensions must be understood, and none is supported. An unencoded payload
    // (RFC 7797) must be marked critical; one that is not marked is rejected too.
    let odd_id = header.get("kid").is_some_and(|kid| !kid.is_string());
    if odd_id || header.contains_key("crit") || header.get("b64") == Some(&Value::Bool(false)) {
        return Err(Refusal::Malformed);
    }
    Ok(())
}

fn check_claims(
    claims: &Map<String, Value>,
    url: &str,
    body: &[u8],
    now: DateTime<Utc>,
) -> Result<(), Refusal> {
    let text = |name| claims.get(name).and_then(Value::as_str).ok_or(Refusal::Malformed);
    let number = |name| claims.get(name).and_then(Value::as_f64).ok_or(Refusal::Malformed);
    let (issuer, subject, hash) = (text("iss")?, text("sub")?, text("body")?);
    let (expires, not_before) = (number("exp")?, number("nbf")?);
    let made = if claims.contains_key("iat") { Some(number("iat")?) } else { None };
    // QStash sets no audience: a token with one is meant for another service.
    let odd_id = claims.get("jti").is_some_and(|jti| !jti.is_string());
    if odd_id || claims.get("aud").is_some_and(is_something) {
        return Err(Refusal::Malformed);
    }
    if issuer != ISSUER {
        return Err(Refusal::Issuer);
    }
    #[expect(clippy::cast_precision_loss, reason = "exact for millions of years to come")]
    let seconds = now.timestamp() as f64;
    if expires.trunc() <= seconds {
        return Err(Refusal::Expired);
    }
    if not_before > seconds || made.is_some_and(|made| made.trunc() > seconds) {
        return Err(Refusal::NotYet);
    }
    if subject != url {
        return Err(Refusal::Url);
    }
    // The official receivers accept only text bodies.
    let expected = general_purpose::URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, body));
    if std::str::from_utf8(body).is_err() || hash.trim_end_matches('=') != expected {
        return Err(Refusal::Body);
    }
    Ok(())
}

/// Returns true if JavaScript and Python treat the value as non-empty.
fn is_something(value: &Value) -> bool {
    match value {
        Value::Null => false,
        Value::Bool(value) => *value,
        Value::Number(value) => value.as_f64() != Some(0.0),
        Value::String(value) => !value.is_empty(),
        Value::Array(values) => !values.is_empty(),
        Value::Object(values) => !values.is_empty(),
    }
}

/// Parses a part as a JSON object. The receivers take the last of several members with the same name; here, it is an
/// error like everything that readers could read differently.
fn object(part: &[u8], known: &[&str]) -> Result<Map<String, Value>, Refusal> {
    nas_cron_protocol::json::object(&decode(part)?, known).map_err(|_| Refusal::Malformed)
}

fn decode(part: &[u8]) -> Result<Vec<u8>, Refusal> {
    // The padding must be complete.
    if part.contains(&b'=') && !part.len().is_multiple_of(4) {
        return Err(Refusal::Malformed);
    }
    BASE64.decode(part).map_err(|_| Refusal::Malformed)
}

#[cfg(test)]
mod tests {
    use base64::engine::general_purpose::{URL_SAFE as PADDED, URL_SAFE_NO_PAD};
    use nas_cron_base::testing::fastest;
    use serde_json::json;

    use super::*;

    const URL: &str = "https://portal.example/api/agent-cron/relay";
    const BODY: &[u8] = br#"{"job_id":"a"}"#;
    const NOW: i64 = 1_800_000_000;

    fn keys() -> SigningKeys {
        SigningKeys::new(&"sig_current".into(), Some(&"sig_next".into())).unwrap()
    }

    fn sign(key: &str, header: &str, payload: &str) -> String {
        let signed = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(payload));
        let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
    }

    fn claims() -> Value {
        json!({
            "iss": "Upstash", "sub": URL, "exp": NOW + 300, "nbf": NOW, "iat": NOW, "jti": "jwt_1",
            "body": PADDED.encode(digest::digest(&digest::SHA256, BODY)),
        })
    }

    fn with(name: &str, value: Value) -> Value {
        let mut claims = claims();
        claims[name] = value;
        claims
    }

    const HS256: &str = r#"{"alg":"HS256","typ":"JWT"}"#;

    fn judge(token: &str, body: &[u8]) -> Result<(), Refusal> {
        let now = DateTime::from_timestamp(NOW, 999_999_999).unwrap();
        verify(token.as_bytes(), &keys(), URL, body, now)
    }

    fn judged(claims: &Value) -> Result<(), Refusal> {
        judge(&sign("sig_current", HS256, &claims.to_string()), BODY)
    }

    #[test]
    fn only_the_two_configured_keys_are_accepted() {
        let claims = claims().to_string();
        assert_eq!(judge(&sign("sig_current", HS256, &claims), BODY), Ok(()));
        assert_eq!(judge(&sign("sig_next", HS256, &claims), BODY), Ok(()));
        assert_eq!(judge(&sign("sig_other", HS256, &claims), BODY), Err(Refusal::Key));
        // An account whose keys are rotated may have one key twice.
        let twice = SigningKeys::new(&"sig_current".into(), Some(&"sig_current".into())).unwrap();
        let now = DateTime::from_timestamp(NOW, 0).unwrap();
        let token = sign("sig_current", HS256, &claims);
        assert_eq!(verify(token.as_bytes(), &twice, URL, BODY, now), Ok(()));
        let alone = SigningKeys::new(&"sig_current".into(), None).unwrap();
        let token = sign("sig_next", HS256, &claims);
        assert_eq!(verify(token.as_bytes(), &alone, URL, BODY, now), Err(Refusal::Key));
        assert_eq!(SigningKeys::new(&"a".into(), Some(&"".into())).unwrap_err(), EmptyKey);
        assert_eq!(SigningKeys::new(&"".into(), None).unwrap_err(), EmptyKey);
    }

    #[test]
    fn refusals_name_the_reason() {
        for (claims, refusal) in [
            (with("iss", json!("upstash")), Refusal::Issuer),
            (with("sub", json!(format!("{URL}/"))), Refusal::Url),
            (with("exp", json!(NOW)), Refusal::Expired),
            (with("nbf", json!(NOW + 1)), Refusal::NotYet),
            (with("iat", json!(NOW + 1)), Refusal::NotYet),
            (with("body", json!("")), Refusal::Body),
            (with("exp", json!("2100")), Refusal::Malformed),
            (with("body", Value::Null), Refusal::Malformed),
            (with("aud", json!("agent:a")), Refusal::Malformed),
            (with("jti", json!(1)), Refusal::Malformed),
        ] {
            assert_eq!(judged(&claims), Err(refusal), "{claims}");
        }
        assert_eq!(judged(&with("exp", json!(NOW + 1))), Ok(()), "valid until it expires");
        let good = sign("sig_current", HS256, &claims().to_string());
        assert_eq!(judge(&good, b"{}"), Err(Refusal::Body));
        for header in [r#"{"alg":"none"}"#, r#"{"alg":"HS512"}"#, r#"{"alg":"RS256"}"#, "{}"] {
            let token = sign("sig_current", header, &claims().to_string());
            assert_eq!(judge(&token, BODY), Err(Refusal::Algorithm), "{header}");
        }
    }

    #[test]
    fn claims_are_read_only_after_the_signature_is_verified() {
        assert_eq!(judge(&sign("sig_other", HS256, "no JSON"), BODY), Err(Refusal::Key));
        assert_eq!(judge(&sign("sig_current", HS256, "no JSON"), BODY), Err(Refusal::Malformed));
    }

    #[test]
    fn every_changed_byte_is_detected() {
        let good = sign("sig_current", HS256, &claims().to_string());
        assert_eq!(judge(&good, BODY), Ok(()));
        for at in 0..good.len() {
            for byte in [b'A', b'.', b'=', b' ', b'-', 0xff] {
                let mut bad = good.clone().into_bytes();
                if std::mem::replace(&mut bad[at], byte) != byte {
                    let now = DateTime::from_timestamp(NOW, 0).unwrap();
                    let judged = verify(&bad, &keys(), URL, BODY, now);
                    assert!(judged.is_err(), "byte {at} as {byte}");
                }
            }
        }
    }

    #[test]
    fn no_hostile_signature_takes_ten_times_as_long_as_a_good_one() {
        let good = sign("sig_current", HS256, &claims().to_string());
        let limit = fastest(20, || assert_eq!(judge(&good, BODY), Ok(()))) * 10;
        let nested = format!(r#"{{"x":{}"#, "[".repeat(300));
        let mut hostile = vec![
            sign("sig_other", HS256, &claims().to_string()),
            sign("sig_current", HS256, &nested),
            sign("sig_current", &nested, &claims().to_string()),
            sign("sig_current", r#"{"alg":"none"}"#, &claims().to_string()),
            ".".repeat(good.len()),
            "A".repeat(good.len()),
            format!("{good}.{good}"),
        ];
        hostile.extend(["iss", "sub", "body", "exp", "nbf"].map(|name| {
            let claims = with(name, json!("x".repeat(200)));
            sign("sig_current", HS256, &claims.to_string())
        }));
        hostile.extend((0..good.len()).step_by(7).map(|at| format!("{}!{}", &good[..at], &good[at + 1..])));
        for token in hostile {
            // A busy machine can disturb many calls in a row, but not all.
            let calm = (0..20).any(|_| fastest(5, || assert!(judge(&token, BODY).is_err())) < limit);
            assert!(calm, "{token}: more than {limit:?}");
        }
    }

    proptest::proptest! {
        #[test]
        fn no_input_makes_it_panic(bytes: Vec<u8>, payload: String) {
            let now = DateTime::from_timestamp(NOW, 0).unwrap();
            proptest::prop_assert!(verify(&bytes, &keys(), URL, BODY, now).is_err());
            proptest::prop_assert!(judge(&sign("sig_current", HS256, &payload), BODY).is_err());
        }
    }
}
