//! Numbers that all readers read as the same value: those of doubles (RFC 7493, section 2.2).

use super::unsound::Problem;

/// The largest integer up to which doubles have every integer, 2⁵³ − 1.
pub const MAX_INTEGER: u64 = (1 << 53) - 1;
/// The number of digits with which every double can be written.
const MAX_DIGITS: usize = 17;

/// Checks a number. `text` must have the grammar of JSON.
pub(super) fn check(text: &str) -> Result<(), Problem> {
    let is_integer = !text.contains(['.', 'e', 'E']);
    let (magnitude, is_negative) = text.strip_prefix('-').map_or((text, false), |digits| (digits, true));
    if is_integer && magnitude != "0" {
        let fits = magnitude.len() < 16 || magnitude.parse().is_ok_and(|integer: u64| integer <= MAX_INTEGER);
        return if fits { Ok(()) } else { Err(Problem::Integer) };
    }
    let mantissa = magnitude.split(['e', 'E']).next().unwrap_or_default();
    let digits = || mantissa.bytes().filter(u8::is_ascii_digit);
    let Some(first) = digits().position(|digit| digit != b'0') else {
        return if is_negative { Err(Problem::NegativeZero) } else { Ok(()) };
    };
    let last = digits().count() - digits().rev().take_while(|digit| *digit == b'0').count();
    // Infinite: the exponent is too large. Zero: it is too small.
    let is_double = magnitude.parse().is_ok_and(|number: f64| number.is_finite() && number != 0.0);
    if last - first <= MAX_DIGITS && is_double { Ok(()) } else { Err(Problem::Double) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_of_doubles_are_accepted() {
        for text in [
            "0",
            "0.0",
            "0e5",
            "0.00e-7",
            "1",
            "-1",
            "10",
            "1.0",
            "1e0",
            "1E+2",
            "-0.5",
            "0.1",
            "1e300",
            "5e-324",
            "9007199254740991",
            "-9007199254740991",
            "1781786096.123456",
            "0.30000000000000004",
            "100000000000000000000000.0",
            "0.00000000000000000000001",
            "1.7976931348623157e308",
        ] {
            assert_eq!(check(text), Ok(()), "{text}");
        }
    }

    #[test]
    fn numbers_that_only_some_readers_can_represent_are_refused() {
        for (text, problem) in [
            ("9007199254740992", Problem::Integer),
            ("-9007199254740992", Problem::Integer),
            ("18446744073709551615", Problem::Integer),
            ("99999999999999999999999999999999", Problem::Integer),
            ("1e400", Problem::Double),
            ("-1e400", Problem::Double),
            ("1.8e308", Problem::Double),
            ("1e-400", Problem::Double),
            ("1e99999999999999999999", Problem::Double),
            ("3.141592653589793238462643383279", Problem::Double),
            ("123456789012345678.5", Problem::Double),
            ("-0", Problem::NegativeZero),
            ("-0.0", Problem::NegativeZero),
            ("-0e7", Problem::NegativeZero),
        ] {
            assert_eq!(check(text), Err(problem), "{text}");
        }
    }

    proptest::proptest! {
        #[test]
        fn every_double_and_every_exact_integer_is_accepted(number: f64, integer in -9_007_199_254_740_991_i64..=9_007_199_254_740_991) {
            proptest::prop_assume!(number.is_finite() && (number != 0.0 || number.is_sign_positive()));
            let text = serde_json::to_string(&number).unwrap();
            proptest::prop_assert_eq!(check(&text), Ok(()), "{}", text);
            proptest::prop_assert_eq!(check(&integer.to_string()), Ok(()));
        }
    }
}
