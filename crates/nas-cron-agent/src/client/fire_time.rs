//! Parses the instants and durations that people and models give to the tools.

use std::time::Duration;

use chrono::{DateTime, FixedOffset, Local, LocalResult, TimeDelta, TimeZone, Utc};
use nas_cron_base::duration::{self, NotADuration};
use nas_cron_protocol::{FireAt, isoformat};

const TOO_FAR: &str = "is too far in the future: the latest year is 9999";

/// Parses ISO 8601 with an offset, and keeps the text byte for byte. The error names a missing offset.
pub(crate) fn at(text: &str) -> Result<FireAt, String> {
    FireAt::parse(text).map_err(|error| {
        if FireAt::parse(&format!("{text}Z")).is_ok() {
            return format!(
                "has no offset from UTC: write {text}Z for UTC, or {text}+02:00 for a time zone two hours ahead of UTC"
            );
        }
        error.problem
    })
}

/// Parses a duration with units. The error does not repeat the text.
pub(crate) fn duration(text: &str) -> Result<Duration, String> {
    duration::parse(text).map_err(|problem| match problem {
        NotADuration::TooLong => TOO_FAR.to_owned(),
        NotADuration::Negative => {
            "must not be negative: an instant in the past, which fires at once, is given as a time".to_owned()
        }
        other => other.to_string(),
    })
}

/// Parses an instant, like [`at`], or a time without an offset as one in this machine's time zone.
pub(crate) fn at_or_local(text: &str) -> Result<Typed, String> {
    let Ok(as_utc) = FireAt::parse(&format!("{text}Z")) else {
        return at(text).map(|fire_at| Typed { fire_at, zone_added: false });
    };
    let naive = as_utc.instant().naive_utc();
    let with = |offset: FixedOffset| format!("{text}{offset}");
    match Local.from_local_datetime(&naive).map(|local| *local.offset()) {
        LocalResult::Single(offset) => FireAt::parse(&with(offset))
            .map(|fire_at| Typed { fire_at, zone_added: true })
            .map_err(|error| error.problem),
        LocalResult::Ambiguous(first, second) => Err(format!(
            "occurs twice in this machine's time zone, when its clocks are set back: write {} or {}",
            with(first),
            with(second)
        )),
        LocalResult::None => Err(format!(
            "does not occur in this machine's time zone, whose clocks skip it: give an offset, such as {text}Z for UTC"
        )),
    }
}

/// An instant that a person typed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Typed {
    pub(crate) fire_at: FireAt,
    /// True if the text had no offset, and got that of this machine's time zone.
    pub(crate) zone_added: bool,
}

/// Returns the instant after a duration from now, in this machine's time zone.
pub(crate) fn after(now: DateTime<Utc>, wait: Duration) -> Result<FireAt, String> {
    let too_far = || TOO_FAR.to_owned();
    let wait = TimeDelta::from_std(wait).map_err(|_| too_far())?;
    // The text has microseconds: rounding up keeps the fire from being early.
    let up = TimeDelta::nanoseconds(999);
    let instant =
        now.checked_add_signed(wait).and_then(|at| at.checked_add_signed(up)).ok_or_else(too_far)?;
    let offset = *instant.with_timezone(&Local).offset();
    FireAt::parse(&isoformat(instant, offset)).map_err(|_| too_far())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn error_for_a_naive_time_names_the_missing_offset() {
        let problem = at("2026-06-18T12:34:56").unwrap_err();
        assert!(problem.contains("no offset") && problem.contains("2026-06-18T12:34:56Z"), "{problem}");
        assert!(at("tomorrow").unwrap_err().contains("ISO 8601"));
        assert_eq!(at("2026-06-18T12:34:56.5+02:00").unwrap().as_str(), "2026-06-18T12:34:56.5+02:00");
    }

    #[test]
    fn times_of_the_corpus_are_taken_or_refused() {
        let corpus = include_str!("../../../../tests/data/times.json");
        let times: Vec<serde_json::Value> = serde_json::from_str(corpus).unwrap();
        for time in times {
            let text = time["text"].as_str().unwrap();
            let instant = at(text).ok().map(|at| at.instant().timestamp_micros());
            assert_eq!(instant, time["micros"].as_i64(), "{time}");
        }
    }

    #[test]
    fn durations_become_instants_with_an_offset() {
        let now = DateTime::from_timestamp(1_781_786_096, 250_000_000).unwrap();
        let fire_at = after(now, Duration::from_secs(90)).unwrap();
        assert_eq!(fire_at.instant(), now + TimeDelta::seconds(90));
        let finer = after(now + TimeDelta::nanoseconds(1), Duration::from_secs(90)).unwrap();
        assert_eq!(finer.instant(), now + TimeDelta::seconds(90) + TimeDelta::microseconds(1), "never early");
        for far in [Duration::MAX, Duration::from_hours(10_000 * 8_766)] {
            assert!(after(now, far).unwrap_err().contains("too far"));
        }
    }
}
