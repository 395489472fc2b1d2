//! `nas-cron jobs redrive`.

use std::io::Write;
use std::time::Duration;

use anyhow::{Context, bail};
use chrono::TimeDelta;
use clap::Args;
use indicatif::{ProgressBar, ProgressDrawTarget, ProgressStyle};
use nas_cron_base::terminal::{self, counted, relative};
use nas_cron_protocol::{InstanceId, JobId, OneShotState, OrgId};
use serde_json::json;

use crate::audit::Act;
use crate::db::jobs;
use crate::db::{Db, directory, hints};
use crate::directory::again;
use crate::domain::job::{JobFilter, Redriven};

/// Rows of one statement.
const BATCH: i64 = 2_000;

/// Redrive dead letters: they are due now, with a fresh retry budget.
///
/// Select one job (dead or stuck), all dead letters of an agent, of an org, or of the service. Those of one agent fire one
/// after the other, so that thousands of them do not keep it from its other jobs.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron jobs redrive agent-1 3f2a9c01d4e5
  nas-cron jobs redrive agent-1
  nas-cron jobs redrive --all --include-stuck --dry-run")]
#[command(group = clap::ArgGroup::new("selection").required(true).args(["instance_id", "org", "all"]))]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct RedriveArgs {
    /// Agent whose dead letters are redriven.
    instance_id: Option<InstanceId>,
    /// Job of the agent [default: all jobs].
    #[arg(requires = "instance_id")]
    job_id: Option<JobId>,
    /// All dead letters of this org.
    #[arg(long)]
    org: Option<OrgId>,
    /// All dead letters of the service.
    #[arg(long)]
    all: bool,
    /// Include stuck one-shots: the agent sent the same key again after three second fires.
    #[arg(long)]
    include_stuck: bool,
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
    /// Returns the line in the audit log; `None` for a dry run.
    pub(super) fn act(&self) -> Option<Act> {
        let act = Act::new("redrive_jobs");
        let act = match (&self.instance_id, &self.job_id, &self.org) {
            (Some(instance_id), Some(job_id), _) => {
                act.about("instance_id", instance_id).about("job_id", job_id)
            }
            (Some(instance_id), None, _) => act.about("instance_id", instance_id),
            (None, _, Some(org_id)) => act.about("org_id", org_id),
            (None, _, None) => act.about("scope", "all"),
        };
        (!self.dry_run).then_some(act)
    }
}

/// Redrives batch after batch, shows the progress, and prints the number of one-shots.
pub(super) async fn run(args: RedriveArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let one = args.job_id.is_some();
    let states = if one || args.include_stuck { Vec::new() } else { vec![OneShotState::Dead] };
    let filter = JobFilter {
        instance_id: args.instance_id,
        job_id: args.job_id,
        org_id: args.org,
        states,
        ..JobFilter::default()
    };
    if args.dry_run {
        let count = jobs::count_redrivable(db, &filter).await?;
        if args.json {
            return terminal::json(out, &json!({ "redriven": 0, "redrivable": count, "dry_run": true }));
        }
        writeln!(out, "{} would be redriven (dry run: nothing was changed).", counted(count, "one-shot"))?;
        return Ok(());
    }
    let pace = Duration::from_secs(1) / args.per_second;
    let bar = bar(args.json, jobs::count_redrivable(db, &filter).await?)?;
    let redriven = redrive(db, &filter, pace, &bar).await;
    bar.finish_and_clear();
    let Redriven { count, last_starts_at } = redriven?;
    if one && count == 0 {
        let (Some(agent), Some(job)) = (&filter.instance_id, &filter.job_id) else { return Ok(()) };
        bail!(
            "job {job} of agent {agent} is neither dead nor stuck; `nas-cron jobs show {agent} {job}` shows its state"
        );
    }
    if args.json {
        let report = json!({ "redriven": count, "last_starts_at": last_starts_at, "dry_run": false });
        return terminal::json(out, &report);
    }
    let now = directory::now(db).await?;
    let last = last_starts_at.filter(|at| *at - now >= TimeDelta::seconds(1)).map(|at| {
        format!(", the last one {} (at most {} per second and agent)", relative(now, at), args.per_second)
    });
    let last = last.unwrap_or_default();
    writeln!(out, "{} redriven: due now{last}, with a fresh retry budget.", counted(count, "one-shot"))?;
    Ok(())
}

/// Redrives batch after batch. A one-shot that fails again meanwhile is left alone.
async fn redrive(db: &Db, filter: &JobFilter, pace: Duration, bar: &ProgressBar) -> anyhow::Result<Redriven> {
    let begun = directory::now(db).await?;
    let mut all = Redriven { count: 0, last_starts_at: None };
    loop {
        let batch = again(|| jobs::redrive(db, filter, begun, pace, BATCH)).await.with_context(|| {
            let done = counted(all.count, "one-shot");
            format!("interrupted after {done}; run the command again for the rest")
        })?;
        all.count += batch.count;
        all.last_starts_at = all.last_starts_at.max(batch.last_starts_at);
        bar.set_position(all.count.unsigned_abs());
        if batch.count == 0 {
            return Ok(all);
        }
        hints::announce(db).await?;
    }
}

fn bar(json: bool, count: i64) -> anyhow::Result<ProgressBar> {
    let style = ProgressStyle::with_template("{bar:40} {pos} of {len} redriven")?;
    // Drawn on stderr, and only if it is a terminal.
    let target = if json { ProgressDrawTarget::hidden() } else { ProgressDrawTarget::stderr() };
    Ok(ProgressBar::with_draw_target(Some(count.unsigned_abs()), target).with_style(style))
}
