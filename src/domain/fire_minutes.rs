//! Attempts by the minute of their start: their outcomes, and a histogram of their lateness.

use std::time::Duration;

use chrono::{DateTime, DurationRound, TimeDelta, Utc};

use super::FireOutcome;

/// Upper limit of the first bucket, in seconds: earlier than any attempt is sent.
const FIRST: f64 = 0.0001;
/// Buckets per factor of ten. A bucket's limits differ by a quarter, so quantiles are right to an eighth.
const PER_DECADE: f64 = 10.0;
/// Index of the last bucket, which has no upper limit: more than 10,000 s.
const LAST: usize = 81;

/// A histogram of lateness. Its buckets grow by a fixed factor, so that fractions of a millisecond and hours have the same
/// relative precision.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lateness(Vec<i64>);

impl Lateness {
    /// Returns the histogram with these counts of its buckets; missing ones are 0.
    pub fn of_buckets(mut counts: Vec<i64>) -> Self {
        counts.truncate(LAST + 1);
        Self(counts)
    }

    /// Returns the counts of its buckets, up to the last one that is not 0.
    pub fn buckets(&self) -> &[i64] {
        &self.0
    }

    /// Counts an attempt.
    pub fn count(&mut self, lateness: Duration) {
        let bucket = bucket_of(lateness.as_secs_f64());
        if self.0.len() <= bucket {
            self.0.resize(bucket + 1, 0);
        }
        self.0[bucket] += 1;
    }

    /// Adds the counts of another histogram.
    pub fn add(&mut self, other: &Self) {
        if self.0.len() < other.0.len() {
            self.0.resize(other.0.len(), 0);
        }
        for (own, more) in self.0.iter_mut().zip(&other.0) {
            *own += more;
        }
    }

    /// Returns the lateness that a share `quantile` of the attempts does not exceed, in seconds; `None` without attempts.
    /// Within a bucket, attempts are taken as evenly spread on the logarithmic scale.
    pub fn quantile(&self, quantile: f64) -> Option<f64> {
        let total: i64 = self.0.iter().sum();
        if total == 0 {
            return None;
        }
        let wanted = as_f64(total) * quantile;
        let mut below = 0.0;
        for (bucket, count) in self.0.iter().map(|count| as_f64(*count)).enumerate() {
            if count > 0.0 && below + count >= wanted {
                return Some(upper_limit(bucket) / step().powf(1.0 - (wanted - below) / count));
            }
            below += count;
        }
        Some(upper_limit(self.0.len() - 1))
    }
}

/// The factor from one bucket to the next.
fn step() -> f64 {
    10_f64.powf(1.0 / PER_DECADE)
}

/// Returns the upper limit of a bucket, in seconds.
fn upper_limit(bucket: usize) -> f64 {
    FIRST * 10_f64.powf(as_f64(i64::try_from(bucket).unwrap_or(i64::MAX)) / PER_DECADE)
}

#[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "limited to the buckets before")]
fn bucket_of(seconds: f64) -> usize {
    if seconds <= FIRST {
        return 0;
    }
    ((seconds / FIRST).log10() * PER_DECADE).ceil().clamp(0.0, 81.0) as usize
}

#[expect(clippy::cast_precision_loss, reason = "counts are far below 2^52")]
fn as_f64(count: i64) -> f64 {
    count as f64
}

/// The attempts of a minute.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FireMinute {
    /// Beginning of the minute.
    pub minute: DateTime<Utc>,
    /// Number of deliveries.
    pub delivered: i64,
    /// Number of failed attempts.
    pub failed: i64,
    /// Number of attempts with another outcome: gone, dropped, duplicate or lost.
    pub other: i64,
    /// Number of wake-ups that an external backend has missed.
    pub missed: i64,
    /// Lateness of those attempts whose lateness is measured.
    pub lateness: Lateness,
}

impl FireMinute {
    /// Returns the minute that begins at `minute`, without attempts.
    pub fn empty(minute: DateTime<Utc>) -> Self {
        Self { minute, delivered: 0, failed: 0, other: 0, missed: 0, lateness: Lateness::default() }
    }

    /// Counts an attempt that has ended. `lateness` is `None` if it is not measured.
    pub fn count(&mut self, outcome: FireOutcome, lateness: Option<Duration>) {
        match outcome {
            FireOutcome::Delivered => self.delivered += 1,
            FireOutcome::Failed => self.failed += 1,
            FireOutcome::Gone | FireOutcome::Dropped | FireOutcome::Duplicate | FireOutcome::Lost => {
                self.other += 1;
            }
        }
        if let Some(lateness) = lateness {
            self.lateness.count(lateness);
        }
    }

    /// Adds the attempts of another minute, or of the same one on another replica.
    pub fn add(&mut self, other: &Self) {
        self.delivered += other.delivered;
        self.failed += other.failed;
        self.other += other.other;
        self.missed += other.missed;
        self.lateness.add(&other.lateness);
    }

    /// Returns the number of attempts.
    pub const fn attempts(&self) -> i64 {
        self.delivered + self.failed + self.other
    }
}

/// Returns the beginning of the minute of `at`.
pub fn minute_of(at: DateTime<Utc>) -> DateTime<Utc> {
    at.duration_trunc(TimeDelta::minutes(1)).unwrap_or(at)
}

/// Sums minutes over spans of `span`, which is a divisor of a day, from the one that contains `from` to the one before the
/// one that contains `before`. Returns one sum for each span, also for those without attempts.
pub fn by_span(
    minutes: &[FireMinute],
    from: DateTime<Utc>,
    before: DateTime<Utc>,
    span: TimeDelta,
) -> Vec<FireMinute> {
    let trunc = |at: DateTime<Utc>| at.duration_trunc(span).unwrap_or(at);
    let mut spans: Vec<_> = std::iter::successors(Some(trunc(from)), |at| at.checked_add_signed(span))
        .take_while(|at| *at < trunc(before))
        .map(FireMinute::empty)
        .collect();
    for minute in minutes {
        let begin = trunc(minute.minute);
        if let Ok(at) = spans.binary_search_by_key(&begin, |one| one.minute) {
            spans[at].add(minute);
        }
    }
    spans
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lateness(milliseconds: impl IntoIterator<Item = u64>) -> Lateness {
        let mut lateness = Lateness::default();
        milliseconds.into_iter().for_each(|one| lateness.count(Duration::from_millis(one)));
        lateness
    }

    #[test]
    fn quantiles_are_right_to_an_eighth() {
        let one_to_thousand = lateness(1..=1000);
        for (quantile, milliseconds) in [(0.5, 500.0), (0.9, 900.0), (0.99, 990.0), (0.01, 10.0)] {
            let found = one_to_thousand.quantile(quantile).unwrap() * 1e3;
            assert!((found / milliseconds - 1.0).abs() < 0.125, "{quantile}: {found} ms");
        }
        assert_eq!(Lateness::default().quantile(0.5), None);
    }

    #[test]
    fn extremes_have_buckets() {
        let at_once = lateness([0, 0]);
        assert_eq!(at_once.buckets(), [2]);
        assert!(at_once.quantile(0.99).unwrap() <= FIRST);
        let days = lateness([u64::from(u32::MAX)]);
        assert_eq!(days.buckets().len(), LAST + 1);
        assert!(days.quantile(0.5).unwrap() > 10_000.0);
    }

    #[test]
    fn sum_of_histograms_has_the_attempts_of_both() {
        let (mut few, many) = (lateness([1, 2]), lateness([2, 5_000]));
        few.add(&many);
        assert_eq!(few, lateness([1, 2, 2, 5_000]));
        assert_eq!(Lateness::of_buckets(few.buckets().to_vec()), few);
    }

    #[test]
    fn minutes_are_summed_over_spans_without_a_gap() {
        let at = |minute: i64| DateTime::from_timestamp(1_800_000_000 + 60 * minute, 0).unwrap();
        let minute = |minute, delivered| FireMinute { delivered, ..FireMinute::empty(at(minute)) };
        let minutes = [minute(-1, 7), minute(0, 1), minute(14, 2), minute(31, 4), minute(60, 9)];
        let spans = by_span(&minutes, at(3), at(61), TimeDelta::minutes(15));
        let found: Vec<_> = spans.iter().map(|one| (one.minute, one.delivered)).collect();
        assert_eq!(found, [(at(0), 3), (at(15), 0), (at(30), 4), (at(45), 0)]);
    }

    #[test]
    fn every_outcome_is_counted_once() {
        let mut minute = FireMinute::empty(DateTime::UNIX_EPOCH);
        for outcome in FireOutcome::ALL {
            minute.count(*outcome, None);
        }
        assert_eq!((minute.delivered, minute.failed, minute.other), (1, 1, 4));
        assert_eq!(minute.lateness, Lateness::default());
    }
}
