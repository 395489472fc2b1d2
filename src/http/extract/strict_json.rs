//! Checks that JSON can be stored: no duplicate keys, no NUL characters.

use std::collections::HashSet;
use std::fmt;

use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Any JSON value that can be stored. (`serde_json` itself limits nesting, and rejects lone surrogates in strings that
/// it reads rather than skips.)
pub(super) struct Sound {
    pub(super) is_object: bool,
}

const NUL: &str = "must not contain NUL characters";
/// Error for an object with a duplicate key.
pub(super) const DUPLICATE: &str = "a field occurs more than once";

impl<'de> Deserialize<'de> for Sound {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_any(SoundVisitor)
    }
}

struct SoundVisitor;

const SCALAR: Sound = Sound { is_object: false };

impl<'de> Visitor<'de> for SoundVisitor {
    type Value = Sound;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_bool<E>(self, _: bool) -> Result<Sound, E> {
        Ok(SCALAR)
    }

    fn visit_i64<E>(self, _: i64) -> Result<Sound, E> {
        Ok(SCALAR)
    }

    fn visit_u64<E>(self, _: u64) -> Result<Sound, E> {
        Ok(SCALAR)
    }

    fn visit_f64<E>(self, _: f64) -> Result<Sound, E> {
        Ok(SCALAR)
    }

    fn visit_unit<E>(self) -> Result<Sound, E> {
        Ok(SCALAR)
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Sound, E> {
        if text.contains('\0') { Err(E::custom(NUL)) } else { Ok(SCALAR) }
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Sound, A::Error> {
        while items.next_element::<Sound>()?.is_some() {}
        Ok(SCALAR)
    }

    fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Sound, A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = entries.next_key::<String>()? {
            if key.contains('\0') {
                return Err(A::Error::custom("field names must not contain NUL characters"));
            }
            entries.next_value::<Sound>()?;
            if !seen.insert(key) {
                return Err(A::Error::custom(DUPLICATE));
            }
        }
        Ok(Sound { is_object: true })
    }
}
