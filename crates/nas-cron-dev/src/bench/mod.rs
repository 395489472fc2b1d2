//! `nas-cron bench`: measures the arming rate, the lateness and the burst rate of a running service.
//!
//! ```text
//!   Fleet ── register ──▶ admin API          Stage: due one-shots and arrived fires
//!   Campaign ── AgentApi (32 in flight) ──▶ service ──▶ Sink ──▶ Stage ──▶ Outcome ──▶ Report
//!      └─ Deliveries ──▶ its /metrics: durable outcomes  └─ 1 of 100 ──▶ FireVerifier
//! ```

mod agent_api;
mod background;
mod campaign;
mod counters;
mod fleet;
pub mod helper;
mod plan;
mod progress;
mod refusal;
mod report;
mod sample;
mod sink;
mod slow_agents;
mod stage;
#[cfg(test)]
mod tests;

use std::io::{self, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use clap::Args;
use nas_cron_base::clock::{Clock, SystemClock};
use nas_cron_base::{descriptors, duration, signals, terminal};
use secrecy::SecretString;
use tokio_util::sync::CancellationToken;
use url::Url;

use self::agent_api::AgentApi;
use self::background::Background;
use self::campaign::{Campaign, Measured};
use self::counters::Counters;
use self::fleet::{Fleet, Target};
use self::plan::Plan;
use self::report::Report;
use self::sample::Verified;
use self::sink::{Sink, Slow};
use self::slow_agents::SlowAgents;
use crate::dev::dir::DevDir;
use crate::dev::fire_verifier::FireVerifier;

/// Concurrent calls of the agent API, unless an option says otherwise.
const CONCURRENCY: usize = 32;

/// Measure the lateness and throughput of a running service.
///
/// Runs these phases: one-shots armed per second; lateness of evenly spread one-shots; fires per second of one-shots
/// that are due at one instant, to the last arrival and to the last durable outcome; the same jobs armed again, as after
/// every fire; one-shots cancelled per second. A sink in this process receives the fires in place of agents. Lateness is
/// measured by this machine's clock, from `fire_at` to the arrival of the request at the sink. At the end, the bench
/// removes all one-shots and agents that it has created.
///
/// Exits with 1 if a fire was early, lost (30 s late) or unverifiable.
#[derive(Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron dev --no-demo &
  nas-cron bench
  nas-cron bench --agents 1 --jobs 500 --over 5s --json
  nas-cron bench --burst 100000 --agents 1000 --slow-agents 1%
  nas-cron bench --url http://127.0.0.1:8080 --token \"$TOKEN\" --metrics-url http://127.0.0.1:9090/metrics

JSON: {\"jobs\",\"agents\",\"lateness_ms\":{\"p50\",\"p99\",\"max\"},\"early\",\"lost\",\"duplicates\",\"fires_per_s\",\
\"provisions_per_s\",\"burst\",\"slow_agents\",\"armed\",\"provision_concurrency\",\"durable_fires_per_s\",\
\"burst_lateness_ms\":{\"p50\",\"p99\",\"max\"},\"slowest_agent\",\"provision_ms\":{\"p50\",\"p99\",\"max\"},\
\"rearms_per_s\",\"rearm_ms\":{\"p50\",\"p99\",\"max\"},\"cancels_per_s\"}
Rates and lateness of the burst are those of the healthy agents. durable_fires_per_s counts to the last durable
outcome, and is null if the metrics do not show it. slowest_agent is the time to the last fire of the slowest healthy
agent, relative to that of the median one.")]
pub struct Bench {
    /// Folder of a running `nas-cron dev`, whose portal and admin API provide the agents [default: that of `dev`].
    #[arg(long, value_name = "DIR", conflicts_with = "url")]
    dir: Option<PathBuf>,
    /// Base URL of a service, to measure it with one agent's token. It must allow callbacks to 127.0.0.1.
    #[arg(long, value_name = "URL", requires = "token")]
    url: Option<Url>,
    /// Portal access token of that agent.
    #[arg(long, value_name = "TOKEN", requires = "url")]
    token: Option<SecretString>,
    /// URL of the metrics of a replica, once for each; that of `dev` is known. Shows when outcomes are durable.
    #[arg(long, value_name = "URL")]
    metrics_url: Vec<Url>,
    /// Number of one-shots in the lateness phase.
    #[arg(long, value_name = "N", default_value_t = 2000, value_parser = count())]
    jobs: u64,
    /// Period over which they are spread evenly.
    #[arg(long, value_name = "DURATION", default_value = "20s", allow_hyphen_values = true, value_parser = duration::parse)]
    over: Duration,
    /// Number of one-shots that are due at one instant.
    #[arg(long, value_name = "N", default_value_t = 5000, value_parser = count())]
    burst: u64,
    /// Number of agents that share the one-shots; with --url always 1.
    #[arg(long, value_name = "N", default_value_t = 100, conflicts_with = "url", value_parser = clap::value_parser!(u64).range(1..=10_000))]
    agents: u64,
    /// Agents that do not respond to the fires of the burst for 30 s, as a number or a share (1%). They have no part in
    /// the lateness phase.
    #[arg(long, value_name = "N|SHARE", default_value = "0", conflicts_with = "url")]
    slow_agents: SlowAgents,
    /// Maximum concurrent calls of the agent API [default: 32].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=1_024))]
    provision_concurrency: Option<u64>,
    /// Number of one-shots that are armed for next week before the phases, so that the service has them to carry.
    #[arg(long, value_name = "N", default_value_t = 0, value_parser = clap::value_parser!(u64).range(0..=10_000_000))]
    armed: u64,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

fn count() -> clap::builder::RangedU64ValueParser {
    clap::value_parser!(u64).range(1..=10_000_000)
}

fn size(count: u64) -> usize {
    usize::try_from(count).expect("bounded by the argument's range")
}

impl Bench {
    /// Runs the bench, prints the report and cleans up.
    pub async fn run(self) -> anyhow::Result<ExitCode> {
        let interrupted = signals::on_signal().context("could not install the signal handlers")?;
        let plan = self.plan();
        plan.check(self.agents())?;
        plan.check_descriptors(descriptors::raise())?;
        match self.measure(&plan, interrupted).await? {
            Some(found) => Ok(self.report(&found)?),
            None => Ok(ExitCode::from(130)),
        }
    }

    fn agents(&self) -> usize {
        if self.url.is_some() { 1 } else { size(self.agents) }
    }

    fn plan(&self) -> Plan {
        let (jobs, burst) = (size(self.jobs), size(self.burst));
        Plan {
            jobs,
            over: self.over,
            burst,
            slow: self.slow_agents.of(self.agents()),
            hang: Duration::from_secs(30),
            concurrency: self.provision_concurrency.map_or(CONCURRENCY.min(jobs.max(burst)), size),
            armed: size(self.armed),
            lead: Duration::from_secs(3),
            stragglers: Duration::from_secs(30),
        }
    }

    /// Runs the phases and cleans up in any case. Returns `None` if it was interrupted.
    async fn measure(&self, plan: &Plan, interrupted: CancellationToken) -> anyhow::Result<Option<Found>> {
        let clock: Arc<dyn Clock> = Arc::new(SystemClock);
        let run = format!("{:08x}", rand::random::<u32>());
        let (sink, mut samples) = Sink::start(Arc::clone(&clock)).context("the sink could not listen")?;
        let (target, fleet) = match (&self.url, &self.token) {
            (Some(url), Some(token)) => fleet::given(url.clone(), token, &sink)?,
            _ => fleet::of_dev(&DevDir::named(self.dir.clone())?, self.agents(), &run, &sink)?,
        };
        let Target { base, issuer, jwks_url, mut metrics } = target;
        metrics.extend(self.metrics_url.iter().cloned());
        let (api, counters) = (AgentApi::new(&base, plan.concurrency)?, Counters::new(&metrics)?);
        sink.slow_down(Slow { from: fleet.agents.len() - plan.slow, hang: plan.hang });
        let background = Background::new(format!("{run}w"), plan.armed, clock.now());
        let verifier = FireVerifier::new(jwks_url, issuer, Arc::clone(&clock))?;
        let campaign = Campaign {
            plan,
            run: &run,
            fleet: &fleet,
            api: &api,
            counters: counters.as_ref(),
            sink: &sink,
            background: &background,
            clock: &clock,
        };

        let mut tokens = Verified::default();
        let work = async {
            fleet.register().await?;
            campaign.run().await
        };
        let measured = tokio::select! {
            measured = work => Some(measured),
            () = tokens.follow(&mut samples, &verifier, &fleet) => None,
            () = interrupted.cancelled() => None,
        };
        tokens.finish(&mut samples, &verifier, &fleet).await;
        let cleaned = clean(&campaign, &fleet).await;
        let Some(measured) = measured else {
            cleaned?;
            return Ok(None);
        };
        // The first error is the one to report.
        let measured = measured?;
        cleaned?;
        Ok(Some(Found {
            measured,
            verified: tokens,
            strays: sink.strays(),
            plan: plan.clone(),
            agents: fleet.agents.len(),
        }))
    }

    fn report(&self, found: &Found) -> io::Result<ExitCode> {
        let Found { measured, verified, strays, plan, agents } = found;
        let report = Report::of(measured, plan, *agents);
        let text = if self.json { report.json() } else { report::table(&report, verified.good) };
        terminal::print(&text)?;
        if let Err(why) = &measured.durable {
            writeln!(io::stderr(), "nas-cron bench: the rate to the last durable outcome is unknown: {why}")?;
        }
        if let Some(fault) = found.first_fault() {
            writeln!(io::stderr(), "nas-cron bench: {fault}")?;
        }
        if *strays > 0 {
            writeln!(io::stderr(), "nas-cron bench: {strays} requests at the sink belonged to no one-shot")?;
        }
        let sound = !report.is_faulty() && verified.bad == 0 && *strays == 0;
        Ok(if sound { ExitCode::SUCCESS } else { ExitCode::FAILURE })
    }
}

/// The findings of a run.
#[derive(Debug)]
struct Found {
    measured: Measured,
    verified: Verified,
    strays: usize,
    plan: Plan,
    agents: usize,
}

impl Found {
    fn first_fault(&self) -> Option<String> {
        let Verified { good, bad, first_fault } = &self.verified;
        let why = first_fault.as_deref()?;
        Some(format!("{bad} of {} tokens failed verification; the first: {why}", good + bad))
    }
}

async fn clean(campaign: &Campaign<'_>, fleet: &Fleet) -> anyhow::Result<()> {
    let cancelled = campaign.cancel_all().await.context("cancelling the one-shots failed");
    let removed = fleet.remove().await;
    if let (Err(first), Err(second)) = (&cancelled, &removed) {
        bail!("{first:#}; {second:#}");
    }
    cancelled.and(removed)
}
