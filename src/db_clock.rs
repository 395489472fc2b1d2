//! An estimate of the database's clock. All timing, minting and verification use it: a replica whose own clock is wrong
//! must not mint tokens that agents reject, or reject valid tokens.

use std::sync::Arc;
use std::time::{Duration, Instant};

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_base::clock::{Clock, steady};
use parking_lot::Mutex;

use crate::db::{Db, DbResult, directory};
use crate::domain::clock_sample::{ClockSample, TOLERATED_OFFSET};

/// Maximum drift between two clocks per second. It makes readings less certain with age, so that newer ones replace them.
const DRIFT_PER_SECOND: Duration = Duration::from_micros(100);

/// An estimate of the database's clock, from readings that other statements return. The final decision that a one-shot
/// is due is the database's own, at the confirmation.
///
/// Between readings, and while the database is unavailable, the estimate advances with a clock that is never set and
/// that counts suspended time.
#[derive(Debug)]
pub struct DbClock {
    wall: Arc<dyn Clock>,
    anchor: Mutex<Anchor>,
}

/// One reading and its maximum error.
#[derive(Clone, Copy, Debug)]
struct Anchor {
    here: Instant,
    /// The same instant by [`steady`].
    steady: Duration,
    there: DateTime<Utc>,
    uncertainty: Duration,
}

/// The offset between the database's clock and this machine's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// The database's clock minus this machine's.
    pub ahead: TimeDelta,
    /// Maximum error of `ahead`, in both directions.
    pub uncertainty: TimeDelta,
}

impl Offset {
    /// Returns true if the offset exceeds [`TOLERATED_OFFSET`] even with the maximum error.
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
    /// Starts from a first reading. `wall` is this machine's own clock, for [`Self::offset`].
    pub fn new(first: &ClockSample, wall: Arc<dyn Clock>) -> Self {
        Self { wall, anchor: Mutex::new(Anchor::of(first)) }
    }

    /// Reads the database's clock and starts from this reading.
    pub async fn read(db: &Db, wall: Arc<dyn Clock>) -> DbResult<Self> {
        let sent = Instant::now();
        let database = directory::now(db).await?;
        Ok(Self::new(&ClockSample { sent, received: Instant::now(), database }, wall))
    }

    /// Replaces the current reading if `sample` is at least as certain, or shows that a clock was set.
    pub fn observe(&self, sample: ClockSample) {
        let new = Anchor::of(&sample);
        let mut anchor = self.anchor.lock();
        // A difference beyond both maximum errors means that a clock was set.
        let predicted = anchor.there + new.here.saturating_duration_since(anchor.here);
        let uncertainty = anchor.uncertainty_at(new.here);
        let jumped =
            (new.there - predicted).abs().to_std().unwrap_or_default() > uncertainty + new.uncertainty;
        if jumped || new.uncertainty <= uncertainty {
            *anchor = new;
        }
    }

    /// Returns the instant by this process's monotonic clock at which the database's clock reads `there`. An instant that
    /// has passed by the database's clock has passed by the monotonic clock, too.
    pub fn instant_of(&self, there: DateTime<Utc>) -> Instant {
        let anchor = *self.anchor.lock();
        let ahead = there - anchor.there;
        match ahead.to_std() {
            Ok(ahead) => anchor.here + ahead,
            Err(_) => anchor.here.checked_sub((-ahead).to_std().unwrap_or_default()).unwrap_or(anchor.here),
        }
    }

    /// Returns the offset between the database's clock and this machine's.
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
    fn sharper_reading_stays_until_it_has_aged() {
        let start = Instant::now();
        let clock = clock(sample(start, 2, moment(0)));
        assert_eq!(clock.instant_of(moment(10)), start + Duration::from_millis(10_001));
        // Less certain and consistent: ignored while the first is fresh.
        clock.observe(sample(start + Duration::from_secs(1), 40, moment(1)));
        assert_eq!(clock.instant_of(moment(10)), start + Duration::from_millis(10_001));
        // Nearly as certain, a minute later: accepted.
        clock.observe(sample(start + Duration::from_mins(1), 4, moment(60)));
        assert_eq!(clock.instant_of(moment(70)), start + Duration::from_millis(70_002));
    }

    #[test]
    fn jump_of_the_clock_replaces_the_reading() {
        let start = Instant::now();
        let clock = clock(sample(start, 2, moment(0)));
        clock.observe(sample(start + Duration::from_secs(1), 10, moment(31)));
        assert_eq!(clock.instant_of(moment(41)), start + Duration::from_millis(11_005));
    }

    #[test]
    fn past_instants_are_due_now() {
        let clock = clock(sample(Instant::now(), 2, moment(100)));
        assert!(clock.instant_of(moment(50)) <= Instant::now());
    }

    #[test]
    fn clock_advances_from_its_last_reading() {
        let clock = clock(sample(Instant::now(), 0, moment(100)));
        let passed = clock.now() - moment(100);
        assert!(passed >= TimeDelta::zero() && passed < TimeDelta::seconds(60), "{passed}");
        assert!(clock.now() >= moment(100) + passed);
        assert_eq!(clock.wall(), moment(97));
        let offset = clock.offset();
        assert!(offset.ahead >= TimeDelta::seconds(3), "{offset:?}");
    }

    #[test]
    fn offset_is_large_only_beyond_its_maximum_error() {
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
