//! The key set as it is served: built once per change, answered from memory.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::json;

use crate::domain::KeyRecord;

/// The JWKS document (RFC 7517, section 5) and its strong entity tag. Cloning copies no bytes of the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwks {
    /// The JSON.
    pub body: Bytes,
    /// With its quotes. A digest of the body, so that all replicas agree on it.
    pub etag: String,
}

impl Jwks {
    /// Next, active and retired keys, in the order they were published; `None` when there is none of them,
    /// as an empty set would be cached for minutes.
    pub fn of<'a>(keys: impl IntoIterator<Item = &'a KeyRecord>) -> Option<Self> {
        let mut keys: Vec<_> = keys.into_iter().filter(|key| key.is_published()).collect();
        keys.sort_by(|one, other| (one.published_at, &one.kid).cmp(&(other.published_at, &other.kid)));
        if keys.is_empty() {
            return None;
        }
        let keys: Vec<_> = keys.iter().map(|key| &key.public_jwk).collect();
        let body = json!({ "keys": keys }).to_string();
        let digest = ring::digest::digest(&ring::digest::SHA256, body.as_bytes());
        let etag = format!("\"{}\"", URL_SAFE_NO_PAD.encode(&digest.as_ref()[..16]));
        Some(Self { body: body.into(), etag })
    }
}
