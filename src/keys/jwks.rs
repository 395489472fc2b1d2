//! The JWKS document. It is built once per change and served from memory.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use bytes::Bytes;
use serde_json::json;

use crate::domain::KeyRecord;

/// A JWKS document (RFC 7517, section 5) and its strong entity tag. Cloning does not copy the document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Jwks {
    /// The JSON document.
    pub body: Bytes,
    /// The entity tag, with its quotes. It is a digest of the body, so that all replicas return the same one.
    pub etag: String,
}

impl Jwks {
    /// Returns the document with the next, active and retired keys, in the order of their publication. Returns `None` if
    /// there are none, because caches would keep an empty set for minutes.
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
