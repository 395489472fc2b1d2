//! Recovery: finds the expired leases of replicas that have died or stalled, and makes their one-shots due again.

use std::time::{Duration, Instant};

use nas_cron_base::clock::Clock;
use tracing::warn;

use super::Inner;
use crate::db::{DbResult, leases};
use crate::metrics;

/// Maximum number of one-shots that one search recovers.
const BATCH: u16 = 1_000;
/// Minimum pause between searches while one-shots are due.
const LEAST_PAUSE: Duration = Duration::from_secs(1);
/// Pause after a search, as a multiple of its duration: with a large backlog, a search takes longer.
const PAUSE_FACTOR: u32 = 50;
/// Maximum pause. A search that is slow because the database is busy must not put off the next one for minutes: the
/// one-shots of a replica that has died meanwhile would wait for it.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Returns the time from the beginning of a search to the next one.
fn pause(took: Duration) -> Duration {
    (took * PAUSE_FACTOR).clamp(LEAST_PAUSE, LONGEST_PAUSE)
}

/// The searches for expired leases.
#[derive(Debug)]
pub(super) struct Recovery {
    next: Instant,
}

impl Default for Recovery {
    fn default() -> Self {
        Self { next: Instant::now() }
    }
}

impl Recovery {
    /// Searches for expired leases if it is time, and recovers their one-shots. Returns the number of these.
    pub(super) async fn search(&mut self, inner: &Inner) -> DbResult<u64> {
        let began = Instant::now();
        if began < self.next {
            return Ok(0);
        }
        if !leases::any_expired(&inner.db).await? {
            self.next = began + pause(began.elapsed());
            return Ok(0);
        }
        let floor = inner.firing.retry.ambiguous_floor;
        let recovered = leases::recover_expired(&inner.db, floor, BATCH.into()).await?;
        if recovered.one_shots < u64::from(BATCH) {
            self.next = began + pause(began.elapsed());
        }
        if recovered.one_shots > 0 {
            metrics::recovered(recovered.one_shots);
            metrics::fires_lost(recovered.attempts);
            inner.minutes.lost(inner.db_clock.now(), recovered.attempts);
            warn!(
                recovered = recovered.one_shots,
                lost = recovered.attempts,
                "expired leases recovered: a replica died or stalled"
            );
        }
        Ok(recovered.one_shots)
    }

    /// Returns the time until the next search.
    pub(super) fn next_in(&self) -> Duration {
        self.next.saturating_duration_since(Instant::now())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn searches_take_a_fiftieth_of_the_time_and_follow_each_other_within_five_seconds() {
        let ms = Duration::from_millis;
        for (took, wanted) in
            [(1, 1_000), (20, 1_000), (40, 2_000), (100, 5_000), (1_000, 5_000), (5_000, 5_000)]
        {
            assert_eq!(pause(ms(took)), ms(wanted), "{took} ms");
        }
    }
}
