//! The source of the current time. All code reads the time from a [`Clock`], and tests advance it instead of sleeping.
//!
//! Due times and leases are compared with the database's clock, in SQL. This clock is for tokens, caches and key
//! rotation.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;

/// A source of the current time.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// The current time, for every decision that depends on it.
    fn now(&self) -> DateTime<Utc>;

    /// The machine's wall clock. It goes on while the machine is suspended, and so reveals a suspension.
    fn wall(&self) -> DateTime<Utc> {
        self.now()
    }
}

/// Returns the time since an arbitrary fixed moment, from a clock that is never set and never runs backwards.
///
/// Time in suspension counts on systems with such a clock (Linux, Android).
pub fn steady() -> Duration {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
    let since = rustix::time::clock_gettime(CLOCK);
    // Both parts are non-negative.
    let seconds = Duration::from_secs(u64::try_from(since.tv_sec).unwrap_or_default());
    seconds + Duration::from_nanos(u64::try_from(since.tv_nsec).unwrap_or_default())
}

/// The machine's clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "the one place that may read the system time")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// A clock for tests: it stands still until it is advanced. Clones share their time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<DateTime<Utc>>>);

impl ManualClock {
    /// A clock that stands at `now`.
    pub fn at(now: DateTime<Utc>) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// Advances the clock and all its clones.
    pub fn advance(&self, by: TimeDelta) {
        *self.0.lock() += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock()
    }
}
