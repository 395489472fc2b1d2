//! Tests of the door for JSON.

use serde::Deserialize;
use serde_json::json;

use super::*;

#[derive(Debug, PartialEq, Deserialize)]
struct One {
    read: String,
}

/// A member or a frame that a good object gets.
#[derive(Deserialize)]
struct Oddity {
    #[serde(default)]
    member: String,
    #[serde(default)]
    member_hex: String,
    #[serde(default)]
    before_hex: String,
    #[serde(default)]
    after_hex: String,
    refused: bool,
    why: String,
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).unwrap()).collect()
}

impl Oddity {
    fn all() -> Vec<Self> {
        let all: Vec<Self> =
            serde_json::from_str(include_str!("../../../../tests/data/json_oddities.json")).unwrap();
        assert!(all.iter().filter(|one| one.refused).count() >= 60);
        all
    }

    fn put_into(&self, object: &str) -> Vec<u8> {
        let member = [self.member.as_bytes(), &bytes(&self.member_hex)].concat();
        let comma = if member.is_empty() { &b""[..] } else { b"," };
        let rest = &object.as_bytes()[1..];
        [&bytes(&self.before_hex), &b"{"[..], &member, comma, rest, &bytes(&self.after_hex)].concat()
    }
}

#[test]
fn oddities_of_the_corpus_are_refused_or_read() {
    for oddity in Oddity::all() {
        let json = oddity.put_into(r#"{"read":"a"}"#);
        let read = from_slice::<One>(&json);
        let shown = String::from_utf8_lossy(&json[..json.len().min(120)]);
        assert_eq!(read.is_err(), oddity.refused, "{shown}: {}: {read:?}", oddity.why);
        // A value has no known fields, and may be an array.
        let is_array = json.first() == Some(&b'[');
        assert_eq!(from_slice::<Value>(&json).is_err(), oddity.refused && !is_array, "{shown}");
    }
}

fn problem(json: &str) -> Option<Problem> {
    from_slice::<One>(json.as_bytes()).expect_err(json).problem()
}

#[test]
fn problem_has_the_name_and_the_place() {
    let unsound = |json: &str| match check(json.as_bytes(), &["read", "other"]) {
        Err(Error::Unsound(unsound)) => unsound,
        other => panic!("{json}: {other:?}"),
    };
    for (json, problem, field, index) in [
        (r#"{"read":1,"read":2}"#, Problem::RepeatedField, Some("read"), None),
        (r#"{"x":1,"x":2}"#, Problem::RepeatedName, Some("x"), None),
        (r#"{"read":{"read":1,"read":2}}"#, Problem::RepeatedName, Some("read"), None),
        (r#"{"read":[1,"\u0000"]}"#, Problem::Nul, Some("read"), Some(1)),
        (r#"{"read":[1,[1,2,{"x":-0}]]}"#, Problem::NegativeZero, Some("read"), Some(1)),
        (r#"{"read":[1],"other":"\ud800"}"#, Problem::Surrogate, Some("other"), None),
        (r#"{"other":1,"\u0000":1}"#, Problem::Nul, None, None),
        (r#"{"Read":1}"#, Problem::Case, Some("read"), None),
        (r#"["\u0000"]"#, Problem::Nul, None, None),
    ] {
        let found = unsound(json);
        assert_eq!((found.problem, found.field.as_deref(), found.index), (problem, field, index), "{json}");
    }
    assert_eq!(
        unsound("{\n \"a\": 1,\n \"a\": 2}").to_string(),
        "a field occurs more than once at line 3 column 5"
    );
}

#[test]
fn name_that_differs_from_a_known_one_in_case_is_refused() {
    for name in ["Read", "READ", "re\\u0041d"] {
        assert_eq!(problem(&format!(r#"{{"read":"a","{name}":"b"}}"#)), Some(Problem::Case), "{name}");
        assert_eq!(problem(&format!(r#"{{"{name}":"b"}}"#)), Some(Problem::Case), "{name}");
    }
    let nested = r#"{"read":"a","x":{"Read":"b"}}"#;
    assert!(from_slice::<One>(nested.as_bytes()).is_ok(), "only the outermost object has known names");
    assert!(object(nested.as_bytes(), &["x"]).is_ok());
    assert!(object(nested.as_bytes(), &["X"]).is_err());
}

#[test]
fn struct_is_read_from_an_object_only() {
    assert_eq!(problem(r#"["a"]"#), Some(Problem::Array));
    assert_eq!(problem(r#" ["a"]"#), Some(Problem::Array));
    assert!(object(br#"["a"]"#, &[]).is_err());
}

#[test]
fn invalid_utf8_is_rejected_wherever_it_is() {
    for invalid in [
        &b"{\"read\":\"\xff\"}"[..],
        b"{\"read\":\"a\",\"skipped\":\"\xff\"}",
        b"{\"read\":\"a\",\"skip\xffped\":1}",
        b"{\"read\":\"a\",\"skipped\":[{\"deep\":\"\xc3\x28\"}]}",
        b"{\"read\":\"a\"}\xff",
        b"\xff{\"read\":\"a\"}",
        b"\xff\xfe{\0\"\0r\0",
    ] {
        let error = from_slice::<One>(invalid).unwrap_err();
        assert!(!error.is_data() && error.line() == 1, "{}: {error}", String::from_utf8_lossy(invalid));
    }
    assert_eq!(from_slice::<One>("{\"read\":\"ä\",\"skipped\":\"😀\"}".as_bytes()).unwrap().read, "ä");
}

#[test]
fn invalid_json_has_the_errors_of_serde() {
    for text in ["", "{", "{\"read\":1}", "{}", "{\"read\":\"a\"} x", "{\"read\":}", "{\"read\":\"a\"", "tru"]
    {
        let theirs = serde_json::from_slice::<One>(text.as_bytes()).unwrap_err();
        let ours = from_slice::<One>(text.as_bytes()).unwrap_err();
        assert_eq!(
            (ours.to_string(), ours.is_data(), ours.is_eof(), ours.line(), ours.column()),
            (theirs.to_string(), theirs.is_data(), theirs.is_eof(), theirs.line(), theirs.column()),
            "{text}"
        );
    }
}

#[test]
fn many_names_take_linear_time() {
    // Comparing each with each would take 4 × 10¹⁰ steps.
    let members: Vec<String> = (0..200_000).map(|number| format!("\"{number}\":0")).collect();
    let mut json = format!("{{{}}}", members.join(","));
    assert!(check(json.as_bytes(), &[]).is_ok());
    json.replace_range(json.len() - 1.., ",\"7\":0}");
    assert!(check(json.as_bytes(), &[]).is_err());
}

#[test]
fn values_can_borrow_from_the_bytes() {
    let json = json!(["a"]).to_string();
    assert_eq!(from_slice::<Vec<&str>>(json.as_bytes()).unwrap(), ["a"]);
}

/// Any value whose numbers are small.
fn sound() -> impl proptest::strategy::Strategy<Value = Value> {
    use proptest::prelude::*;
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i32>().prop_map(Value::from),
        // Exact: serde reads other doubles with an error in the last digit.
        any::<i16>().prop_map(|eighths| Value::from(f64::from(eighths) / 8.0 + 0.0)),
        "[^\u{0}]{0,8}".prop_map(Value::from),
    ];
    leaf.prop_recursive(6, 64, 20, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..20).prop_map(Value::from),
            proptest::collection::hash_map("[^\u{0}]{0,8}", inner, 0..20)
                .prop_map(|members| Value::Object(members.into_iter().collect())),
        ]
    })
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

    #[test]
    fn written_json_is_read_as_the_same_value(value in sound()) {
        for text in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            proptest::prop_assert_eq!(from_slice::<Value>(text.as_bytes()).unwrap(), value.clone());
        }
    }

    /// The scan and serde have the same grammar, or a difference between them would be a hole.
    #[test]
    fn the_scan_accepts_nothing_that_serde_refuses_and_names_a_reason_for_the_rest(
        value in sound(), at: proptest::sample::Index, change in "[\\]\\[{}\":,0-9eE+.\\\\u \u{0}-nt-]{0,3}", removed in 0_usize..3,
    ) {
        let mut text: Vec<char> = value.to_string().chars().collect();
        let at = at.index(text.len());
        text.splice(at..(at + removed).min(text.len()), change.chars());
        let text: String = text.into_iter().collect();
        let theirs = serde_json::from_str::<Value>(&text);
        match check(text.as_bytes(), &[]) {
            Ok(_) => proptest::prop_assert!(theirs.is_ok(), "{}: {:?}", text, theirs),
            Err(Error::Serde(error)) => {
                proptest::prop_assert!(theirs.is_err() && error.to_string() != "invalid JSON", "{}: {}", text, error);
            }
            Err(Error::Unsound(_)) => {}
        }
    }
}
