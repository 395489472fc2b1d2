//! `nas-cron jobs dismiss`.

use std::io::Write;

use clap::Args;
use nas_cron_base::terminal;
use nas_cron_protocol::{InstanceId, JobId};

use crate::audit::Act;
use crate::cli::operator::Operator;

/// Dismiss a dormant job that has finished: it is no longer shown as dormant.
///
/// A job with a limited number of runs looks like a broken chain when it has ended. A dormant job also closes by itself
/// after 14 days, or three of its periods if that is longer. If it is fired again, it is watched again.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  nas-cron jobs dismiss agent-1 3f2a9c01d4e5")]
pub(super) struct DismissArgs {
    /// Agent of the job.
    instance_id: InstanceId,
    /// Job to dismiss.
    job_id: JobId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl DismissArgs {
    /// Returns the line in the audit log.
    pub(super) fn act(&self) -> Act {
        Act::new("dismiss_job").about("instance_id", &self.instance_id).about("job_id", &self.job_id)
    }
}

/// Dismisses the job.
pub(super) async fn run(args: &DismissArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let (job, agent) = (&args.job_id, &args.instance_id);
    let dismissed = on.dismiss_job(agent, job).await?;
    if args.json {
        return terminal::json(out, &dismissed);
    }
    writeln!(out, "Job {job} of agent {agent} is dismissed.")?;
    Ok(())
}
