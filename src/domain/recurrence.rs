//! The next fire that a job's history lets expect, and the time from which its silence means that its chain is broken.
//!
//! The service does not know an agent's schedules: a recurring job is a chain of one-shots, each armed after the fire before
//! it. This file infers the recurrence from the instants of the latest one-shots (docs/operations.md#a-job-has-gone-quiet).

use chrono::{DateTime, Datelike, TimeDelta, Utc, Weekday};
use nas_cron_protocol::words;

words!(
    /// The pattern of a job's instants.
    #[derive(utoipa::ToSchema)]
    pub enum RecurrenceKind {
        /// A fixed time after the one before.
        Interval = "interval",
        /// Once a day, at one time.
        Daily = "daily",
        /// On certain days of the week, at one time.
        Weekdays = "weekdays",
        /// No pattern: the longest of the latest gaps is the bound.
        Irregular = "irregular",
    }
);

/// Number of re-arms from which the recurrence is known.
pub const REARMS: usize = 3;
/// Number of one-shots that are considered: enough for four weeks of a daily job.
pub const CONSIDERED: usize = 29;
/// Number of gaps that an interval is inferred from.
const RECENT: usize = 8;
/// Deviation of a gap from whole days: an hour for a change between summer and winter time, and the jitter.
const DAY_SLACK: TimeDelta = TimeDelta::minutes(75);
/// Days of history in which the days of the week are counted: four weeks, so that a changed schedule is noticed.
const WEEKS: i64 = 28;
/// Smallest deviation of a gap from the interval.
const JITTER: TimeDelta = TimeDelta::minutes(1);
/// Smallest time from the expected fire to dormancy.
const MARGIN: TimeDelta = TimeDelta::minutes(10);
/// Shortest time from dormancy until the job counts as finished.
const KEPT: TimeDelta = TimeDelta::days(14);
const DAY: TimeDelta = TimeDelta::days(1);

/// A one-shot of a job's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PastArm {
    /// Its instant.
    pub fire_at: DateTime<Utc>,
    /// Time at which it was armed, if that was recorded.
    pub armed_at: Option<DateTime<Utc>>,
    /// Time of its last delivery; `None` if it was not delivered.
    pub delivered_at: Option<DateTime<Utc>>,
}

/// The re-arm that a delivered job's history lets expect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expectation {
    /// The pattern.
    pub recurrence: RecurrenceKind,
    /// Time from one fire to the next; `None` if it differs.
    pub every: Option<TimeDelta>,
    /// The next fire: the first one of the pattern after the latest delivery.
    pub expected_at: DateTime<Utc>,
    /// The job is dormant if it was not armed again until then.
    pub check_at: DateTime<Utc>,
    /// Time from dormancy until the job counts as finished: 14 days or three periods, the longer of them.
    pub closes_after: TimeDelta,
}

/// Returns the expected re-arm of a job whose one-shots are `arms`, the oldest first, and whose latest delivery was at
/// `delivered_at`. `None` if it has re-armed less than three times.
pub fn expectation(arms: &[PastArm], delivered_at: DateTime<Utc>) -> Option<Expectation> {
    let mut instants: Vec<_> = arms.iter().map(|arm| arm.fire_at).collect();
    instants.sort_unstable();
    instants.dedup();
    let gaps: Vec<_> = instants.windows(2).map(|pair| pair[1] - pair[0]).collect();
    let last = *instants.last()?;
    if gaps.len() < REARMS {
        return None;
    }
    let (recurrence, every, expected_at) = next_by_day(&gaps, last, delivered_at)
        .or_else(|| next_by_interval(&gaps, last, delivered_at))
        .unwrap_or_else(|| {
            let longest = latest(&gaps).iter().max().copied().unwrap_or(DAY);
            (RecurrenceKind::Irregular, None, last.max(delivered_at) + longest)
        });
    Some(Expectation {
        recurrence,
        every,
        expected_at,
        check_at: expected_at + MARGIN.max(usual_delay(arms) * 2),
        closes_after: KEPT.max((expected_at - last) * 3),
    })
}

/// The pattern, the time between its fires, and the next fire.
type Next = (RecurrenceKind, Option<TimeDelta>, DateTime<Utc>);

/// Returns the days of the week of the latest fires, four weeks at most, from Monday on.
pub fn weekdays(arms: &[PastArm]) -> Vec<Weekday> {
    let last = arms.iter().map(|arm| arm.fire_at).max();
    let is_recent = |arm: &&PastArm| last.is_some_and(|last| last - arm.fire_at < DAY * 28);
    let found: std::collections::BTreeSet<_> =
        arms.iter().filter(is_recent).map(|arm| arm.fire_at.weekday().num_days_from_monday()).collect();
    found.into_iter().filter_map(|day| Weekday::try_from(u8::try_from(day).ok()?).ok()).collect()
}

/// Returns the time from a delivery to the next arm within which three of four of the latest re-arms came; zero if none is
/// known.
fn usual_delay(arms: &[PastArm]) -> TimeDelta {
    let delay = |pair: &[PastArm]| Some((pair[1].armed_at? - pair[0].delivered_at?).max(TimeDelta::zero()));
    let known: Vec<_> = arms.windows(2).filter_map(delay).collect();
    let mut known = latest(&known).to_vec();
    known.sort_unstable();
    known.get((known.len() * 3).div_ceil(4).saturating_sub(1)).copied().unwrap_or_default()
}

fn latest(gaps: &[TimeDelta]) -> &[TimeDelta] {
    &gaps[gaps.len().saturating_sub(RECENT)..]
}

/// The next fire of a fixed interval: the median of the latest gaps, if three of four are near it.
fn next_by_interval(gaps: &[TimeDelta], last: DateTime<Utc>, after: DateTime<Utc>) -> Option<Next> {
    let gaps = latest(gaps);
    let mut sorted = gaps.to_vec();
    sorted.sort_unstable();
    let median = sorted[sorted.len() / 2];
    let tolerance = JITTER.max(median / 10);
    let near = gaps.iter().filter(|gap| (**gap - median).abs() <= tolerance).count();
    (near * 4 >= gaps.len() * 3)
        .then(|| (RecurrenceKind::Interval, Some(median), first_after(last, median, after)))
}

/// The first of `last` + n × `every`, n ≥ 1, that is later than `after`.
fn first_after(last: DateTime<Utc>, every: TimeDelta, after: DateTime<Utc>) -> DateTime<Utc> {
    let next = last + every;
    if next > after {
        return next;
    }
    // In seconds, so that it never overflows: the rest is far below the margin.
    let (passed, step) = ((after - last).num_seconds(), every.num_seconds().max(1));
    let next = last + TimeDelta::seconds(passed / step * step) + every;
    if next > after { next } else { next + every }
}

/// The next fire of a job with whole days between its fires: every n days, or on the days of the week on which it used to
/// fire.
fn next_by_day(gaps: &[TimeDelta], last: DateTime<Utc>, after: DateTime<Utc>) -> Option<Next> {
    let mut days: Vec<i64> = gaps.iter().rev().map_while(|gap| whole_days(*gap)).collect();
    if days.len() < REARMS {
        return None;
    }
    let mut back = 0;
    let within = days.iter().take_while(|gap| {
        back += **gap;
        back <= WEEKS
    });
    let within = within.count();
    days.truncate(within.max(REARMS));
    let kind_of = |every| match every {
        1 => RecurrenceKind::Daily,
        7 => RecurrenceKind::Weekdays,
        _ => RecurrenceKind::Interval,
    };
    let every = days.iter().min().copied()?;
    let usual = days.iter().filter(|gap| **gap == every).count();
    let multiples = days.iter().all(|gap| gap % every == 0);
    // Single fires may have been missed.
    if usual == days.len() || (every > 1 && multiples && usual * 4 >= days.len() * 3) {
        let gap = DAY * i32::try_from(every).ok()?;
        return Some((kind_of(every), Some(gap), first_after(last, gap, after)));
    }
    Some(next_by_weekday(&days, last, after))
}

/// The number of days that a gap means, if it is near whole days. Longer gaps than four weeks show no days of the week.
fn whole_days(gap: TimeDelta) -> Option<i64> {
    let days = (gap + DAY / 2).num_days();
    let rest = gap - TimeDelta::try_days(days)?;
    ((1..=WEEKS).contains(&days) && rest.abs() <= DAY_SLACK).then_some(days)
}

/// The next day of the week that is not always skipped. `gaps` are in days, the latest first. A day counts unless fires were
/// missing on more than half of its occurrences, so that one missed fire changes nothing, and a day that has not come yet
/// counts.
fn next_by_weekday(gaps: &[i64], last: DateTime<Utc>, after: DateTime<Utc>) -> Next {
    // Days before the last fire, of which day 0 is the last fire itself. The day of the week is the rest modulo 7.
    let mut days_before = vec![0];
    for gap in gaps {
        days_before.push(days_before[days_before.len() - 1] + gap);
    }
    let span = days_before[days_before.len() - 1];
    let counts = |days_ahead: i64| {
        let is_same = |day: &i64| (day + days_ahead).rem_euclid(7) == 0;
        let seen = days_before.iter().filter(|day| is_same(day)).count();
        let occurrences = (0..=span).filter(is_same).count();
        seen * 2 >= occurrences
    };
    // Whole weeks at once: `after` may be long ago.
    let weeks = (after - last).num_days().max(0) / 7 * 7;
    let next = (1..=14)
        .filter(|day| counts(*day))
        .map(|day| last + TimeDelta::days(weeks + day))
        .find(|at| *at > after);
    let (kind, every) = if (1..=7).all(counts) {
        (RecurrenceKind::Daily, Some(DAY))
    } else {
        (RecurrenceKind::Weekdays, None)
    };
    (kind, every, next.unwrap_or(last + TimeDelta::days(weeks + 14)))
}

#[cfg(test)]
#[path = "recurrence_tests.rs"]
mod tests;
