//! JSON from other programs.

use serde::Deserialize;
use serde_json::{Error, Value};

/// Parses JSON that is valid UTF-8 from end to end, as RFC 8259 (section 8.1) requires.
///
/// `serde_json::from_slice` accepts any bytes in strings that it skips, so that two readers of the same bytes could
/// disagree. Errors have a position, like serde's own.
pub fn from_slice<'a, T: Deserialize<'a>>(json: &'a [u8]) -> Result<T, Error> {
    match std::str::from_utf8(json) {
        Ok(text) => serde_json::from_str(text),
        // Reading all of it finds the position.
        Err(invalid) => {
            let found = serde_json::from_slice::<Value>(json).err();
            Err(found.unwrap_or_else(|| serde::de::Error::custom(invalid)))
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[derive(Debug, PartialEq, Deserialize)]
    struct One {
        read: String,
    }

    #[test]
    fn invalid_utf8_is_rejected_wherever_it_is() {
        for invalid in [
            &b"{\"read\":\"\xff\"}"[..],
            b"{\"read\":\"a\",\"skipped\":\"\xff\"}",
            b"{\"read\":\"a\",\"skip\xffped\":1}",
            b"{\"read\":\"a\",\"skipped\":[{\"deep\":\"\xc3\x28\"}]}",
            b"{\"read\":\"a\",\"overlong\":\"\xc0\xaf\"}",
            b"{\"read\":\"a\",\"surrogate\":\"\xed\xa0\x80\"}",
            b"{\"read\":\"a\",\"cut\":\"\xe2\x82\"}",
            b"{\"read\":\"a\"}\xff",
            b"\xff{\"read\":\"a\"}",
            b"\xff\xfe{\0\"\0r\0",
        ] {
            let error = from_slice::<One>(invalid).unwrap_err();
            assert!(error.is_syntax() && error.line() == 1, "{}: {error}", String::from_utf8_lossy(invalid));
        }
        assert_eq!(from_slice::<One>("{\"read\":\"ä\",\"skipped\":\"😀\"}".as_bytes()).unwrap().read, "ä");
    }

    #[test]
    fn invalid_json_has_the_errors_of_serde() {
        for text in ["", "{", "{\"read\":1}", "{}", "{\"read\":\"a\",\"read\":\"b\"}", "{\"read\":\"a\"} x"] {
            let theirs = serde_json::from_slice::<One>(text.as_bytes()).unwrap_err();
            let ours = from_slice::<One>(text.as_bytes()).unwrap_err();
            assert_eq!(
                (ours.to_string(), ours.classify()),
                (theirs.to_string(), theirs.classify()),
                "{text}"
            );
        }
    }

    proptest::proptest! {
        #[test]
        fn any_bytes_are_accepted_only_as_utf8(bytes: Vec<u8>) {
            let mut json = b"{\"read\":\"a\",\"skipped\":\"".to_vec();
            json.extend(bytes.iter().filter(|byte| !b"\"\\".contains(byte) && **byte >= 0x20));
            json.extend(b"\"}");
            let accepted = from_slice::<One>(&json).is_ok();
            proptest::prop_assert_eq!(accepted, std::str::from_utf8(&json).is_ok());
            proptest::prop_assert_eq!(accepted, from_slice::<Value>(&json).is_ok());
        }
    }

    #[test]
    fn values_can_borrow_from_the_bytes() {
        let json = json!(["a"]).to_string();
        assert_eq!(from_slice::<Vec<&str>>(json.as_bytes()).unwrap(), ["a"]);
    }
}
