//! Times in JWTs.

use std::fmt;

use serde::de::Visitor;
use serde::{Deserialize, Deserializer};

/// Whole seconds since 1970 (RFC 7519, 2). Fractions are rounded down, and values out of range are clamped.
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

            #[expect(clippy::cast_possible_truncation, reason = "`as` clamps, as intended")]
            fn visit_f64<E>(self, seconds: f64) -> Result<NumericDate, E> {
                Ok(NumericDate(seconds.floor() as i64))
            }
        }
        deserializer.deserialize_any(Seconds)
    }
}
