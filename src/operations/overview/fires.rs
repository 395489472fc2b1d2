//! The plots of past fires: sums over minutes, and quantiles of lateness.

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_protocol::admin_api::{FireOverview, FireSpan};

use crate::domain::fire_minutes::{FireMinute, by_span, minute_of};

/// Time after a minute until all replicas have reported it, with their statement.
const REPORTED_AFTER: TimeDelta = TimeDelta::seconds(8);
/// Length of a span of the plot of a day.
const SPAN: TimeDelta = TimeDelta::minutes(15);

/// Returns the fires of the last hour and day from the minutes of the last day.
pub(super) fn overview(minutes: &[FireMinute], now: DateTime<Utc>) -> FireOverview {
    // The first minute that is not complete.
    let open = minute_of(now - REPORTED_AFTER);
    let hour = by_span(minutes, open - TimeDelta::hours(1), open, TimeDelta::minutes(1));
    let day = by_span(minutes, open - TimeDelta::hours(24) + SPAN, open + SPAN, SPAN);
    FireOverview {
        per_minute: hour.last().map_or(0, FireMinute::attempts),
        hour: hour.iter().map(span).collect(),
        day: day.iter().map(span).collect(),
    }
}

fn span(of: &FireMinute) -> FireSpan {
    // Microseconds are more precise than the histogram.
    let quantile = |share| of.lateness.quantile(share).map(|seconds| (seconds * 1e6).round() / 1e3);
    FireSpan {
        begin: of.minute,
        delivered: of.delivered,
        failed: of.failed,
        other: of.other,
        lateness_p50_ms: quantile(0.5),
        lateness_p99_ms: quantile(0.99),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::domain::FireOutcome;

    fn at(second: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap()
    }

    fn minute(minute: i64, fires: u32) -> FireMinute {
        let mut of = FireMinute::empty(at(60 * minute));
        (0..fires).for_each(|_| of.count(FireOutcome::Delivered, Some(Duration::from_millis(2))));
        of
    }

    #[test]
    fn fires_per_minute_are_those_of_the_last_minute_that_all_have_reported() {
        let minutes = [minute(58, 3), minute(59, 5), minute(60, 7)];
        assert_eq!(overview(&minutes, at(3_667)).per_minute, 5, "minute 60 may lack some");
        assert_eq!(overview(&minutes, at(3_668)).per_minute, 7);
        assert_eq!(overview(&minutes, at(3_668 + 60)).per_minute, 0);
    }

    #[test]
    fn plots_end_with_the_last_minute_and_with_the_current_quarter() {
        let shown = overview(&[minute(45, 2), minute(59, 4)], at(3_608));
        assert_eq!((shown.hour.len(), shown.day.len()), (60, 96));
        let last = shown.hour.last().unwrap();
        assert_eq!((last.begin, last.delivered), (at(3_540), 4));
        let p50 = last.lateness_p50_ms.unwrap();
        assert!((1.75..2.25).contains(&p50), "{p50}");
        assert_eq!(shown.hour[0].lateness_p50_ms, None);
        let quarters: Vec<_> = shown.day[94..].iter().map(|one| (one.begin, one.delivered)).collect();
        assert_eq!(quarters, [(at(2_700), 6), (at(3_600), 0)]);
    }
}
