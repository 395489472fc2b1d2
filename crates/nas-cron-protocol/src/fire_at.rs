//! The time of a fire: the agent's text, and the instant that it means.

use chrono::{DateTime, Datelike, Utc};
use serde::{Serialize, Serializer};

use super::{InvalidField, date_time};

const FIELD: &str = "fire_at";
const MAX_LENGTH: usize = 64;
/// Regular expression (ECMA-262) of the years that are accepted, for RFC 3339 date-times.
#[cfg(feature = "openapi")]
const YEARS: &str = "^(?:19[7-9][0-9]|[2-9][0-9]{3})-";

/// The schema of a time: RFC 3339, which is the part of the grammar that other programs know.
#[cfg(feature = "openapi")]
pub(super) const fn time_schema(
    description: &'static str,
    example: &'static str,
) -> crate::schema::TextSchema {
    crate::schema::TextSchema {
        description,
        max_bytes: Some(MAX_LENGTH),
        pattern: Some(YEARS),
        format: Some("date-time"),
        example,
    }
}

#[cfg(feature = "openapi")]
crate::text_schema!(
    FireAt,
    time_schema(
        "Time of a fire: RFC 3339, to the microsecond, in the years 1970 to 9999, seconds 00 to 59. Other forms of ISO \
         8601 with an offset are accepted, too: see `docs/contract.md#times`.",
        "2026-06-18T12:34:56.250000+00:00"
    )
);

/// The time of a fire: ISO 8601 with an offset. The text is kept byte for byte, because agents compare it as a string: a
/// rewritten form would make them re-provision for ever. The service compares the instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FireAt {
    text: String,
    instant: DateTime<Utc>,
}

impl FireAt {
    /// Parses an ISO 8601 date-time with an offset, of any precision. Fractions of a microsecond are rounded up, so that
    /// nothing fires early.
    pub fn parse(text: &str) -> Result<Self, InvalidField> {
        let instant = instant_of(FIELD, text)?;
        Ok(Self { text: text.to_owned(), instant })
    }

    /// The text as the agent sent it, byte for byte.
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// The instant, to the microsecond.
    pub fn instant(&self) -> DateTime<Utc> {
        self.instant
    }

    /// Wraps a stored value, which was validated on insert.
    pub fn stored(text: String, instant: DateTime<Utc>) -> Self {
        Self { text, instant }
    }
}

impl Serialize for FireAt {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.text)
    }
}

/// Parses the text of `field`: an ISO 8601 date-time with an offset, rounded up to the microsecond.
pub fn instant_of(field: &'static str, text: &str) -> Result<DateTime<Utc>, InvalidField> {
    let wrong = |problem: &str| InvalidField::new(field, problem);
    if text.len() > MAX_LENGTH {
        return Err(wrong("must be at most 64 characters long"));
    }
    let instant = date_time::parse(text).map_err(wrong)?.to_utc();
    // Agents use years up to 9999, for which Postgres and ISO 8601 agree on the text.
    if !(1970..=9999).contains(&instant.year()) {
        return Err(wrong("must lie in the years 1970 to 9999"));
    }
    Ok(instant)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn client_1_text_is_kept_byte_for_byte() {
        for text in [
            "2026-06-18T12:34:56+00:00",
            "2026-06-18T14:34:56.123456+02:00",
            "2026-06-18t12:34:56z",
            "2026-06-18 12:34:56Z",
            "2026-06-18T12:34-03",
        ] {
            assert_eq!(FireAt::parse(text).expect(text).as_str(), text);
        }
    }

    /// A text, and the instant in microseconds since 1970 if it is valid.
    #[derive(serde::Deserialize)]
    struct Case {
        text: String,
        micros: Option<i64>,
        note: String,
    }

    #[test]
    fn times_of_the_corpus_have_their_instant_or_are_rejected() {
        let cases: Vec<Case> = serde_json::from_str(include_str!("../../../tests/data/times.json")).unwrap();
        assert!(cases.len() >= 100);
        for Case { text, micros, note } in cases {
            let parsed = FireAt::parse(&text);
            let instant = parsed.as_ref().ok().map(|at| at.instant().timestamp_micros());
            assert_eq!(instant, micros, "{text:?}: {note}");
            match parsed {
                Ok(at) => assert_eq!(at.as_str(), text),
                Err(error) => assert_eq!(error.field, "fire_at", "{text:?}"),
            }
        }
    }

    #[test]
    fn text_has_at_most_64_bytes() {
        let of_length = |length: usize| format!("2026-06-18T12:34:56.{}Z", "0".repeat(length - 21));
        assert!(FireAt::parse(&of_length(64)).is_ok());
        for length in [65, 66, 100] {
            let error = FireAt::parse(&of_length(length)).unwrap_err();
            assert_eq!(error.problem, "must be at most 64 characters long");
        }
    }

    proptest! {
        /// Texts of Python's `isoformat()` keep their instant and their bytes.
        #[test]
        fn every_offset_and_precision_round_trips(secs in 0_i64..253_000_000_000, micros in 0_u32..1_000_000, offset_minutes in -1439_i32..=1439) {
            let offset = chrono::FixedOffset::east_opt(offset_minutes * 60).unwrap();
            let instant = DateTime::from_timestamp(secs, micros * 1000).unwrap();
            let form = if micros == 0 { "%Y-%m-%dT%H:%M:%S%:z" } else { "%Y-%m-%dT%H:%M:%S%.6f%:z" };
            let text = instant.with_timezone(&offset).format(form).to_string();
            prop_assume!((1970..=9999).contains(&instant.with_timezone(&offset).year()));
            let parsed = FireAt::parse(&text).unwrap();
            prop_assert_eq!(parsed.instant(), instant);
            prop_assert_eq!(parsed.as_str(), text);
        }

        #[test]
        fn no_text_panics(text in "\\PC{0,70}") {
            let _ = FireAt::parse(&text);
        }
    }
}
