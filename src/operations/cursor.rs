//! Cursors: opaque words that name a place in a list, and the selection that the list was made from.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Datelike, Utc};
use nas_cron_protocol::schema::TextSchema;
use nas_cron_protocol::{InvalidField, json};
use ring::digest::{SHA256, digest};
use serde::Serialize;
use serde::de::DeserializeOwned;

/// The type of cursors in the `OpenAPI` document.
#[derive(Clone, Copy, Debug)]
pub enum Cursor {}

nas_cron_protocol::text_schema!(
    Cursor,
    TextSchema {
        description: "Opaque place in a list: the `next` of the previous page.",
        max_bytes: None,
        pattern: Some("^[A-Za-z0-9_-]+$"),
        format: Some("cursor"),
        example: "WyI5YzM4ZjJhMWQwNGUiLCJhY21lIl0",
    }
);

/// Returns a word that differs for different selections.
pub(super) fn fingerprint(selection: &impl Serialize) -> String {
    // Serializing strings and numbers cannot fail.
    let bytes = serde_json::to_vec(selection).unwrap_or_default();
    hex::encode(&digest(&SHA256, &bytes).as_ref()[..6])
}

/// Encodes a place in the list of a selection.
pub(super) fn encode(fingerprint: &str, place: &impl Serialize) -> String {
    URL_SAFE_NO_PAD.encode(serde_json::to_vec(&(fingerprint, place)).unwrap_or_default())
}

/// Decodes a cursor. Fails if it is none, or one of another selection.
pub(super) fn decode<T: DeserializeOwned>(fingerprint: &str, text: &str) -> Result<T, InvalidField> {
    let invalid = |problem: &str| InvalidField::new("after", problem);
    let bytes = URL_SAFE_NO_PAD.decode(text).ok();
    let pair: Option<(String, T)> = bytes.and_then(|bytes| json::from_slice(&bytes).ok());
    let (of, place) = pair.ok_or_else(|| invalid("not a cursor; use the `next` of the previous page"))?;
    if of != fingerprint {
        return Err(invalid(
            "the cursor belongs to another selection; repeat the filters of the page that it is from",
        ));
    }
    Ok(place)
}

/// Reads a time of a cursor, in microseconds since 1970. Fails unless it is one that the service stores.
pub(super) fn time(micros: i64) -> Result<DateTime<Utc>, InvalidField> {
    let time = DateTime::from_timestamp_micros(micros).filter(|time| (1970..10_000).contains(&time.year()));
    time.ok_or_else(|| InvalidField::new("after", "not a cursor; use the `next` of the previous page"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cursor_round_trips_any_id_within_its_selection_only() {
        let place = ("a/\"b".to_owned(), "ü ".to_owned());
        let of = fingerprint(&["state", "dead"]);
        let cursor = encode(&of, &place);
        assert_eq!(decode(&of, &cursor), Ok(place));
        let other = fingerprint(&["state", "stuck"]);
        for (of, text) in [(&other, cursor.as_str()), (&of, "nonsense"), (&of, ""), (&of, "WyJ4IiwxXQ")] {
            assert!(decode::<(String, String)>(of, text).is_err(), "{text}");
        }
    }
}
