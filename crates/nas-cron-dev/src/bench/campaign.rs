//! The phases of a run: arming, lateness, burst, arming again, cancelling.

use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use nas_cron_base::clock::Clock;

use super::agent_api::{AgentApi, Calls};
use super::background::Background;
use super::counters::{Counters, Deliveries};
use super::fleet::Fleet;
use super::plan::Plan;
use super::progress::{bar, ticks};
use super::refusal::explained;
use super::sink::Sink;
use super::stage::{Outcome, Stage, spread};

/// Time until the one-shots of the arming phases are due: long enough that none fires.
const FAR: TimeDelta = TimeDelta::days(1);
/// Maximum tries to arm a phase before it begins.
const TRIES: u32 = 3;
/// Interval between updates of the progress bar.
const REDRAW: Duration = Duration::from_millis(200);

/// The results of a run.
#[derive(Debug)]
pub(super) struct Measured {
    /// Provisions of new jobs.
    pub(super) provisions: Calls,
    /// Provisions of jobs that have just fired.
    pub(super) rearms: Calls,
    pub(super) cancels: Calls,
    pub(super) spread: Outcome,
    pub(super) burst: Outcome,
    /// Time from the instant of the burst until its last outcome is durable, or the reason why it is unknown.
    pub(super) durable: Result<Duration, String>,
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn rate(count: usize, took: Duration) -> f64 {
    if took.is_zero() { 0.0 } else { count as f64 / took.as_secs_f64() }
}

impl Measured {
    /// Rate of the burst from the instant to the last arrival.
    pub(super) fn fires_per_s(&self) -> f64 {
        rate(self.burst.arrived, self.burst.took.to_std().unwrap_or_default())
    }

    /// Rate of the burst from the instant to the last durable outcome, if it is known.
    pub(super) fn durable_fires_per_s(&self) -> Option<f64> {
        self.durable.as_ref().ok().map(|took| rate(self.burst.arrived, *took))
    }
}

/// A run against a service.
#[derive(Debug)]
pub(super) struct Campaign<'a> {
    pub(super) plan: &'a Plan,
    /// Prefix of all job ids.
    pub(super) run: &'a str,
    pub(super) fleet: &'a Fleet,
    pub(super) api: &'a AgentApi,
    pub(super) counters: Option<&'a Counters>,
    pub(super) sink: &'a Sink,
    pub(super) background: &'a Background,
    pub(super) clock: &'a Arc<dyn Clock>,
}

impl Campaign<'_> {
    /// Runs all phases. One-shots that have not fired are cancelled at the end, here or by [`Self::cancel_all`].
    pub(super) async fn run(&self) -> anyhow::Result<Measured> {
        self.check().await?;
        self.background.arm(self.api, self.fleet).await?;

        let (agents, count) = (self.fleet.agents.len(), self.plan.jobs.max(self.plan.burst));
        let far = self.expect(Stage::new(self.prefix('p'), agents, self.far(count)));
        let provisions = self.arm("arming", &far, &far.all()).await?;
        let each = provisions.took / u32::try_from(count).unwrap_or(u32::MAX).max(1);

        let over = self.plan.over;
        let late =
            |start| Stage::new(String::new(), agents - self.plan.slow, spread(start, self.plan.jobs, over));
        let late = self.armed_in_time("lateness", 'l', each, late).await?;
        self.wait("lateness", &late).await;

        let due = |start| vec![start; self.plan.burst];
        let burst = |start| Stage::new(String::new(), agents, due(start)).with_slow(self.plan.slow);
        let burst = self.armed_in_time("burst", 'b', each, burst).await?;
        let deliveries = Deliveries::from_now(self.counters).await;
        self.wait("burst", &burst).await;
        let durable = self.durable(&burst, &deliveries).await;
        if self.plan.slow > 0 {
            // Their retries must not disturb the next phases.
            self.cancel("burst: cancelling", &burst).await?;
        }

        let again = self.expect(burst.again(self.far(burst.len())));
        let rearms = self.arm("arming again", &again, &again.of_healthy()).await?;
        let durable = match (durable, deliveries) {
            (Ok(took), Ok(deliveries)) => deliveries.are(burst.of_healthy().len()).await.map(|()| took),
            (unknown, _) => unknown,
        };

        let cancels = self.cancel("cancelling", &far).await?;
        let (spread, burst) = (late.outcome(), burst.outcome());
        Ok(Measured { provisions, rearms, cancels, spread, burst, durable })
    }

    /// Cancels all one-shots that may fire.
    pub(super) async fn cancel_all(&self) -> anyhow::Result<()> {
        for stage in self.sink.stages().iter().filter(|stage| !stage.is_cancelled()) {
            self.cancel("cleaning up", stage).await?;
        }
        if !self.fleet.is_removed() {
            self.background.cancel(self.api, self.fleet).await?;
        }
        Ok(())
    }

    /// Arms and cancels one one-shot, and reads the counters.
    async fn check(&self) -> anyhow::Result<()> {
        let first = self.expect(Stage::new(self.prefix('a'), self.fleet.agents.len(), self.far(1)));
        self.arm("checking", &first, &[0]).await.map_err(explained)?;
        self.cancel("checking", &first).await?;
        if let Some(counters) = self.counters {
            counters.delivered().await?;
        }
        Ok(())
    }

    fn prefix(&self, letter: char) -> String {
        format!("{}{letter}", self.run)
    }

    fn far(&self, count: usize) -> Vec<DateTime<Utc>> {
        spread(self.clock.now() + FAR, count, Duration::from_mins(1))
    }

    /// Lets the sink accept the fires of a stage.
    fn expect(&self, stage: Stage) -> Arc<Stage> {
        let stage = Arc::new(stage);
        self.sink.expect(Arc::clone(&stage));
        stage
    }

    async fn arm(&self, name: &str, stage: &Stage, indexes: &[usize]) -> anyhow::Result<Calls> {
        let bar = bar(name, indexes.len());
        let calls = self.api.arm(self.fleet, stage, indexes, ticks(&bar)).await?;
        bar.finish_and_clear();
        Ok(calls)
    }

    async fn cancel(&self, name: &str, stage: &Stage) -> anyhow::Result<Calls> {
        let bar = bar(name, stage.pending().len());
        let calls = self.api.cancel(self.fleet, stage, ticks(&bar)).await?;
        bar.finish_and_clear();
        Ok(calls)
    }

    /// Arms a phase before it begins. `each` is the time per provision so far.
    async fn armed_in_time(
        &self,
        name: &str,
        letter: char,
        each: Duration,
        stage: impl Fn(DateTime<Utc>) -> Stage,
    ) -> anyhow::Result<Arc<Stage>> {
        let count = u32::try_from(stage(DateTime::UNIX_EPOCH).len()).unwrap_or(u32::MAX);
        for attempt in 0..TRIES {
            // The disk's speed varies: allow twice the time so far, and more in every try.
            let lead = self.plan.lead + each * count * 2 * 2_u32.pow(attempt);
            let start = self.clock.now() + lead;
            let start = start.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(start);
            let letter = char::from_u32(u32::from(letter) + attempt).unwrap_or(letter);
            let stage = self.expect(stage(start).named(self.prefix(letter)));
            self.arm(&format!("{name}: arming"), &stage, &stage.all()).await?;
            if self.clock.now() + self.plan.lead / 2 <= start {
                return Ok(stage);
            }
            // Arming was too slow. The remaining one-shots must not fire during the next try.
            self.api.cancel(self.fleet, &stage, || {}).await?;
        }
        bail!(
            "arming took too long in {TRIES} tries: the first fires were due before it was done; is the machine busy?"
        )
    }

    async fn wait(&self, name: &str, stage: &Stage) {
        let len = stage.of_healthy().len();
        let bar = bar(&format!("{name}: fires"), len);
        let last_due = stage.last_due().unwrap_or_else(|| self.clock.now());
        let until = (last_due - self.clock.now()).to_std().unwrap_or_default() + self.plan.stragglers;
        let redraw = async {
            loop {
                bar.set_position((len - stage.left()) as u64);
                tokio::time::sleep(REDRAW).await;
            }
        };
        tokio::select! {
            () = stage.complete() => {}
            () = redraw => {}
            () = tokio::time::sleep(until) => {}
        }
        bar.finish_and_clear();
    }

    /// Waits for the last durable outcome of a stage that has arrived. Returns the time from its instant.
    async fn durable(&self, stage: &Stage, deliveries: &Counted<'_>) -> Result<Duration, String> {
        let deliveries = deliveries.as_ref().map_err(Clone::clone)?;
        if stage.left() > 0 {
            return Err("fires were lost".to_owned());
        }
        deliveries.reach(stage.of_healthy().len(), self.plan.stragglers).await?;
        let start = stage.last_due().unwrap_or_else(|| self.clock.now());
        Ok((self.clock.now() - start).to_std().unwrap_or_default())
    }
}

/// The deliveries of a phase, or the reason why they are unknown.
type Counted<'a> = Result<Deliveries<'a>, String>;
