//! Durations in texts: `90s`, `2h 30m`, `90d`.

use std::time::Duration;

/// A text that is not a duration. Displayed as the rule and the fix, without the text, which may be a secret in the wrong
/// place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum NotADuration {
    /// It is negative.
    #[error("must not be negative")]
    Negative,
    /// It is a number alone.
    #[error("has no unit: write 90s, 90m or 90h")]
    NoUnit,
    /// It uses a unit without a fixed length. `1M` is often meant as one minute.
    #[error(
        "must not use months or years, whose length varies: write days, such as 30d (a minute is m, not M)"
    )]
    NoFixedLength,
    /// It is longer than any time.
    #[error("is too long")]
    TooLong,
    /// Anything else.
    #[error("must be a duration with units (ms, s, m, h, d, w), such as 90s or 2h 30m")]
    Malformed,
}

/// Units of `humantime` without a fixed length.
const CALENDAR: &[&str] = &["M", "month", "months", "y", "yr", "yrs", "year", "years"];

/// Parses a duration with units, such as `500ms`, `90s`, `2h 30m` or `1.5d`.
pub fn parse(text: &str) -> Result<Duration, NotADuration> {
    let text = text.trim();
    if let Some(rest) = text.strip_prefix(['-', '\u{2212}']) {
        let number = rest.starts_with(|c: char| c.is_ascii_digit() || c == '.');
        return Err(if number { NotADuration::Negative } else { NotADuration::Malformed });
    }
    let parsed = humantime::parse_duration(text);
    if !matches!(parsed, Ok(_) | Err(humantime::DurationError::NumberOverflow)) {
        let number = text.bytes().any(|byte| byte.is_ascii_digit())
            && text.bytes().all(|byte| byte.is_ascii_digit() || byte == b'.');
        return Err(if number { NotADuration::NoUnit } else { NotADuration::Malformed });
    }
    if text.split(|c: char| !c.is_ascii_alphabetic()).any(|unit| CALENDAR.contains(&unit)) {
        return Err(NotADuration::NoFixedLength);
    }
    parsed.map_err(|_| NotADuration::TooLong)
}

/// Formats a duration exactly, in the units that [`parse`] accepts, the longest of which is the day: `90d`, `1h 30m`.
pub fn format(duration: Duration) -> String {
    let (seconds, millis) = (duration.as_secs(), u64::from(duration.subsec_millis()));
    let parts = [
        (seconds / 86_400, "d"),
        (seconds / 3_600 % 24, "h"),
        (seconds / 60 % 60, "m"),
        (seconds % 60, "s"),
        (millis, "ms"),
    ];
    let parts = parts.iter().filter(|(count, _)| *count > 0).map(|(count, unit)| format!("{count}{unit}"));
    let text = parts.collect::<Vec<_>>().join(" ");
    if text.is_empty() { "0s".to_owned() } else { text }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_have_units_of_fixed_length() {
        for (text, millis) in [
            ("500ms", 500),
            ("90s", 90_000),
            ("15m", 900_000),
            ("2h 30m", 9_000_000),
            ("2h30min", 9_000_000),
            ("1.5h", 5_400_000),
            ("1d", 86_400_000),
            ("2 weeks", 14 * 86_400_000),
            (" 1s ", 1_000),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_millis(millis)), "{text}");
        }
    }

    #[test]
    fn error_names_the_rule() {
        for (text, problem) in [
            ("1M", NotADuration::NoFixedLength),
            ("1y", NotADuration::NoFixedLength),
            ("2 months", NotADuration::NoFixedLength),
            ("1yr 3d", NotADuration::NoFixedLength),
            ("99999999999999999y", NotADuration::NoFixedLength),
            ("-5m", NotADuration::Negative),
            ("-1", NotADuration::Negative),
            ("\u{2212}5m", NotADuration::Negative),
            ("5", NotADuration::NoUnit),
            ("1.5", NotADuration::NoUnit),
            ("99999999999999999d", NotADuration::TooLong),
            ("abc", NotADuration::Malformed),
            ("", NotADuration::Malformed),
            ("-", NotADuration::Malformed),
            ("--json", NotADuration::Malformed),
            ("5x", NotADuration::Malformed),
            ("5m -3s", NotADuration::Malformed),
            ("2026-06-18T12:34:56Z", NotADuration::Malformed),
        ] {
            assert_eq!(parse(text), Err(problem), "{text}");
        }
    }

    #[test]
    fn durations_are_formatted_in_days_and_smaller_units() {
        for (text, shown) in [("365d", "365d"), ("5400s", "1h 30m"), ("1w 1ms", "7d 1ms"), ("0s", "0s")] {
            let duration = parse(text).unwrap();
            assert_eq!(format(duration), shown);
            assert_eq!(parse(shown), Ok(duration));
        }
    }
}
