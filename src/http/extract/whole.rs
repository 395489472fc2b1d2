//! Whole numbers of JSON bodies. JSON Schema does not tell `33.0` from `33`, and neither do these fields.

use serde::de::{Error, Unexpected};
use serde::{Deserialize, Deserializer};

/// Reads a number.
pub(in crate::http) fn required<'de, D: Deserializer<'de>>(deserializer: D) -> Result<u32, D::Error> {
    whole(f64::deserialize(deserializer)?)
}

/// Reads a number that may be `null`.
pub(in crate::http) fn optional<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u32>, D::Error> {
    Option::<f64>::deserialize(deserializer)?.map(whole).transpose()
}

fn whole<E: Error>(number: f64) -> Result<u32, E> {
    #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "checked")]
    if number.fract() == 0.0 && (0.0..=f64::from(u32::MAX)).contains(&number) {
        Ok(number as u32)
    } else {
        Err(E::invalid_value(Unexpected::Float(number), &"a whole number"))
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn fraction_of_zero_does_not_matter() {
        for (number, read) in [
            (json!(33), Some(33)),
            (json!(33.0), Some(33)),
            (json!(0), Some(0)),
            (json!(u32::MAX), Some(u32::MAX)),
            (json!(4_294_967_296_u64), None),
            (json!(-1), None),
            (json!(0.5), None),
            (json!("33"), None),
        ] {
            assert_eq!(required(&number).ok(), read, "{number}");
            assert_eq!(optional(&number).ok().flatten(), read, "{number}");
        }
        assert_eq!(optional(json!(null)).unwrap(), None);
        assert!(required(json!(null)).is_err());
    }
}
