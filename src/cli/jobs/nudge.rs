//! `nas-cron jobs nudge`.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use clap::Args;
use nas_cron_base::terminal::{self, relative};
use nas_cron_protocol::admin_api::Job;
use nas_cron_protocol::{InstanceId, JobId};

use crate::audit::Act;
use crate::cli::operator::Operator;
use crate::operations::jobs::{command, nudge_refusal};

/// Fire the latest delivered key of a job once more, so that its agent arms the next fire.
///
/// For a dormant job: its agent accepted a fire and has not armed the next one. The agent may run the job again, also one
/// that it has completed. The one-shot keeps its schedule id and gets a fresh retry budget. A job that was armed or delivered
/// again meanwhile is not fired.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron jobs nudge agent-1 3f2a9c01d4e5
  nas-cron jobs nudge agent-1 3f2a9c01d4e5 --yes     Without a question, for programs")]
pub(super) struct NudgeArgs {
    /// Agent of the job.
    instance_id: InstanceId,
    /// Job to fire.
    job_id: JobId,
    /// Confirm that the job may run again.
    #[arg(long)]
    yes: bool,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

impl NudgeArgs {
    /// Returns the line in the audit log.
    pub(super) fn act(&self) -> Act {
        Act::new("nudge_job").about("instance_id", &self.instance_id).about("job_id", &self.job_id)
    }
}

/// Asks for a confirmation, fires the key once more, and prints when.
pub(super) async fn run(args: &NudgeArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let (agent, job) = (&args.instance_id, &args.job_id);
    let found = delivered(agent, job, on).await?;
    if !args.yes {
        let question = question(&found, on.now().await?);
        tokio::task::spawn_blocking(move || confirmed(&question)).await.context("asking failed")??;
    }
    let nudged = on.nudge_job(agent, job, found.schedule_id, found.last_started_at).await?;
    if args.json {
        return terminal::json(out, &nudged);
    }
    let when =
        if nudged.on_hold { "fires when its agent is enabled and no hold applies" } else { "is due now" };
    writeln!(
        out,
        "Job {job} of agent {agent} {when} (schedule {}); `{}` shows the result.",
        nudged.schedule_id,
        command("show", agent.as_str(), job.as_str())
    )?;
    Ok(())
}

/// Returns the job, if its current one-shot was delivered.
async fn delivered(agent: &InstanceId, job: &JobId, on: &Operator) -> anyhow::Result<Job> {
    let found = on.job(agent, job, 0).await?.job.with_context(|| {
        format!(
            "job {job} of agent {agent} has no one-shot; `{}` shows its history",
            command("show", agent.as_str(), job.as_str())
        )
    })?;
    if let Some(problem) = nudge_refusal(&found.job) {
        bail!(problem);
    }
    Ok(found.job)
}

fn question(job: &Job, now: DateTime<Utc>) -> String {
    let delivered = job.last_started_at.map_or("before".to_owned(), |at| relative(now, at));
    let dormant = match job.dormant_since {
        Some(since) => format!("It became dormant {}.", relative(now, since)),
        None => "It is not dormant: its agent may still be running it.".to_owned(),
    };
    format!(
        "Job {} of agent {} was fired {delivered}. {dormant}\n\
         A nudge fires it once more, and the agent may run it again. Fire it? [y/N] ",
        job.job_id, job.instance_id
    )
}

/// Asks on the terminal. Fails unless the answer is yes.
fn confirmed(question: &str) -> anyhow::Result<()> {
    let (stdin, mut stderr) = (io::stdin(), io::stderr());
    ensure!(
        stdin.is_terminal() && stderr.is_terminal(),
        "the job may run again: confirm that with --yes, because there is no terminal to ask on"
    );
    stderr.write_all(question.as_bytes())?;
    stderr.flush()?;
    let mut answer = String::new();
    stdin.lock().read_line(&mut answer)?;
    ensure!(accepts(&answer), "not confirmed; nothing was changed");
    Ok(())
}

fn accepts(answer: &str) -> bool {
    matches!(answer.trim().to_lowercase().as_str(), "y" | "yes")
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;

    use super::*;
    use crate::operations::jobs::fixtures::{job, now};

    #[test]
    fn question_says_that_the_job_may_run_again() {
        let job = Job { last_started_at: Some(now() - TimeDelta::hours(30)), ..job() };
        let dormant = Job { dormant_since: Some(now() - TimeDelta::hours(5)), ..job.clone() };
        insta::assert_snapshot!(question(&dormant, now()), @"
        Job 3f2a9c01d4e5 of agent agent-1 was fired 1 d 6 h ago. It became dormant 5 h ago.
        A nudge fires it once more, and the agent may run it again. Fire it? [y/N]
        ");
        insta::assert_snapshot!(question(&job, now()), @"
        Job 3f2a9c01d4e5 of agent agent-1 was fired 1 d 6 h ago. It is not dormant: its agent may still be running it.
        A nudge fires it once more, and the agent may run it again. Fire it? [y/N]
        ");
    }

    #[test]
    fn only_a_yes_confirms() {
        for (answer, yes) in
            [("y\n", true), (" Yes\r\n", true), ("\n", false), ("n\n", false), ("", false), ("yep\n", false)]
        {
            assert_eq!(accepts(answer), yes, "{answer:?}");
        }
    }
}
