//! Hostile and odd input with the expected answers, from `tests/data`.

use serde::Deserialize;

/// A time, and the expected answer of every place that takes a time.
#[derive(Clone, Debug, Deserialize)]
pub struct Time {
    /// The text.
    pub text: String,
    /// The instant in microseconds since 1970; `None` if the text is refused.
    pub micros: Option<i64>,
    /// The reason for which the text is in the corpus.
    pub note: String,
}

/// Returns `times.json`.
pub fn times() -> Vec<Time> {
    serde_json::from_str(include_str!("../../../tests/data/times.json")).expect("a list of times")
}

/// A member or a frame that makes a good JSON object odd.
#[derive(Clone, Debug, Deserialize)]
pub struct Oddity {
    #[serde(default)]
    member: String,
    #[serde(default)]
    member_hex: String,
    #[serde(default)]
    before_hex: String,
    #[serde(default)]
    after_hex: String,
    /// True if every place that takes JSON refuses it.
    pub refused: bool,
    /// The two ways to read it, or the reason for which it is accepted.
    pub why: String,
}

/// Returns `json_oddities.json`.
pub fn json_oddities() -> Vec<Oddity> {
    serde_json::from_str(include_str!("../../../tests/data/json_oddities.json")).expect("a list of oddities")
}

impl Oddity {
    /// Returns a good object with the oddity.
    pub fn put_into(&self, object: &str) -> Vec<u8> {
        let bytes = |text: &str| hex::decode(text).expect("hexadecimal");
        let member = [self.member.as_bytes(), &bytes(&self.member_hex)].concat();
        let comma = if member.is_empty() { &b""[..] } else { b"," };
        let rest = object.strip_prefix('{').expect("an object").as_bytes();
        [&bytes(&self.before_hex), &b"{"[..], &member, comma, rest, &bytes(&self.after_hex)].concat()
    }
}
