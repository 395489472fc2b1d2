//! Credentials: access tokens, assertions, agents' keys, and signatures of QStash.

use std::str;
use std::sync::LazyLock;

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use chrono::DateTime;
use futures::FutureExt;
use jsonwebtoken::{Algorithm, EncodingKey};
use ring::signature::{Ed25519KeyPair, KeyPair};
use ring::{digest, hmac};
use serde_json::{Value, json};
use tokio::time::Instant;
use uuid::Uuid;

use super::{first_line, lenient};
use crate::backends::qstash::signature::{self, SigningKeys};
use crate::identity::PublicKey;
use crate::identity::assertion::Assertion;
use crate::instance::{AccessClaims, Issuers, KeySet, PortalKeys, TokenRules};

/// The service's clock in all targets: 2027-01-15T08:00:00Z.
const NOW: i32 = 1_800_000_000;
const ISSUER: &str = "https://portal.example";
const RELAY: &str = "https://portal.example/api/agent-cron/relay";
const RELAY_KEY: &str = "sig_current_0123456789abcdefghijklmnop";
/// The seed of the only key pair, which signs for the portal and for an agent.
const SEED: [u8; 32] = [7; 32];

static PAIR: LazyLock<Ed25519KeyPair> =
    LazyLock::new(|| Ed25519KeyPair::from_seed_unchecked(&SEED).expect("32 bytes"));

/// The portal's keys: that of [`PAIR`], and the EC key of RFC 7515, A.3.
static ISSUERS: LazyLock<Issuers> = LazyLock::new(|| {
    let keys = json!({"keys": [
        {"kty": "OKP", "crv": "Ed25519", "kid": "k", "x": URL_SAFE_NO_PAD.encode(PAIR.public_key())},
        {"kty": "EC", "crv": "P-256", "kid": "ec", "x": "f83OJ3D2xF1Bg8vub9tLe1gHMzV76e8Tus9uPHvRVEU",
         "y": "x_FEzRu9m36HLN_tue659LNpXW6pCyStikYjKIWI5a0"},
    ]});
    let keys = KeySet::from_jwks(keys.to_string().as_bytes()).expect("two usable keys");
    Issuers::portal(TokenRules::new(ISSUER, []), PortalKeys::pinned(keys))
});

/// Signs as the portal.
fn signed(message: &str) -> String {
    // PKCS#8, version 1.
    let der = [&hex::decode("302e020100300506032b657004220420").expect("hex digits")[..], &SEED].concat();
    let key = EncodingKey::from_ed_der(&der);
    nas_cron_jwt::install();
    let signature = jsonwebtoken::crypto::sign(message.as_bytes(), &key, Algorithm::EdDSA);
    format!("{message}.{}", signature.expect("a usable key"))
}

/// Verifies a token, and checks that the claims of an accepted one keep the rules by a lenient reader, too.
fn verify(token: &str) -> Option<AccessClaims> {
    let now = DateTime::from_timestamp(NOW.into(), 0).expect("a time");
    let verified = ISSUERS.verify(token, now, Instant::now()).now_or_never();
    let accepted = verified.expect("pinned keys are not waited for").ok()?.claims;
    let mut parts = token.split('.').map(|part| URL_SAFE_NO_PAD.decode(part).expect("base64url"));
    let (header, claims) = (parts.next().expect("a header"), parts.next().expect("claims"));
    let (header, claims) = (lenient(&header), lenient(&claims));
    assert!(matches!(header["alg"].as_str(), Some("EdDSA" | "ES256")), "{header}");
    assert!(header.get("crit").is_none() && header.get("b64").is_none(), "{header}");
    assert_eq!(claims["iss"], ISSUER);
    assert!(claims["exp"].as_f64().is_some_and(|exp| exp.floor() > f64::from(NOW - 30)), "{claims}");
    assert!(claims.get("purpose").is_none(), "{claims}");
    for name in ["nbf", "iat"] {
        assert!(claims[name].as_f64().is_none_or(|at| at < f64::from(NOW + 31)), "{claims}");
    }
    assert_eq!(accepted.org_id.as_deref(), claims["org_id"].as_str());
    Some(accepted)
}

/// An access token.
pub fn access_token(data: &[u8]) {
    if let Ok(token) = str::from_utf8(data) {
        verify(token);
    }
}

/// The header of an access token in the first line, and its claims in the others, which the portal signs.
pub fn access_claims(data: &[u8]) {
    let (header, claims) = first_line(data);
    let header = if header.is_empty() { br#"{"alg":"EdDSA","kid":"k"}"# } else { header };
    let message = format!("{}.{}", URL_SAFE_NO_PAD.encode(header), URL_SAFE_NO_PAD.encode(claims));
    if let Some(accepted) = verify(&signed(&message)) {
        let claims = lenient(claims);
        let client = claims.get("client_id").or_else(|| claims.get("azp")).and_then(Value::as_str);
        assert_eq!(accepted.client_id.as_deref(), client.or_else(|| claims["azp"].as_str()));
    }
}

/// An assertion, or the JSON in one. The agent signs it if its signature is `@`.
pub fn assertion(data: &[u8]) {
    let Ok(text) = str::from_utf8(data) else { return };
    let mut fields = lenient(data);
    let presented = if !text.starts_with('{') {
        text.to_owned()
    } else if fields["signature"] == "@" {
        let text_of = |name: &str| fields[name].as_str().unwrap_or_default().to_owned();
        let message = ["agent_runtime_id", "task_id", "timestamp"].map(text_of).join(":");
        fields["signature"] = json!(STANDARD.encode(PAIR.sign(message.as_bytes())));
        URL_SAFE_NO_PAD.encode(fields.to_string())
    } else {
        URL_SAFE_NO_PAD.encode(text)
    };
    let public = PAIR.public_key().as_ref().try_into().expect("32 bytes");
    let key = PublicKey::from_bytes(public).expect("a valid key");
    let Ok(read) = Assertion::read(&presented) else { return };
    if read.verify(&key).is_ok() {
        let fields = lenient(&URL_SAFE_NO_PAD.decode(&presented).expect("base64url"));
        let text_of = |name: &str| fields[name].as_str().expect("a string").to_owned();
        let message = ["agent_runtime_id", "task_id", "timestamp"].map(text_of);
        assert_eq!(Uuid::try_parse(&message[0]).expect("a UUID").to_string(), message[0]);
        let at = DateTime::parse_from_rfc3339(&message[2]).expect("a time");
        assert_eq!(at.to_utc(), read.at);
        assert_eq!(STANDARD.encode(PAIR.sign(message.join(":").as_bytes())), text_of("signature"));
    }
}

/// The line of an agent's public key.
pub fn public_key(data: &[u8]) {
    let Ok(line) = str::from_utf8(data) else { return };
    if let Ok(key) = PublicKey::parse(line) {
        let written = key.to_string();
        assert_eq!(PublicKey::parse(&written), Ok(key));
        let same = |text: &str| {
            text.split([' ', '\t']).filter(|word| !word.is_empty()).take(2).eq(written.split(' '))
        };
        assert!(same(line), "{line:?} is read as {written}");
    }
}

/// The signature of a wake-up in the first line, and its body in the others. Claims in JSON are signed by QStash: `@`
/// stands for the hash of the body.
pub fn relay(data: &[u8]) {
    let (signature, body) = first_line(data);
    let keys = SigningKeys::new(&RELAY_KEY.into(), None).expect("a key");
    let hash = URL_SAFE_NO_PAD.encode(digest::digest(&digest::SHA256, body));
    let presented = match str::from_utf8(signature) {
        Ok(claims) if claims.starts_with('{') => {
            let header = URL_SAFE_NO_PAD.encode(r#"{"alg":"HS256","typ":"JWT"}"#);
            let message = format!("{header}.{}", URL_SAFE_NO_PAD.encode(claims.replace('@', &hash)));
            let key = hmac::Key::new(hmac::HMAC_SHA256, RELAY_KEY.as_bytes());
            format!("{message}.{}", URL_SAFE_NO_PAD.encode(hmac::sign(&key, message.as_bytes()))).into_bytes()
        }
        _ => signature.to_vec(),
    };
    let now = DateTime::from_timestamp(NOW.into(), 0).expect("a time");
    if signature::verify(&presented, &keys, RELAY, body, now).is_ok() {
        let claims = presented.split(|byte| *byte == b'.').nth(1).expect("claims");
        let claims = str::from_utf8(claims).expect("base64").trim_end_matches('=');
        let claims = lenient(&URL_SAFE_NO_PAD.decode(claims).expect("base64url"));
        assert_eq!((&claims["iss"], &claims["sub"]), (&json!("Upstash"), &json!(RELAY)));
        assert!(claims["exp"].as_f64().is_some_and(|exp| exp > f64::from(NOW)), "{claims}");
        assert!(claims["nbf"].as_f64().is_some_and(|nbf| nbf <= f64::from(NOW)), "{claims}");
        assert_eq!(claims["body"].as_str().expect("a hash").trim_end_matches('='), hash);
    }
}
