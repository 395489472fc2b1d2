//! The one seam of time. Whatever asks what time it is asks a [`Clock`], so that tests move it instead of sleeping.
//!
//! Due-ness and leases are judged by the database's clock, in SQL; this one is for tokens, caches and key rotation.

use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use parking_lot::Mutex;

/// What time it is.
pub trait Clock: std::fmt::Debug + Send + Sync + 'static {
    /// The time that everything is judged by.
    fn now(&self) -> DateTime<Utc>;

    /// The machine's own wall clock, for noticing that time has passed unseen: it goes on while a machine is suspended.
    fn wall(&self) -> DateTime<Utc> {
        self.now()
    }
}

/// Time since some fixed moment, in which suspended time counts where the system offers such a clock (Linux). Never set,
/// never runs backwards.
pub fn steady() -> Duration {
    #[cfg(any(target_os = "linux", target_os = "android"))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Boottime;
    #[cfg(not(any(target_os = "linux", target_os = "android")))]
    const CLOCK: rustix::time::ClockId = rustix::time::ClockId::Monotonic;
    let since = rustix::time::clock_gettime(CLOCK);
    // Neither part is negative.
    let seconds = Duration::from_secs(u64::try_from(since.tv_sec).unwrap_or_default());
    seconds + Duration::from_nanos(u64::try_from(since.tv_nsec).unwrap_or_default())
}

/// The machine's own clock.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

impl Clock for SystemClock {
    #[expect(clippy::disallowed_methods, reason = "this is the seam that the ban leads to")]
    fn now(&self) -> DateTime<Utc> {
        Utc::now()
    }
}

/// A clock that stands still until it is moved. Clones share their time.
#[derive(Clone, Debug)]
pub struct ManualClock(Arc<Mutex<DateTime<Utc>>>);

impl ManualClock {
    /// Stands at `now`.
    pub fn at(now: DateTime<Utc>) -> Self {
        Self(Arc::new(Mutex::new(now)))
    }

    /// Moves it.
    pub fn advance(&self, by: TimeDelta) {
        *self.0.lock() += by;
    }
}

impl Clock for ManualClock {
    fn now(&self) -> DateTime<Utc> {
        *self.0.lock()
    }
}
