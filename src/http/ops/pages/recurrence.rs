//! The pattern of a job's fires, in words.

use chrono::{DateTime, TimeDelta, Utc, Weekday};
use nas_cron_base::terminal::span;
use nas_cron_protocol::admin_api::Job;

use crate::domain::recurrence::{Expectation, RecurrenceKind};
use crate::http::ops::view::{Html, text, when};

/// Describes the recurrence of a job, and the fire that it lets expect. If a fire is armed, that is the one after it.
pub(super) fn described(
    expected: &Expectation,
    weekdays: &[Weekday],
    job: Option<&Job>,
    now: DateTime<Utc>,
) -> Html {
    let pattern = pattern(expected, weekdays);
    match job.filter(|job| job.next_attempt_at.is_some()) {
        Some(armed) => match expected.every {
            Some(every) => Html::joined([
                text(&format!("{pattern}; after the armed fire, the next one is expected ")),
                when(armed.fire_at_instant + every, now),
            ]),
            None => text(&format!("{pattern}.")),
        },
        None => Html::joined([
            text(&format!("{pattern}; the next fire is expected ")),
            when(expected.expected_at, now),
        ]),
    }
}

fn pattern(expected: &Expectation, weekdays: &[Weekday]) -> String {
    let time = expected.expected_at.format("at %H:%M UTC");
    match (expected.recurrence, expected.every) {
        (RecurrenceKind::Interval, Some(every)) => format!("It fires every {}", span(rounded(every))),
        (RecurrenceKind::Interval, None) => "It fires at a fixed interval".to_owned(),
        (RecurrenceKind::Daily, _) => format!("It fires daily {time}"),
        (RecurrenceKind::Weekdays, _) => {
            let days: Vec<_> = weekdays.iter().map(ToString::to_string).collect();
            format!("It fires on {} {time}", days.join(", "))
        }
        (RecurrenceKind::Irregular, _) => "It fires at irregular times".to_owned(),
    }
}

/// Rounds an interval: fires are some milliseconds apart from their pattern.
fn rounded(every: TimeDelta) -> TimeDelta {
    let unit = if every < TimeDelta::minutes(5) { 1_000 } else { 60_000 };
    TimeDelta::milliseconds((every.num_milliseconds() + unit / 2) / unit * unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pattern_has_its_period_its_days_and_its_time() {
        let expected = |recurrence, every| Expectation {
            recurrence,
            every,
            expected_at: DateTime::UNIX_EPOCH + TimeDelta::hours(6),
            check_at: DateTime::UNIX_EPOCH,
            closes_after: TimeDelta::days(14),
        };
        let of = |recurrence, every| pattern(&expected(recurrence, every), &[Weekday::Mon, Weekday::Fri]);
        let near = TimeDelta::milliseconds(899_993);
        assert_eq!(of(RecurrenceKind::Interval, Some(near)), "It fires every 15 min");
        assert_eq!(of(RecurrenceKind::Interval, Some(TimeDelta::days(2))), "It fires every 2 d");
        assert_eq!(of(RecurrenceKind::Daily, Some(TimeDelta::days(1))), "It fires daily at 06:00 UTC");
        assert_eq!(of(RecurrenceKind::Weekdays, None), "It fires on Mon, Fri at 06:00 UTC");
        assert_eq!(of(RecurrenceKind::Irregular, None), "It fires at irregular times");
    }
}
