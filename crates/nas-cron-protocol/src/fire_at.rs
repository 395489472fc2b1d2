//! The time of a fire: the agent's text, and the instant that it means.

use chrono::{DateTime, Datelike, Timelike, Utc};
use serde::{Serialize, Serializer};

use super::InvalidField;

const FIELD: &str = "fire_at";
const MAX_LENGTH: usize = 64;

/// The time of a fire: ISO 8601 with an offset. The text is kept byte for byte, because agents compare it as a string: a
/// rewritten form would make them re-provision for ever. The service compares the instant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FireAt {
    text: String,
    instant: DateTime<Utc>,
}

/// Forms accepted beside RFC 3339: ISO 8601 without seconds, with a short offset, and in the basic format.
/// `%#z` matches `+02`, `+0200` and `+02:00`; `Z` is rewritten to `+00:00` first.
const FORMS: &[&str] =
    &["%Y-%m-%dT%H:%M:%S%.f%#z", "%Y-%m-%dT%H:%M%#z", "%Y%m%dT%H%M%S%.f%#z", "%Y%m%dT%H%M%#z"];

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
pub(super) fn instant_of(field: &'static str, text: &str) -> Result<DateTime<Utc>, InvalidField> {
    let wrong = |problem: &str| InvalidField::new(field, problem);
    if text.len() > MAX_LENGTH {
        return Err(wrong("must be at most 64 characters long"));
    }
    let parsed = parse_instant(text).ok_or_else(|| {
        wrong("must be an ISO 8601 date-time with an offset, such as 2026-06-18T12:34:56+00:00")
    })?;
    let instant = round_up_to_micros(parsed.to_utc()).ok_or_else(|| wrong("is out of range"))?;
    // Agents use years up to 9999, for which Postgres and ISO 8601 agree on the text.
    if !(1970..=9999).contains(&instant.year()) {
        return Err(wrong("must lie in the years 1970 to 9999"));
    }
    Ok(instant)
}

fn parse_instant(text: &str) -> Option<DateTime<chrono::FixedOffset>> {
    // A date starts with a digit of its four-digit year: this rejects signs and leading blanks.
    if !text.is_ascii()
        || !text.starts_with(|c: char| c.is_ascii_digit())
        || text.ends_with(char::is_whitespace)
    {
        return None;
    }
    let normal = text.to_ascii_uppercase().replace(' ', "T").replace(',', ".");
    let normal = normal.strip_suffix('Z').map_or(normal.clone(), |naive| format!("{naive}+00:00"));
    let parsed = DateTime::parse_from_rfc3339(&normal)
        .ok()
        .or_else(|| FORMS.iter().find_map(|form| DateTime::parse_from_str(&normal, form).ok()))?;
    // chrono parses :60 as a leap second (nanoseconds past 10⁹), which agents do not send and timers do not support.
    (parsed.nanosecond() < 1_000_000_000).then_some(parsed)
}

fn round_up_to_micros(instant: DateTime<Utc>) -> Option<DateTime<Utc>> {
    match instant.nanosecond() % 1_000 {
        0 => Some(instant),
        over => instant.checked_add_signed(chrono::TimeDelta::nanoseconds(i64::from(1_000 - over))),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn micros(text: &str) -> i64 {
        FireAt::parse(text).expect(text).instant().timestamp_micros()
    }

    #[test]
    fn client_1_text_is_kept_byte_for_byte() {
        for text in [
            "2026-06-18T12:34:56+00:00",
            "2026-06-18T14:34:56.123456+02:00",
            "2026-06-18t12:34:56z",
            "2026-06-18 12:34:56Z",
            "20260618T123456Z",
            "2026-06-18T12:34-0330",
        ] {
            assert_eq!(FireAt::parse(text).expect(text).as_str(), text);
        }
    }

    #[test]
    fn different_texts_give_the_same_instant() {
        let instant = micros("2026-06-18T12:34:56Z");
        for text in [
            "2026-06-18T14:34:56+02:00",
            "2026-06-18T14:34:56+02",
            "20260618T143456+0200",
            "2026-06-18T12:34:56,000Z",
        ] {
            assert_eq!(micros(text), instant, "{text}");
        }
        assert_eq!(micros("2026-06-18T12:34:56.000001Z"), instant + 1);
        assert_eq!(micros("2026-06-18T12:34:56.0000001Z"), instant + 1, "never early: rounded up");
    }

    #[test]
    fn naive_and_invalid_times_are_rejected() {
        for text in [
            "",
            "2026-06-18",
            "2026-06-18T12:34:56",
            "12:34",
            "tomorrow",
            "1750250096",
            "2026-06-18T24:00:00Z",
            "2026-06-18T12:34:60Z",
            "2016-12-31T23:59:60Z",
            "10000-01-01T00:00:00Z",
            "+10000-01-01T00:00:00Z",
            "2026-02-30T00:00:00Z",
            "2026-13-01T00:00:00Z",
            "2026-06-18T12:34:56+25:00",
            "-2026-06-18T12:34:56Z",
            " 2026-06-18T12:34:56Z",
            "2026-06-18T12:34:56Z ",
            "2026-06-18T12:34:56Z\n",
            "2026-06-18T12:34:56+00:00Z",
            "1969-12-31T23:59:59Z",
            "9999-12-31T23:59:59-01:00",
            "2026-06-18T12:34:56 UTC",
            "２026-06-18T12:34:56Z",
        ] {
            let error = FireAt::parse(text).expect_err(text);
            assert_eq!(error.field, "fire_at", "{text}");
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
