//! The three phases: how fast it arms, how late it fires, how many it fires at once.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nas_cron_base::clock::Clock;

use super::fleet::Fleet;
use super::load::Hop1;
use super::sink::Sink;
use super::stage::{Outcome, Stage, spread};

/// How long the one-shots of the first phase are away, so that none fires.
const FAR: TimeDelta = TimeDelta::days(1);
/// Tries to arm a phase before it begins.
const TRIES: u32 = 3;
/// Between two looks at the bar.
const REDRAW: Duration = Duration::from_millis(200);

/// What is to be done.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// One-shots of the spread-out phase.
    pub(super) jobs: usize,
    /// Over how long they are spread.
    pub(super) over: Duration,
    /// One-shots at one instant.
    pub(super) burst: usize,
    /// Between the last arm and the first fire, at least.
    pub(super) lead: Duration,
    /// How long stragglers are waited for.
    pub(super) stragglers: Duration,
}

/// What was measured.
#[derive(Debug)]
pub(super) struct Measured {
    pub(super) provisions: usize,
    pub(super) provisioning: Duration,
    pub(super) cancels: usize,
    pub(super) cancelling: Duration,
    pub(super) spread: Outcome,
    pub(super) burst: Outcome,
}

#[expect(clippy::cast_precision_loss, reason = "counts far below 2^52")]
fn rate(count: usize, took: Duration) -> f64 {
    if took.is_zero() { 0.0 } else { count as f64 / took.as_secs_f64() }
}

impl Measured {
    pub(super) fn provisions_per_s(&self) -> f64 {
        rate(self.provisions, self.provisioning)
    }

    pub(super) fn cancels_per_s(&self) -> f64 {
        rate(self.cancels, self.cancelling)
    }

    /// From the instant to the last arrival.
    pub(super) fn fires_per_s(&self) -> f64 {
        rate(self.burst.arrived, self.burst.took.to_std().unwrap_or_default())
    }
}

/// One run against one service.
#[derive(Debug)]
pub(super) struct Campaign<'a> {
    pub(super) plan: &'a Plan,
    /// Begins the ids of all jobs.
    pub(super) run: &'a str,
    pub(super) fleet: &'a Fleet,
    pub(super) hop1: &'a Hop1,
    pub(super) sink: &'a Sink,
    pub(super) clock: &'a Arc<dyn Clock>,
}

impl Campaign<'_> {
    /// All phases. What was armed and has not fired is cancelled in the end, here or by [`Self::cancel_all`].
    pub(super) async fn run(&self) -> anyhow::Result<Measured> {
        let provisions = self.plan.jobs.max(self.plan.burst);
        let far = self.stage('p', spread(self.clock.now() + FAR, provisions, Duration::from_mins(1)));
        let provisioning = self.arm("arming", &far).await?;
        let each = provisioning / u32::try_from(provisions).unwrap_or(u32::MAX).max(1);

        let over = self.plan.over;
        let late = self.fire("lateness", 'l', each, |start| spread(start, self.plan.jobs, over)).await?;
        let burst = self.fire("burst", 'b', each, |start| vec![start; self.plan.burst]).await?;

        let bar = bar("cancelling", provisions);
        let ticking = bar.clone();
        let (cancelling, cancels) = self.hop1.cancel(self.fleet, &far, move || ticking.inc(1)).await?;
        bar.finish_and_clear();
        let (spread, burst) = (late.outcome(), burst.outcome());
        Ok(Measured { provisions, provisioning, cancels, cancelling, spread, burst })
    }

    /// Cancels whatever was armed and has not arrived.
    pub(super) async fn cancel_all(&self) -> anyhow::Result<()> {
        for stage in self.sink.stages() {
            self.hop1.cancel(self.fleet, &stage, || {}).await?;
        }
        Ok(())
    }

    fn stage(&self, letter: char, due: Vec<DateTime<Utc>>) -> Arc<Stage> {
        let stage = Arc::new(Stage::new(format!("{}{letter}", self.run), self.fleet.agents.len(), due));
        self.sink.expect(Arc::clone(&stage));
        stage
    }

    async fn arm(&self, name: &str, stage: &Stage) -> anyhow::Result<Duration> {
        let bar = bar(name, stage.len());
        let ticking = bar.clone();
        let took = self.hop1.arm(self.fleet, stage, move || ticking.inc(1)).await?;
        bar.finish_and_clear();
        Ok(took)
    }

    /// Arms a phase well before it begins (`each` is what an arm took so far), and waits for its fires.
    async fn fire(
        &self,
        name: &str,
        letter: char,
        each: Duration,
        due: impl Fn(DateTime<Utc>) -> Vec<DateTime<Utc>>,
    ) -> anyhow::Result<Arc<Stage>> {
        let count = u32::try_from(due(DateTime::UNIX_EPOCH).len()).unwrap_or(u32::MAX);
        for attempt in 0..TRIES {
            // The disk's speed swings: twice what it took, and more at every try.
            let lead = self.plan.lead + each * count * 2 * 2_u32.pow(attempt);
            let start = self.clock.now() + lead;
            let start = start.duration_trunc(TimeDelta::microseconds(1)).unwrap_or(start);
            let letter = char::from_u32(u32::from(letter) + attempt).unwrap_or(letter);
            let stage = self.stage(letter, due(start));
            self.arm(&format!("{name}: arming"), &stage).await?;
            if self.clock.now() + self.plan.lead / 2 <= start {
                self.wait(name, &stage).await;
                return Ok(stage);
            }
            // It was too slow: what is left is of no use, and must not fire into the next try.
            self.hop1.cancel(self.fleet, &stage, || {}).await?;
        }
        bail!(
            "arming took so long, {TRIES} times, that the first fires were due before it was done; is the machine busy?"
        )
    }

    async fn wait(&self, name: &str, stage: &Stage) {
        let bar = bar(&format!("{name}: fires"), stage.len());
        let last_due = stage.last_due().unwrap_or_else(|| self.clock.now());
        let until = (last_due - self.clock.now()).to_std().unwrap_or_default() + self.plan.stragglers;
        let redraw = async {
            loop {
                bar.set_position((stage.len() - stage.left()) as u64);
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
}

/// On a terminal only.
fn bar(name: &str, len: usize) -> ProgressBar {
    let target =
        if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(len as u64), target);
    let style = ProgressStyle::with_template("{msg:20} {bar:40} {pos}/{len} {per_sec}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_message(name.to_owned())
}
