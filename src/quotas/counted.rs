//! The latest count of one instance or org, and what was admitted since: plain state without I/O.

use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::MutexGuard;
use tokio::time::Instant;

/// Time for which a count admits jobs that use a part of the room.
const ADMITS_FOR: Duration = Duration::from_secs(10);
/// The same as a multiple of the time for which it refuses, if that is longer.
const ADMITS_FOR_AT_LEAST: u32 = 10;
/// The part of the room that is used without another count: other replicas may use such parts at the same time.
const PART: i64 = 8;
/// Time for which a count refuses. With the time for each armed job, it is some 50 times what the count takes, so that a caller
/// that is refused costs a fiftieth of a database session.
const REFUSES_FOR: Duration = Duration::from_millis(50);
/// The same for each armed job.
const REFUSES_FOR_EACH: Duration = Duration::from_micros(20);
/// Armed jobs from which on a count is too expensive to be repeated for each part of the room, which takes 40 ms. While it is
/// recent, it admits all that fits.
const EXPENSIVE: i64 = 100_000;
/// Interval between notes about the same quota.
const NOTED_EVERY: Duration = Duration::from_mins(1);

/// A count of armed jobs.
#[derive(Clone, Copy, Debug)]
pub(super) struct Count {
    /// The quota at that time.
    pub(super) quota: i64,
    /// Number of armed jobs, counted up to the quota.
    pub(super) armed: i64,
    /// Time before which all that was durable is counted.
    pub(super) begun: Instant,
}

/// The armed jobs of one instance or org, as far as this process knows.
#[derive(Debug, Default)]
pub(super) struct Counted {
    state: Mutex<State>,
    /// Held by the request that counts.
    counting: tokio::sync::Mutex<()>,
}

#[derive(Debug, Default)]
struct State {
    last: Option<Count>,
    /// New jobs since the last count began, and those that were in flight then.
    new: i64,
    /// The same for the count that is under way.
    next: i64,
    /// Reservations for jobs that are certainly new, in flight. They are among `new`.
    certain: i64,
    /// Reservations for jobs that may be new, in flight.
    possible: i64,
    /// Those that the last count may have already.
    uncertain: i64,
    noted: Option<Instant>,
}

/// The decision about a new job.
#[derive(Debug)]
pub(super) enum Verdict {
    /// There is room.
    Admitted(Reservation),
    /// There is none.
    Full {
        /// The quota.
        quota: i64,
        /// Number of armed jobs.
        armed: i64,
    },
    /// The last count is too old.
    Unknown,
}

/// Room for one job. Dropping it returns the room.
#[derive(Debug)]
pub(super) struct Reservation {
    of: Arc<Counted>,
    certain: bool,
    used: bool,
}

impl Counted {
    /// Waits until no other request counts.
    pub(super) async fn counting(&self) -> MutexGuard<'_, ()> {
        self.counting.lock().await
    }

    /// Notes that a count begins: it may miss what is in flight, and what comes until its end.
    pub(super) fn begin(&self) {
        let mut state = self.state.lock();
        state.next = state.certain;
    }

    /// Stores the count that has begun last. Returns true if it has to be noted that the quota is nearly used.
    pub(super) fn store(&self, count: Count, nearly_used: bool) -> bool {
        let mut state = self.state.lock();
        state.last = Some(count);
        state.new = state.next;
        state.uncertain = state.next + state.possible;
        let is_due = state.noted.is_none_or(|noted| count.begun.duration_since(noted) >= NOTED_EVERY);
        if nearly_used && is_due {
            state.noted = Some(count.begun);
        }
        nearly_used && is_due
    }

    /// Reserves room for a job that may be new; `None` unless there is plenty.
    pub(super) fn foreseen(self: &Arc<Self>, now: Instant) -> Option<Reservation> {
        let mut state = self.state.lock();
        let last = state.last?;
        let used = state.new + state.possible;
        if used >= last.quota - last.armed || !last.admits(used, now) {
            return None;
        }
        state.possible += 1;
        Some(Reservation { of: Arc::clone(self), certain: false, used: false })
    }

    /// Decides about a job that is certainly new. `has_counted`: the caller has made the last count.
    pub(super) fn decide(self: &Arc<Self>, now: Instant, has_counted: bool) -> Verdict {
        let mut state = self.state.lock();
        let Some(last) = state.last else { return Verdict::Unknown };
        let armed = last.armed + state.new;
        let has_room = armed + state.possible < last.quota;
        let is_surely_full = armed - state.uncertain >= last.quota;
        if is_surely_full && (has_counted || last.is_recent(now)) {
            Verdict::Full { quota: last.quota, armed: armed - state.uncertain }
        } else if has_room && (has_counted || last.admits(state.new, now)) {
            state.new += 1;
            state.next += 1;
            state.certain += 1;
            Verdict::Admitted(Reservation { of: Arc::clone(self), certain: true, used: false })
        } else {
            Verdict::Unknown
        }
    }
}

impl Count {
    /// Time for which it refuses.
    fn refuses_for(&self) -> Duration {
        REFUSES_FOR + REFUSES_FOR_EACH * u32::try_from(self.armed).unwrap_or(u32::MAX)
    }

    fn is_recent(&self, now: Instant) -> bool {
        now.duration_since(self.begun) < self.refuses_for()
    }

    /// Returns true if one more job after `used` others needs no other count.
    fn admits(&self, used: i64, now: Instant) -> bool {
        let age = now.duration_since(self.begun);
        (self.armed >= EXPENSIVE && self.is_recent(now))
            || (age < ADMITS_FOR.max(self.refuses_for() * ADMITS_FOR_AT_LEAST)
                && (used + 1) * PART <= self.quota - self.armed)
    }
}

impl Reservation {
    /// The room is used: a new job is armed.
    pub(super) fn used(mut self) {
        self.used = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        let state = &mut *self.of.state.lock();
        if self.certain {
            state.certain -= 1;
            state.new -= i64::from(!self.used);
            state.next -= i64::from(!self.used);
        } else {
            state.possible -= 1;
            state.new += i64::from(self.used);
            state.next += i64::from(self.used);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn count(quota: i64, armed: i64, begun: Instant) -> Count {
        Count { quota, armed, begun }
    }

    fn recount(counted: &Counted, count: Count) {
        counted.begin();
        counted.store(count, false);
    }

    fn counted(count: Count) -> Arc<Counted> {
        let counted = Arc::new(Counted::default());
        counted.store(count, false);
        counted
    }

    /// Arms a new job if the count, or one that the caller has just made, admits it.
    fn arms(counted: &Arc<Counted>, now: Instant, has_counted: bool) -> bool {
        let Verdict::Admitted(room) = counted.decide(now, has_counted) else { return false };
        room.used();
        true
    }

    #[test]
    fn caller_that_has_counted_gets_exactly_the_rest_of_the_quota() {
        let now = Instant::now();
        let counted = counted(count(5, 2, now));
        assert!((0..3).all(|_| arms(&counted, now, true)));
        assert!(matches!(counted.decide(now, true), Verdict::Full { quota: 5, armed: 5 }));
        assert!(matches!(counted.decide(now + REFUSES_FOR, false), Verdict::Full { .. }));
        // Not refused by a count that may be outdated.
        assert!(matches!(counted.decide(now + REFUSES_FOR * 2, false), Verdict::Unknown));
    }

    #[test]
    fn room_that_was_not_used_is_free_again() {
        let now = Instant::now();
        let counted = counted(count(1, 0, now));
        assert!(matches!(counted.decide(now, true), Verdict::Admitted(_)));
        assert!(arms(&counted, now, true) && !arms(&counted, now, true));
    }

    #[test]
    fn others_get_an_eighth_of_the_room_until_the_next_count() {
        let now = Instant::now();
        let (counted, fresh) = (counted(count(116, 100, now)), counted(count(116, 100, now)));
        let later = now + Duration::from_secs(9);
        assert!(arms(&counted, later, false) && arms(&counted, later, false));
        assert!(matches!(counted.decide(later, false), Verdict::Unknown));
        assert!(matches!(fresh.decide(now + ADMITS_FOR, false), Verdict::Unknown));
    }

    #[test]
    fn jobs_that_may_be_new_never_cause_a_refusal() {
        let now = Instant::now();
        let counted = counted(count(16, 0, now));
        let possible: Vec<_> = std::iter::from_fn(|| counted.foreseen(now)).collect();
        assert_eq!(possible.len(), 2);
        assert!((0..14).all(|_| arms(&counted, now, true)));
        assert!(matches!(counted.decide(now, true), Verdict::Unknown));
        drop(possible);
        assert!(arms(&counted, now, true) && arms(&counted, now, true));
        assert!(matches!(counted.decide(now, true), Verdict::Full { .. }));
    }

    #[test]
    fn count_keeps_the_admitted_jobs_that_it_may_have_missed() {
        let now = Instant::now();
        let counted = counted(count(10, 7, now));
        let Verdict::Admitted(in_flight) = counted.decide(now, true) else { panic!("there is room") };
        counted.begin();
        // Both may be stored after the count was made.
        assert!(arms(&counted, now, true));
        in_flight.used();
        counted.store(count(10, 7, now), false);
        assert!(arms(&counted, now, true));
        // Neither admitted nor refused, until a count is sure to have them.
        assert!(matches!(counted.decide(now, true), Verdict::Unknown));
        recount(&counted, count(10, 9, now));
        assert!(arms(&counted, now, true));
        recount(&counted, count(10, 10, now));
        assert!(matches!(counted.decide(now, true), Verdict::Full { quota: 10, armed: 10 }));
    }

    #[test]
    fn expensive_count_is_used_longer() {
        let now = Instant::now();
        let counted = counted(count(1_000_000, 999_990, now));
        let recent = now + Duration::from_secs(19);
        assert!((0..10).all(|_| arms(&counted, recent, false)));
        assert!(matches!(counted.decide(recent, false), Verdict::Full { .. }));
        let far = self::counted(count(1_000_000, 900_000, now));
        assert!(far.foreseen(now + Duration::from_mins(3)).is_some());
        assert!(far.foreseen(now + Duration::from_mins(4)).is_none());
    }

    #[test]
    fn nearly_used_quota_is_noted_once_a_minute() {
        let now = Instant::now();
        let counted = Counted::default();
        assert!(counted.store(count(10, 9, now), true));
        assert!(!counted.store(count(10, 9, now + NOTED_EVERY / 2), true));
        assert!(counted.store(count(10, 9, now + NOTED_EVERY), true));
        assert!(!counted.store(count(10, 9, now + NOTED_EVERY * 3), false));
    }
}
