//! `nas-cron jobs fire`.

use std::io::Write;

use anyhow::bail;
use clap::Args;
use nas_cron_base::terminal::{self, relative};
use nas_cron_protocol::{InstanceId, JobId};

use crate::audit::Act;
use crate::cli::operator::Operator;

/// Fire the one-shot of a job now, before its instant.
///
/// The agent gets the same fire as at the instant, once. It then arms the next one as usual. Holds and a `Retry-After` of
/// the agent still apply.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  nas-cron jobs fire agent-1 3f2a9c01d4e5")]
pub(super) struct FireArgs {
    /// Agent of the job.
    instance_id: InstanceId,
    /// Job to fire.
    job_id: JobId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl FireArgs {
    /// Returns the line in the audit log.
    pub(super) fn act(&self) -> Act {
        Act::new("fire_job").about("instance_id", &self.instance_id).about("job_id", &self.job_id)
    }
}

/// Fires the job's current one-shot.
pub(super) async fn run(args: &FireArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let (agent, job) = (&args.instance_id, &args.job_id);
    let Some(current) = on.job(agent, job, 0).await?.job else {
        bail!("job {job} of agent {agent} has no one-shot: nothing to fire");
    };
    let fired = on.fire_job(agent, job, current.job.schedule_id).await?;
    if args.json {
        return terminal::json(out, &fired);
    }
    let when = relative(on.now().await?, fired.next_attempt_at);
    writeln!(out, "Job {job} of agent {agent} fires {when} (schedule {}).", fired.schedule_id)?;
    Ok(())
}
