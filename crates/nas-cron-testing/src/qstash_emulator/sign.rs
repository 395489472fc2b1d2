//! Signatures of deliveries: `Upstash-Signature`.

use base64::Engine;
use base64::engine::general_purpose::{URL_SAFE, URL_SAFE_NO_PAD};
use chrono::{DateTime, Utc};
use ring::{digest, hmac};
use serde_json::{Value, json};

/// Lifetime of a signature, in seconds.
const LIFETIME: i64 = 300;

/// Returns the claims of a signature for this body and URL.
pub fn claims(url: &str, body: &[u8], now: DateTime<Utc>) -> Value {
    json!({
        "iss": "Upstash",
        "sub": url,
        "exp": now.timestamp() + LIFETIME,
        "nbf": now.timestamp(),
        "iat": now.timestamp(),
        "jti": format!("jwt_{}", uuid::Uuid::new_v4().simple()),
        // Padded, as in the documentation's example.
        "body": URL_SAFE.encode(digest::digest(&digest::SHA256, body)),
    })
}

pub fn sign(key: &str, url: &str, body: &[u8], now: DateTime<Utc>) -> String {
    let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
    let signed = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims(url, body, now).to_string()));
    let tag = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key.as_bytes()), signed.as_bytes());
    format!("{signed}.{}", URL_SAFE_NO_PAD.encode(tag))
}
