//! Properties of the grammar. `fire_at` has the tests with the corpus.

use chrono::{Datelike, Timelike};
use proptest::prelude::*;

use super::*;

/// The shapes of the grammar with 0 for every digit, without the fraction.
fn shapes() -> Vec<String> {
    let mut shapes = Vec::new();
    for separator in ["T", "t", " "] {
        for time in ["00:00", "00:00:00"] {
            for offset in ["Z", "z", "+00", "-00", "+00:00", "-00:00"] {
                shapes.push(format!("0000-00-00{separator}{time}{offset}"));
            }
        }
    }
    shapes
}

/// Recognizes the grammar in another way than the parser: removes the fraction, and compares the shape of the rest.
/// Then it takes the fields from their columns.
fn recognized(text: &str) -> bool {
    let mut rest = text.to_owned();
    // Seconds precede a fraction: `00:00-00,00` has none.
    if text.len() > 20 && text.is_ascii() && &text[16..17] == ":" && [".", ","].contains(&&text[19..20]) {
        let digits = text[20..].bytes().take_while(u8::is_ascii_digit).count();
        if digits == 0 {
            return false;
        }
        rest.replace_range(19..20 + digits, "");
    }
    let shape: String = rest.chars().map(|c| if c.is_ascii_digit() { '0' } else { c }).collect();
    if !shapes().contains(&shape) {
        return false;
    }
    let number = |from: usize, to: usize| rest[from..to].parse::<u32>().unwrap();
    let has_seconds = rest.as_bytes().get(16) == Some(&b':');
    let offset = rest.rfind(['+', '-']).filter(|at| *at > 10).map_or("", |at| &rest[at + 1..]);
    let month = number(5, 7);
    let leap = number(0, 4).is_multiple_of(4)
        && (!number(0, 4).is_multiple_of(100) || number(0, 4).is_multiple_of(400));
    let days = match month {
        4 | 6 | 9 | 11 => 30,
        2 if leap => 29,
        2 => 28,
        _ => 31,
    };
    (1..=12).contains(&month)
        && (1..=days).contains(&number(8, 10))
        && number(11, 13) < 24
        && number(14, 16) < 60
        && (!has_seconds || number(17, 19) < 60)
        && (offset.is_empty() || offset[..2] < *"24")
        && (offset.len() < 3 || offset[3..] < *"60")
}

/// Digits that are often in range.
const GRAMMAR: &str = "[0-9]{4}-(0[1-9]|1[0-2])-([0-2][0-9]|3[01])[Tt ][0-2][0-9]:[0-6][0-9](:[0-6][0-9]([.,][0-9]{1,12})?)?(Z|z|[+-][0-2][0-9](:[0-6][0-9])?)";

#[test]
fn offset_without_a_colon_has_an_error_of_its_own() {
    assert_eq!(parse("2028-06-18T12:34:56+0200"), Err(COLON));
    assert_eq!(parse("2028-06-18T12:34:56.5-0200"), Err(COLON));
    for text in ["2028-06-18T12:34:56Z00", "2028-06-18T12:34:56+02:0000", "2028-06-18T12:34:56+020"] {
        assert_eq!(parse(text), Err(FORM), "{text}");
    }
}

#[test]
fn fraction_needs_seconds() {
    for text in ["2028-06-18T12:34.5Z", "2028-06-18 12:34-00,00", "2028-06-18T12:34+02.5"] {
        assert_eq!(parse(text), Err(FORM), "{text}");
        assert!(!recognized(text), "{text}");
    }
}

#[test]
fn field_out_of_range_has_an_error_of_its_own() {
    for text in
        ["2027-02-29T12:34:56Z", "2028-06-18T24:00:00Z", "2028-06-18T12:34:60Z", "2028-06-18T12:34:56+24:00"]
    {
        assert_eq!(parse(text), Err(RANGE), "{text}");
    }
}

proptest! {
    #[test]
    fn text_of_the_grammar_is_parsed_exactly_if_its_fields_are_in_range(text in GRAMMAR) {
        prop_assert_eq!(parse(&text).is_ok(), recognized(&text), "{}", text);
    }

    #[test]
    fn text_with_a_changed_character_is_parsed_exactly_if_the_grammar_has_it(
        text in GRAMMAR,
        at in 0_usize..30,
        change in 0_usize..3,
        other in "[0-9TtZz:., +\\-/W\u{a0}\u{660}]",
    ) {
        let mut text = text;
        let at = at.min(text.len() - 1);
        match change {
            0 => text.replace_range(at..=at, &other),
            1 => text.insert_str(at, &other),
            _ => { text.remove(at); }
        }
        prop_assert_eq!(parse(&text).is_ok(), recognized(&text), "{}", text);
    }

    #[test]
    fn any_text_is_parsed_exactly_if_the_grammar_has_it(text in "\\PC{0,40}") {
        prop_assert_eq!(parse(&text).is_ok(), recognized(&text));
    }

    #[test]
    fn fields_are_those_of_the_text(
        year in 1_i32..=9999, month in 1_u32..=12, day in 1_u32..=28,
        hour in 0_u32..24, minute in 0_u32..60, second in 0_u32..60, micros in 0_u32..1_000_000,
        east in -1439_i32..=1439,
    ) {
        let sign = if east < 0 { '-' } else { '+' };
        let (hours, minutes) = (east.abs() / 60, east.abs() % 60);
        let text = format!(
            "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{micros:06}{sign}{hours:02}:{minutes:02}"
        );
        let at = parse(&text).unwrap();
        prop_assert_eq!((at.year(), at.month(), at.day()), (year, month, day));
        prop_assert_eq!((at.hour(), at.minute(), at.second(), at.nanosecond()), (hour, minute, second, micros * 1000));
        prop_assert_eq!(at.offset().local_minus_utc(), east * 60);
    }

    #[test]
    fn fraction_is_rounded_up_to_the_microsecond(digits in "[0-9]{1,30}") {
        let at = parse(&format!("2028-06-18T12:34:56.{digits}Z")).unwrap();
        let whole = parse("2028-06-18T12:34:56Z").unwrap();
        let padded = format!("{digits:0<30}");
        let expected = padded[..6].parse::<i64>().unwrap() + i64::from(padded[6..].contains(|c| c != '0'));
        prop_assert_eq!((at - whole).num_microseconds(), Some(expected));
    }
}

#[test]
fn optional_time_is_absent_null_or_valid() {
    #[derive(Debug, Deserialize)]
    struct Record {
        #[serde(default, deserialize_with = "optional")]
        at: Option<DateTime<Utc>>,
    }
    let at = |json: &str| serde_json::from_str::<Record>(json).map(|record| record.at);
    for absent in ["{}", r#"{"at": null}"#] {
        assert_eq!(at(absent).unwrap(), None);
    }
    let micros = at(r#"{"at": "1970-01-01T02:00:01+02:00"}"#).unwrap().map(|at| at.timestamp_micros());
    assert_eq!(micros, Some(1_000_000));
    for (json, problem) in [(r#"{"at": "tomorrow"}"#, FORM), (r#"{"at": 1}"#, "expected a string")] {
        let error = at(json).unwrap_err().to_string();
        assert!(error.contains(problem), "{error}");
    }
}
