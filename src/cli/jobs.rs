//! `nas-cron jobs`: the one-shots of all agents.

mod import;
mod shown;

use std::io::Write;

use anyhow::{Context, bail};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use nas_cron_base::terminal::{self, counted, or_dash, printable, relative, shortened, span};
use nas_cron_protocol::{InstanceId, JobId, OneShotState, OrgId, ParkReason};
use serde_json::json;

use super::lines::ImportArgs;
use crate::db::fires::{self, FireRecord};
use crate::db::jobs::{self, Job, JobFilter};
use crate::db::{Db, directory, hints, oneshots};
use crate::directory::again;

/// See, cancel, redrive and import one-shots.
///
/// Works on the database, also while the service is down.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron jobs list --state dead,stuck
  nas-cron jobs show agent-1 3f2a9c01d4e5
  nas-cron jobs redrive --org acme --dry-run
  nas-cron jobs import one-shots.jsonl")]
pub struct JobsArgs {
    #[command(subcommand)]
    command: JobsCommand,
}

#[derive(Clone, Debug, Subcommand)]
enum JobsCommand {
    List(ListArgs),
    Show(ShowArgs),
    Cancel(CancelArgs),
    Redrive(RedriveArgs),
    /// Arm one-shots from another service, from JSON Lines.
    ///
    /// Fields: `instance_id`, `job_id`, `fire_at`, `agent_callback_url`, and `dedup_key` (if left out, job and instant
    /// as real agents write it: `{job_id}:{fire_at}`).
    /// The agents must be registered. What an agent has provisioned here meanwhile stays; what is past fires at once.
    /// Good lines are taken, every bad one is named, and the exit code is 1 if there was one. Repeating it changes
    /// nothing.
    #[command(after_help = "\
Examples:
  nas-cron hold --all --reason cut-over && nas-cron jobs import one-shots.jsonl && nas-cron release --all
  ssh old-nas dump-one-shots | nas-cron jobs import - --dry-run")]
    Import(ImportArgs),
}

/// List one-shots, in the order of agent and job.
#[derive(Clone, Debug, Args)]
#[command(after_help = "\
Examples:
  nas-cron jobs list --instance agent-1
  nas-cron jobs list --state dead,stuck --json
  nas-cron jobs list --overdue                What should have been tried by now")]
struct ListArgs {
    /// Of this agent only.
    #[arg(long, value_name = "INSTANCE_ID")]
    instance: Option<InstanceId>,
    /// Of this org only.
    #[arg(long)]
    org: Option<OrgId>,
    /// In these states only: armed, leased, firing, waiting, delivered, stuck, dead.
    #[arg(long, value_delimiter = ',')]
    state: Vec<OneShotState>,
    /// Only what waits for the end of a hold, or for its agent to be reachable.
    #[arg(long)]
    parked: bool,
    /// Only what is due, not parked, and not tried yet.
    #[arg(long)]
    overdue: bool,
    /// At most this many.
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    /// From here on: what the list before ended with.
    #[arg(long, value_name = "CURSOR", value_parser = Cursor::parse)]
    after: Option<Cursor>,
    /// Print JSON: {"jobs": […], "next": … or null}.
    #[arg(long)]
    json: bool,
}

/// Show a job's current one-shot with everything about it, and its latest attempts.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  nas-cron jobs show agent-1 3f2a9c01d4e5 --attempts 50")]
struct ShowArgs {
    /// The agent.
    instance_id: InstanceId,
    /// Its job.
    job_id: JobId,
    /// At most this many attempts.
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(0..=1_000))]
    attempts: u32,
    /// Print JSON: {"job": … or null, "attempts": […]}.
    #[arg(long)]
    json: bool,
}

/// Forget a job's one-shot: no attempt of it starts any more.
///
/// The agent does not learn of it: it may provision the job again. To end it for good, remove it on the agent.
#[derive(Clone, Debug, Args)]
#[command(after_help = "Example:\n  nas-cron jobs cancel agent-1 3f2a9c01d4e5")]
struct CancelArgs {
    /// The agent.
    instance_id: InstanceId,
    /// Its job.
    job_id: JobId,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

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
struct RedriveArgs {
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

/// Does what was asked for, and says so on `out`.
pub async fn run(args: JobsArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    match args.command {
        JobsCommand::List(args) => list(args, db, out).await,
        JobsCommand::Show(args) => show_one(&args, db, out).await,
        JobsCommand::Cancel(args) => cancel(&args, db, out).await,
        JobsCommand::Redrive(args) => redrive(args, db, out).await,
        JobsCommand::Import(args) => import::run(&args, db, out).await,
    }
}

/// Where a list goes on: the last job of the part before. Ids may contain anything, so it is one opaque word.
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
        let pair: Option<(String, String)> = bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok());
        let (instance_id, job_id) = pair.ok_or("is not what a list ended with")?;
        Ok(Self { instance_id, job_id })
    }

    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!([self.instance_id, self.job_id]).to_string())
    }
}

async fn list(args: ListArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let filter = JobFilter {
        instance_id: args.instance,
        job_id: None,
        org_id: args.org,
        states: args.state,
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
    out.write_all(jobs_table(&found, now).as_bytes())?;
    if let Some(next) = next {
        writeln!(out, "There are more: --after {next}")?;
    }
    Ok(())
}

fn state(job: &Job) -> String {
    match job.parked {
        None => match job.awaits {
            None => job.state.to_string(),
            Some(engine) => format!("{}, awaits {engine}", job.state),
        },
        Some(ParkReason::Hold) => format!("{}, on hold", job.state),
        Some(ParkReason::Unreachable) => format!("{}, unreachable", job.state),
    }
}

fn last(job: &Job) -> String {
    match (job.last_status, &job.last_error) {
        (Some(status), Some(error)) => format!("{status} {}", shortened(&printable(error), 48)),
        (Some(status), None) => status.to_string(),
        (None, Some(error)) => shortened(&printable(error), 48),
        (None, None) => "-".to_owned(),
    }
}

fn jobs_table(jobs: &[Job], now: DateTime<Utc>) -> String {
    if jobs.is_empty() {
        return "No one-shots.\n".to_owned();
    }
    let mut table = terminal::table(&["AGENT", "JOB", "STATE", "FIRE AT", "NEXT", "ATTEMPTS", "LAST"]);
    for job in jobs {
        table.add_row([
            job.instance_id.clone(),
            job.job_id.clone(),
            state(job),
            job.fire_at.clone(),
            or_dash(job.next_attempt_at.map(|at| relative(now, at))),
            job.attempts.to_string(),
            last(job),
        ]);
    }
    terminal::text(table)
}

async fn show_one(args: &ShowArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
    let filter = JobFilter {
        instance_id: Some(args.instance_id.clone()),
        job_id: Some(args.job_id.clone()),
        ..JobFilter::default()
    };
    let found = jobs::list(db, &filter, None, 1).await?;
    let job = shown::with_auth(db, found).await?.into_iter().next();
    let attempts = fires::of_job(db, &args.instance_id, &args.job_id, i64::from(args.attempts)).await?;
    if job.is_none() && attempts.is_empty() {
        bail!(
            "nothing is known of job {} of agent {}; `nas-cron jobs list --instance {}` shows its jobs",
            args.job_id,
            args.instance_id,
            args.instance_id
        );
    }
    if args.json {
        return terminal::json(out, &json!({ "job": job, "attempts": attempts }));
    }
    let now = directory::now(db).await?;
    let text = match &job {
        Some(job) => shown::facts(job, now),
        None => "No one-shot stands: it was cancelled, or has ended and was cleared away.\n".to_owned(),
    };
    out.write_all(text.as_bytes())?;
    if args.attempts > 0 {
        writeln!(out)?;
        out.write_all(attempts_table(&attempts, now).as_bytes())?;
    }
    Ok(())
}

fn attempts_table(attempts: &[FireRecord], now: DateTime<Utc>) -> String {
    if attempts.is_empty() {
        return "No attempts yet.\n".to_owned();
    }
    let mut table =
        terminal::table(&["ATTEMPT", "STARTED", "LATE", "TOOK", "OUTCOME", "STATUS", "ERROR", "SCHEDULE"]);
    for one in attempts {
        let late = one.started_at - one.fire_at;
        table.add_row([
            one.attempt.to_string(),
            relative(now, one.started_at),
            span(late.max(chrono::TimeDelta::zero())),
            or_dash(one.ended_at.map(|end| span(end - one.started_at))),
            one.outcome.to_string(),
            or_dash(one.http_status),
            or_dash(one.error.as_deref().map(|error| shortened(&printable(error), 48))),
            one.schedule_id.to_string(),
        ]);
    }
    terminal::text(table)
}

async fn cancel(args: &CancelArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
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

/// Rows of one statement.
const REDRIVE_BATCH: i64 = 2_000;

async fn redrive(args: RedriveArgs, db: &Db, out: &mut dyn Write) -> anyhow::Result<()> {
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
        let count = again(|| jobs::redrive(db, &filter, begun, REDRIVE_BATCH)).await.with_context(|| {
            format!("broke off after {}; run it again for the rest", counted(redriven, "one-shot"))
        })?;
        redriven += count;
        if count > 0 {
            hints::announce(db).await?;
        }
        if count < REDRIVE_BATCH {
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

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use clap::{CommandFactory, FromArgMatches};
    use nas_cron_protocol::{BackendName, ScheduleId};
    use uuid::Uuid;

    use super::*;
    use crate::domain::FireOutcome;
    use nas_cron_protocol::agent_api::ShownAuth;

    #[derive(Debug, clap::Parser)]
    #[command(name = "nas-cron jobs")]
    struct Cli {
        #[command(flatten)]
        args: JobsArgs,
    }

    fn parse(args: &[&str]) -> Result<JobsArgs, String> {
        let matches = Cli::command().try_get_matches_from([&["jobs"], args].concat());
        matches
            .and_then(|matches| Cli::from_arg_matches(&matches))
            .map(|cli| cli.args)
            .map_err(|error| error.to_string())
    }

    fn now() -> DateTime<Utc> {
        DateTime::from_timestamp(1_800_000_000, 0).unwrap()
    }

    fn job() -> Job {
        Job {
            instance_id: "agent-1".to_owned(),
            org_id: "acme".to_owned(),
            job_id: "3f2a9c01d4e5".to_owned(),
            schedule_id: ScheduleId(Uuid::from_u128(7)),
            dedup_key: "3f2a9c01d4e5:2027-01-15T09:03:00+01:00".to_owned(),
            fire_at: "2027-01-15T09:03:00+01:00".to_owned(),
            fire_at_instant: now() + TimeDelta::minutes(3),
            callback_url: "https://agent-1.example".to_owned(),
            state: OneShotState::Armed,
            parked: None,
            awaits: None,
            next_attempt_at: Some(now() + TimeDelta::minutes(3)),
            lease_expires_at: None,
            attempts: 0,
            retrying_since: None,
            retry_after_until: None,
            last_started_at: None,
            last_status: None,
            last_error: None,
            asked_again: false,
            created_at: now() - TimeDelta::hours(3),
            updated_at: now() - TimeDelta::hours(3),
        }
    }

    fn dead() -> Job {
        Job {
            job_id: "b".to_owned(),
            state: OneShotState::Dead,
            next_attempt_at: None,
            attempts: 81,
            retrying_since: Some(now() - TimeDelta::days(3)),
            last_started_at: Some(now() - TimeDelta::seconds(20)),
            last_status: Some(503),
            last_error: Some("the agent answered 503: <html>\u{1b}[2J".to_owned()),
            ..job()
        }
    }

    #[test]
    fn the_table_and_the_facts() {
        let parked = Job { parked: Some(ParkReason::Hold), job_id: "c".to_owned(), ..job() };
        let awaiting = Job { awaits: Some(BackendName::Nats), job_id: "d".to_owned(), ..job() };
        insta::assert_snapshot!(jobs_table(&[job(), dead(), parked, awaiting], now()), @"
        AGENT    JOB           STATE               FIRE AT                    NEXT      ATTEMPTS  LAST
        agent-1  3f2a9c01d4e5  armed               2027-01-15T09:03:00+01:00  in 3 min  0         -
        agent-1  b             dead                2027-01-15T09:03:00+01:00  -         81        503 the agent answered 503: <html> [2J
        agent-1  c             armed, on hold      2027-01-15T09:03:00+01:00  in 3 min  0         -
        agent-1  d             armed, awaits nats  2027-01-15T09:03:00+01:00  in 3 min  0         -
        ");
        insta::assert_snapshot!(jobs_table(&[], now()), @"No one-shots.");
        let shown = shown::ShownJob { job: dead(), auth: ShownAuth::default() };
        insta::assert_snapshot!(shown::facts(&shown, now()), @r#"
        agent          agent-1 of org acme
        job            b
        schedule       00000000-0000-0000-0000-000000000007
        key            3f2a9c01d4e5:2027-01-15T09:03:00+01:00
        state          dead
        fire at        2027-01-15T09:03:00+01:00 (in 3 min)
        callback       https://agent-1.example
        auth           -
        next attempt   -
        attempts       81
        last attempt   20 s ago (2027-01-15 07:59:40.000 UTC)
        last status    503
        last error     the agent answered 503: <html> [2J
        failing since  3 d ago (2027-01-12 08:00:00.000 UTC)
        armed          3 h ago (2027-01-15 05:00:00.000 UTC)
        changed        3 h ago (2027-01-15 05:00:00.000 UTC)
                       `nas-cron jobs redrive` fires it again.
        "#);
        let attempt = FireRecord {
            attempt_id: Uuid::from_u128(9),
            schedule_id: ScheduleId(Uuid::from_u128(7)),
            dedup_key: "k".to_owned(),
            fire_at: now() - TimeDelta::seconds(60),
            attempt: 2,
            started_at: now() - TimeDelta::seconds(20),
            ended_at: Some(now() - TimeDelta::milliseconds(19_988)),
            outcome: FireOutcome::Failed,
            http_status: Some(503),
            error: Some("the agent answered 503".to_owned()),
        };
        insta::assert_snapshot!(attempts_table(&[attempt], now()), @r#"
        ATTEMPT  STARTED   LATE  TOOK   OUTCOME  STATUS  ERROR                   SCHEDULE
        2        20 s ago  40 s  12 ms  failed   503     the agent answered 503  00000000-0000-0000-0000-000000000007
        "#);
        insta::assert_snapshot!(attempts_table(&[], now()), @"No attempts yet.");
    }

    #[test]
    fn a_cursor_survives_any_id() {
        let cursor = Cursor { instance_id: "a/\"b".to_owned(), job_id: "ü ".to_owned() };
        assert_eq!(Cursor::parse(&cursor.encode()), Ok(cursor));
        assert!(Cursor::parse("nonsense").is_err());
    }

    #[test]
    fn the_help_teaches() {
        let mut command = Cli::command().term_width(110);
        insta::assert_snapshot!(command.render_long_help(), @r#"
        See, cancel, redrive and import one-shots.

        Works on the database, also while the service is down.

        Usage: nas-cron jobs <COMMAND>

        Commands:
          list     List one-shots, in the order of agent and job
          show     Show a job's current one-shot with everything about it, and its latest attempts
          cancel   Forget a job's one-shot: no attempt of it starts any more
          redrive  Fire dead letters again: due now, with a fresh budget of attempts
          import   Arm one-shots from another service, from JSON Lines
          help     Print this message or the help of the given subcommand(s)

        Options:
          -h, --help
                  Print help (see a summary with '-h')

        Examples:
          nas-cron jobs list --state dead,stuck
          nas-cron jobs show agent-1 3f2a9c01d4e5
          nas-cron jobs redrive --org acme --dry-run
          nas-cron jobs import one-shots.jsonl
        "#);
        let redrive = command.find_subcommand_mut("redrive").unwrap();
        insta::assert_snapshot!(redrive.render_long_help(), @r#"
        Fire dead letters again: due now, with a fresh budget of attempts.

        One job (also a stuck one), all of an agent, all of an org, or all there are.

        Usage: redrive [OPTIONS] <INSTANCE_ID|--org <ORG>|--all> [JOB_ID]

        Arguments:
          [INSTANCE_ID]
                  The agent

          [JOB_ID]
                  Its job; all of its jobs if left out

        Options:
              --org <ORG>
                  All of this org

              --all
                  All there are

              --include-stuck
                  Stuck ones too: the same key came again after three second fires

              --dry-run
                  Count them, and change nothing

              --json
                  Print JSON

          -h, --help
                  Print help (see a summary with '-h')

        Examples:
          nas-cron jobs redrive agent-1 3f2a9c01d4e5
          nas-cron jobs redrive agent-1
          nas-cron jobs redrive --all --include-stuck --dry-run
        "#);
    }

    #[test]
    fn arguments_are_checked_and_named() {
        assert!(parse(&["list", "--state", "dead,stuck"]).is_ok());
        for good in
            [&["redrive", "a"][..], &["redrive", "a", "j"], &["redrive", "--org", "o"], &["redrive", "--all"]]
        {
            assert!(parse(good).is_ok(), "{good:?}");
        }
        for bad in [&["redrive"][..], &["redrive", "a", "--all"], &["redrive", "--org", "o", "--all"]] {
            assert!(parse(bad).is_err(), "{bad:?}");
        }
        insta::assert_snapshot!(parse(&["list", "--state", "lost"]).unwrap_err(), @r#"
        error: invalid value 'lost' for '--state <STATE>': unknown value `lost`: one of armed, leased, firing, waiting, delivered, stuck, dead

        For more information, try '--help'.
        "#);
        insta::assert_snapshot!(parse(&["list", "--after", "x"]).unwrap_err(), @r#"
        error: invalid value 'x' for '--after <CURSOR>': is not what a list ended with

        For more information, try '--help'.
        "#);
    }
}
