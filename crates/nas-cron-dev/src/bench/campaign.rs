//! The three phases of a run: arming rate, lateness, burst.

use std::io::{self, IsTerminal};
use std::sync::Arc;
use std::time::Duration;

use anyhow::bail;
use chrono::{DateTime, DurationRound, TimeDelta, Utc};
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nas_cron_base::clock::Clock;

use super::agent_api::AgentApi;
use super::fleet::Fleet;
use super::sink::Sink;
use super::stage::{Outcome, Stage, spread};

/// Time until the one-shots of the first phase are due: long enough that none fires.
const FAR: TimeDelta = TimeDelta::days(1);
/// Maximum tries to arm a phase before it begins.
const TRIES: u32 = 3;
/// Interval between updates of the progress bar.
const REDRAW: Duration = Duration::from_millis(200);

/// The size and the times of a run.
#[derive(Clone, Debug)]
pub(super) struct Plan {
    /// Number of one-shots in the lateness phase.
    pub(super) jobs: usize,
    /// Period over which they are spread.
    pub(super) over: Duration,
    /// Number of one-shots that are due at one instant.
    pub(super) burst: usize,
    /// Minimum time between the last provision and the first fire.
    pub(super) lead: Duration,
    /// Time to wait for late fires.
    pub(super) stragglers: Duration,
}

/// The results of a run.
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

    /// Rate from the instant to the last arrival.
    pub(super) fn fires_per_s(&self) -> f64 {
        rate(self.burst.arrived, self.burst.took.to_std().unwrap_or_default())
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
    pub(super) sink: &'a Sink,
    pub(super) clock: &'a Arc<dyn Clock>,
}

impl Campaign<'_> {
    /// Runs all phases. One-shots that have not fired are cancelled at the end, here or by [`Self::cancel_all`].
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
        let (cancelling, cancels) = self.api.cancel(self.fleet, &far, move || ticking.inc(1)).await?;
        bar.finish_and_clear();
        let (spread, burst) = (late.outcome(), burst.outcome());
        Ok(Measured { provisions, provisioning, cancels, cancelling, spread, burst })
    }

    /// Cancels all one-shots whose fires have not arrived.
    pub(super) async fn cancel_all(&self) -> anyhow::Result<()> {
        for stage in self.sink.stages() {
            self.api.cancel(self.fleet, &stage, || {}).await?;
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
        let took = self.api.arm(self.fleet, stage, move || ticking.inc(1)).await?;
        bar.finish_and_clear();
        Ok(took)
    }

    /// Arms a phase before it begins and waits for its fires. `each` is the time per provision so far.
    async fn fire(
        &self,
        name: &str,
        letter: char,
        each: Duration,
        due: impl Fn(DateTime<Utc>) -> Vec<DateTime<Utc>>,
    ) -> anyhow::Result<Arc<Stage>> {
        let count = u32::try_from(due(DateTime::UNIX_EPOCH).len()).unwrap_or(u32::MAX);
        for attempt in 0..TRIES {
            // The disk's speed varies: allow twice the time so far, and more in every try.
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
            // Arming was too slow. The remaining one-shots must not fire during the next try.
            self.api.cancel(self.fleet, &stage, || {}).await?;
        }
        bail!(
            "arming took too long in {TRIES} tries: the first fires were due before it was done; is the machine busy?"
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

/// Creates a progress bar, which is shown only on a terminal.
fn bar(name: &str, len: usize) -> ProgressBar {
    let target =
        if io::stderr().is_terminal() { ProgressDrawTarget::stderr() } else { ProgressDrawTarget::hidden() };
    let bar = ProgressBar::with_draw_target(Some(len as u64), target);
    let style = ProgressStyle::with_template("{msg:20} {bar:40} {pos}/{len} {per_sec}");
    bar.set_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()));
    bar.with_message(name.to_owned())
}
