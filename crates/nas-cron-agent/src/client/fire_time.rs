//! Instants as people give them to the tools.

use std::time::Duration;

use chrono::{DateTime, Local, TimeDelta, Utc};
use nas_cron_protocol::FireAt;

use nas_cron_protocol::isoformat;

/// ISO 8601 with an offset, kept byte for byte. The error says what is missing.
pub(crate) fn at(text: &str) -> Result<FireAt, String> {
    FireAt::parse(text).map_err(|error| {
        if FireAt::parse(&format!("{text}Z")).is_ok() {
            return format!(
                "has no offset, so it is no instant; write {text}Z for UTC, or {text}+02:00 for a zone that is two hours \
                 ahead of it"
            );
        }
        error.problem
    })
}

/// So long from now, written in this machine's own time zone.
pub(crate) fn after(now: DateTime<Utc>, wait: Duration) -> Result<FireAt, String> {
    let too_far = || "is too far away; the latest year is 9999".to_owned();
    let wait = TimeDelta::from_std(wait).map_err(|_| too_far())?;
    // What is written has microseconds: cut off there, this is never shorter than what was asked for.
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
    fn a_naive_time_is_told_what_it_lacks() {
        let problem = at("2026-06-18T12:34:56").unwrap_err();
        assert!(problem.contains("no offset") && problem.contains("2026-06-18T12:34:56Z"), "{problem}");
        assert!(at("tomorrow").unwrap_err().contains("ISO 8601"));
        assert_eq!(at("2026-06-18T12:34:56.5+02:00").unwrap().as_str(), "2026-06-18T12:34:56.5+02:00");
    }

    #[test]
    fn a_wait_ends_at_an_instant_with_an_offset() {
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
