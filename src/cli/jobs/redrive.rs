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

/// Fire dead letters again: due now, with a fresh budget of attempts.
///
/// One job (also a stuck one), all of an agent, all of an org, or all there are.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron jobs redrive agent-1 3f2a9c01d4e5
  nas-cron jobs redrive agent-1
  nas-cron jobs redrive --all --include-stuck --dry-run")]
#[command(group = clap::ArgGroup::new("which").required(true).args(["instance_id", "org", "all"]))]
#[expect(clippy::struct_excessive_bools, reason = "each is a flag of the command line")]
pub(super) struct RedriveArgs {
    /// The agent.
    instance_id: Option<InstanceId>,
    /// Its job; all of its jobs if left out.
    #[arg(requires = "instance_id")]
    job_id: Option<JobId>,
    /// All of this org.
    #[arg(long)]
    org: Option<OrgId>,
    /// All there are.
    #[arg(long)]
    all: bool,
    /// Stuck ones too: the same key came again after three second fires.
    #[arg(long)]
    include_stuck: bool,
    /// Count them, and change nothing.
    #[arg(long)]
    dry_run: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Redrives batch after batch, and prints how many there were.
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
        writeln!(out, "{} would be fired again (dry run: nothing was changed).", counted(count, "one-shot"))?;
        return Ok(());
    }
    let begun = directory::now(db).await?;
    let mut redriven = 0;
    loop {
        let count = again(|| jobs::redrive(db, &filter, begun, BATCH)).await.with_context(|| {
            format!("broke off after {}; run it again for the rest", counted(redriven, "one-shot"))
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
            "job {job} of agent {agent} is neither dead nor stuck; `nas-cron jobs show {agent} {job}` says more"
        );
    }
    if args.json {
        return terminal::json(out, &json!({ "redriven": redriven, "dry_run": false }));
    }
    writeln!(out, "{} due now, with a fresh budget.", counted(redriven, "one-shot"))?;
    Ok(())
}
