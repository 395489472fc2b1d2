//! Counts this replica's attempts by minute, and adds them to the table once a minute while there are any.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};
use nas_cron_base::clock::Clock;
use parking_lot::Mutex;
use tokio::sync::Notify;
use tracing::warn;

use super::Inner;
use crate::db::{Db, fire_minutes};
use crate::domain::FireOutcome;
use crate::domain::fire_minutes::{FireMinute, minute_of};
use crate::heartbeat;

/// Delay after the end of a minute, at random between these, so that replicas do not wait for each other's locks.
const AFTER_THE_MINUTE: std::ops::Range<f64> = 1.0..5.0;
/// Maximum number of minutes that are kept while the database is unavailable. No attempt starts meanwhile.
const KEPT: usize = 60;
/// Maximum time for adding the last minute when the replica stops.
const LAST_WITHIN: Duration = Duration::from_secs(2);

/// The attempts that are not in the table yet.
#[derive(Debug, Default)]
pub(super) struct Minutes {
    counts: Mutex<BTreeMap<DateTime<Utc>, FireMinute>>,
    /// Notified when there are some.
    began: Notify,
}

impl Minutes {
    /// Counts an attempt that has ended. `lateness` is `None` if it is not measured.
    pub(super) fn ended(&self, started_at: DateTime<Utc>, outcome: FireOutcome, lateness: Option<Duration>) {
        self.change(started_at, |minute| minute.count(outcome, lateness));
    }

    /// Counts attempts whose outcome is unknown, when that is found at `at`.
    pub(super) fn lost(&self, at: DateTime<Utc>, count: u64) {
        self.change(at, |minute| minute.other += i64::try_from(count).unwrap_or(i64::MAX));
    }

    /// Counts wake-ups that an external backend has missed, when that is found at `at`.
    pub(super) fn missed(&self, at: DateTime<Utc>, count: u64) {
        self.change(at, |minute| minute.missed += i64::try_from(count).unwrap_or(i64::MAX));
    }

    fn change(&self, at: DateTime<Utc>, change: impl FnOnce(&mut FireMinute)) {
        let minute = minute_of(at);
        let mut counts = self.counts.lock();
        if counts.is_empty() {
            self.began.notify_one();
        }
        change(counts.entry(minute).or_insert_with(|| FireMinute::empty(minute)));
    }

    /// Adds the counts to the table. After a failure they are added later.
    async fn store(&self, db: &Db) {
        let counts = std::mem::take(&mut *self.counts.lock());
        if counts.is_empty() {
            return;
        }
        let minutes: Vec<_> = counts.into_values().collect();
        if let Err(error) = fire_minutes::add(db, &minutes).await {
            warn!(%error, "adding the minute's attempts to the plots failed; retrying in a minute");
            self.put_back(minutes);
        }
    }

    fn put_back(&self, minutes: Vec<FireMinute>) {
        let mut counts = self.counts.lock();
        for minute in minutes {
            counts.entry(minute.minute).or_insert_with(|| FireMinute::empty(minute.minute)).add(&minute);
        }
        while counts.len() > KEPT {
            counts.pop_first();
        }
        self.began.notify_one();
    }
}

/// Adds the attempts of each minute to the table, soon after its end. Makes no statement for a minute without attempts.
pub(super) async fn run(inner: Arc<Inner>) {
    loop {
        heartbeat::rest(async {
            inner.minutes.began.notified().await;
            tokio::time::sleep(until_stored(inner.db_clock.now())).await;
        })
        .await;
        inner.minutes.store(&inner.beside).await;
    }
}

/// Adds the attempts of the last minute: the replica stops.
pub(super) async fn last(inner: &Inner) {
    if tokio::time::timeout(LAST_WITHIN, inner.minutes.store(&inner.beside)).await.is_err() {
        warn!("adding the last minute's attempts to the plots timed out; the plots lack them");
    }
}

/// Returns the time until the counts of the minute of `now` are stored.
fn until_stored(now: DateTime<Utc>) -> Duration {
    let end = minute_of(now) + TimeDelta::minutes(1);
    (end - now).to_std().unwrap_or_default() + Duration::from_secs_f64(rand::random_range(AFTER_THE_MINUTE))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counts_are_stored_soon_after_the_end_of_their_minute() {
        let at = |second: i64| DateTime::from_timestamp(1_800_000_000 + second, 0).unwrap();
        for (second, shortest) in [(0, 61), (59, 2), (60, 61)] {
            let pause = until_stored(at(second)).as_secs_f64();
            let shortest = f64::from(shortest);
            assert!((shortest..shortest + 4.0).contains(&pause), "{second}: {pause}");
        }
    }

    #[test]
    fn counts_that_could_not_be_stored_are_kept_up_to_a_limit() {
        let (minutes, at) = (Minutes::default(), DateTime::UNIX_EPOCH);
        let of = |minute| FireMinute { delivered: 1, ..FireMinute::empty(at + TimeDelta::minutes(minute)) };
        minutes.ended(at + TimeDelta::minutes(99), FireOutcome::Delivered, None);
        minutes.put_back((0..100).map(of).collect());
        let counts = minutes.counts.lock();
        assert_eq!(counts.len(), KEPT);
        let last = counts.last_key_value().unwrap().1;
        assert_eq!((last.minute, last.delivered), (at + TimeDelta::minutes(99), 2));
    }
}
