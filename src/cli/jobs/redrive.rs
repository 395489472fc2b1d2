//! `nas-cron jobs redrive`.

use std::io::Write;

use anyhow::Context;
use chrono::TimeDelta;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nas_cron_base::terminal::{self, counted, relative};
use nas_cron_protocol::admin_api::RedriveReport;
use nas_cron_protocol::{InstanceId, JobId, OneShotState, OrgId};

use super::conditions::Conditions;
use crate::audit::Act;
use crate::cli::operator::Operator;
use crate::domain::job_filter::JobFilter;

/// Redrive dead letters: they are due now, with a fresh retry budget.
///
/// Select jobs of an agent (dead or stuck), all dead letters of an agent, of an org, or of the service. Those of one agent fire one
/// after the other, so that thousands of them do not keep it from its other jobs.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron jobs redrive agent-1 3f2a9c01d4e5
  nas-cron jobs redrive agent-1 3f2a9c01d4e5 7b10c2d3e4f5
  nas-cron jobs redrive agent-1
  nas-cron jobs redrive --org acme --error 503 --fire-at-from 2027-01-15T09:00:00Z
  nas-cron jobs redrive --all --include-stuck --dry-run")]
#[command(group = clap::ArgGroup::new("selection").required(true).args(["instance_id", "org", "all"]))]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct RedriveArgs {
    /// Agent whose dead letters are redriven.
    instance_id: Option<InstanceId>,
    /// Jobs of the agent, at most 1,000 [default: all jobs].
    #[arg(
        value_name = "JOB_ID",
        requires = "instance_id",
        conflicts_with_all = [
            "outcome", "error", "expired", "last_status", "error_group", "no_error", "fire_at_from", "fire_at_before",
        ]
    )]
    job_ids: Vec<JobId>,
    /// All dead letters of this org.
    #[arg(long)]
    org: Option<OrgId>,
    /// All dead letters of the service.
    #[arg(long)]
    all: bool,
    /// Only the jobs with this ID, of each agent.
    #[arg(long, value_name = "JOB_ID", conflicts_with = "job_ids")]
    job: Option<JobId>,
    /// Include stuck one-shots: the agent sent the same key again after three second fires.
    #[arg(long)]
    include_stuck: bool,
    #[command(flatten)]
    conditions: Conditions,
    /// Maximum number of redriven one-shots that fire per second and agent.
    #[arg(long, value_name = "N", default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1_000))]
    per_second: u32,
    /// Count the one-shots without changing anything.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl RedriveArgs {
    /// Returns the selected one-shots. A job that is named may also be stuck.
    fn filter(&self) -> JobFilter {
        let stuck = (self.include_stuck || !self.job_ids.is_empty()).then_some(OneShotState::Stuck);
        self.conditions.narrow(JobFilter {
            instance_id: self.instance_id.clone(),
            job_id: self.job.clone(),
            org_id: self.org.clone(),
            states: std::iter::once(OneShotState::Dead).chain(stuck).collect(),
            ..JobFilter::default()
        })
    }

    /// Returns the line in the audit log; `None` for a dry run.
    pub(super) fn act(&self) -> Option<Act> {
        if self.dry_run {
            return None;
        }
        if let Some(instance_id) = self.instance_id.as_ref().filter(|_| !self.job_ids.is_empty()) {
            return Some(match self.job_ids.as_slice() {
                [job_id] => Act::new("redrive_job").about("instance_id", instance_id).about("job_id", job_id),
                several => several.iter().fold(Act::new("redrive_selected_jobs"), |act, job_id| {
                    act.about("job", format_args!("{instance_id}/{job_id}"))
                }),
            });
        }
        let act = Act::new("redrive_jobs");
        let act = if self.all { act.about("all", true) } else { act };
        let conditions = self.filter().pairs().into_iter();
        let act = conditions.fold(act, |act, (name, value)| act.about(name, value));
        Some(act.about("per_second", self.per_second))
    }
}

/// Redrives batch after batch, shows the progress, and prints the number of one-shots.
pub(super) async fn run(args: RedriveArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let filter = args.filter();
    if args.dry_run {
        let report = match args.job_ids.as_slice() {
            [] => on.redrivable(&filter).await?,
            selected => redrivable(on, &filter, selected).await?,
        };
        if args.json {
            return terminal::json(out, &report);
        }
        let count = counted(report.redrivable.unwrap_or_default(), "one-shot");
        let more = if report.more == Some(true) { "More than " } else { "" };
        writeln!(out, "{more}{count} would be redriven (dry run: nothing was changed).")?;
        return Ok(());
    }
    let report = match (&args.instance_id, args.job_ids.as_slice()) {
        (Some(agent), [job]) => on.redrive_job(agent, job).await?,
        (Some(agent), jobs @ [_, ..]) => on.redrive_selected(agent, jobs, args.per_second).await?,
        _ => redrive(on, &filter, args.per_second, args.json).await?,
    };
    if args.json {
        return terminal::json(out, &report);
    }
    let now = on.now().await?;
    let last = report.last_starts_at.filter(|at| *at - now >= TimeDelta::seconds(1)).map(|at| {
        format!(", the last one {} (at most {} per second and agent)", relative(now, at), args.per_second)
    });
    let last = last.unwrap_or_default();
    let count = counted(report.redriven, "one-shot");
    writeln!(out, "{count} redriven: due now{last}, with a fresh retry budget.")?;
    Ok(())
}

/// Counts the selected jobs that would be redriven.
async fn redrivable(on: &Operator, filter: &JobFilter, selected: &[JobId]) -> anyhow::Result<RedriveReport> {
    let mut all =
        RedriveReport { dry_run: true, redrivable: Some(0), more: Some(false), ..RedriveReport::default() };
    for job_id in selected {
        let of_job = JobFilter { job_id: Some(job_id.clone()), ..filter.clone() };
        let found = on.redrivable(&of_job).await?.redrivable.unwrap_or_default();
        all.redrivable = all.redrivable.map(|count| count + found);
    }
    Ok(all)
}

/// Redrives batch after batch.
async fn redrive(
    on: &Operator,
    filter: &JobFilter,
    per_second: u32,
    json: bool,
) -> anyhow::Result<RedriveReport> {
    let expected = on.redrivable(filter).await?.redrivable.unwrap_or_default();
    let bar = bar(json, expected)?;
    let mut all = RedriveReport::default();
    loop {
        let batch = on.redrive(filter, per_second, all.next.as_deref()).await.with_context(|| {
            let done = counted(all.redriven, "one-shot");
            format!("interrupted after {done}; run the command again for the rest")
        })?;
        all.redriven += batch.redriven;
        all.last_starts_at = all.last_starts_at.max(batch.last_starts_at);
        all.next = batch.next;
        bar.set_position(all.redriven.unsigned_abs());
        if all.next.is_none() {
            bar.finish_and_clear();
            return Ok(all);
        }
    }
}

fn bar(json: bool, count: i64) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} redriven")?;
    // Drawn on stderr, and only if it is a terminal.
    let target = if json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    Ok(ProgressBar::with_draw_target(Some(count.unsigned_abs()), target).with_style(style))
}
