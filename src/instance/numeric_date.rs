//! Instants as JWTs have them.

use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

/// Whole seconds since 1970 (RFC 7519, 2): fractions are cut off, what is out of range stays at its end.
#[derive(Clone)]
pub(super) struct NumericDate(pub(super) i64);

impl<'de> Deserialize<'de> for NumericDate {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Seconds;
        impl Visitor<'_> for Seconds {
            type Value = NumericDate;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a number of seconds")
            }

            fn visit_i64<E>(self, seconds: i64) -> Result<NumericDate, E> {
                Ok(NumericDate(seconds))
            }

            fn visit_u64<E>(self, seconds: u64) -> Result<NumericDate, E> {
                Ok(NumericDate(i64::try_from(seconds).unwrap_or(i64::MAX)))
            }

            #[expect(clippy::cast_possible_truncation, reason = "`as` saturates, which is what is wanted")]
            fn visit_f64<E>(self, seconds: f64) -> Result<NumericDate, E> {
                Ok(NumericDate(seconds.floor() as i64))
            }
        }
        deserializer.deserialize_any(Seconds)
    }
}
