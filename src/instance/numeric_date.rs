//! Times in JWTs.

use std::fmt;

use nas_cron_protocol::json::MAX_INTEGER;
use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// Whole seconds since 1970 (RFC 7519, 2). Fractions are rounded down. Numbers that a double cannot tell from their
/// neighbours are refused, whatever their notation.
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

            fn visit_i64<E: Error>(self, seconds: i64) -> Result<NumericDate, E> {
                if seconds.unsigned_abs() > MAX_INTEGER {
                    return Err(E::custom("a number of seconds beyond 2^53"));
                }
                Ok(NumericDate(seconds))
            }

            fn visit_u64<E: Error>(self, seconds: u64) -> Result<NumericDate, E> {
                self.visit_i64(i64::try_from(seconds).unwrap_or(i64::MAX))
            }

            #[expect(clippy::cast_possible_truncation, reason = "`as` clamps, and what it clamps is refused")]
            fn visit_f64<E: Error>(self, seconds: f64) -> Result<NumericDate, E> {
                self.visit_i64(seconds.floor() as i64)
            }
        }
        deserializer.deserialize_any(Seconds)
    }
}
