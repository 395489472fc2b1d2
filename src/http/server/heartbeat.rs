//! A heartbeat that detects a freeze of the process, in whichever thread runs first after it.

use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Maximum interval between two beats of a process that was not frozen.
const GAP: Duration = Duration::from_secs(5);
/// Minimum interval between two recorded beats. Every read is a beat, so most of them are skipped.
const RESOLUTION: Duration = Duration::from_millis(100);
/// Number of low bits of the word that hold milliseconds. The bits above hold the number of freezes.
const MILLIS: u32 = 48;

/// Detects freezes. Its clock (`CLOCK_MONOTONIC`) continues while the process is stopped.
#[derive(Debug)]
pub(super) struct Heartbeat {
    origin: Instant,
    /// The last beat and the number of freezes, in one word, so that a thread that sees the beat after a freeze also
    /// sees the freeze.
    word: AtomicU64,
}

/// The result of a beat.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Beat {
    /// Number of freezes so far.
    pub(super) freezes: u64,
    /// Duration of the freeze, if this is the first beat after it.
    pub(super) frozen_for: Option<Duration>,
}

impl Heartbeat {
    /// Starts the heartbeat with a beat.
    pub(super) fn new() -> Self {
        Self { origin: Instant::now(), word: AtomicU64::new(0) }
    }

    /// Records a beat, and compares it with the last one.
    pub(super) fn beat(&self) -> Beat {
        self.beat_at(self.origin.elapsed())
    }

    fn beat_at(&self, now: Duration) -> Beat {
        let now = u64::try_from(now.as_millis()).unwrap_or(u64::MAX) & ((1 << MILLIS) - 1);
        let mut word = self.word.load(Ordering::SeqCst);
        loop {
            let (freezes, last) = (word >> MILLIS, word & ((1 << MILLIS) - 1));
            // Another thread may have recorded a beat after this thread read the time.
            let gap = Duration::from_millis(now.saturating_sub(last));
            let was_frozen = gap > GAP;
            if gap < RESOLUTION {
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
    fn freeze_is_reported_once_and_counted() {
        let heart = Heartbeat::new();
        let beat = |millis| heart.beat_at(Duration::from_millis(millis));
        assert_eq!(beat(1_000), Beat { freezes: 0, frozen_for: None });
        assert_eq!(beat(6_000), Beat { freezes: 0, frozen_for: None }, "5 s are not a freeze");
        let frozen_for = Some(Duration::from_millis(5_001));
        assert_eq!(beat(11_001), Beat { freezes: 1, frozen_for });
        assert_eq!(beat(11_002), Beat { freezes: 1, frozen_for: None });
        assert_eq!(
            beat(10_000),
            Beat { freezes: 1, frozen_for: None },
            "a thread that had read the time before"
        );
        assert_eq!(beat(20_000).freezes, 2);
    }

    #[test]
    fn exactly_one_of_many_threads_reports_a_freeze() {
        let heart = Heartbeat::new();
        let beats = std::thread::scope(|scope| {
            let beat = || heart.beat_at(Duration::from_secs(8));
            let threads: Vec<_> = (0..8).map(|_| scope.spawn(beat)).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect::<Vec<_>>()
        });
        assert_eq!(beats.iter().filter(|beat| beat.frozen_for.is_some()).count(), 1);
        assert!(beats.iter().all(|beat| beat.freezes == 1), "{beats:?}");
    }
}
