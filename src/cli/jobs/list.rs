//! `nas-cron jobs list`.

use std::io::Write;

use chrono::{DateTime, Utc};
use clap::Args;
use nas_cron_base::terminal::{self, or_dash, printable, relative, shortened};
use nas_cron_protocol::admin_api::{Job, JobPage, ShownJob};
use nas_cron_protocol::{FireOutcome, InstanceId, JobId, OrgId};

use super::conditions::{Conditions, parse_instant};
use super::shown::state;
use crate::cli::operator::Operator;
use crate::domain::job_filter::{JobFilter, ListedState, Parked, Span, state as state_of};

/// List one-shots, ordered by agent and job, or by the next attempt if that is a condition and neither an agent nor an org is.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron jobs list --instance agent-1
  nas-cron jobs list --state dead,stuck --json
  nas-cron jobs list --state dormant          Delivered, and not armed again in time
  nas-cron jobs list --overdue                Due one-shots without an attempt")]
pub(super) struct ListArgs {
    /// Only one-shots of this agent.
    #[arg(long, value_name = "INSTANCE_ID")]
    instance: Option<InstanceId>,
    /// Only the job with this ID, of each agent.
    #[arg(long, value_name = "JOB_ID")]
    job: Option<JobId>,
    /// Only one-shots of this org.
    #[arg(long)]
    org: Option<OrgId>,
    /// Only one-shots in these states: armed, leased, firing, waiting, delivered, stuck, dead; or of dormant jobs: dormant.
    #[arg(long, value_delimiter = ',', value_parser = state_of)]
    state: Vec<ListedState>,
    /// Only parked one-shots: they wait for the end of a hold (`hold`), or until their agent is reachable (`unreachable`). `none`:
    /// only those that are not parked.
    #[arg(long, value_name = "REASON", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    parked: Option<Parked>,
    /// Only one-shots that are due, not parked, and not yet attempted.
    #[arg(long)]
    overdue: bool,
    #[command(flatten)]
    conditions: Conditions,
    /// Only one-shots whose next attempt may start at this instant or later.
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    next_attempt_from: Option<DateTime<Utc>>,
    /// Only one-shots whose next attempt may start before this instant.
    #[arg(long, value_name = "TIME", value_parser = parse_instant)]
    next_attempt_before: Option<DateTime<Utc>>,
    /// Maximum number of one-shots.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Resume after this cursor: the last line of the previous page.
    #[arg(long, value_name = "CURSOR")]
    after: Option<String>,
    /// Print JSON: {"jobs": […], "next": … or null}.
    #[arg(long)]
    json: bool,
}

/// Prints a page of the list.
pub(super) async fn run(args: ListArgs, on: &Operator, out: &mut dyn Write) -> anyhow::Result<()> {
    let filter = args.filter();
    let found = collect(on, &filter, args.limit, args.after).await?;
    if args.json {
        return terminal::json(out, &found);
    }
    let now = on.now().await?;
    let jobs = &found.jobs;
    let table = if filter.only_dormant() { dormant_table(jobs, now) } else { jobs_table(jobs, now) };
    out.write_all(table.as_bytes())?;
    if let Some(next) = found.next {
        writeln!(out, "More one-shots follow: --after {next}")?;
    }
    Ok(())
}

/// Collects the pages of a list, up to `limit` jobs.
async fn collect(
    on: &Operator,
    filter: &JobFilter,
    limit: u32,
    after: Option<String>,
) -> anyhow::Result<JobPage> {
    let mut all = JobPage { jobs: Vec::new(), next: after };
    loop {
        let room = limit - u32::try_from(all.jobs.len()).unwrap_or(limit);
        let page = on.jobs(filter, room, all.next.as_deref()).await?;
        all.jobs.extend(page.jobs);
        all.next = page.next;
        if all.next.is_none() || all.jobs.len() >= limit as usize {
            return Ok(all);
        }
    }
}

impl ListArgs {
    fn filter(&self) -> JobFilter {
        let mut filter = self.conditions.narrow(JobFilter {
            instance_id: self.instance.clone(),
            job_id: self.job.clone(),
            org_id: self.org.clone(),
            parked: self.parked.unwrap_or_default(),
            overdue: self.overdue,
            next_attempt: Span { from: self.next_attempt_from, before: self.next_attempt_before },
            ..JobFilter::default()
        });
        filter.select(&self.state);
        filter
    }
}

fn last(job: &Job) -> String {
    match (job.last_status, &job.last_error) {
        (Some(_), None) if job.last_outcome.is_some_and(|outcome| outcome != FireOutcome::Delivered) => {
            or_dash(job.last_outcome)
        }
        (Some(status), Some(error)) => format!("{status} {}", shortened(&printable(error), 48)),
        (Some(status), None) => status.to_string(),
        (None, Some(error)) => shortened(&printable(error), 48),
        (None, None) => "-".to_owned(),
    }
}

fn dormant_table(jobs: &[ShownJob], now: DateTime<Utc>) -> String {
    if jobs.is_empty() {
        return "No dormant jobs.\n".to_owned();
    }
    let mut table =
        terminal::table(&["AGENT", "JOB", "REASON", "DELIVERED", "EXPECTED", "DORMANT SINCE", "LAST RESULT"]);
    for ShownJob { job, .. } in jobs {
        table.add_row([
            job.instance_id.clone(),
            job.job_id.clone(),
            or_dash(job.dormant_reason),
            or_dash(job.delivered_at.map(|at| relative(now, at))),
            or_dash(job.expected_at.map(|at| format!("{} ({})", at.format("%F %T UTC"), relative(now, at)))),
            or_dash(job.dormant_since.map(|at| relative(now, at))),
            last(job),
        ]);
    }
    terminal::text(table)
}

fn jobs_table(jobs: &[ShownJob], now: DateTime<Utc>) -> String {
    if jobs.is_empty() {
        return "No one-shots.\n".to_owned();
    }
    let mut table = terminal::table(&[
        "AGENT",
        "JOB",
        "STATE",
        "PARKED",
        "FIRE AT",
        "NEXT ATTEMPT",
        "ATTEMPTS",
        "LAST RESULT",
    ]);
    for ShownJob { job, .. } in jobs {
        table.add_row([
            job.instance_id.clone(),
            job.job_id.clone(),
            state(job),
            or_dash(job.parked),
            job.fire_at.clone(),
            or_dash(job.next_attempt_at.map(|at| relative(now, at))),
            or_dash((job.attempts > 0).then_some(job.attempts)),
            last(job),
        ]);
    }
    terminal::text(table)
}

#[cfg(test)]
mod tests {
    use nas_cron_protocol::{BackendName, ParkReason};

    use nas_cron_protocol::admin_api::DormantReason;
    use nas_cron_protocol::agent_api::ShownAuth;

    use super::*;
    use crate::operations::jobs::fixtures::{dead, dormant, job, now};

    #[test]
    fn table_matches_its_snapshot() {
        let parked = Job { parked: Some(ParkReason::Hold), job_id: "c".to_owned(), ..job() };
        let awaiting = Job { awaits: Some(BackendName::Nats), job_id: "d".to_owned(), ..job() };
        let jobs = [job(), dead(), parked, awaiting].map(|job| ShownJob { job, auth: ShownAuth::default() });
        insta::assert_snapshot!(jobs_table(&jobs, now()), @"
        AGENT    JOB           STATE               PARKED  FIRE AT                    NEXT ATTEMPT  ATTEMPTS  LAST RESULT
        agent-1  3f2a9c01d4e5  armed               -       2027-01-15T09:03:00+01:00  in 3 min      -         -
        agent-1  b             dead                -       2027-01-15T09:03:00+01:00  -             81        503 the agent answered 503: <html> [2J
        agent-1  c             armed               hold    2027-01-15T09:03:00+01:00  in 3 min      -         -
        agent-1  d             armed, awaits nats  -       2027-01-15T09:03:00+01:00  in 3 min      -         -
        ");
        insta::assert_snapshot!(jobs_table(&[], now()), @"No one-shots.");
    }

    #[test]
    fn dormant_table_matches_its_snapshot() {
        let shown = |job| ShownJob { job, auth: ShownAuth::default() };
        let stopped =
            Job { dormant_reason: Some(DormantReason::GatewayStopped), job_id: "b".to_owned(), ..dormant() };
        insta::assert_snapshot!(dormant_table(&[shown(dormant()), shown(stopped)], now()), @"
        AGENT    JOB           REASON           DELIVERED    EXPECTED                           DORMANT SINCE  LAST RESULT
        agent-1  3f2a9c01d4e5  silent           1 d 6 h ago  2027-01-15 02:00:00 UTC (6 h ago)  5 h ago        202
        agent-1  b             gateway_stopped  1 d 6 h ago  2027-01-15 02:00:00 UTC (6 h ago)  5 h ago        202
        ");
        insta::assert_snapshot!(dormant_table(&[], now()), @"No dormant jobs.");
    }
}
