//! Statistics of times: the lateness of fires, the latency of calls.

use chrono::TimeDelta;
use hdrhistogram::Histogram;

/// An hour, in microseconds. Longer times count as this long.
const LONGEST: u64 = 3_600_000_000;

/// A histogram of times: the maximum to the microsecond, all other values to three significant digits.
#[derive(Debug)]
pub(super) struct Times {
    all: Histogram<u64>,
    longest: u64,
}

impl Times {
    pub(super) fn new() -> Self {
        let all = Histogram::new_with_max(LONGEST, 3).expect("an hour in microseconds fits three digits");
        Self { all, longest: 0 }
    }

    /// Records a time. A negative one, of an early fire, counts as 0 here and is counted elsewhere.
    pub(super) fn record(&mut self, time: TimeDelta) {
        let micros = time.num_microseconds().unwrap_or(i64::MAX);
        let micros = u64::try_from(micros).unwrap_or(0);
        self.longest = self.longest.max(micros);
        self.all.saturating_record(micros);
    }

    /// True if nothing was recorded.
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Returns a percentile, in milliseconds.
    pub(super) fn percentile_ms(&self, percent: f64) -> f64 {
        // A bucket of the histogram may end beyond the maximum.
        in_ms(self.all.value_at_percentile(percent).min(self.longest))
    }

    /// Returns the maximum, in milliseconds.
    pub(super) fn max_ms(&self) -> f64 {
        in_ms(self.longest)
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^52 microseconds are 142 years")]
fn in_ms(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_of_what_was_recorded() {
        let mut times = Times::new();
        assert!(times.is_empty());
        for ms in 1..=100 {
            times.record(TimeDelta::milliseconds(ms));
        }
        let close = |value: f64, to: f64| (value - to).abs() < to / 500.0;
        assert!(close(times.percentile_ms(50.0), 50.0));
        assert!(close(times.percentile_ms(99.0), 99.0));
        assert!(close(times.percentile_ms(100.0), 100.0));
        assert_eq!(times.max_ms().to_bits(), 100.0_f64.to_bits(), "exactly");
    }

    #[test]
    fn values_out_of_range_are_clamped() {
        let mut times = Times::new();
        times.record(TimeDelta::milliseconds(-5));
        assert_eq!(times.max_ms().to_bits(), 0.0_f64.to_bits());
        times.record(TimeDelta::days(3));
        assert!(times.percentile_ms(99.0) >= 3_599_000.0);
    }
}
