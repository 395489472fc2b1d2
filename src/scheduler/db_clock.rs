//! The database's clock as seen from here: when, by this process's monotonic clock, is it that instant there?

use std::time::{Duration, Instant};

use chrono::{DateTime, Utc};
use parking_lot::Mutex;

use crate::domain::clock_sample::ClockSample;

/// A good estimate of the database's clock, fed by the answers of statements that are made anyway. It only
/// sets timers: whether something is due is decided by the database, when it confirms.
#[derive(Debug, Default)]
pub struct DbClock(Mutex<Option<Anchor>>);

/// One reading, and how wrong it can be.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    here: Instant,
    there: DateTime<Utc>,
    uncertainty: Duration,
}

/// How fast two clocks may drift apart, at worst: an old reading loses to a slightly less sharp new one.
const DRIFT_PER_SECOND: Duration = Duration::from_micros(100);

impl Anchor {
    fn uncertainty_at(&self, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.here);
        self.uncertainty + DRIFT_PER_SECOND.mul_f64(age.as_secs_f64())
    }
}

impl DbClock {
    /// Takes a reading in, if it is sharper than what the last one has become.
    pub fn observe(&self, sample: ClockSample) {
        let half = sample.received.saturating_duration_since(sample.sent) / 2;
        let new = Anchor { here: sample.sent + half, there: sample.database, uncertainty: half };
        let mut anchor = self.0.lock();
        // A reading that contradicts the old one beyond both uncertainties means that a clock was set.
        let jumped = anchor.is_some_and(|old| {
            let predicted = old.there + (new.here.saturating_duration_since(old.here));
            (new.there - predicted).abs().to_std().unwrap_or_default()
                > old.uncertainty_at(new.here) + new.uncertainty
        });
        if jumped || anchor.is_none_or(|old| new.uncertainty <= old.uncertainty_at(new.here)) {
            *anchor = Some(new);
        }
    }

    /// When it is `there` in the database, by our monotonic clock; at once when it has passed or nothing is known.
    pub fn instant_of(&self, there: DateTime<Utc>) -> Instant {
        let anchor = *self.0.lock();
        let Some(anchor) = anchor else { return Instant::now() };
        let ahead = there - anchor.there;
        match ahead.to_std() {
            Ok(ahead) => anchor.here + ahead,
            Err(_) => anchor.here.checked_sub((-ahead).to_std().unwrap_or_default()).unwrap_or(anchor.here),
        }
    }

    /// How far the database's clock is ahead of `here`, the wall clock read at the monotonic instant `at`, in seconds.
    pub fn offset(&self, here: DateTime<Utc>, at: Instant) -> Option<f64> {
        let anchor = (*self.0.lock())?;
        let there = anchor.there + at.saturating_duration_since(anchor.here);
        Some((there - here).as_seconds_f64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(at: Instant, round_trip_ms: u64, database: DateTime<Utc>) -> ClockSample {
        ClockSample { sent: at, received: at + Duration::from_millis(round_trip_ms), database }
    }

    fn moment(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("in range")
    }

    #[test]
    fn the_sharper_reading_wins_until_it_has_aged() {
        let (clock, start) = (DbClock::default(), Instant::now());
        clock.observe(sample(start, 2, moment(0)));
        assert_eq!(clock.instant_of(moment(10)), start + Duration::from_millis(10_001));
        // Blunter and consistent: ignored while the first is fresh.
        clock.observe(sample(start + Duration::from_secs(1), 40, moment(1)));
        assert_eq!(clock.instant_of(moment(10)), start + Duration::from_millis(10_001));
        // Nearly as sharp, a minute later: taken.
        clock.observe(sample(start + Duration::from_mins(1), 4, moment(60)));
        assert_eq!(clock.instant_of(moment(70)), start + Duration::from_millis(70_002));
    }

    #[test]
    fn a_clock_that_was_set_is_noticed_whatever_the_sharpness() {
        let (clock, start) = (DbClock::default(), Instant::now());
        clock.observe(sample(start, 2, moment(0)));
        clock.observe(sample(start + Duration::from_secs(1), 10, moment(31)));
        assert_eq!(clock.instant_of(moment(41)), start + Duration::from_millis(11_005));
    }

    #[test]
    fn the_past_is_at_once() {
        let (clock, start) = (DbClock::default(), Instant::now());
        assert!(clock.instant_of(moment(0)) <= Instant::now());
        clock.observe(sample(start, 2, moment(100)));
        assert!(clock.instant_of(moment(50)) <= Instant::now());
        assert!(
            clock
                .offset(moment(97), start + Duration::from_millis(1))
                .is_some_and(|s| (s - 3.0).abs() < 1e-6)
        );
    }
}
