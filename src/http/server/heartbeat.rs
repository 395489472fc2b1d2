//! A heartbeat that tells a freeze of the process, whichever thread comes first after it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// A process that has not run for longer than this was frozen.
const GAP: Duration = Duration::from_secs(5);
/// Beats that follow each other faster are one: every read is a beat.
const FINEST: Duration = Duration::from_millis(100);
/// The bits of a word that hold the milliseconds; above them is the number of freezes.
const MILLIS: u32 = 48;

/// See the module. Its clock goes on while the process is stopped: `CLOCK_MONOTONIC`.
#[derive(Debug)]
pub(super) struct Heartbeat {
    origin: Instant,
    /// The last beat and the number of freezes, in one word: whoever sees the beat after a freeze sees the freeze.
    word: AtomicU64,
}

/// What a beat found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beat {
    /// How many freezes there have been.
    pub(super) freezes: u64,
    /// How long the process had not run, where this beat is the first one after a freeze.
    pub(super) frozen_for: Option<Duration>,
}

impl Heartbeat {
    /// Beats now.
    pub(super) fn new() -> Self {
        Self { origin: Instant::now(), word: AtomicU64::new(0) }
    }

    /// Beats, and compares with the last beat.
    pub(super) fn beat(&self) -> Beat {
        self.beat_at(self.origin.elapsed())
    }

    fn beat_at(&self, now: Duration) -> Beat {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX) & ((1 << MILLIS) - 1);
        let mut word = self.word.load(Ordering::SeqCst);
        loop {
            let (freezes, last) = (word >> MILLIS, word & ((1 << MILLIS) - 1));
            // Another thread's beat may be later than the time that this one read.
            let gap = Duration::from_millis(now.saturating_sub(last));
            let was_frozen = gap > GAP;
            if gap < FINEST {
                return Beat { freezes, frozen_for: None };
            }
            let freezes = freezes + u64::from(was_frozen);
            let next = freezes << MILLIS | now;
            match self.word.compare_exchange(word, next, Ordering::SeqCst, Ordering::SeqCst) {
                Ok(_) => return Beat { freezes, frozen_for: was_frozen.then_some(gap) },
                Err(changed) => word = changed,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_gap_is_told_once_and_counted() {
        let heart = Heartbeat::new();
        let beat = |millis| heart.beat_at(Duration::from_millis(millis));
        assert_eq!(beat(1_000), Beat { freezes: 0, frozen_for: None });
        assert_eq!(beat(6_000), Beat { freezes: 0, frozen_for: None }, "5 s are no freeze");
        let frozen_for = Some(Duration::from_millis(5_001));
        assert_eq!(beat(11_001), Beat { freezes: 1, frozen_for });
        assert_eq!(beat(11_002), Beat { freezes: 1, frozen_for: None });
        assert_eq!(beat(10_000), Beat { freezes: 1, frozen_for: None }, "a thread that read the time before");
        assert_eq!(beat(20_000).freezes, 2);
    }

    #[test]
    fn one_of_many_threads_tells_a_gap() {
        let heart = Heartbeat::new();
        let told = std::thread::scope(|scope| {
            let beat = || heart.beat_at(Duration::from_secs(8));
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(beat)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(told.iter().filter(|beat| beat.frozen_for.is_some()).count(), 1);
        assert!(told.iter().all(|beat| beat.freezes == 1), "{told:?}");
    }
}
