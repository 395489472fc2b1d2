//! The names of the fields of a type.

use std::fmt;

use serde::de::{Error, Visitor};
use serde::{Deserialize, Deserializer};

/// Returns the names that a struct's derived `Deserialize` knows; none for any other type.
pub fn field_names<'de, T: Deserialize<'de>>() -> &'static [&'static str] {
    let mut names: &[&str] = &[];
    // Always fails, after it has recorded the names.
    let _ = T::deserialize(Recorder(&mut names));
    names
}

struct Recorder<'a>(&'a mut &'static [&'static str]);

impl<'de> Deserializer<'de> for Recorder<'_> {
    type Error = Recorded;

    fn deserialize_any<V: Visitor<'de>>(self, _: V) -> Result<V::Value, Recorded> {
        Err(Recorded)
    }

    fn deserialize_struct<V: Visitor<'de>>(
        self,
        _: &'static str,
        fields: &'static [&'static str],
        _: V,
    ) -> Result<V::Value, Recorded> {
        *self.0 = fields;
        Err(Recorded)
    }

    serde::forward_to_deserialize_any! {
        bool i8 i16 i32 i64 u8 u16 u32 u64 f32 f64 char str string bytes byte_buf option unit unit_struct
        newtype_struct seq tuple tuple_struct map enum identifier ignored_any
    }
}

/// The error that ends the recording. It allocates nothing.
#[derive(Debug)]
struct Recorded;

impl fmt::Display for Recorded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("names recorded")
    }
}

impl std::error::Error for Recorded {}

impl Error for Recorded {
    fn custom<T: fmt::Display>(_: T) -> Self {
        Self
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_structs_have_field_names() {
        #[derive(Deserialize)]
        #[expect(dead_code, reason = "only the names of the fields are read")]
        struct Two<'a> {
            one: &'a str,
            #[serde(rename = "twoTwo")]
            two: Option<u8>,
        }
        assert_eq!(field_names::<Two<'_>>(), ["one", "twoTwo"]);
        assert!(field_names::<serde_json::Value>().is_empty());
        assert!(field_names::<Vec<String>>().is_empty());
    }
}
