//! One-shots that are armed for next week while the service is measured.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use chrono::{DateTime, TimeDelta, Utc};

use super::agent_api::AgentApi;
use super::fleet::Fleet;
use super::progress::{bar, ticks};
use super::stage::{Stage, spread};

/// Time until the first is due. They are spread over a day.
const NEXT_WEEK: TimeDelta = TimeDelta::days(7);
/// One-shots whose requests are prepared at once, to limit the memory.
const CHUNK: usize = 10_000;

/// The one-shots, armed and cancelled in chunks.
#[derive(Debug)]
pub(super) struct Background {
    /// Prefix of the job ids.
    prefix: String,
    count: usize,
    /// Time of the first.
    start: DateTime<Utc>,
    /// Number of chunks that were armed, the last one perhaps in part.
    begun: AtomicUsize,
}

impl Background {
    pub(super) fn new(prefix: String, count: usize, now: DateTime<Utc>) -> Self {
        Self { prefix, count, start: now + NEXT_WEEK, begun: AtomicUsize::new(0) }
    }

    /// Arms them for the agents in turn.
    pub(super) async fn arm(&self, api: &AgentApi, fleet: &Fleet) -> anyhow::Result<()> {
        let bar = bar("arming for next week", self.count);
        for chunk in 0..self.count.div_ceil(CHUNK) {
            self.begun.store(chunk + 1, Ordering::Release);
            let stage = self.chunk(chunk, fleet);
            api.arm(fleet, &stage, &stage.all(), ticks(&bar)).await?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    /// Cancels them. Not needed if the agents are removed.
    pub(super) async fn cancel(&self, api: &AgentApi, fleet: &Fleet) -> anyhow::Result<()> {
        let begun = self.begun.load(Ordering::Acquire);
        let bar = bar("cancelling next week's", self.count.min(begun * CHUNK));
        for chunk in 0..begun {
            api.cancel(fleet, &self.chunk(chunk, fleet), ticks(&bar)).await?;
        }
        bar.finish_and_clear();
        Ok(())
    }

    fn chunk(&self, chunk: usize, fleet: &Fleet) -> Stage {
        let len = CHUNK.min(self.count - chunk * CHUNK);
        let due = spread(self.start, len, Duration::from_hours(24));
        Stage::new(format!("{}{chunk}x", self.prefix), fleet.agents.len(), due)
    }
}
