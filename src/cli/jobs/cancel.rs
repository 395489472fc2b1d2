//! `nas-cron jobs cancel`.

use std::io::Write;

use clap::Args;
use nas_cron_base::terminal;
use nas_cron_protocol::{InstanceId, JobId};

use crate::audit::Act;
use crate::cli::operator::Operator;

/// Cancel the one-shot of a job: no attempt starts any more.
///
/// The agent is not notified and may arm the job again. To end the job for good, remove it on the agent.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  nas-cron jobs cancel agent-1 3f2a9c01d4e5")]
pub(super) struct CancelArgs {
    /// Agent of the job.
    instance_id: InstanceId,
    /// Job to cancel.
    job_id: JobId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl CancelArgs {
    /// Returns the line in the audit log.
    pub(super) fn act(&self) -> Act {
        Act::new("cancel_job").about("instance_id", &self.instance_id).about("job_id", &self.job_id)
    }
}

/// Cancels the one-shot, and prints its schedule id, if there was one.
pub(super) async fn run(args: &CancelArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let cancelled = on.cancel_job(&args.instance_id, &args.job_id).await?;
    if args.json {
        return terminal::json(out, &cancelled);
    }
    let (job, agent) = (&args.job_id, &args.instance_id);
    match cancelled.schedule_id {
        Some(schedule_id) => {
            writeln!(out, "Job {job} of agent {agent} is cancelled (schedule {schedule_id}).")?;
        }
        None => writeln!(out, "Job {job} of agent {agent} has no one-shot: nothing to cancel.")?,
    }
    Ok(())
}
