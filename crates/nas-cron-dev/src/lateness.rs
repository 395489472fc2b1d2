//! Statistics of the lateness of fires.

use chrono::TimeDelta;
use hdrhistogram::Histogram;

/// An hour, in microseconds. Later fires count as this late.
const LONGEST: u64 = 3_600_000_000;

/// A histogram of lateness: the maximum to the microsecond, all other values to three significant digits.
#[derive(Debug)]
pub(super) struct Lateness {
    all: Histogram<u64>,
    longest: u64,
}

impl Lateness {
    pub(super) fn new() -> Self {
        let all = Histogram::new_with_max(LONGEST, 3).expect("an hour in microseconds fits three digits");
        Self { all, longest: 0 }
    }

    /// Records a lateness. An early fire counts as 0 here and is counted elsewhere.
    pub(super) fn record(&mut self, lateness: TimeDelta) {
        let micros = lateness.num_microseconds().unwrap_or(i64::MAX);
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
        let mut lateness = Lateness::new();
        assert!(lateness.is_empty());
        for ms in 1..=100 {
            lateness.record(TimeDelta::milliseconds(ms));
        }
        let close = |value: f64, to: f64| (value - to).abs() < to / 500.0;
        assert!(close(lateness.percentile_ms(50.0), 50.0));
        assert!(close(lateness.percentile_ms(99.0), 99.0));
        assert!(close(lateness.percentile_ms(100.0), 100.0));
        assert_eq!(lateness.max_ms().to_bits(), 100.0_f64.to_bits(), "exactly");
    }

    #[test]
    fn values_out_of_range_are_clamped() {
        let mut lateness = Lateness::new();
        lateness.record(TimeDelta::milliseconds(-5));
        assert_eq!(lateness.max_ms().to_bits(), 0.0_f64.to_bits());
        lateness.record(TimeDelta::days(3));
        assert!(lateness.percentile_ms(99.0) >= 3_599_000.0);
    }
}
