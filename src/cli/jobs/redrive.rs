//! `nas-cron jobs redrive`.

use std::io::Write;

use anyhow::{Context, bail};
use clap::Args;
use nas_cron_base::terminal::{self, counted};
use nas_cron_protocol::{InstanceId, JobId, OneShotState, OrgId};
use serde_json::json;

use crate::db::jobs;
use crate::db::{Db, directory, hints};
use crate::directory::again;
use crate::domain::job::JobFilter;

/// Rows of one statement.
const BATCH: i64 = 2_000;

/// Redrive dead letters: they are due now, with a fresh retry budget.
///
/// Select one job (dead or stuck), all dead letters of an agent, of an org, or of the service.
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
    /// Count the one-shots without changing anything.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Redrives batch after batch, and prints the number of one-shots.
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
    let begun = directory::now(db).await?;
    let mut redriven = 0;
    loop {
        let count = again(|| jobs::redrive(db, &filter, begun, BATCH)).await.with_context(|| {
            format!("interrupted after {}; run the command again for the rest", counted(redriven, "one-shot"))
        })?;
        redriven += count;
        if count > 0 {
            hints::announce(db).await?;
        }
        if count < BATCH {
            break;
        }
    }
    if one && redriven == 0 {
        let (Some(agent), Some(job)) = (&filter.instance_id, &filter.job_id) else { return Ok(()) };
        bail!(
            "job {job} of agent {agent} is neither dead nor stuck; `nas-cron jobs show {agent} {job}` shows its state"
        );
    }
    if args.json {
        return terminal::json(out, &json!({ "redriven": redriven, "dry_run": false }));
    }
    writeln!(out, "{} redriven: due now, with a fresh retry budget.", counted(redriven, "one-shot"))?;
    Ok(())
}
