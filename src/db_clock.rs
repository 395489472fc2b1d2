//! The database's clock as this process knows it. Everything here is timed, minted and judged by it: a replica whose own
//! clock is wrong must not make tokens that agents refuse, nor refuse tokens that are good.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_base::clock::{Clock, steady};
use parking_lot::Mutex;

use crate::db::{Db, DbResult, directory};
use crate::domain::clock_sample::ClockSample;

/// Offsets between this machine's clock and the database's that nobody needs to hear of.
pub const TOLERATED_OFFSET: TimeDelta = TimeDelta::seconds(5);
/// How fast two clocks may drift apart, at worst: an old reading loses to a slightly less sharp new one.
const DRIFT_PER_SECOND: Duration = Duration::from_micros(100);

/// A good estimate of the database's clock, fed by the answers of statements that are made anyway. Whether something is
/// due is decided by the database itself, when it confirms.
///
/// Between readings, and while the database is unavailable, it advances by a clock that is never set and counts suspended time.
#[derive(Debug)]
pub struct DbClock {
    wall: Arc<dyn Clock>,
    anchor: Mutex<Anchor>,
}

/// One reading, and how wrong it can be.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    here: Instant,
    /// The same moment by [`steady`].
    steady: Duration,
    there: DateTime<Utc>,
    uncertainty: Duration,
}

/// How far this machine's clock is off.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// The database's clock minus this machine's.
    pub ahead: TimeDelta,
    /// How wrong that can be, in both directions.
    pub uncertainty: TimeDelta,
}

impl Offset {
    /// Returns whether it is certainly beyond [`TOLERATED_OFFSET`].
    pub fn is_large(&self) -> bool {
        self.ahead.abs() - self.uncertainty > TOLERATED_OFFSET
    }
}

impl Anchor {
    fn of(sample: &ClockSample) -> Self {
        let half = sample.received.saturating_duration_since(sample.sent) / 2;
        let here = sample.sent + half;
        Self {
            here,
            steady: steady().saturating_sub(here.elapsed()),
            there: sample.database,
            uncertainty: half,
        }
    }

    fn uncertainty_at(&self, now: Instant) -> Duration {
        let age = now.saturating_duration_since(self.here);
        self.uncertainty + DRIFT_PER_SECOND.mul_f64(age.as_secs_f64())
    }
}

impl DbClock {
    /// Knows the time from a first reading. `wall` is this machine's own clock, which it is compared with.
    pub fn new(first: &ClockSample, wall: Arc<dyn Clock>) -> Self {
        Self { wall, anchor: Mutex::new(Anchor::of(first)) }
    }

    /// Takes a first reading. Fails as the statement does.
    pub async fn read(db: &Db, wall: Arc<dyn Clock>) -> DbResult<Self> {
        let sent = Instant::now();
        let database = directory::now(db).await?;
        Ok(Self::new(&ClockSample { sent, received: Instant::now(), database }, wall))
    }

    /// Takes a reading in, if it is sharper than what the last one has become.
    pub fn observe(&self, sample: ClockSample) {
        let new = Anchor::of(&sample);
        let mut anchor = self.anchor.lock();
        // A reading that contradicts the old one beyond both uncertainties means that a clock was set.
        let predicted = anchor.there + new.here.saturating_duration_since(anchor.here);
        let uncertainty = anchor.uncertainty_at(new.here);
        let jumped =
            (new.there - predicted).abs().to_std().unwrap_or_default() > uncertainty + new.uncertainty;
        if jumped || new.uncertainty <= uncertainty {
            *anchor = new;
        }
    }

    /// When it is `there` in the database, by our monotonic clock; at once when it has passed.
    pub fn instant_of(&self, there: DateTime<Utc>) -> Instant {
        let anchor = *self.anchor.lock();
        let ahead = there - anchor.there;
        match ahead.to_std() {
            Ok(ahead) => anchor.here + ahead,
            Err(_) => anchor.here.checked_sub((-ahead).to_std().unwrap_or_default()).unwrap_or(anchor.here),
        }
    }

    /// How far the database's clock is ahead of this machine's.
    pub fn offset(&self) -> Offset {
        let uncertainty = self.anchor.lock().uncertainty_at(Instant::now());
        Offset {
            ahead: self.now() - self.wall.now(),
            uncertainty: TimeDelta::from_std(uncertainty).unwrap_or(TimeDelta::MAX),
        }
    }
}

impl Clock for DbClock {
    fn now(&self) -> DateTime<Utc> {
        let anchor = *self.anchor.lock();
        anchor.there + steady().saturating_sub(anchor.steady)
    }

    fn wall(&self) -> DateTime<Utc> {
        self.wall.wall()
    }
}

#[cfg(test)]
mod tests {
    use nas_cron_base::clock::ManualClock;

    use super::*;

    fn sample(at: Instant, round_trip_ms: u64, database: DateTime<Utc>) -> ClockSample {
        ClockSample { sent: at, received: at + Duration::from_millis(round_trip_ms), database }
    }

    fn clock(first: ClockSample) -> DbClock {
        DbClock::new(&first, Arc::new(ManualClock::at(moment(97))))
    }

    fn moment(seconds: i64) -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000 + seconds, 0).expect("in range")
    }

    #[test]
    fn the_sharper_reading_wins_until_it_has_aged() {
        let start = Instant::now();
        let clock = clock(sample(start, 2, moment(0)));
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
        let start = Instant::now();
        let clock = clock(sample(start, 2, moment(0)));
        clock.observe(sample(start + Duration::from_secs(1), 10, moment(31)));
        assert_eq!(clock.instant_of(moment(41)), start + Duration::from_millis(11_005));
    }

    #[test]
    fn the_past_is_at_once() {
        let clock = clock(sample(Instant::now(), 2, moment(100)));
        assert!(clock.instant_of(moment(50)) <= Instant::now());
    }

    #[test]
    fn time_is_that_of_the_last_reading_and_goes_on() {
        let clock = clock(sample(Instant::now(), 0, moment(100)));
        let passed = clock.now() - moment(100);
        assert!(passed >= TimeDelta::zero() && passed < TimeDelta::seconds(60), "{passed}");
        assert!(clock.now() >= moment(100) + passed);
        assert_eq!(clock.wall(), moment(97));
        let offset = clock.offset();
        assert!(offset.ahead >= TimeDelta::seconds(3), "{offset:?}");
    }

    #[test]
    fn offset_is_large_only_where_that_is_certain() {
        let offset = |ahead, uncertainty| Offset {
            ahead: TimeDelta::milliseconds(ahead),
            uncertainty: TimeDelta::milliseconds(uncertainty),
        };
        for (ahead, uncertainty, large) in
            [(0, 0, false), (5_000, 0, false), (5_001, 0, true), (-5_001, 0, true), (-5_001, 1, false)]
        {
            assert_eq!(offset(ahead, uncertainty).is_large(), large, "{ahead} ± {uncertainty} ms");
        }
    }
}
