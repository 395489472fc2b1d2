//! `nas-cron jobs cancel`.

use std::io::Write;

use clap::Args;
use nas_cron_base::terminal;
use nas_cron_protocol::{InstanceId, JobId};
use serde_json::json;

use crate::db::{Db, oneshots};
use crate::directory::again;

/// Forget a job's one-shot: no attempt of it starts any more.
///
/// The agent does not learn of it: it may provision the job again. To end it for good, remove it on the agent.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  nas-cron jobs cancel agent-1 3f2a9c01d4e5")]
pub(super) struct CancelArgs {
    /// The agent.
    instance_id: InstanceId,
    /// Its job.
    job_id: JobId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// Cancels the one-shot, and prints whether there was one.
pub(super) async fn run(args: &CancelArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let schedule_id = again(|| oneshots::cancel(db, &args.instance_id, &args.job_id)).await?;
    if args.json {
        return terminal::json(
            out,
            &json!({ "cancelled": schedule_id.is_some(), "schedule_id": schedule_id }),
        );
    }
    let (job, agent) = (&args.job_id, &args.instance_id);
    match schedule_id {
        Some(schedule_id) => writeln!(out, "Job {job} of {agent} is cancelled (schedule {schedule_id}).")?,
        None => writeln!(out, "Job {job} of {agent} has no one-shot: nothing to cancel.")?,
    }
    Ok(())
}
