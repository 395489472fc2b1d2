//! `nas-cron jobs nudge`.

use std::io::{self, BufRead, IsTerminal, Write};

use anyhow::{Context, bail, ensure};
use chrono::{DateTime, Utc};
use clap::Args;
use nas_cron_base::terminal::{self, relative};
use nas_cron_protocol::{InstanceId, JobId, OneShotState};
use serde_json::json;

use crate::audit::Act;
use crate::db::{Db, directory, dormant_jobs, hints, jobs};
use crate::domain::dormancy::Nudged;
use crate::domain::job::{Job, JobFilter};

/// Fire the latest delivered key of a job once more, so that its agent arms the next fire.
///
/// For a dormant job: its agent accepted a fire and has not armed the next one. The agent may run the job again, also one
/// that it has completed. The one-shot keeps its schedule id and gets a fresh retry budget. A job that was armed again
/// meanwhile is not fired.
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
pub(super) async fn run(args: &NudgeArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let (agent, job) = (&args.instance_id, &args.job_id);
    let found = delivered(agent, job, db).await?;
    if !args.yes {
        let question = question(&found, directory::now(db).await?);
        tokio::task::spawn_blocking(move || confirmed(&question)).await.context("asking failed")??;
    }
    let Some(Nudged { next_attempt_at, on_hold }) =
        dormant_jobs::nudge(db, agent, job, found.schedule_id).await?
    else {
        bail!("job {job} of agent {agent} was armed again or cancelled meanwhile; nothing was changed");
    };
    hints::announce(db).await?;
    if args.json {
        let report = json!({
            "nudged": true, "schedule_id": found.schedule_id, "next_attempt_at": next_attempt_at, "on_hold": on_hold,
        });
        return terminal::json(out, &report);
    }
    let when = if on_hold { "fires when its agent is enabled and no hold applies" } else { "is due now" };
    writeln!(
        out,
        "Job {job} of agent {agent} {when} (schedule {}); `nas-cron jobs show {agent} {job}` shows the result.",
        found.schedule_id
    )?;
    Ok(())
}

/// Returns the job, if its current one-shot was delivered.
async fn delivered(agent: &InstanceId, job: &JobId, db: &Db) -> anyhow::Result<Job> {
    let filter =
        JobFilter { instance_id: Some(agent.clone()), job_id: Some(job.clone()), ..JobFilter::default() };
    let found = jobs::list(db, &filter, None, 1).await?.into_iter().next();
    let found = found.with_context(|| {
        format!(
            "job {job} of agent {agent} has no one-shot; `nas-cron jobs show {agent} {job}` shows its history"
        )
    })?;
    match found.state {
        OneShotState::Delivered => Ok(found),
        OneShotState::Dead | OneShotState::Stuck => bail!(
            "job {job} of agent {agent} is {}; `nas-cron jobs redrive {agent} {job}` fires it again",
            found.state
        ),
        state => bail!(
            "job {job} of agent {agent} is {state}, and fires by itself; `nas-cron jobs show {agent} {job}` shows when"
        ),
    }
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

    use super::super::fixtures::{job, now};
    use super::*;

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
