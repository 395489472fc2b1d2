//! The one-shots of one phase, with their due times and arrivals.

use std::sync::atomic::{AtomicBool, AtomicI64, AtomicU32, AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, FixedOffset, TimeDelta, Utc};
use nas_cron_protocol::isoformat;
use tokio::sync::Notify;

use crate::times::Times;

/// Marks a fire that has not arrived.
const NEVER: i64 = i64::MIN;

/// The one-shots of a phase. Counts arrivals without a lock, because it is updated at every fire.
#[derive(Debug)]
pub(super) struct Stage {
    /// Prefix of its job ids, unique to the run and the phase.
    prefix: String,
    agents: usize,
    /// Number of healthy agents: the others, which are last, are slow. Figures are about the healthy ones.
    healthy: usize,
    due: Vec<DateTime<Utc>>,
    /// First arrivals, in microseconds since 1970.
    first: Vec<AtomicI64>,
    times: Vec<AtomicU32>,
    /// Number of one-shots of healthy agents that have not arrived.
    left: AtomicUsize,
    complete: Notify,
    cancelled: AtomicBool,
}

/// The outcome of a phase, for the healthy agents.
#[derive(Debug)]
pub(super) struct Outcome {
    /// Time from the instant to the first arrival.
    pub(super) lateness: Times,
    /// Number of one-shots that arrived.
    pub(super) arrived: usize,
    /// Number of one-shots that arrived before their instant, those of slow agents included.
    pub(super) early: usize,
    /// Number of one-shots that did not arrive.
    pub(super) lost: usize,
    /// Number of further arrivals after the first ones.
    pub(super) duplicates: usize,
    /// Time from the first instant to the last arrival.
    pub(super) took: TimeDelta,
    /// Time to the last fire of the slowest agent, relative to that of the median agent. `None` without an arrival.
    pub(super) slowest_to_median: Option<f64>,
}

/// Returns `count` instants, spread evenly over `over`, the first one at `start`.
pub(super) fn spread(start: DateTime<Utc>, count: usize, over: Duration) -> Vec<DateTime<Utc>> {
    let after = |index: usize| over.as_micros() * index as u128 / count.max(1) as u128;
    (0..count)
        .map(|index| start + TimeDelta::microseconds(i64::try_from(after(index)).unwrap_or(i64::MAX)))
        .collect()
}

impl Stage {
    /// Creates one-shots that are due at these instants (whole microseconds), assigned to the agents in turn.
    pub(super) fn new(prefix: String, agents: usize, due: Vec<DateTime<Utc>>) -> Self {
        Self {
            prefix,
            agents,
            healthy: agents,
            first: due.iter().map(|_| AtomicI64::new(NEVER)).collect(),
            times: due.iter().map(|_| AtomicU32::new(0)).collect(),
            left: AtomicUsize::new(due.len()),
            due,
            complete: Notify::new(),
            cancelled: AtomicBool::new(false),
        }
    }

    /// Replaces the prefix of the job ids.
    pub(super) fn named(self, prefix: String) -> Self {
        Self { prefix, ..self }
    }

    /// Makes the last `slow` agents slow: they accept no fire in time.
    pub(super) fn with_slow(self, slow: usize) -> Self {
        let healthy = self.agents - slow;
        let left = (0..self.len()).filter(|index| index % self.agents < healthy).count();
        Self { healthy, left: AtomicUsize::new(left), ..self }
    }

    /// Creates one-shots of the same jobs and agents that are due at these instants.
    pub(super) fn again(&self, due: Vec<DateTime<Utc>>) -> Self {
        Self::new(self.prefix.clone(), self.agents, due).with_slow(self.agents - self.healthy)
    }

    pub(super) fn len(&self) -> usize {
        self.due.len()
    }

    /// Returns the index of the agent that owns a one-shot.
    pub(super) fn agent(&self, index: usize) -> usize {
        index % self.agents
    }

    fn is_healthy(&self, index: usize) -> bool {
        self.agent(index) < self.healthy
    }

    /// Returns the one-shots of all agents.
    pub(super) fn all(&self) -> Vec<usize> {
        (0..self.len()).collect()
    }

    /// Returns the one-shots of the healthy agents.
    pub(super) fn of_healthy(&self) -> Vec<usize> {
        (0..self.len()).filter(|index| self.is_healthy(*index)).collect()
    }

    pub(super) fn job_id(&self, index: usize) -> String {
        format!("{}{index}", self.prefix)
    }

    /// Returns the index of the job with this id.
    pub(super) fn index(&self, job_id: &str) -> Option<usize> {
        let digits = job_id.strip_prefix(&self.prefix)?;
        let index = digits.bytes().all(|byte| byte.is_ascii_digit()).then(|| digits.parse().ok())??;
        (index < self.len()).then_some(index)
    }

    /// Returns `fire_at` in the format of agents: microseconds, numeric offset.
    pub(super) fn fire_at(&self, index: usize) -> String {
        isoformat(self.due[index], FixedOffset::east_opt(0).expect("no offset is one"))
    }

    /// Returns the last instant.
    pub(super) fn last_due(&self) -> Option<DateTime<Utc>> {
        self.due.iter().max().copied()
    }

    /// Records an arrival.
    pub(super) fn arrived(&self, index: usize, at: DateTime<Utc>) {
        if self.times[index].fetch_add(1, Ordering::Relaxed) > 0 {
            return;
        }
        self.first[index].store(at.timestamp_micros(), Ordering::Relaxed);
        // A thread that sees 0 also sees all arrivals stored before.
        if self.is_healthy(index) && self.left.fetch_sub(1, Ordering::AcqRel) == 1 {
            self.complete.notify_waiters();
        }
    }

    /// Returns the number of one-shots of healthy agents that have not arrived.
    pub(super) fn left(&self) -> usize {
        self.left.load(Ordering::Acquire)
    }

    /// Waits until all of healthy agents have arrived.
    pub(super) async fn complete(&self) {
        let complete = self.complete.notified();
        tokio::pin!(complete);
        // Registered before the check, so that no notification is missed.
        complete.as_mut().enable();
        if self.left() > 0 {
            complete.await;
        }
    }

    /// Returns the one-shots that may fire: those that have not arrived, and all of slow agents.
    pub(super) fn pending(&self) -> Vec<usize> {
        let waits = |index: usize| self.first[index].load(Ordering::Acquire) == NEVER;
        (0..self.len()).filter(|index| waits(*index) || !self.is_healthy(*index)).collect()
    }

    /// Notes that its pending one-shots are cancelled.
    pub(super) fn set_cancelled(&self) {
        self.cancelled.store(true, Ordering::Release);
    }

    /// Returns true if its pending one-shots are cancelled.
    pub(super) fn is_cancelled(&self) -> bool {
        self.cancelled.load(Ordering::Acquire)
    }

    /// Returns the outcome so far.
    pub(super) fn outcome(&self) -> Outcome {
        let start = self.due.iter().min().map_or(0, DateTime::timestamp_micros);
        let mut lateness = Times::new();
        let (mut expected, mut arrived, mut early, mut times) = (0, 0, 0, 0);
        let mut last = vec![NEVER; self.healthy];
        for (index, (due, first)) in self.due.iter().zip(&self.first).enumerate() {
            let first = first.load(Ordering::Acquire);
            let late = TimeDelta::microseconds(first.saturating_sub(due.timestamp_micros()));
            early += usize::from(first != NEVER && late < TimeDelta::zero());
            let Some(last) = last.get_mut(self.agent(index)) else { continue };
            expected += 1;
            times += self.times[index].load(Ordering::Relaxed) as usize;
            if first != NEVER {
                arrived += 1;
                lateness.record(late);
                *last = (*last).max(first);
            }
        }
        last.retain(|last| *last != NEVER);
        Outcome {
            lateness,
            arrived,
            early,
            lost: expected - arrived,
            duplicates: times - arrived,
            took: TimeDelta::microseconds(last.iter().max().map_or(0, |last| last - start)),
            slowest_to_median: slowest_to_median(last.into_iter().map(|last| last - start).collect()),
        }
    }
}

#[expect(clippy::cast_precision_loss, reason = "2^52 microseconds are 142 years")]
fn slowest_to_median(mut took: Vec<i64>) -> Option<f64> {
    took.sort_unstable();
    let (slowest, median) = (took.last()?, took.get(took.len() / 2)?);
    // An early or immediate fire has no ratio.
    (*median > 0).then(|| *slowest as f64 / *median as f64)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn stage(count: usize) -> Stage {
        Stage::new("r1s".into(), 3, spread(start(), count, Duration::from_millis(40)))
    }

    #[test]
    fn instants_are_spread_evenly_within_the_period() {
        let due = spread(start(), 4, Duration::from_secs(20));
        let after: Vec<_> = due.iter().map(|due| (*due - start()).num_seconds()).collect();
        assert_eq!(after, [0, 5, 10, 15]);
        assert_eq!(spread(start(), 3, Duration::ZERO), [start(); 3]);
        let fine = spread(start(), 3, Duration::from_micros(10));
        assert_eq!(fine[1] - start(), TimeDelta::microseconds(3), "whole microseconds");
    }

    #[test]
    fn jobs_are_found_by_their_ids() {
        let stage = stage(4);
        assert_eq!(stage.job_id(3), "r1s3");
        assert_eq!(stage.index("r1s3"), Some(3));
        for unknown in ["r1s4", "r1s", "r1s+1", "r1t1", "r1s-1", "x"] {
            assert_eq!(stage.index(unknown), None, "{unknown}");
        }
        assert_eq!((stage.agent(2), stage.agent(3)), (2, 0));
        assert_eq!(stage.fire_at(0), "2027-01-15T08:00:00+00:00");
        assert_eq!(stage.fire_at(1), "2027-01-15T08:00:00.010000+00:00");
    }

    #[tokio::test]
    async fn early_lost_and_duplicate_fires_are_counted() {
        let stage = stage(4);
        let at = |micros: i64| start() + TimeDelta::microseconds(micros);
        stage.arrived(0, at(1_500));
        stage.arrived(0, at(9_000));
        stage.arrived(1, at(9_999));
        stage.arrived(2, at(20_000));
        assert_eq!(stage.left(), 1);
        assert_eq!(stage.pending(), [3]);
        let outcome = stage.outcome();
        assert_eq!((outcome.arrived, outcome.early, outcome.lost, outcome.duplicates), (3, 1, 1, 1));
        assert_eq!(outcome.took, TimeDelta::microseconds(20_000));
        assert!((outcome.lateness.max_ms() - 1.5).abs() < 0.01);
        stage.arrived(3, at(30_000));
        stage.complete().await;
        assert_eq!(stage.outcome().lost, 0);
    }

    #[tokio::test]
    async fn figures_are_about_the_healthy_agents() {
        // The third agent is slow: it owns the one-shots 2 and 5.
        let stage = Stage::new("r1s".into(), 3, vec![start(); 7]).with_slow(1);
        let at = |micros: i64| start() + TimeDelta::microseconds(micros);
        for (index, micros) in [(0, 1_000), (1, 1_000), (3, 2_000), (4, 3_000), (5, -1)] {
            stage.arrived(index, at(micros));
        }
        stage.arrived(5, at(9_000_000));
        assert_eq!((stage.left(), stage.of_healthy()), (1, vec![0, 1, 3, 4, 6]));
        assert_eq!(stage.pending(), [2, 5, 6], "a slow agent's are retried");
        stage.arrived(6, at(6_000));
        stage.complete().await;
        let outcome = stage.outcome();
        assert_eq!((outcome.arrived, outcome.lost, outcome.duplicates, outcome.early), (5, 0, 0, 1));
        assert_eq!(outcome.took, TimeDelta::microseconds(6_000));
        assert_eq!(outcome.slowest_to_median, Some(1.0), "of two agents, the median is the slower one");
        let again = stage.again(vec![at(0); 7]);
        assert_eq!((again.job_id(3), again.left()), ("r1s3".to_owned(), 5));
    }

    #[test]
    fn stage_without_arrivals_is_lost() {
        let outcome = stage(2).outcome();
        assert_eq!((outcome.arrived, outcome.lost, outcome.took), (0, 2, TimeDelta::zero()));
    }
}
