//! The limit of a fire: no attempt starts later (`docs/contract.md#not_after`).

use chrono::{DateTime, Utc};
use serde::{Serialize, Serializer};

use super::fire_at::instant_of;
use super::{FireAt, InvalidField};

const FIELD: &str = "not_after";

/// The instant after which no attempt of a one-shot starts. Only the instant is kept, to the microsecond.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct NotAfter(DateTime<Utc>);

#[cfg(feature = "openapi")]
crate::text_schema!(
    NotAfter,
    super::fire_at::time_schema(
        "Latest start of an attempt, in the forms of `FireAt`. Not before `fire_at`.",
        "2026-06-18T13:00:00+00:00"
    )
);

impl NotAfter {
    /// Parses the limit of a fire at `fire_at`, in the same formats. Fails if it is earlier.
    pub fn parse(text: &str, fire_at: &FireAt) -> Result<Self, InvalidField> {
        let instant = instant_of(FIELD, text)?;
        if instant < fire_at.instant() {
            return Err(InvalidField::new(FIELD, "must not be before fire_at"));
        }
        Ok(Self(instant))
    }

    /// Wraps a stored value, which was validated on insert.
    pub fn stored(instant: DateTime<Utc>) -> Self {
        Self(instant)
    }

    /// The instant, to the microsecond.
    pub fn instant(&self) -> DateTime<Utc> {
        self.0
    }
}

impl Serialize for NotAfter {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.0.serialize(serializer)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str, fire_at: &str) -> Result<DateTime<Utc>, String> {
        let limit = NotAfter::parse(text, &FireAt::parse(fire_at).unwrap());
        limit.map(|limit| limit.instant()).map_err(|error| error.to_string())
    }

    #[test]
    fn limit_is_at_fire_at_or_later_whatever_the_offset() {
        let fire_at = "2026-06-18T14:34:56.0000001+02:00";
        assert!(parse(fire_at, fire_at).is_ok());
        assert!(parse("2026-06-18T12:34:57Z", fire_at).is_ok());
        for earlier in ["2026-06-18T12:34:56Z", "2026-06-18T14:34:57+03:00", "1970-01-01T00:00:00Z"] {
            let problem = "not_after: must not be before fire_at".to_owned();
            assert_eq!(parse(earlier, fire_at), Err(problem), "{earlier}");
        }
    }

    #[test]
    fn naive_and_malformed_limits_are_rejected_by_name() {
        for text in
            ["", "2036-06-18T12:34:56", "2036-06-18", "tomorrow", "1750250096", "10000-01-01T00:00:00Z"]
        {
            let error = parse(text, "2026-06-18T12:34:56Z").unwrap_err();
            assert!(error.starts_with("not_after: must be an ISO 8601 date-time with an offset"), "{error}");
        }
    }
}
