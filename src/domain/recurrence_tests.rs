//! Histories of every kind, and what they let expect.

use proptest::prelude::*;

use super::*;

fn start() -> DateTime<Utc> {
    // A Monday.
    DateTime::parse_from_rfc3339("2026-03-02T08:00:00+00:00").unwrap().to_utc()
}

/// One-shots at these seconds, each delivered at once and followed by a re-arm after `delay` seconds.
fn arms(seconds: &[i64], delay: i64) -> Vec<PastArm> {
    let at = |seconds| start() + TimeDelta::seconds(seconds);
    let armed = std::iter::once(0).chain(seconds.iter().copied());
    let pairs = seconds.iter().zip(armed);
    pairs
        .map(|(fire, before)| PastArm {
            fire_at: at(*fire),
            armed_at: Some(at(before + delay)),
            delivered_at: Some(at(*fire)),
        })
        .collect()
}

/// The expectation after a prompt delivery of the last one-shot.
fn expects(arms: &[PastArm]) -> Expectation {
    expectation(arms, arms.last().unwrap().fire_at).expect("a known recurrence")
}

/// Days since the start on which a job fires that runs on these days of the week.
fn days_of(weekdays: [bool; 7], weeks: usize) -> Vec<i64> {
    let days = 0..7 * weeks;
    days.filter(|day| weekdays[day % 7]).map(|day| i64::try_from(day).unwrap()).collect()
}

const HOUR: i64 = 3_600;
const DAY_S: i64 = 86_400;

#[test]
fn fewer_than_three_re_arms_let_expect_nothing() {
    for count in 0..=3 {
        let fires: Vec<_> = (0..count).map(|n| n * HOUR).collect();
        assert_eq!(expectation(&arms(&fires, 5), start()), None, "{count} fires");
    }
    let same = vec![arms(&[0], 5)[0]; 9];
    assert_eq!(expectation(&same, start()), None, "a single instant does not recur");
}

#[test]
fn expected_fire_is_later_than_a_late_delivery() {
    let hourly = arms(&[0, HOUR, 2 * HOUR, 3 * HOUR, 4 * HOUR], 5);
    let late = expectation(&hourly, start() + TimeDelta::hours(9) + TimeDelta::minutes(20)).unwrap();
    assert_eq!(late.expected_at, start() + TimeDelta::hours(10));
    let workdays = days_of([true, true, true, true, true, false, false], 2);
    let workdays = arms(&workdays.iter().map(|day| day * DAY_S).collect::<Vec<_>>(), 5);
    // Due on a Friday, delivered on the Monday of the week after next.
    let late = expectation(&workdays, start() + TimeDelta::days(21) + TimeDelta::hours(1)).unwrap();
    assert_eq!(late.expected_at, start() + TimeDelta::days(22));
}

#[test]
fn margin_is_ten_minutes_or_twice_the_usual_delay() {
    let fires: Vec<_> = (0..6).map(|n| n * HOUR).collect();
    for (delay, margin) in [(0, 600), (299, 600), (301, 602), (1_800, 3_600)] {
        let found = expects(&arms(&fires, delay));
        assert_eq!((found.check_at - found.expected_at).num_seconds(), margin, "{delay}");
    }
    // One long run changes nothing, and an unknown delay is none.
    let mut once_slow = arms(&fires, 60);
    once_slow[3].armed_at = once_slow[3].armed_at.map(|at| at + TimeDelta::hours(5));
    assert_eq!((expects(&once_slow).check_at - expects(&once_slow).expected_at).num_seconds(), 600);
    let mut unknown = arms(&fires, 3_000);
    for arm in &mut unknown {
        arm.armed_at = None;
    }
    assert_eq!((expects(&unknown).check_at - expects(&unknown).expected_at).num_seconds(), 600);
}

#[test]
fn silence_counts_as_the_end_after_14_days_or_three_periods() {
    let monthly: Vec<_> = (0..5).map(|n| n * 30 * DAY_S).collect();
    let weekly: Vec<_> = (0..5).map(|n| n * 7 * DAY_S).collect();
    let hourly: Vec<_> = (0..5).map(|n| n * HOUR).collect();
    for (fires, days) in [(hourly, 14), (weekly, 21), (monthly, 90)] {
        assert_eq!(expects(&arms(&fires, 5)).closes_after.num_days(), days);
    }
}

#[test]
fn one_missed_fire_does_not_change_the_pattern() {
    let without = |mut fires: Vec<i64>, missed: usize| {
        fires.remove(missed);
        arms(&fires, 5)
    };
    let daily = without((0..14).map(|n| n * DAY_S).collect(), 9);
    assert_eq!(
        (expects(&daily).recurrence, expects(&daily).expected_at),
        (RecurrenceKind::Daily, start() + TimeDelta::days(14))
    );
    let weekly = without((0..6).map(|n| n * 7 * DAY_S).collect(), 3);
    assert_eq!(
        (expects(&weekly).recurrence, expects(&weekly).expected_at),
        (RecurrenceKind::Weekdays, start() + TimeDelta::days(42))
    );
    let hourly = without((0..14).map(|n| n * HOUR).collect(), 9);
    assert_eq!(
        (expects(&hourly).recurrence, expects(&hourly).expected_at),
        (RecurrenceKind::Interval, start() + TimeDelta::hours(14))
    );
}

#[test]
fn changed_schedule_is_followed_after_three_re_arms() {
    let mut fires: Vec<_> = (0..20).map(|n| n * HOUR).collect();
    fires.extend([2, 3, 4, 5].map(|day| day * DAY_S));
    let found = expects(&arms(&fires, 5));
    assert_eq!((found.recurrence, found.expected_at), (RecurrenceKind::Daily, start() + TimeDelta::days(6)));
}

#[test]
fn gaps_without_a_pattern_are_bounded_by_the_longest_recent_one() {
    let found = expects(&arms(&[0, 8 * HOUR, 24 * HOUR, 32 * HOUR, 48 * HOUR], 5));
    assert_eq!(found.recurrence, RecurrenceKind::Irregular);
    assert_eq!(found.expected_at, start() + TimeDelta::hours(48 + 16));
}

#[test]
fn missed_weekend_is_expected_only_until_one_was_seen() {
    let workdays = days_of([true, true, true, true, true, false, false], 2);
    let seconds: Vec<_> = workdays.iter().map(|day| day * DAY_S).collect();
    assert_eq!(expects(&arms(&seconds[..5], 5)).recurrence, RecurrenceKind::Daily);
    let second_friday = expects(&arms(&seconds, 5));
    assert_eq!(second_friday.recurrence, RecurrenceKind::Weekdays);
    assert_eq!(second_friday.expected_at, start() + TimeDelta::days(14), "a Monday");
}

proptest! {
    #[test]
    fn interval_is_found_in_spite_of_jitter(
        every in 60..20 * HOUR,
        jitter in proptest::collection::vec(-0.02..0.02_f64, 4..30),
    ) {
        #[expect(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "seconds")]
        let fires: Vec<_> = (0..).zip(&jitter).map(|(n, jitter)| n * every + (every as f64 * jitter) as i64).collect();
        let found = expects(&arms(&fires, 5));
        let next = start() + TimeDelta::seconds(every * i64::try_from(fires.len()).unwrap());
        prop_assert_eq!(found.recurrence, RecurrenceKind::Interval);
        prop_assert!((found.expected_at - next).num_seconds().abs() <= every / 8 + 1, "{} for {}", found.expected_at, next);
    }

    #[test]
    fn daily_fire_is_expected_across_a_change_of_the_clocks(
        count in 4..28_i64, change in 0..30_i64, hour in prop_oneof![Just(-HOUR), Just(HOUR)],
        jitter in proptest::collection::vec(0..600_i64, 28),
    ) {
        let at = |day: i64| day * DAY_S + if day >= change { hour } else { 0 };
        let fires: Vec<_> = (0..count).zip(&jitter).map(|(day, jitter)| at(day) + jitter).collect();
        let found = expects(&arms(&fires, 5));
        prop_assert_eq!(found.recurrence, RecurrenceKind::Daily);
        let off = found.expected_at - (start() + TimeDelta::seconds(at(count)));
        // The change itself, if it is the next one.
        prop_assert!(off.num_seconds().abs() <= 600 + if change == count { HOUR } else { 0 }, "{off}");
    }

    #[test]
    fn any_set_of_weekdays_is_expected_on_its_next_day(
        set in any::<[bool; 7]>().prop_filter("two days", |set| set.iter().filter(|day| **day).count() >= 2),
        weeks in 3..6_usize, cut in 0..7_usize,
    ) {
        let days = days_of(set, weeks + 1);
        let known = &days[..days.len() - cut.min(days.iter().filter(|day| **day >= 7 * i64::try_from(weeks).unwrap()).count() - 1) - 1];
        let seconds: Vec<_> = known.iter().map(|day| day * DAY_S).collect();
        let found = expects(&arms(&seconds, 5));
        let whole_week = set.iter().all(|day| *day);
        prop_assert_eq!(found.recurrence, if whole_week { RecurrenceKind::Daily } else { RecurrenceKind::Weekdays });
        prop_assert_eq!(found.expected_at, start() + TimeDelta::days(days[known.len()]));
    }

    #[test]
    fn every_history_gives_a_fire_after_the_delivery_and_never_calls_a_usual_re_arm_late(
        gaps in proptest::collection::vec(prop_oneof![0..10_i64, 0..100_000_i64, 0..100_000_000_000_i64], 0..40),
        delay in 0..1_000_000_i64, late in prop_oneof![Just(0_i64), 0..10_000_000_000_i64],
    ) {
        let fires: Vec<_> = gaps.iter().scan(0, |at, gap| { *at += gap; Some(*at) }).collect();
        let arms = arms(&fires, delay);
        let delivered = arms.last().map_or(start(), |arm| arm.fire_at) + TimeDelta::seconds(late);
        if let Some(found) = expectation(&arms, delivered) {
            prop_assert!(found.expected_at > delivered);
            prop_assert!(found.check_at >= found.expected_at + TimeDelta::minutes(10));
            prop_assert!(delivered + TimeDelta::seconds(delay) <= found.check_at);
        }
    }
}
