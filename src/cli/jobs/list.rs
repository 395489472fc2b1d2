//! `nas-cron jobs list`.

use std::io::Write;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use clap::Args;
use nas_cron_base::terminal::{self, or_dash, printable, relative, shortened};
use nas_cron_protocol::{FireOutcome, InstanceId, OneShotState, OrgId};
use serde_json::json;

use super::shown::{self, state};
use crate::db::jobs;
use crate::db::{Db, directory};
use crate::domain::job::{Job, JobFilter};

/// List one-shots, ordered by agent and job.
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
    /// Only one-shots of this org.
    #[arg(long)]
    org: Option<OrgId>,
    /// Only one-shots in these states: armed, leased, firing, waiting, delivered, stuck, dead; or of dormant jobs: dormant.
    #[arg(long, value_delimiter = ',', value_parser = parse_state)]
    state: Vec<Listed>,
    /// Only parked one-shots: they wait for the end of a hold, or until their agent is reachable.
    #[arg(long)]
    parked: bool,
    /// Only one-shots that are due, not parked, and not yet attempted.
    #[arg(long)]
    overdue: bool,
    /// Maximum number of one-shots.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// Resume after this cursor: the last line of the previous page.
    #[arg(long, value_name = "CURSOR", value_parser = Cursor::parse)]
    after: Option<Cursor>,
    /// Print JSON: {"jobs": […], "next": … or null}.
    #[arg(long)]
    json: bool,
}

/// A state to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Listed {
    /// A state of one-shots.
    OneShot(OneShotState),
    /// Delivered one-shots of jobs that are dormant.
    Dormant,
}

/// Position in the list: the last job of the previous page. It is encoded as one opaque word, because ids may contain any
/// character.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Cursor {
    instance_id: String,
    job_id: String,
}

impl Cursor {
    fn after(job: &Job) -> Self {
        Self { instance_id: job.instance_id.clone(), job_id: job.job_id.clone() }
    }

    fn parse(text: &str) -> Result<Self, &'static str> {
        let bytes = URL_SAFE_NO_PAD.decode(text).ok();
        let pair: Option<(String, String)> =
            bytes.and_then(|bytes| nas_cron_protocol::json::from_slice(&bytes).ok());
        let (instance_id, job_id) =
            pair.ok_or("not a cursor; use the one in the last line of the previous page")?;
        Ok(Self { instance_id, job_id })
    }

    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!([self.instance_id, self.job_id]).to_string())
    }
}

/// Prints a page of the list.
pub(super) async fn run(args: ListArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let filter = JobFilter {
        instance_id: args.instance,
        job_id: None,
        org_id: args.org,
        states: args.state.iter().copied().filter_map(Listed::one_shot).collect(),
        dormant: args.state.contains(&Listed::Dormant),
        parked: args.parked,
        overdue: args.overdue,
    };
    let after = args.after.as_ref().map(|after| (after.instance_id.as_str(), after.job_id.as_str()));
    let mut found = jobs::list(db, &filter, after, i64::from(args.limit) + 1).await?;
    let more = found.len() > args.limit as usize;
    found.truncate(args.limit as usize);
    let next = found.last().filter(|_| more).map(|job| Cursor::after(job).encode());
    if args.json {
        let found = shown::with_auth(db, found).await?;
        return terminal::json(out, &json!({ "jobs": found, "next": next }));
    }
    let now = directory::now(db).await?;
    let table = if filter.only_dormant() { dormant_table(&found, now) } else { jobs_table(&found, now) };
    out.write_all(table.as_bytes())?;
    if let Some(next) = next {
        writeln!(out, "More one-shots follow: --after {next}")?;
    }
    Ok(())
}

/// Parses a state. Being parked is not a state: a parked one-shot keeps the state that it had.
fn parse_state(text: &str) -> Result<Listed, String> {
    if text == "parked" {
        return Err("a parked one-shot keeps its state; use --parked instead of --state parked".to_owned());
    }
    if text == "dormant" {
        return Ok(Listed::Dormant);
    }
    text.parse().map(Listed::OneShot).map_err(|error: String| format!("{error}, dormant"))
}

impl Listed {
    fn one_shot(self) -> Option<OneShotState> {
        match self {
            Self::OneShot(state) => Some(state),
            Self::Dormant => None,
        }
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

fn dormant_table(jobs: &[Job], now: DateTime<Utc>) -> String {
    if jobs.is_empty() {
        return "No dormant jobs.\n".to_owned();
    }
    let mut table =
        terminal::table(&["AGENT", "JOB", "REASON", "DELIVERED", "EXPECTED", "DORMANT SINCE", "LAST RESULT"]);
    for job in jobs {
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

fn jobs_table(jobs: &[Job], now: DateTime<Utc>) -> String {
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
    for job in jobs {
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

    use super::super::fixtures::{dead, dormant, job, now};
    use super::*;
    use crate::domain::dormancy::DormantReason;

    #[test]
    fn table_matches_its_snapshot() {
        let parked = Job { parked: Some(ParkReason::Hold), job_id: "c".to_owned(), ..job() };
        let awaiting = Job { awaits: Some(BackendName::Nats), job_id: "d".to_owned(), ..job() };
        insta::assert_snapshot!(jobs_table(&[job(), dead(), parked, awaiting], now()), @"
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
        let stopped =
            Job { dormant_reason: Some(DormantReason::GatewayStopped), job_id: "b".to_owned(), ..dormant() };
        insta::assert_snapshot!(dormant_table(&[dormant(), stopped], now()), @"
        AGENT    JOB           REASON           DELIVERED    EXPECTED                           DORMANT SINCE  LAST RESULT
        agent-1  3f2a9c01d4e5  silent           1 d 6 h ago  2027-01-15 02:00:00 UTC (6 h ago)  5 h ago        202
        agent-1  b             gateway_stopped  1 d 6 h ago  2027-01-15 02:00:00 UTC (6 h ago)  5 h ago        202
        ");
        insta::assert_snapshot!(dormant_table(&[], now()), @"No dormant jobs.");
    }

    #[test]
    fn cursor_round_trips_any_id() {
        let cursor = Cursor { instance_id: "a/\"b".to_owned(), job_id: "ü ".to_owned() };
        assert_eq!(Cursor::parse(&cursor.encode()), Ok(cursor));
        assert!(Cursor::parse("nonsense").is_err());
    }
}
